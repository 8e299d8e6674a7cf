"""The findings of a verification, one for each thing it checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["intact", "unknown", "unreachable", "changed"]
SEVERITY: tuple[State, ...] = ("intact", "unknown", "unreachable", "changed")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    subject
        What was checked.
    state
        ``intact``; ``unknown`` when there is no record to compare it with; ``unreachable`` when it could not be checked
        now; ``changed`` when it is not what it was.
    said
        One line for people.
    """

    subject: str
    state: State
    said: str


def worst(findings: Sequence[Finding]) -> State:
    """Return the worst state of all findings."""
    return max((finding.state for finding in findings), key=SEVERITY.index, default="intact")


def compared(subject: str, differences: Sequence[str], intact: str) -> Finding:
    """Return a finding that lists the differences, or says that the subject is intact."""
    return Finding(subject, "changed", "; ".join(differences)) if differences else Finding(subject, "intact", intact)
