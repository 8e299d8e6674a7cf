"""The time of day, as all users of a registry share it.

A machine's own clock may be wrong. All writers to a registry on a server follow the server's clock, so that the ledger
is in order, a run has the date of its day, and nothing is deleted too early, whichever machine does it. On SQLite all
of them are on one machine anyway.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_behind: timedelta | None = None


def machine_time() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


def now() -> datetime:
    """Return the time by the clock of the first server whose registry this process opened, else by the machine's."""
    return machine_time() + (_behind or timedelta(0))


def behind() -> timedelta:
    """Return how far this machine's clock is behind the server's; negative when it is ahead."""
    return _behind or timedelta(0)


def follow(there: datetime, before: datetime, after: datetime) -> None:
    """Follow a server's clock from now on; a second registry of this process changes nothing.

    Parameters
    ----------
    there
        The server's time.
    before, after
        `machine_time` just before and after the server was asked. Differences below a second are ignored.
    """
    global _behind
    if _behind is None:
        _behind = timedelta(seconds=round((there - (before + (after - before) / 2)).total_seconds()))


def utc_now() -> datetime:
    """Return the time, in UTC, by the clock that all users of the registry share."""
    return now()
