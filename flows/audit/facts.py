"""The facts of the nights in a verification: what was found, and what the verdict covers, in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.findings import Finding, compared
from flows.text import counted

if TYPE_CHECKING:
    from registry.ledger.fact_checks import FactsCheck

SUBJECT = "facts of the nights"
EARLIER = "facts of earlier nights"
_FACTS = (
    "run summaries, charges, prices, LLMs, catalog fetches, listings, prompts, answers and their texts, cluster maps, "
    "feature vectors and routers"
)


def facts_findings(check: FactsCheck) -> tuple[Finding, ...]:
    """Return what the comparison of the nights' rows with their digests found; older nights have none: unknown."""
    pruned = f"; {counted(check.n_pruned, 'row')} pruned by rule" if check.n_pruned else ""
    intact = f"{counted(check.n_rows, 'row')} of {counted(check.n_nights, 'night')}, as their digests say{pruned}"
    findings = [compared(SUBJECT, check.problems, intact)]
    if check.n_unknown:
        until = "" if check.unknown_until is None else f", the last of {check.unknown_until}"
        nights = f"{counted(check.n_unknown_nights, 'night')}{until}"
        text = f"{counted(check.n_unknown, 'row')} of an older release, which kept no digests ({nights})"
        findings.append(Finding(EARLIER, "attention", text))
    return tuple(findings)


def coverage(n_events: int, n_versions: int, check: FactsCheck | None) -> str:
    """Return in one line what a verification covers, and what it leaves out.

    Parameters
    ----------
    n_events
        Events of the ledger.
    n_versions
        Router versions.
    check
        The comparison of the nights' rows; None when the ledger is too damaged for it.
    """
    parts = [counted(n_events, "event"), counted(n_versions, "router version")]
    if check is None:
        return (
            f"covers {', '.join(parts)}; not the rows of the nights, because the ledger that holds their digests broke"
        )
    nights = f"of {counted(check.n_nights, 'night')} the {_FACTS} ({counted(check.n_rows, 'row')})"
    left_out = []
    if check.n_unknown_nights or check.n_unknown:
        until = "" if check.unknown_until is None else f" until {check.unknown_until}"
        left_out.append(f"{counted(check.n_unknown_nights, 'night')}{until} of older releases (unknown)")
    if check.n_open:
        left_out.append(f"{counted(check.n_open, 'row')} written or replaced since the last night ended")
    but = f"; not {' and '.join(left_out)}" if left_out else ""
    return f"covers {', '.join(parts)}, and {nights}{but}"
