"""The leaderboard: all LLMs on the prompts that every LLM is asked, measured here, dated, with intervals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.gate.answers import Answers
from flows.night.asked_prompts import uniform_representative
from flows.night.context import PROFILED_ROLES
from flows.night.epochs import Drifts, leaderboard_by_llm
from flows.reports.digest import escape
from flows.reports.numbers import per_1k, percent, share_interval
from flows.reports.pages import page
from flows.reports.promotion.charts import frontier
from flows.reports.promotion.evidence import LLMPoint
from flows.reports.readability import share_cell
from flows.text import counted, llm_name
from flows.versions.store import load_version
from flows.workspace import Workspace
from registry.errors import NotFound
from registry.llms import LLM
from registry.prompts import Prompt
from routing.deferral import upper_hull


@dataclass(frozen=True)
class Place:
    """One LLM on the leaderboard.

    Attributes
    ----------
    key, name, released_on
        Identity according to the catalog.
    state
        ``available``, or why it is not routed to.
    n_scored, n_prompts
        Prompts with a score, and prompts that every LLM is asked.
    score, low, high
        Mean score with its 95 % interval; None without answers.
    cost_usd
        Mean USD per prompt; None when unknown.
    share
        Share of the gate prompts that the champion routes to it; None when the champion does not have it.
    topics_won
        Number of clusters in which the champion expects fewer errors of it than of any other LLM.
    asked_on
        Day of its last answer.
    unreadable_share
        Share of its answers, to all prompts of the set, in which no answer could be read; None when unknown.
    """

    key: str
    name: str
    released_on: date | None
    state: str
    n_scored: int
    n_prompts: int
    score: float | None
    low: float | None
    high: float | None
    cost_usd: float | None
    share: float | None
    topics_won: int
    asked_on: date | None
    unreadable_share: float | None


@dataclass(frozen=True)
class Leaderboard:
    """All LLMs, the best first, and what they are measured on.

    Attributes
    ----------
    n_left_out
        LLMs that are not shown because the settings leave them out.
    """

    prompt_set: str
    champion: str
    n_prompts: int
    n_topics: int
    places: tuple[Place, ...]
    n_left_out: int = 0

    def as_data(self) -> dict[str, Any]:
        """Return the leaderboard as plain data."""
        return asdict(self)


def leaderboard_of(workspace: Workspace, *, with_left_out: bool = False) -> Leaderboard:
    """Rank all LLMs on the prompts that every LLM is asked.

    Parameters
    ----------
    workspace
        Whose registry is read.
    with_left_out
        Whether LLMs that the settings leave out are shown, too.

    Raises
    ------
    NotFound
        No router serves yet.
    """
    registry = workspace.registry
    champion = registry.routers.aliases().champion
    if champion is None:
        raise NotFound("no router serves yet, so there is nothing to rank LLMs by", hint="uniroute night run")
    answers, router = Answers.of_version(registry, champion, None), load_version(workspace, champion)
    prompts = answers.prompt_set.with_role(*PROFILED_ROLES)
    won = Counter(router.keys[at] for at in np.stack([llm.vector.errors for llm in router.llms]).argmin(axis=0))
    shares = _shares(workspace, champion)
    known = registry.llms.all()
    shown = [llm for llm in known if with_left_out or not llm.is_left_out]
    results = _results(answers, [llm.key for llm in shown], prompts)
    drifted = {key for key, drift in Drifts(registry).all().items() if drift.is_open}
    nothing = _Result(np.empty(0), np.empty(0), None, None)
    places = [
        _place(
            llm,
            results.get(llm.key, nothing),
            len(prompts),
            shares.get(llm.key),
            won.get(llm.key, 0),
            is_drifted=llm.key in drifted,
        )
        for llm in shown
    ]
    places.sort(key=lambda place: (place.score is None, -(place.score or 0.0), place.key))
    return Leaderboard(
        prompt_set=answers.prompt_set.name,
        champion=champion,
        n_prompts=len(prompts),
        n_topics=router.cluster_map.n_clusters,
        places=tuple(places),
        n_left_out=len(known) - len(shown),
    )


@dataclass(frozen=True, eq=False)
class _Result:
    """What one LLM scored and cost, in USD per prompt, when it was last asked, and how much could not be read."""

    scores: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    asked_on: date | None
    unreadable_share: float | None


def _results(answers: Answers, keys: Sequence[str], prompts: Sequence[Prompt]) -> dict[str, _Result]:
    """Read the results of all LLMs that were asked anything, in one query for all their answers."""
    standings = leaderboard_by_llm(answers.registry.leaderboard(answers.prompt_set.digest))
    sampling = {key: row.sampling for key, row in standings.items()} | answers.sampling
    asked = [key for key in keys if key in sampling]
    if not asked:
        return {}
    outcomes = answers.registry.outcomes
    table = outcomes.table(asked, prompts, answers.graders, {key: sampling[key] for key in asked})
    # Some representative prompts were chosen for being neither easy nor hard: they count in no mean.
    drawn = uniform_representative(answers.registry, answers.prompt_set, {key: sampling[key] for key in asked})
    judging = {one.digest for one in answers.prompt_set.with_role(*PROFILED_ROLES[1:])}
    results = {}
    for at, key in enumerate(asked):
        counted_ones = judging | {one.digest for one in drawn[key]}
        counts = np.array([one.digest in counted_ones for one in prompts], dtype=bool)
        scores, costs = table.scores[counts, at], table.cost_usd[counts, at]
        last_at = outcomes.facts(key, prompts, answers.graders, sampling[key]).last_at
        results[key] = _Result(
            scores[np.isfinite(scores)],
            costs[np.isfinite(costs) & np.isfinite(scores)],
            None if last_at is None else last_at.date(),
            standings[key].readability.share if key in standings else None,
        )
    return results


def _shares(workspace: Workspace, champion: str) -> dict[str, float]:
    """Read the shares that the gate found when the champion was promoted."""
    for promotion in workspace.registry.promotions.list(status="applied"):
        found = json.loads(promotion.gate.details_json).get("shares", [])
        if promotion.router_digest == champion and found:
            return {one["llm"]: one["share"] for one in found}
    return {}


def _place(llm: LLM, result: _Result, n_prompts: int, share: float | None, won: int, *, is_drifted: bool) -> Place:
    n_scored = len(result.scores)
    mean = float(result.scores.mean()) if n_scored else None
    low, high = share_interval(mean, n_scored) if mean is not None else (None, None)
    state = llm.status if llm.is_routable or llm.status != "available" else f"not routable: {llm.refusal or 'no price'}"
    return Place(
        key=llm.key,
        name=llm.name,
        released_on=llm.released_at.date() if llm.released_at is not None else None,
        state="drifted, to be asked again" if is_drifted else state,
        n_scored=n_scored,
        n_prompts=n_prompts,
        score=mean,
        low=low,
        high=high,
        cost_usd=float(result.cost_usd.mean()) if len(result.cost_usd) else None,
        share=share,
        topics_won=won,
        asked_on=result.asked_on,
        unreadable_share=result.unreadable_share,
    )


def leaderboard_html(board: Leaderboard) -> str:
    """Write the leaderboard as a page."""
    points = _points(board)
    figure = frontier(points, f"n = {counted(board.n_prompts, 'prompt')} that every LLM is asked.") if points else None
    return page("leaderboard.html.j2", board=board, figure_of=figure)


def leaderboard_markdown(board: Leaderboard) -> str:
    """Write the leaderboard as Markdown."""
    lines = [
        f"## Leaderboard: {counted(len(board.places), 'LLM')} on {counted(board.n_prompts, 'prompt')} of "
        f"{escape(board.prompt_set)}",
        "",
        "| LLM | score | 95 % | unreadable | USD per 1,000 | share | topics won | asked | state |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for place in board.places:
        cells = [
            llm_name(place.key, 60),
            "" if place.score is None else f"{place.score:.4f}",
            "" if place.low is None or place.high is None else f"{place.low:.3f} to {place.high:.3f}",
            "" if place.score is None else share_cell(place.unreadable_share),
            "" if place.cost_usd is None else per_1k(place.cost_usd),
            "" if place.share is None else percent(place.share),
            str(place.topics_won),
            "" if place.asked_on is None else place.asked_on.isoformat(),
            place.state,
        ]
        lines.append(f"| {' | '.join(escape(cell) for cell in cells)} |")
    if board.n_left_out:
        lines += ["", left_out_line(board)]
    return "\n".join(lines) + "\n"


def left_out_line(board: Leaderboard) -> str:
    """Return how many LLMs are not shown, and what shows them."""
    return f"{counted(board.n_left_out, 'LLM')} left out by the settings: --all shows them."


def _points(board: Leaderboard) -> tuple[LLMPoint, ...]:
    known = [(p, p.score, p.cost_usd) for p in board.places if p.score is not None and p.cost_usd is not None]
    scores, costs = np.array([one[1] for one in known]), np.array([one[2] for one in known])
    hull = set(upper_hull(costs, scores).tolist())
    return tuple(
        LLMPoint(
            key=place.key,
            score=score,
            cost_usd=cost,
            repriced_cost_usd=None,
            is_new=False,
            is_gone=place.state != "available",
            is_dominated=bool(((costs < cost) & (scores >= score)).any() or ((costs <= cost) & (scores > score)).any()),
            is_on_frontier=at in hull,
            share_before=place.share,
            share_after=place.share,
            unreadable_share=place.unreadable_share,
        )
        for at, (place, score, cost) in enumerate(known)
    )
