"""What a promotion is: which router was put forward against which, on what evidence, and with what result."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row

from routing.errors import InvalidInput
from routing.strict_json import canonical_json

OPEN = ("requested", "approved")
"""The states in which a promotion can still be applied or rejected."""

REFRESH = "refresh"
"""Key of a gate result that says what a refresh changed; no other gate result has it."""

CHAMPION_REFRESHED = "the champion was refreshed"
"""Why a refresh supersedes open requests; their routers are judged again against the refreshed champion."""

NO_GATE = "{}"
"""The gate result of a promotion that never reached the gate: a rollback, a router that does not load."""


PROMOTE, REJECT, UNDECIDED = "promote", "reject", "undecided"
"""Verdicts of the gate: better or not worse, worse, and neither is shown. The first two are decisions as well."""

REVIEW = "review"
"""The decision that leaves an undecided promotion to a person."""


@dataclass(frozen=True)
class GateTest:
    """A test at the gate, as the account of a champion counts it.

    Attributes
    ----------
    router_digest
        The challenger.
    evidence
        Digest of the recorded scores it was tested on: on other ones it is another test. None where an earlier release
        did not keep it.
    """

    router_digest: str
    evidence: str | None = None


@dataclass(frozen=True)
class GateRecord:
    """What the gate found.

    Attributes
    ----------
    passed
        Whether every check passed; never true of an undecided one, no matter who let it serve.
    details_json
        The checks with their thresholds and values, as JSON.
    """

    passed: bool
    details_json: str = "{}"

    @property
    def verdict(self) -> str:
        """`PROMOTE`, `REJECT` or `UNDECIDED`; earlier releases knew only the first two, and did not name them."""
        return self._stored("verdict")

    @property
    def decision(self) -> str:
        """What the settings made of the verdict: `PROMOTE`, `REJECT`, or `REVIEW` for a person to decide."""
        return self._stored("decision")

    @property
    def is_undecided(self) -> bool:
        """Whether the evidence showed neither that the router is good enough nor that it is not."""
        return self.verdict == UNDECIDED

    def _stored(self, key: str) -> str:
        found = json.loads(self.details_json)
        known = found.get(key) if isinstance(found, dict) else None
        return str(known) if known is not None else (PROMOTE if self.passed else REJECT)

    @property
    def digest(self) -> str:
        """SHA-256 of the details: the part of them that enters the ledger."""
        return hashlib.sha256(self.details_json.encode()).hexdigest()


@dataclass(frozen=True)
class Promotion:
    """A router put forward to become the champion.

    Attributes
    ----------
    id
        Row number.
    router_digest
        The router put forward.
    expected_champion
        The champion it was compared with; None without one. Applying it after that has changed is refused.
    kind
        ``promotion`` or ``rollback``.
    status
        ``requested``, ``approved``, ``rejected``, ``superseded``, ``applied`` or ``failed``.
    gate
        What the gate found.
    report_digest
        What the reviewer saw.
    requested_by, requested_at, decided_by, decided_at, reason, applied_at
        Who, when and why.
    run_id
        The night that asked for it.
    """

    id: int
    router_digest: str
    expected_champion: str | None
    kind: str
    status: str
    gate: GateRecord
    report_digest: str | None
    requested_by: str
    requested_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    applied_at: datetime | None
    run_id: int | None

    @property
    def is_refresh(self) -> bool:
        """Whether it puts forward the champion itself, as it can serve."""
        return is_refresh(self.gate.details_json)

    @classmethod
    def proposed(
        cls,
        router_digest: str,
        expected_champion: str | None,
        gate: GateRecord,
        requested_by: str,
        requested_at: datetime,
        report_digest: str | None,
    ) -> Promotion:
        """Return the record that a request would be stored as; its number is 0 until it is stored."""
        nobody_yet = dict.fromkeys(("decided_by", "decided_at", "reason", "applied_at", "run_id"))
        return cls(
            id=0,
            router_digest=router_digest,
            expected_champion=expected_champion,
            kind="promotion",
            status="requested",
            gate=gate,
            report_digest=report_digest,
            requested_by=requested_by,
            requested_at=requested_at,
            **nobody_yet,
        )


def gate_result(passed: bool, checks: object) -> GateRecord:
    """Write a gate's checks the way `GateRecord` stores them."""
    return GateRecord(passed, canonical_json(checks))


def is_refresh(gate_json: str) -> bool:
    """Whether a promotion put forward the champion itself, without LLMs that cannot serve and at present prices."""
    found = json.loads(gate_json)
    return isinstance(found, dict) and REFRESH in found


def gate_test(router_digest: str, gate_json: str) -> GateTest:
    """Return which test a stored gate result is of."""
    found = json.loads(gate_json)
    return GateTest(router_digest, found.get("evidence") if isinstance(found, dict) else None)


def spends_nothing(gate_json: str) -> bool:
    """Whether no challenger was judged but the champion itself: graded again, or refreshed."""
    found = json.loads(gate_json)
    spending = found.get("spending") if isinstance(found, dict) else None
    return is_refresh(gate_json) or (spending is not None and spending["ordinal"] == 0)


def promotion_of(row: Row) -> Promotion:
    """Read a promotion row."""
    fields = row._mapping
    names = (name for name in Promotion.__dataclass_fields__ if name != "gate")
    gate = GateRecord(fields["gate_passed"], fields["gate_json"])
    return Promotion(**{name: fields[name] for name in names}, gate=gate)


def same_person(one: str, other: str) -> bool:
    """Whether two spellings name one actor: case, width, spaces and invisible characters do not make two people.

    Parameters
    ----------
    one, other
        Names as they were recorded.
    """
    return _normalised(one) == _normalised(other)


def require_reason(reason: str) -> None:
    """Refuse a decision without a reason.

    Raises
    ------
    InvalidInput
        For a reason without a visible character.
    """
    if not _normalised(reason):
        raise InvalidInput("a decision needs a reason", unchanged="Nothing was decided.", hint="--reason TEXT")


def _normalised(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    visible = (sign for sign in folded if sign.isspace() or unicodedata.category(sign)[0] != "C")
    return " ".join("".join(visible).split())
