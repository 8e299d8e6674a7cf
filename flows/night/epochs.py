"""Sampling epochs: an LLM that answers differently than before gets a new epoch; its earlier answers stay as they are.

The ledger keeps the epochs. ``llm:drift:found`` opens one, named after the day of the night that found the drift; later
nights ask the whole profile again under it. ``llm:drift:settled`` closes it once enough has been answered; until then
routers are built on the answers of the epoch before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.leaderboard import LeaderboardRow
    from registry.store import Registry

_FOUND, _SETTLED = "llm:drift:found", "llm:drift:settled"
_MARKS = ("epoch", "canary")


@dataclass(frozen=True)
class Drift:
    """What is known about the drift of one LLM.

    Attributes
    ----------
    llm_key
        The LLM.
    asked_epoch
        The latest epoch, under which it is asked.
    counted_epoch
        The latest epoch that was asked completely, on which routers are built; ``None`` for the first answers.
    reason
        What the canaries showed.
    """

    llm_key: str
    asked_epoch: date
    counted_epoch: date | None
    reason: str

    @property
    def is_open(self) -> bool:
        """Whether its profile still has to be asked again."""
        return self.counted_epoch != self.asked_epoch

    def is_due(self, day: date) -> bool:
        """Whether it is asked again on that day: after the night that found the drift, so that a plan can show it."""
        return self.is_open and self.asked_epoch < day


class Drifts:
    """The drift of LLMs, as the ledger records it.

    Parameters
    ----------
    registry
        The registry whose ledger is read and written.
    until
        Only what was known by this moment is read; everything when omitted.
    """

    def __init__(self, registry: Registry, *, until: datetime | None = None) -> None:
        self._registry = registry
        self._until = until
        self._known: dict[str, Drift] | None = None

    def all(self) -> dict[str, Drift]:
        """Return what is known, by LLM key; LLMs that never drifted are left out."""
        if self._known is not None:
            return self._known
        drifts: dict[str, Drift] = {}
        for event in self._registry.ledger.events(event="llm:drift:", until=self._until):
            before = drifts.get(event.subject)
            counted = before.counted_epoch if before is not None else None
            epoch = date.fromisoformat(json.loads(event.payload_json)["epoch"])
            reason = before.reason if before is not None and event.event == _SETTLED else event.reason
            counted = epoch if event.event == _SETTLED else counted
            drifts[event.subject] = Drift(event.subject, epoch, counted, reason)
        self._known = drifts
        return drifts

    def of(self, llm_key: str) -> Drift | None:
        """Return what is known about one LLM; ``None`` when it never drifted."""
        return self.all().get(llm_key)

    def note(self, llm_key: str, epoch: date, reason: str, *, actor: str, now: datetime) -> None:
        """Open an epoch; a second time changes nothing."""
        known = self.all().get(llm_key)
        if known is None or known.asked_epoch != epoch:
            self._append(_FOUND, llm_key, epoch, reason, actor, now)

    def settle(self, llm_key: str, *, actor: str, now: datetime) -> None:
        """Close the open epoch of an LLM, because its profile has been asked again."""
        known = self.all().get(llm_key)
        if known is not None and known.is_open:
            self._append(_SETTLED, llm_key, known.asked_epoch, "its profile was asked again", actor, now)

    def _append(self, event: str, llm_key: str, epoch: date, reason: str, actor: str, now: datetime) -> None:
        payload = {"epoch": epoch.isoformat()}
        self._registry.ledger.append(event, llm_key, actor=actor, now=now, reason=reason, payload=payload)
        self._known = None


def marked(sampling: str, **marks: str) -> str:
    """Return sampling settings with marks that keep answers apart: ``epoch`` or ``canary``, each a day."""
    return json.dumps({**json.loads(sampling), **marks}, separators=(",", ":")) if marks else sampling


def marks_of(sampling: str) -> Mapping[str, str]:
    """Return the marks of sampling settings: ``epoch`` and ``canary``, each a day, where they have them."""
    settings = json.loads(sampling) if sampling.startswith("{") else {}
    return {name: str(settings[name]) for name in _MARKS if name in settings}


def marks_start(sampling: str) -> str:
    """Return how these sampling settings begin when they have any marks."""
    return marked(sampling, canary="").removesuffix('"canary":""}')


def in_epoch(sampling: str, epoch: date | None) -> str:
    """Return the sampling settings of an epoch; those of the first one are unmarked."""
    return sampling if epoch is None else marked(sampling, epoch=epoch.isoformat())


def leaderboard_by_llm(rows: Iterable[LeaderboardRow]) -> dict[str, LeaderboardRow]:
    """Return, by LLM key, the row of its whole profile in the latest epoch, and not the row of its canaries."""
    best: dict[str, LeaderboardRow] = {}
    for row in rows:
        before = best.get(row.llm_key)
        if before is None or _rank(row) > _rank(before):
            best[row.llm_key] = row
    return best


def _rank(row: LeaderboardRow) -> tuple[bool, int, str]:
    marks = marks_of(row.sampling)
    return ("canary" not in marks, row.n_scored, marks.get("epoch", ""))
