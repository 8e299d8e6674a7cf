"""The promotion report as one HTML page."""

from __future__ import annotations

from flows.reports.pages import page
from flows.reports.plain import llm_name
from flows.reports.promotion.charts import figures_of
from flows.reports.promotion.clusters import THIN_COUNT, THIN_COVERAGE
from flows.reports.promotion.evidence import Evidence
from flows.reports.promotion.wording import commands, headline_numbers, title, verdict

_KEYS = (
    ("is", "chosen"),
    ("thin", "little evidence"),
    ("now", "chosen by the challenger, not by the champion"),
    ("was", "chosen by the champion only"),
)


def html_page(evidence: Evidence) -> str:
    """Write the report as HTML: one file, no script, nothing from elsewhere; the same evidence gives the same text."""
    return page(
        "review.html.j2",
        e=evidence,
        title=title(evidence),
        verdict=verdict(evidence),
        numbers=headline_numbers(evidence),
        commands=commands(evidence),
        figures=figures_of(evidence),
        n_worst=sum(one.is_worst for one in evidence.changes),
        n_known=evidence.n_known,
        stale_prices=[llm_name(key) for key in evidence.stale_prices],
        keys=_KEYS if evidence.champion is not None else _KEYS[:2],
        thin_count=THIN_COUNT,
        thin_coverage=THIN_COVERAGE,
    )
