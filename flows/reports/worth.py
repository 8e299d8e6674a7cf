"""What a router is worth, in words: the same lines at the end of a night, in the digest, on pages and in MLflow."""

from __future__ import annotations

from flows.gate.worth import DOMINANT_SHARE, Comparison, Worth
from flows.reports.numbers import per_1k, percent, points, signed
from flows.text import counted, llm_name

_NAME_WIDTH = 60


def worth_lines(worth: Worth | None, champion: str = "the champion") -> tuple[str, ...]:
    """Return the headline, a line per other comparison, and a sentence if routing adds nothing; names are sanitised.

    Parameters
    ----------
    worth
        What the gate measured; None, for a version from before it did, has no lines.
    champion
        What the champion that it was compared with is called; it may have been replaced since.
    """
    if worth is None:
        return ()
    is_cheapest = worth.near_best.llm_key == worth.best.llm_key
    also = ", also the cheapest within one point of it" if is_cheapest else ""
    lines = [_line(worth, f"always using the best single LLM ({_name(worth.best)}{also})", worth.best)]
    if not is_cheapest:
        title = f"the cheapest LLM within one point of the best ({_name(worth.near_best)})"
        lines.append(_line(worth, title, worth.near_best))
    if worth.champion is not None:
        line = _line(worth, champion, worth.champion)
        is_same = line.partition(": ")[2] == lines[0].partition("): ")[2]
        lines.append(f"Against {champion}: the same, to the digits shown." if is_same else line)
    return (*lines, *_nothing_added(worth))


def _line(worth: Worth, title: str, other: Comparison) -> str:
    change, found = worth.cost_change(other), other.difference
    cost = "cost unchanged" if worth.cost_usd == other.cost_usd else f"cost {_share(change)}"
    return (
        f"Against {title}: {cost}, score {points(found.mean)} points "
        f"({points(found.low)} to {points(found.high)}), {counted(worth.n, 'prompt')}; "
        f"{per_1k(worth.cost_usd)} instead of {per_1k(other.cost_usd)} USD per 1,000 prompts, "
        f"{_per_million(worth.cost_usd)} instead of {_per_million(other.cost_usd)} per million."
    )


def _nothing_added(worth: Worth) -> tuple[str, ...]:
    key = worth.redundant_key
    if key is None:
        return ()
    name = llm_name(key, _NAME_WIDTH)
    if worth.is_dominated_by_one:
        share = f"more than {percent(DOMINANT_SHARE)}"
        return (f"Routing adds nothing over {name}: it gets {percent(worth.busiest_share)} of the prompts ({share}).",)
    assert worth.affordable is not None, "it is the LLM that is named"
    found = worth.affordable.difference
    return (
        f"Routing adds nothing that {counted(worth.n, 'prompt')} can show over always using {name}, which costs no "
        f"more: the scores differ by {points(found.mean)} points ({points(found.low)} to {points(found.high)}).",
    )


def _name(other: Comparison) -> str:
    return llm_name(other.llm_key, _NAME_WIDTH)


def _share(change: float | None) -> str:
    """Write a change of cost in percent, with its sign; an alternative that is free has none."""
    return "against none" if change is None else f"{signed(100 * change, 1)}\N{NO-BREAK SPACE}%"


def _per_million(usd: float) -> str:
    return f"{1_000_000 * usd:,.2f}"
