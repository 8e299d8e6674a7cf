"""The leaderboard: all LLMs on the prompts that every LLM is asked, measured here, dated, with intervals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np

from flows.gate.evidence import Answers
from flows.night.context import PROFILED_ROLES
from flows.night.epochs import Drifts, leaderboard_by_llm
from flows.reports.digest import escape
from flows.reports.numbers import per_1k, percent, share_interval
from flows.reports.pages import page
from flows.reports.promotion.charts import frontier
from flows.reports.promotion.evidence import LLMPoint
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


@dataclass(frozen=True)
class Leaderboard:
    """All LLMs, the best first, and what they are measured on."""

    prompt_set: str
    champion: str
    n_prompts: int
    n_topics: int
    places: tuple[Place, ...]

    def as_data(self) -> dict[str, Any]:
        """Return the leaderboard as plain data."""
        return asdict(self)


def leaderboard_of(workspace: Workspace) -> Leaderboard:
    """Rank all LLMs on the prompts that every LLM is asked.

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
    places = [
        _place(workspace, answers, llm, prompts, shares.get(llm.key), won.get(llm.key, 0))
        for llm in registry.llms.all()
    ]
    places.sort(key=lambda place: (place.score is None, -(place.score or 0.0), place.key))
    return Leaderboard(answers.prompt_set.name, champion, len(prompts), router.cluster_map.n_clusters, tuple(places))


def _shares(workspace: Workspace, champion: str) -> dict[str, float]:
    """Read the shares that the gate found when the champion was promoted."""
    for promotion in workspace.registry.promotions.list(status="applied"):
        found = json.loads(promotion.gate.details_json).get("shares", [])
        if promotion.router_digest == champion and found:
            return {one["llm"]: one["share"] for one in found}
    return {}


def _place(
    workspace: Workspace, answers: Answers, llm: LLM, prompts: Sequence[Prompt], share: float | None, won: int
) -> Place:
    registry = workspace.registry
    standing = leaderboard_by_llm(registry.leaderboard(answers.prompt_set.digest)).get(llm.key)
    sampling = answers.sampling.get(llm.key) or (standing.sampling if standing is not None else "")
    table = registry.outcomes.table([llm.key], prompts, answers.graders, sampling)
    scores, costs = table.scores[:, 0], table.cost_usd[:, 0]
    scored = scores[np.isfinite(scores)]
    costs = costs[np.isfinite(costs) & np.isfinite(scores)]
    mean = float(scored.mean()) if len(scored) else None
    low, high = share_interval(mean, len(scored)) if mean is not None else (None, None)
    facts = registry.outcomes.facts(llm.key, prompts, answers.graders, sampling)
    drift = Drifts(registry).of(llm.key)
    state = llm.status if llm.is_routable or llm.status != "available" else f"not routable: {llm.refusal or 'no price'}"
    return Place(
        key=llm.key,
        name=llm.name,
        released_on=llm.released_at.date() if llm.released_at is not None else None,
        state="drifted, to be asked again" if drift is not None and drift.is_open else state,
        n_scored=len(scored),
        n_prompts=len(prompts),
        score=mean,
        low=low,
        high=high,
        cost_usd=float(costs.mean()) if len(costs) else None,
        share=share,
        topics_won=won,
        asked_on=facts.last_at.date() if facts.last_at is not None else None,
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
        "| LLM | score | 95 % | USD per 1,000 | share | topics won | asked | state |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place in board.places:
        cells = [
            llm_name(place.key, 60),
            "" if place.score is None else f"{place.score:.4f}",
            "" if place.low is None or place.high is None else f"{place.low:.3f} to {place.high:.3f}",
            "" if place.cost_usd is None else per_1k(place.cost_usd),
            "" if place.share is None else percent(place.share),
            str(place.topics_won),
            "" if place.asked_on is None else place.asked_on.isoformat(),
            place.state,
        ]
        lines.append(f"| {' | '.join(escape(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


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
        )
        for at, (place, score, cost) in enumerate(known)
    )
