"""Why a version routes one prompt as it does: ``uniroute router explain V TEXT``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.versions.store import embedder_of, load_version
from routing.errors import InvalidInput
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.routers import RouterRecord

N_NEAREST = 5
_FAR_PERCENTILE = 5.0


@dataclass(frozen=True)
class NearPrompt:
    """A representative prompt and the cosine similarity of its embedding."""

    prompt_id: str
    text: str
    similarity: float


@dataclass(frozen=True)
class Contender:
    """What a version expects of one LLM on the prompt.

    Attributes
    ----------
    llm
        LLM key.
    expected_score, standard_error
        In [0, 1].
    expected_cost_usd
        USD for this prompt.
    total
        Expected error plus cost weight times cost; the smallest wins.
    cost_term
        Cost weight times cost.
    """

    llm: str
    expected_score: float
    standard_error: float
    expected_cost_usd: float
    total: float
    cost_term: float


@dataclass(frozen=True)
class Explanation:
    """Why a prompt goes where it goes.

    Attributes
    ----------
    contenders
        All LLMs, the winner first.
    nearest
        The most similar representative prompts, the most similar first.
    cost_weight
        Errors that one USD is worth.
    because
        The term that decided between winner and runner-up: ``score``, ``cost``, ``both``, ``tie`` or ``only LLM``.
    is_far
        Whether the prompt is unlike every representative prompt, so that the expectations rest on little.
    usual_similarity
        The 5th percentile of the similarity of a representative prompt to its nearest neighbour.
    cluster
        Number of the prompt's cluster.
    """

    contenders: tuple[Contender, ...]
    nearest: tuple[NearPrompt, ...]
    cost_weight: float
    because: str
    is_far: bool
    usual_similarity: float
    cluster: int


def explain(workspace: Workspace, record: RouterRecord, text: str, cost_weight: float | None = None) -> Explanation:
    """Explain how a version routes one prompt.

    Parameters
    ----------
    workspace
        The opened parts.
    record
        The version.
    text
        The prompt.
    cost_weight
        Replaces the version's own when given.

    Raises
    ------
    InvalidInput
        The prompt is empty.
    """
    if not text.strip():
        raise InvalidInput(
            "The prompt is empty.", hint='uniroute router explain champion "Which gas do plants take in?"'
        )
    router = load_version(workspace, record.digest)
    weight = router.cost_weight if cost_weight is None else cost_weight
    embedding = embedder_of(workspace, router, record.digest).embed([text])[0]
    tokens = float(estimated_input_tokens([text])[0])
    chosen = router.decide(embedding, input_tokens=tokens, cost_weight=weight)
    alone = [router.decide(embedding, input_tokens=tokens, cost_weight=weight, candidates=[key]) for key in router.keys]
    contenders = [
        Contender(
            one.llm,
            one.expected_score,
            one.standard_error,
            one.expected_cost_usd,
            1 - one.expected_score + weight * one.expected_cost_usd,
            weight * one.expected_cost_usd,
        )
        for one in alone
    ]
    places = {chosen.llm: 0, chosen.runner_up: 1}
    ranked = tuple(sorted(contenders, key=lambda one: (places.get(one.llm, 2), one.total, one.llm)))
    nearest, usual = _nearest(workspace, record, embedding)
    return Explanation(
        contenders=ranked,
        nearest=nearest,
        cost_weight=weight,
        because=_because(ranked),
        is_far=not nearest or nearest[0].similarity < usual,
        usual_similarity=usual,
        cluster=chosen.cluster,
    )


def _because(ranked: tuple[Contender, ...]) -> str:
    """Return the term that decided between the winner and the runner-up."""
    if len(ranked) < 2:
        return "only LLM"
    winner, second = ranked[:2]
    is_better, is_cheaper = winner.expected_score > second.expected_score, winner.cost_term < second.cost_term
    if is_better and is_cheaper:
        return "both"
    if is_better or is_cheaper:
        return "score" if is_better else "cost"
    return "tie"


def _nearest(
    workspace: Workspace, record: RouterRecord, embedding: NDArray[np.float32]
) -> tuple[tuple[NearPrompt, ...], float]:
    """Return the nearest representative prompts, and the similarity that representative prompts usually have."""
    prompts = workspace.registry.prompts.get(record.prompt_set_digest).with_role("representative")
    block = workspace.registry.prompts.embeddings(prompts, record.embedder_key)
    if not len(block.matrix):
        return (), 1.0
    texts = {prompt.digest: prompt for prompt in prompts}
    similarity = block.matrix.astype(np.float64) @ np.asarray(embedding, dtype=np.float64)
    found = []
    for place in np.argsort(-similarity, kind="stable")[:N_NEAREST]:
        prompt = texts[block.prompt_digests[place]]
        found.append(NearPrompt(prompt.prompt_id, prompt.text, float(similarity[place])))
    among = block.matrix.astype(np.float64) @ block.matrix.T.astype(np.float64)
    np.fill_diagonal(among, -1.0)
    return tuple(found), float(np.percentile(among.max(axis=1), _FAR_PERCENTILE))
