"""What a verification found, one line for each thing it looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["intact", "unknown", "unreachable", "changed"]
SEVERITY: tuple[State, ...] = ("intact", "unknown", "unreachable", "changed")


@dataclass(frozen=True)
class Finding:
    """What one look found.

    Attributes
    ----------
    subject
        What was looked at.
    state
        ``intact``; ``unknown`` when nothing was noted to compare it with; ``unreachable`` when it could not be looked
        at now; ``changed`` when it is not what it was.
    said
        One line for people.
    """

    subject: str
    state: State
    said: str


def worst(findings: Sequence[Finding]) -> State:
    """Give the worst state of all."""
    return max((finding.state for finding in findings), key=SEVERITY.index, default="intact")


def compared(subject: str, differences: Sequence[str], intact: str) -> Finding:
    """Say that nothing differs, or what does."""
    return Finding(subject, "changed", "; ".join(differences)) if differences else Finding(subject, "intact", intact)
