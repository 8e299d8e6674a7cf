"""The ledger as JSON lines, so that the chain can be checked without uniroute.

The first line is a head: the hash before the first event and the hash of the last. Each other line is one event. Its
hash is SHA-256 over eight fields in their order - number, at, event, subject, actor, reason, payload_json and
previous_hash - each as UTF-8 after its length in eight bytes, least significant first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from registry.errors import RegistryCorrupt
from registry.ledger import GENESIS

if TYPE_CHECKING:
    from registry.ledger import LedgerEvent
    from registry.store import Registry

SCHEMA = "uniroute.audit.export/1"


def export_lines(registry: Registry, since: datetime | None, until: datetime | None) -> Iterator[str]:
    """Yield a line that says how the events join the chain, then the events from `since` on and before `until`.

    Raises
    ------
    RegistryCorrupt
        The ledger was changed: what would not verify is not exported.
    """
    check = registry.ledger.verify()
    if not check.is_intact:
        raise RegistryCorrupt(
            f"The ledger cannot be trusted: {check.problem}.",
            unchanged="Nothing was exported.",
            hint="uniroute audit verify",
        )
    events = registry.ledger.events(since=since, until=until)
    head = {
        "schema": SCHEMA,
        "n_events": len(events),
        "previous_hash": events[0].previous_hash if events else GENESIS,
        "last_hash": events[-1].hash if events else GENESIS,
        "ledger_n_events": check.n_events,
        "ledger_head": check.head_hash,
    }
    yield json.dumps(head)
    for event in events:
        yield json.dumps(_line(event))


def _line(event: LedgerEvent) -> dict[str, str | int]:
    return {
        "number": event.number,
        "at": event.moment,
        "event": event.event,
        "subject": event.subject,
        "actor": event.actor,
        "reason": event.reason,
        "payload_json": event.payload_json,
        "previous_hash": event.previous_hash,
        "hash": event.hash,
    }
