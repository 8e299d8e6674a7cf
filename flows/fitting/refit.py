"""Stage three: stored outcomes become feature vectors, and vectors become a candidate router; no LLM is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.errors import PrerequisiteError
from flows.fitting.estimation import Estimation, Refit, assemble, estimate
from flows.fitting.refit_change import LLMChange, RefitChange
from flows.logs import say
from flows.masking import masked_failures
from flows.night.asked_prompts import is_uniform
from flows.night.context import Night
from flows.night.llm_facts import routed_llm
from flows.profiling.availability import unavailable_tonight
from flows.text import counted, sanitize
from registry.llms import LLM
from registry.outcomes import OutcomeTable
from routing.baselines import ZeroRouter
from routing.estimator import PosteriorEstimator
from routing.features import FeatureVector
from routing.router import RoutedLLM, Router
from routing.tokens import estimated_input_tokens

_EMBEDDED_ROLES = ("map", "representative", "gate")
# To be routed to, an LLM needs scores for this share of the prompts of a cluster, and for at least this many.
LEAST_CLUSTER_SHARE: Final = 0.8
LEAST_CLUSTER_ANSWERS: Final = 3


@dataclass(frozen=True, eq=False)
class Candidate:
    """The night's router before it is published.

    Attributes
    ----------
    router
        The router.
    cluster_map_digest
        Digest of its cluster map.
    map_was_fitted
        Whether the map was fitted tonight.
    zero_router
        The prompt-blind baseline over the same LLMs.
    left_out
        Key and reason of each LLM that has a price but no vector.
    carried_over
        LLMs that keep the vector of an earlier night, because they have answered too little since.
    taught_only
        LLMs that cannot serve any more, and whose answers taught the map or the prior tonight.
    change
        What a refit of map and prior changed; None when there was none.
    """

    router: Router
    cluster_map_digest: str
    map_was_fitted: bool
    zero_router: ZeroRouter
    left_out: tuple[tuple[str, str], ...]
    carried_over: tuple[str, ...] = ()
    taught_only: tuple[str, ...] = ()
    change: RefitChange | None = None


@task(name="embed-prompts", cache_policy=NO_CACHE)
@masked_failures()
def embed_prompts(night: Night) -> int:
    """Embed the prompts without a stored embedding, store the embeddings, and return their number."""
    prompts = tuple(prompt for role in _EMBEDDED_ROLES for prompt in night.prompt_set.with_role(role))
    embedder = night.workspace.embedder
    stored = night.registry.prompts.embeddings(prompts, embedder.id.key)
    missing = [prompt for prompt in prompts if prompt.digest not in set(stored.prompt_digests)]
    if missing:
        say(f"Embedding {counted(len(missing), 'prompt')} with {embedder.id.name}, once for each prompt.")
        matrix = embedder.embed([prompt.text for prompt in missing])
        night.registry.prompts.store_embeddings(embedder.id.key, [prompt.digest for prompt in missing], matrix)
    return len(missing)


@task(name="refit", cache_policy=NO_CACHE)
@masked_failures()
def refit(night: Night) -> Candidate:
    """Make the candidate router from the map, vectors and prices in the registry."""
    llms = _candidates(night)
    found = estimate(night, llms)
    map_digest, table = found.digest, found.representative.table
    lacking = _lacking(night, found, llms)
    stored_vectors = night.registry.routers.vectors(map_digest, prompt_set_digest=night.prompt_set.digest)
    previous = {stored.llm_key: stored.as_vector() for stored in stored_vectors}
    routed: list[RoutedLLM] = []
    fresh: dict[str, FeatureVector] = {}
    left_out: list[tuple[str, str]] = []
    absent = unavailable_tonight(night)
    for column, llm in enumerate(llms):
        if llm.key in absent:
            left_out.append((llm.key, "its endpoint does not know it"))
            continue
        lack = lacking[column]
        vector = previous.get(llm.key)
        if not lack:
            vector = found.vector(column)
            fresh[llm.key] = vector
        elif vector is None:
            left_out.append((llm.key, lack + _failures(night, llm)))
            continue
        if _has_no_cost(llm, vector):
            fresh.pop(llm.key, None)
            left_out.append((llm.key, "its endpoint reported no tokens for any answer, so what it costs is unknown"))
            continue
        routed.append(routed_llm(llm, vector))
    if not routed:
        raise PrerequisiteError(
            "No LLM has enough scores to be routed.",
            unchanged="The champion stays as it is.",
            hint="See the failures with: uniroute llm list",
        )
    night.registry.routers.save_vectors(map_digest, fresh, night.prompt_set.digest, night.run)
    router = assemble(night, found, routed, night.workspace.embedder.id)
    change = None
    if found.refit is not None and fresh:
        change = _change(night, found.refit, router, {llm.key: at for at, llm in enumerate(llms) if llm.key in fresh})
    return Candidate(
        router,
        map_digest,
        found.was_fitted,
        _zero_router(night, table, llms, router),
        tuple(left_out),
        carried_over=tuple(key for key in router.keys if key not in fresh),
        taught_only=found.taught_only,
        change=change,
    )


def _lacking(night: Night, found: Estimation, llms: list[LLM]) -> list[str]:
    """Return what each LLM lacks to be routed to, as a clause; empty where nothing is lacking."""
    rules, table = night.settings.routing, found.representative.table
    has_floors = not isinstance(found.estimator, PosteriorEstimator)
    clusters = found.assign(found.representative.embeddings) if has_floors else None
    representative = night.prompt_set.with_role("representative")
    # Gate and hidden prompts count too: without them, contamination of the other prompts would go unnoticed.
    answered = np.isfinite(night.outcome_table(llms, night.profiled_prompts).scores)
    lacking = []
    for column, llm in enumerate(llms):
        has_score = np.isfinite(table.scores[:, column]) & found.enters_vector(column)
        was_asked = has_score | night.asked.is_asked(llm)
        shares = (
            night.asked.share(llm, night.profiled_prompts, answered[:, column]),
            night.asked.share(llm, representative, has_score),
        )
        lacking.append(
            shortfall(
                has_score,
                None if clusters is None else np.where(was_asked, clusters, -1),
                profile_share=min(shares),
                min_coverage=rules.min_coverage,
                min_answers=night.asked.answers_needed(int(was_asked.sum())),
            )
        )
    return lacking


def _candidates(night: Night) -> list[LLM]:
    """Return the LLMs that a router may have tonight: routable ones whose endpoint is still configured."""
    routable = [llm for llm in night.registry.llms.all() if llm.is_routable_on(night.as_of) and not night.is_judge(llm)]
    gone = Counter(llm.endpoint for llm in routable if llm.endpoint not in night.sampling)
    for endpoint, n in sorted(gone.items()):
        say(f"{counted(n, 'LLM')} of endpoint {sanitize(endpoint)} left out: no [[endpoint]] has that name.")
    return [llm for llm in routable if llm.endpoint not in gone]


def _change(night: Night, refit: Refit, router: Router, columns: Mapping[str, int]) -> RefitChange:
    """Compare a router with the one that the map and prior before make of the same answers, for LLMs with a column."""
    router = replace(router, llms=tuple(llm for llm in router.llms if llm.key in columns))
    routed = [replace(llm, vector=refit.before.vector(columns[llm.key])) for llm in router.llms]
    before = assemble(night, refit.before, routed, router.embedder)
    prompts = night.prompt_set.with_role("gate")
    embeddings, tokens = night.embeddings_of(prompts), estimated_input_tokens([prompt.text for prompt in prompts])
    chosen = [one.route(embeddings, input_tokens=tokens).llm_index for one in (before, router)]
    counts = [Counter(one.tolist()) for one in chosen]
    levels = [one.expected_on_calibration()[0].mean(axis=0) for one in (before, router)]
    found = [
        LLMChange(key, float(levels[0][place]), float(levels[1][place]), counts[0][place], counts[1][place])
        for place, key in enumerate(router.keys)
    ]
    found.sort(key=lambda one: (-abs(one.prompts - one.prompts_before), -abs(one.level - one.level_before), one.llm))
    return RefitChange(
        why=refit.record.why,
        n_llms=refit.record.n_llms,
        same_map=before.cluster_map.digest == router.cluster_map.digest,
        gate_prompts=len(prompts),
        rerouted=int(np.count_nonzero(chosen[0] != chosen[1])),
        llms=tuple(found),
    )


def _failures(night: Night, llm: LLM) -> str:
    """Return the failures of an LLM by kind, as a clause that follows another; empty without failures."""
    kinds = night.registry.outcomes.failures(llm.key, night.grader_versions, night.counted_sampling(llm))
    return "; failures: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()) if kinds else ""


def _has_no_cost(llm: LLM, vector: FeatureVector) -> bool:
    """Whether an LLM with a price seems to cost nothing, as answers of releases that believed 0 tokens make it."""
    assert llm.price is not None, "only a priced LLM is routable"
    is_priced = llm.price.input_usd_per_mtok > 0 or llm.price.output_usd_per_mtok > 0
    return is_priced and not (vector.input_tokens.any() or vector.output_tokens.any())


def _zero_router(night: Night, table: OutcomeTable, llms: list[LLM], router: Router) -> ZeroRouter:
    """Fit the prompt-blind baseline on the representative prompts that were drawn uniformly for every routed LLM.

    Those count that every LLM has a score for; where there are none, each LLM's own.
    """
    keys = [llm.key for llm in llms]
    columns = [keys.index(key) for key in router.keys]
    sampling = {llms[column].key: night.counted_sampling(llms[column]) for column in columns}
    drawn = is_uniform(night.registry, night.prompt_set, sampling)
    scores = np.where(drawn, table.scores[:, columns], np.nan)
    costs_usd = table.cost_usd[:, columns]
    complete = np.isfinite(scores).all(axis=1)
    if complete.any():
        return ZeroRouter.fit(scores[complete], costs_usd[complete], router.keys)
    costs_usd = np.where(np.isfinite(scores), costs_usd, np.nan)
    return ZeroRouter.fit(np.nanmean(scores, axis=0)[None], np.nanmean(costs_usd, axis=0)[None], router.keys)


def shortfall(
    has_score: NDArray[np.bool_],
    clusters: NDArray[np.int64] | None,
    *,
    profile_share: float,
    min_coverage: float,
    min_answers: int,
) -> str:
    """Return what an LLM lacks to be routed to.

    Parameters
    ----------
    has_score, clusters
        ``(n,)``: for each representative prompt, whether the LLM has a score for it, and its cluster, -1 if it was not
        asked it. A cluster with fewer than `LEAST_CLUSTER_ANSWERS` prompts that it was asked says nothing about it and
        is left out. No clusters for an estimator that needs no answers of its own in each of them.
    profile_share
        Share of the prompts that it was asked that have a score: of the representative ones, or of all with gate and
        hidden ones, whichever is smaller.
    min_coverage
        The setting ``[routing] min_coverage``. In each cluster, the smaller of this and `LEAST_CLUSTER_SHARE` is
        enough.
    min_answers
        The setting ``[routing] min_answers``; where there are fewer representative prompts, that many are enough.

    Returns
    -------
    str
        One clause; empty if nothing is lacking.
    """
    if profile_share < min_coverage:
        return f"only {profile_share:.0%} of its prompts have a score"
    n_answers, wanted = int(has_score.sum()), min(min_answers, len(has_score))
    if n_answers < wanted:
        return f"only {n_answers} of the {wanted} answers that it needs ([routing] min_answers)"
    if clusters is None:
        return ""
    was_asked = clusters >= 0
    sizes = np.bincount(clusters[was_asked])
    scored = np.bincount(clusters[was_asked], weights=has_score[was_asked], minlength=len(sizes))
    least = np.maximum(sizes * min(LEAST_CLUSTER_SHARE, min_coverage), LEAST_CLUSTER_ANSWERS)
    lacking = np.flatnonzero((sizes >= LEAST_CLUSTER_ANSWERS) & (scored < least - 1e-9))
    if not lacking.size:
        return ""
    worst = lacking[np.argmin(scored[lacking] / sizes[lacking])]
    return f"only {int(scored[worst])} of the {sizes[worst]} prompts of cluster {worst} have a score"
