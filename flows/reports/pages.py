"""HTML pages: the environment of their templates, which sanitises untrusted text even where a template forgets to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.reports.numbers import per_1k, per_1k_change, percent, points, score_interval
from flows.text import counted, llm_name, sanitize, sanitize_lines

_HEAT_STEPS = 10
_FILTERS: dict[str, Callable[..., Any]] = {
    "counted": counted,
    "interval": score_interval,
    "drawn": Markup,
    "line": lambda text, width: sanitize(text, width=width),
    "lines": lambda text, width: sanitize_lines(text, width=width),
    "moment": lambda at: at.strftime("%Y-%m-%d %H:%M UTC") if isinstance(at, datetime) else "",
    "per_1k": per_1k,
    "per_1k_change": per_1k_change,
    "percent": percent,
    "points": points,
    "score": lambda score: f"{score:.4f}",
    "short": llm_name,
    "step": lambda error: _heat_step(error),
    "sign": lambda change: "good" if change > 0 else ("bad" if change < 0 else ""),
}


def page(template: str, **content: Any) -> str:
    """Fill a template of this package.

    Parameters
    ----------
    template
        Name of the template.
    content
        Values for it; texts are escaped, and control characters and lone surrogates are removed.
    """
    return _environment().get_template(template).render(content)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("flows.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: sanitize_lines(value, width=None) if type(value) is str else value,
    )
    made.filters |= _FILTERS
    return made


def _heat_step(error: float) -> int:
    """Return the step of the colour scale with which an error in [0, 1] is drawn."""
    return round(_HEAT_STEPS * min(max(error, 0.0), 1.0))
