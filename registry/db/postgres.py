"""How the registry uses a PostgreSQL server: what it requires, and how its connections and transactions begin."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.engine import URL

from registry.errors import RegistryError

OLDEST_SERVER = 14
"""The oldest major version that the registry is used on; older ones no longer get fixes."""

_WRITE_LOCK = 0x756E6972  # "unir", so that other users of the same server do not pick it by accident
_LONGEST_IDLE_S = 60
"""A writer that is idle for longer inside a transaction is cut off: all others wait for it."""

BEGIN_READING = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""A reader sees one state of the database, however many statements it needs."""

TIME_OF_DAY = "SELECT clock_timestamp()"

_OPTIONS = {
    "application_name": "uniroute",
    "connect_timeout": 10,
    # A machine that vanished must not hold up a night for the usual two hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def connect_options(url: URL) -> dict[str, Any]:
    """Return the options of the driver that the URL does not set itself."""
    return {name: value for name, value in _OPTIONS.items() if name not in url.query}


def begin_writing(busy_timeout_s: float) -> str:
    """Return the statements that begin a write transaction: writers queue for one lock, as on SQLite.

    The isolation level is set explicitly, because a server's own default may be stricter: its snapshot would be taken
    before the queue and would not show what the previous writer had written.

    Parameters
    ----------
    busy_timeout_s
        How long to wait for the lock, and for any other, in seconds.
    """
    idle_s = max(_LONGEST_IDLE_S, 2 * busy_timeout_s)
    return (
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; "
        f"SET LOCAL lock_timeout = {max(1, int(busy_timeout_s * 1000))}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {int(idle_s * 1000)}; "
        f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})"
    )


def require_suitable(connection: Any, where: str) -> None:
    """Refuse a server that cannot hold a registry.

    Parameters
    ----------
    connection
        A connection of the driver, just opened.
    where
        The database as it may be shown.

    Raises
    ------
    RegistryError
        When the server is too old, or the database does not store Unicode.
    """
    major = connection.info.server_version // 10_000
    if major < OLDEST_SERVER:
        raise RegistryError(
            f"{where} is on PostgreSQL {major}; uniroute needs {OLDEST_SERVER} or newer",
            unchanged="Nothing was read or written.",
            hint="upgrade the server, or name another one in [registry] url",
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise RegistryError(
            f"{where} stores text as {encoding}, which cannot hold every name",
            unchanged="Nothing was read or written.",
            hint="createdb --encoding UTF8 --template template0",
        )


def time_of_day(connection: Any) -> datetime:
    """Ask a server what time it is.

    Parameters
    ----------
    connection
        A connection of the driver, just opened.
    """
    there = connection.execute(TIME_OF_DAY).fetchone()[0]
    connection.rollback()
    return there
