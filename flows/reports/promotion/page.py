"""The promotion report as one HTML page, as Markdown, and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from flows.reports.digest import escape
from flows.reports.numbers import per_1k, per_1k_change, percent, points
from flows.reports.pages import page
from flows.reports.promotion.charts import figures_of
from flows.reports.promotion.clusters import THIN_COUNT, THIN_COVERAGE
from flows.reports.promotion.evidence import Evidence
from flows.reports.promotion.wording import commands, headline_numbers, outcome, title, verdict
from flows.reports.worth import worth_lines
from flows.text import llm_name
from routing.deferral import BootstrapDifference

_MOST_FLOWS = 10
_MOST_LLMS = 20
_KEYS = (
    ("is", "chosen"),
    ("thin", "little evidence"),
    ("now", "chosen by the challenger, not by the champion"),
    ("was", "chosen by the champion only"),
)


def html_page(evidence: Evidence) -> str:
    """Write the report as HTML: one file, no script, nothing loaded; the same evidence gives the same text."""
    return page(
        "review.html.j2",
        e=evidence,
        title=title(evidence),
        verdict=verdict(evidence),
        outcome=outcome(evidence),
        worth=worth_lines(evidence.worth),
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


def markdown_page(evidence: Evidence, digest: str) -> str:
    """Write the report as Markdown, well below 60 kB for any evidence.

    Parameters
    ----------
    evidence
        Content of the report.
    digest
        SHA-256 of the HTML page.
    """
    blocks = [
        f"## {escape(title(evidence))}",
        f"**{outcome(evidence)}.** {escape(verdict(evidence), 900)}",
        "\n".join(f"- {escape(line, 400)}" for line in worth_lines(evidence.worth)),
        *_blocks(evidence),
        "### What not to conclude",
        "\n".join(f"- {escape(sentence, 400)}" for sentence in evidence.limitations),
        f"The whole report is `review.html`, SHA-256 `{digest}`. Build it again, and open it: "
        f"`uniroute report promotion {evidence.challenger.digest[:12]} --open`",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _blocks(evidence: Evidence) -> Iterator[str]:
    yield _table(
        ("", "", ""),
        [(one.what, f"{one.value} {one.unit}".strip(), one.range) for one in headline_numbers(evidence)],
    )
    yield "### Gate"
    yield _table(
        ("check", "found", "asked", "result"),
        [(check.name, check.value, check.threshold, check.outcome) for check in evidence.checks],
    )
    changes = [f"- {check.name}: {escape(check.remedy, 300)}" for check in evidence.checks if not check.passed]
    if any(check.remedy for check in evidence.checks if not check.passed):
        yield "What would change these results:"
        yield "\n".join(changes)
    yield "### Decision"
    yield "\n".join(f"- {one.purpose}: `{one.text}`" for one in commands(evidence))
    if evidence.effects:
        yield "### Why now: what each new LLM brings"
        yield _table(
            ("new LLM", "share of prompts", "score at the champion's cost, points", "USD per 1,000"),
            [
                (llm_name(one.key, 60), percent(one.share), _interval(one.score), per_1k_change(one.own_cost_usd))
                for one in evidence.effects
            ],
        )
    if evidence.flows:
        yield f"### Where prompts go: {evidence.n_changed} of {evidence.n_gate} change their LLM"
        yield _table(
            ("from", "to", "prompts", "score, points", "USD per 1,000"),
            [
                (
                    llm_name(one.before, 60),
                    llm_name(one.after, 60),
                    str(one.n),
                    points(one.score),
                    per_1k_change(one.cost_usd),
                )
                for one in evidence.flows[:_MOST_FLOWS]
            ],
        )
    yield "### LLMs on the gate prompts"
    yield _llms(evidence)


def _llms(evidence: Evidence) -> str:
    return _table(
        ("LLM", "score", "USD per 1,000", "share before", "share after"),
        [
            (
                llm_name(one.key, 60) + (" (new)" if one.is_new else ""),
                f"{one.score:.4f}",
                per_1k(one.cost_usd),
                "not in it" if one.share_before is None else percent(one.share_before),
                "not in it" if one.share_after is None else percent(one.share_after),
            )
            for one in evidence.llms[:_MOST_LLMS]
        ],
    )


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(headers)} |", f"|{'---|' * len(headers)}"]
    return "\n".join([*lines, *(f"| {' | '.join(escape(cell, 500) for cell in row)} |" for row in rows)])


def _interval(found: BootstrapDifference) -> str:
    return f"{points(found.mean)} ({points(found.low)} to {points(found.high)})"


def evidence_data(evidence: Evidence) -> dict[str, Any]:
    """Return the evidence as nested dictionaries and lists; times and amounts keep their types."""
    return _plain(evidence)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
