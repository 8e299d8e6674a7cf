"""The time of day, as all users of a registry share it.

A machine's own clock may be wrong. Everybody who writes to a registry on a server follows the server's clock, so that
the ledger is in order, a run has the date of its day, and nothing is forgotten too early, whatever machine did it. On
SQLite everybody is on one machine already.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_behind: timedelta | None = None


def machine_time() -> datetime:
    """Give the time by this machine's clock."""
    return datetime.now(UTC)


def now() -> datetime:
    """Give the time by the clock of the first server that this process opened a registry on, else by the machine's."""
    return machine_time() + (_behind or timedelta(0))


def behind() -> timedelta:
    """Give how far this machine's clock is behind the server's; negative when it is ahead."""
    return _behind or timedelta(0)


def follow(there: datetime, before: datetime, after: datetime) -> None:
    """Follow a server's clock from now on; a second registry of this process changes nothing.

    Parameters
    ----------
    there
        The server's time.
    before, after
        `machine_time` just before and after the server was asked. Differences below a second are left.
    """
    global _behind
    if _behind is None:
        _behind = timedelta(seconds=round((there - (before + (after - before) / 2)).total_seconds()))


def utc_now() -> datetime:
    """Give the time, in UTC, by the clock that all users of the registry share."""
    return now()
