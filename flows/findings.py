"""One type for what a check found: for ``doctor``, ``audit verify``, ``config validate`` and ``deploy``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from flows.text import sanitize
from routing.errors import UnirouteError

Severity = Literal["ok", "made", "renewed", "attention", "unreachable", "refused", "damaged"]
SEVERITIES: tuple[Severity, ...] = ("ok", "made", "renewed", "attention", "unreachable", "refused", "damaged")
"""From the best to the worst; the exit code of a command follows from the worst of its findings."""

_WIDTH = 600
_AS_NAMED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Finding:
    """What a check found about one subject.

    Attributes
    ----------
    subject
        What was checked.
    severity
        ``ok``; ``made`` or ``renewed`` when the command had to make the subject or to update it; ``attention`` when a
        person should look at it; ``unreachable`` when it could not be checked now; ``refused`` when this code cannot
        work with it; ``damaged`` when it is not what it was.
    text
        One line for people.
    next_step
        What to type; empty when nothing needs to be done.
    error
        The error behind a check that failed, where the exit code depends on its class.
    """

    subject: str
    severity: Severity
    text: str
    next_step: str = ""
    error: UnirouteError | None = None


def worst(findings: Iterable[Finding]) -> Severity:
    """Return the worst severity of all findings, ``ok`` when there are none."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default="ok")


def compared(subject: str, differences: Sequence[str], intact: str) -> Finding:
    """Return the finding of a comparison: damaged by its differences, or ok with the text `intact`."""
    return Finding(subject, "damaged", "; ".join(differences)) if differences else Finding(subject, "ok", intact)


def findings_text(findings: Sequence[Finding], words: Mapping[str, str] = _AS_NAMED) -> str:
    """Lay findings out for a terminal: severity, subject and text, and below them what to type.

    Parameters
    ----------
    findings
        In the order in which they are printed.
    words
        By severity, the word that a command prints instead of it.
    """
    rows = [(words.get(one.severity, one.severity), sanitize(one.subject), one) for one in findings]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = []
    for word, subject, one in rows:
        lines.append(f"{word:<{widths[0]}}  {subject:<{widths[1]}}  {sanitize(one.text, width=_WIDTH)}")
        if one.next_step:
            lines.append(f"{'':<{widths[0]}}  next: {sanitize(one.next_step, width=_WIDTH)}")
    return "\n".join(lines)
