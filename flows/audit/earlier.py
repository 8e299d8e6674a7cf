"""Whether the ledger continues an earlier state of it that was kept elsewhere: a head, or an exported file.

A history that was rewritten together with its hashes is whole in itself; only what was noted where its writer could not
reach tells it from the one that was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.audit.export import SCHEMA
from flows.findings import Finding, compared
from flows.text import counted
from registry.errors import RegistryCorrupt
from registry.ledger import GENESIS, LedgerEvent
from registry.ledger.facts import SEALED
from routing.errors import InvalidInput
from routing.strict_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = "earlier head"
EXPORT = "earlier export"
_HASH = re.compile(r"[0-9a-f]{64}")
_SHOWN = 12
_AGAIN = "name a file that `uniroute audit export --out FILE` wrote"


@dataclass(frozen=True)
class EarlierExport:
    """What an exported file says of the ledger as it was then.

    Attributes
    ----------
    name
        The file.
    head
        Hash of the ledger's last event at that time; `GENESIS` when there was none.
    events
        The events that were exported, each with the hash that its content has.
    """

    name: str
    head: str
    events: tuple[LedgerEvent, ...]


def read_head(text: str) -> str:
    """Read the hash of an event.

    Raises
    ------
    InvalidInput
        It is none.
    """
    head = text.strip().lower()
    if _HASH.fullmatch(head) is None:
        raise InvalidInput(
            f"{text!r} is not the hash of an event: 64 hexadecimal digits.",
            hint="--head HASH, as `ledger_head` of `uniroute audit export` or a tag in MLflow names it",
        )
    return head


def read_export(file: Path) -> EarlierExport:
    """Read what `uniroute audit export` wrote.

    Raises
    ------
    InvalidInput
        It cannot be read, or is something else.
    RegistryCorrupt
        It was changed after it was written, or cut off.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            head = _head_of(file, next(lines, ""))
            events = tuple(_events_of(file, head, lines))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.", hint=_AGAIN) from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not an export of a ledger.", hint=_AGAIN) from None
    last = events[-1].hash if events else head["previous_hash"]
    if len(events) != head["n_events"] or (events and last != head["last_hash"]):
        raise _changed(file, "events are missing at its end")
    return EarlierExport(file.name, head["ledger_head"], events)


def _head_of(file: Path, line: str) -> dict[str, Any]:
    try:
        head = parse_json(line)
        is_ours = head["schema"] == SCHEMA and isinstance(head["n_events"], int)
        hashes = [head[name] for name in ("previous_hash", "last_hash", "ledger_head")]
        if is_ours and all(_HASH.fullmatch(one) for one in hashes):
            return head
    except (ValueError, KeyError, TypeError):
        pass
    raise InvalidInput(f"{file} is not an export of a ledger.", hint=_AGAIN)


def _events_of(file: Path, head: dict[str, Any], lines: Iterator[str]) -> Iterator[LedgerEvent]:
    previous = head["previous_hash"]
    for place, line in enumerate(lines, start=2):
        try:
            facts = parse_json(line)
            event = LedgerEvent(**(facts | {"at": datetime.fromisoformat(facts["at"])}))
            is_whole = (event.previous_hash, event.hash) == (previous, event.content_hash)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            is_whole = False
        if not is_whole:
            raise _changed(file, f"line {place} is not what was written")
        previous = event.hash
        yield event


def _changed(file: Path, why: str) -> RegistryCorrupt:
    return RegistryCorrupt(
        f"{file} itself was changed: {why}.", unchanged="Nothing was compared with it.", hint="use another copy of it"
    )


def head_finding(head: str, events: Sequence[LedgerEvent]) -> Finding:
    """Look for a head that was noted earlier among the events."""
    number = next((event.number for event in events if event.hash == head), 0)
    is_part = number > 0 or head == GENESIS
    problem = f"{head[:_SHOWN]} is not part of the chain: the history before it was rewritten, or cut off"
    return compared(HEAD, [] if is_part else [problem], f"{head[:_SHOWN]} is event {number} of {len(events)}")


def export_finding(export: EarlierExport, events: Sequence[LedgerEvent]) -> Finding:
    """Compare every event of an export with the one of its number."""
    present = {event.number: event.hash for event in events}
    lines = []
    for event in export.events:
        if present.get(event.number) != event.hash:
            fate = "is gone" if event.number not in present else "is not the one"
            lines.append(f"event {event.number} ({event.event}, {event.moment}) {fate} that {export.name} holds")
            break
    if export.head != GENESIS and export.head not in set(present.values()):
        lines.append(f"the head of that time, {export.head[:_SHOWN]}, is not part of the chain")
    n_nights = len({event.subject for event in export.events if event.event == SEALED})
    held = f"{counted(len(export.events), 'event')} of {export.name}"
    nights = f"with the digests of {counted(n_nights, 'night')}"
    return compared(EXPORT, lines, f"{held}, {nights}: each is in the chain, unchanged")
