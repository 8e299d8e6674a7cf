"""Changes of LLMs since a day: those of the catalogs, and those decided by people and checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from registry.ledger import LedgerEvent
from registry.llms import DatedDiff, Price
from registry.store import Registry

_KEPT_EVENTS = ("llm:status:", "llm:price:", "llm:drift:found")


@dataclass(frozen=True)
class LLMChange:
    """One change of one LLM.

    Attributes
    ----------
    on
        Day of the catalog or of the decision.
    change
        ``new``, ``withdrawn``, ``returned``, ``repriced``, ``price held``, ``drifted``, or the new status.
    llm_key
        The LLM.
    before, after
        Price or status before and after, when one of them changed.
    reason
        Reason of a decision; otherwise the catalog that showed the change.
    """

    on: date
    change: str
    llm_key: str
    before: str | None
    after: str | None
    reason: str


def changes_since(registry: Registry, since: date) -> tuple[LLMChange, ...]:
    """Return every change from a day on, the earliest first.

    Parameters
    ----------
    registry
        The registry whose catalogs and ledger are read.
    since
        The first day.
    """
    found = [change for dated in registry.llms.diffs_since(since) for change in _of_catalog(dated)]
    events = registry.ledger.events(event="llm:", since=datetime.combine(since, time(), UTC))
    found += [_of_decision(event) for event in events if event.event.startswith(_KEPT_EVENTS)]
    return tuple(sorted(found, key=lambda one: one.on))


def _of_catalog(dated: DatedDiff) -> Iterator[LLMChange]:
    diff = dated.diff
    for name, keys in (("new", diff.new), ("withdrawn", diff.withdrawn), ("returned", diff.returned)):
        yield from (LLMChange(dated.on, name, key, None, None, diff.catalog) for key in keys)
    for one in diff.repriced:
        name = "price held" if one.llm_key in diff.held else "repriced"
        yield LLMChange(dated.on, name, one.llm_key, _price(one.before), _price(one.after), diff.catalog)


def _price(price: Price | None) -> str | None:
    return (
        None if price is None else f"{price.input_usd_per_mtok.normalize():f}/{price.output_usd_per_mtok.normalize():f}"
    )


def _of_decision(event: LedgerEvent) -> LLMChange:
    facts = json.loads(event.payload_json)
    _, about, action = event.event.split(":")
    change = {"price": "price accepted", "drift": "drifted"}.get(about, action)
    after = f"{facts['input']}/{facts['output']}" if about == "price" else facts.get("after")
    return LLMChange(event.at.date(), change, event.subject, facts.get("before"), after, event.reason)
