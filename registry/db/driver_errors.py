"""Errors of database drivers, translated into errors of the registry.

PostgreSQL identifies an error by a five-letter SQLSTATE; SQLite has only a text, and so has PostgreSQL while a
connection is being opened. Statements and parameters never enter a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from registry.errors import AccessDenied, RegistryBusy, RegistryCorrupt, RegistryError

_NOTHING = "Nothing was written."
_UNKNOWN = "Whether the last write was kept is unknown; repeating it does no harm."

_LOCKED = ("55P03", "57014")  # lock not available, statement timeout
_ABORTED = ("40001", "40P01")  # serialization failure, deadlock
_GONE = ("57P01", "57P02", "57P05", "25P03", "25P04")  # shut down, crashed, idle too long
_LATER = ("53", "57P03", "08")  # out of resources, starting up, connection exceptions
_NO_ACCESS = ("28", "42501")


@dataclass(frozen=True)
class DriverFailure:
    """What a driver raised, and when.

    Attributes
    ----------
    error
        The driver's exception.
    where
        The database as it may be shown.
    waited_s
        How long a writer waits for the lock, in seconds.
    is_integrity
        Whether a constraint refused a row.
    is_connection_lost
        Whether the statement's connection broke.
    is_commit
        Whether the transaction was being committed.
    """

    error: BaseException | None
    where: str
    waited_s: float
    is_integrity: bool = False
    is_connection_lost: bool = False
    is_commit: bool = False

    @property
    def text(self) -> str:
        """First line of the driver's message."""
        said = str(self.error).strip().splitlines()
        return said[0] if said else type(self.error).__name__

    @property
    def sqlstate(self) -> str:
        """PostgreSQL's code; empty for SQLite and for connections that could not be opened."""
        return getattr(self.error, "sqlstate", None) or ""

    @property
    def is_of_sqlite(self) -> bool:
        """Whether SQLite raised it."""
        return type(self.error).__module__ == "sqlite3"


def registry_error(failure: DriverFailure) -> RegistryError:
    """Return the registry's own error for what a driver raised."""
    for diagnose in (_of_sqlite, _of_transaction, _of_server, _of_connecting):
        error = diagnose(failure)
        if error is not None:
            return error
    if failure.is_integrity:
        return RegistryError(f"a rule of the registry refused the row ({failure.text})", unchanged=_NOTHING)
    return RegistryError(
        f"{failure.where} refused a statement ({failure.text})", unchanged=_NOTHING, hint="uniroute doctor"
    )


def _of_sqlite(failure: DriverFailure) -> RegistryError | None:
    if not failure.is_of_sqlite:
        return None
    text, where = failure.text, failure.where
    if "locked" in text or "busy" in text:
        return _locked(failure)
    if "not a database" in text or "malformed" in text:
        return RegistryCorrupt(
            f"{where} is damaged or is no SQLite database ({text})",
            unchanged="The file was left as it is.",
            hint="restore the last backup, or name another file",
        )
    if "disk is full" in text:
        return _full(failure)
    if "readonly" in text or "unable to open" in text or "read-only" in text:
        return RegistryError(
            f"{where} cannot be opened for writing ({text})", unchanged=_NOTHING, hint="check its permissions"
        )
    return None


def _of_transaction(failure: DriverFailure) -> RegistryError | None:
    state = failure.sqlstate
    if state in _LOCKED:
        return _locked(failure)
    if state in _ABORTED:
        return RegistryBusy(
            f"{failure.where} aborted a transaction in favour of another one ({failure.text})",
            unchanged=_NOTHING,
            hint="try again",
            may_repeat=True,
        )
    if failure.is_connection_lost or state in _GONE:
        return RegistryBusy(
            f"the connection to {failure.where} was lost ({failure.text})",
            unchanged=_UNKNOWN if failure.is_commit else _NOTHING,
            hint="try again later",
            may_repeat=not failure.is_commit,
        )
    return None


def _of_server(failure: DriverFailure) -> RegistryError | None:
    state, text, where = failure.sqlstate, failure.text, failure.where
    if state == "53100":
        return _full(failure)
    if state.startswith(_LATER):
        return _unreachable(failure)
    if state.startswith(_NO_ACCESS):
        return AccessDenied(
            f"{where} denies this to its user ({text})",
            unchanged=_NOTHING,
            hint="grant the user the rights of the owner of the registry's tables, or name another user",
        )
    if state == "25006":
        return RegistryError(
            f"{where} only allows reading: a standby, or a user or session set to read-only",
            unchanged=_NOTHING,
            hint="name the primary server",
        )
    if state in ("XX001", "XX002"):
        return RegistryCorrupt(
            f"{where} is damaged ({text})", unchanged=_NOTHING, hint="restore the last backup into a new database"
        )
    return None


def _of_connecting(failure: DriverFailure) -> RegistryError | None:
    """Explain why no connection could be opened: the driver has no code for it, only the server's text."""
    text, where = failure.text, failure.where
    if "invalid connection option" in text or "invalid URI" in text:
        return RegistryError(
            f"the URL of {where} cannot be used ({text})", unchanged=_NOTHING, hint="fix [registry] url"
        )
    connection: Any = getattr(failure.error, "pgconn", None)
    if connection is None and "resolve host" not in text:
        return None
    said = (text.partition("FATAL:")[2].strip() or text).lower()
    for signs, error in _SIGNS:
        if any(sign in said for sign in signs):
            return error(failure)
    if connection.needs_password:
        return _not_let_in(failure)
    return _unreachable(failure)


def _not_let_in(failure: DriverFailure) -> RegistryError:
    return AccessDenied(
        f"{failure.where} does not let its user in ({failure.text})",
        unchanged=_NOTHING,
        hint="check user and password in [registry] url, in PGPASSWORD or in the file that PGPASSFILE names",
    )


def _no_database(failure: DriverFailure) -> RegistryError:
    return RegistryError(
        f"the database of {failure.where} does not exist ({failure.text})",
        unchanged=_NOTHING,
        hint="create it with createdb, or name another one in [registry] url",
    )


def _no_host(failure: DriverFailure) -> RegistryError:
    return RegistryError(
        f"the host of {failure.where} is not known ({failure.text})", unchanged=_NOTHING, hint="fix [registry] url"
    )


def _locked(failure: DriverFailure) -> RegistryBusy:
    return RegistryBusy(
        f"{failure.where} stayed locked longer than {failure.waited_s:g} s", unchanged=_NOTHING, hint="try again"
    )


def _unreachable(failure: DriverFailure) -> RegistryBusy:
    return RegistryBusy(
        f"{failure.where} does not answer ({failure.text})", unchanged=_NOTHING, hint="try again later", may_repeat=True
    )


def _full(failure: DriverFailure) -> RegistryError:
    return RegistryError(f"the disk of {failure.where} is full", unchanged=_NOTHING, hint="free some space")


def _not_postgresql(failure: DriverFailure) -> RegistryError:
    return RegistryError(
        f"{failure.where} does not speak as the URL asks ({failure.text})",
        unchanged=_NOTHING,
        hint="check host, port and sslmode in [registry] url",
    )


_SIGNS = (
    (("password", "pg_hba.conf", 'role "', "peer authentication", "certificate"), _not_let_in),
    (('database "',), _no_database),
    (("resolve host", "translate host name"), _no_host),
    (("ssl", "expected authentication request"), _not_postgresql),
)
