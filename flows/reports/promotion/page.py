"""The promotion report as one HTML page: templates, and how numbers and foreign texts are written in them."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.reports.plain import inert, inert_lines
from flows.reports.promotion.charts import figures_of
from flows.reports.promotion.clusters import THIN_COUNT, THIN_COVERAGE
from flows.reports.promotion.drawing import short
from flows.reports.promotion.evidence import Cluster, Evidence
from flows.reports.promotion.wording import (
    commands,
    headline_numbers,
    per_1k,
    per_1k_change,
    percent,
    points,
    title,
    verdict,
)

_HEAT_STEPS = 10
_KEYS = (
    ("is", "chosen"),
    ("thin", "little evidence"),
    ("now", "chosen by the challenger, not by the champion"),
    ("was", "chosen by the champion only"),
)


def html_page(evidence: Evidence) -> str:
    """Write the report as HTML: one file, no script, nothing from elsewhere; the same evidence gives the same text."""
    return (
        _environment()
        .get_template("review.html.j2")
        .render(
            e=evidence,
            title=title(evidence),
            verdict=verdict(evidence),
            numbers=headline_numbers(evidence),
            commands=commands(evidence),
            figures=figures_of(evidence),
            n_worst=sum(one.is_worst for one in evidence.changes),
            n_known=evidence.n_known,
            stale_prices=[short(key) for key in evidence.stale_prices],
            keys=_KEYS if evidence.champion is not None else _KEYS[:2],
            thin_count=THIN_COUNT,
            thin_coverage=THIN_COVERAGE,
        )
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("flows.reports.promotion"),
        autoescape=True,
        undefined=StrictUndefined,
        # Whatever a template writes passes here: control characters and lone surrogates have no place in a page.
        finalize=lambda value: inert_lines(value, width=None) if type(value) is str else value,
    )
    made.filters |= {
        "cluster_name": cluster_name,
        "drawn": Markup,
        "error_or_gone": lambda error: "gone" if error is None else percent(error),
        "line": lambda text, width: inert(text, width=width),
        "lines": lambda text, width: inert_lines(text, width=width),
        "moment": _moment,
        "per_1k": per_1k,
        "per_1k_change": per_1k_change,
        "percent": percent,
        "points": points,
        "score": lambda score: f"{score:.4f}",
        "short": short,
        "sign": lambda change: "good" if change > 0 else ("bad" if change < 0 else ""),
        "step": lambda error: round(_HEAT_STEPS * min(max(error, 0.0), 1.0)),
    }
    return made


def cluster_name(cluster: Cluster) -> str:
    """Name a cluster by its words, or by its number when no word distinguishes it."""
    return ", ".join(cluster.words[:3]) or f"cluster {cluster.number}"


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
