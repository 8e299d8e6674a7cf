"""Route prompts with a router version: a single prompt, or a file of them chunk by chunk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.batch.files import appearing, opener_for, refuse_taken
from flows.errors import FlowError
from flows.versions import store
from flows.workspace import Workspace
from registry.clock import utc_now
from routing.errors import InvalidInput, NoEligibleLLM, named
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    from registry.routers import RouterRecord
    from routing.decisions import Decision
    from routing.embedding import Embedder
    from routing.ranking import Decisions
    from routing.router import Router

CHUNK = 10_000


@dataclass(frozen=True)
class PreparedRouting:
    """A router version with everything that its choices depend on except the prompts.

    Attributes
    ----------
    router
        The router.
    embedder
        Its embedder.
    cost_weight
        Errors per USD; the router's own if None.
    candidates
        Keys of the LLMs to choose from.
    unavailable
        Keys of the considered LLMs that may no longer be called.
    counts_tokens
        Whether the expected cost of a prompt counts its own input tokens; false if the cost weight was solved without.
    """

    router: Router
    embedder: Embedder
    cost_weight: float | None
    candidates: tuple[str, ...]
    unavailable: tuple[str, ...]
    counts_tokens: bool

    def decide(self, text: str) -> Decision:
        """Route one prompt and explain the choice."""
        tokens = float(estimated_input_tokens([text])[0]) if self.counts_tokens else None
        (embedding,) = self.embedder.embed([text])
        return self.router.decide(
            embedding, input_tokens=tokens, cost_weight=self.cost_weight, candidates=self.candidates
        )

    def route(self, texts: Sequence[str]) -> Decisions:
        """Route prompts together: the same decisions as one by one."""
        tokens = estimated_input_tokens(texts) if self.counts_tokens else None
        embeddings = self.embedder.embed(texts)
        return self.router.route(
            embeddings, input_tokens=tokens, cost_weight=self.cost_weight, candidates=self.candidates
        )


@dataclass(frozen=True)
class RoutedFile:
    """Result of routing a file.

    Attributes
    ----------
    path
        The output.
    rows
        Number of prompts that were routed.
    seconds
        Duration, reading and writing included.
    share_per_llm
        Share of the prompts per LLM, the largest first; LLMs without prompts are left out.
    digest
        Digest of the router.
    """

    path: Path
    rows: int
    seconds: float
    share_per_llm: Mapping[str, float]
    digest: str

    @property
    def prompts_per_second(self) -> float:
        """Prompts routed per second."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


def prepare(
    workspace: Workspace,
    record: RouterRecord,
    cost_weight: float | None = None,
    max_cost_usd: float | None = None,
    min_score: float | None = None,
    candidates: str | None = None,
    exclude: str | None = None,
) -> PreparedRouting:
    """Load a router version and settle its candidates and its cost weight.

    A version made before the lengths of the representative prompts were stored solves budgets with the tokens of the
    LLMs' profiles, and then routes with those as well.

    Parameters
    ----------
    workspace
        The opened workspace.
    record
        The router version.
    cost_weight, max_cost_usd, min_score
        At most one of them; the version's own cost weight if all are None.
    candidates
        LLM keys, or ids without the endpoint, separated by commas; all LLMs if None.
    exclude
        LLMs not to choose, written in the same way; those that the version does not have are ignored.

    Raises
    ------
    InvalidInput
        A number is not usable, no candidate or an unknown one is named, or even the cheapest LLM exceeds the budget.
    NoEligibleLLM
        Every candidate was excluded, was withdrawn or may no longer be called.
    """
    router = store.load_version(workspace, record.digest)
    wanted, unwanted = _names(candidates), _names(exclude)
    if candidates is not None and not wanted:
        raise InvalidInput("No candidate is named.", hint="Leave candidates out to choose among all LLMs.")
    chosen = [key for key in router.keys if key in wanted or key.partition(":")[2] in wanted]
    unknown = [part for part in wanted if part not in chosen and part not in {key.partition(":")[2] for key in chosen}]
    if unknown:
        raise InvalidInput(
            f"Router {record.digest[:12]} has no LLM {named(unknown)}.",
            hint="List them with: uniroute router show",
        )
    considered = [key for key in chosen or router.keys if key not in unwanted and key.partition(":")[2] not in unwanted]
    if not considered:
        raise NoEligibleLLM("No LLM is left to choose from: all are excluded.", hint="Exclude fewer LLMs.")
    # LLMs withdrawn since the router was made are left out: the next best LLM gets their prompts.
    today = utc_now().date()
    available = {llm.key for llm in workspace.registry.llms.all() if not llm.refusal_to_serve(today)}
    eligible = tuple(key for key in considered if key in available)
    unavailable = tuple(key for key in considered if key not in available)
    if not eligible:
        raise NoEligibleLLM(
            f"No LLM is left to choose from: {', '.join(unavailable[:3])} may no longer be called.",
            hint="See why with: uniroute llm list",
        )
    has_target = max_cost_usd is not None or min_score is not None
    if has_target:
        cost_weight = router.cost_weight_for(max_cost_usd_per_1k=max_cost_usd, min_score=min_score, candidates=eligible)
    return PreparedRouting(
        router=router,
        embedder=store.embedder_of(workspace, router, record.digest),
        cost_weight=cost_weight,
        candidates=eligible,
        unavailable=unavailable,
        counts_tokens=router.solves_by_tokens or not has_target,
    )


def _names(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def route_file(
    prepared: PreparedRouting,
    source: Path,
    target: Path,
    *,
    chunk_rows: int = CHUNK,
    may_overwrite: bool = False,
    on_progress: Callable[[int, float], None] = lambda rows, seconds: None,
    clock: Callable[[], float] = time.perf_counter,
) -> RoutedFile:
    """Route every prompt of a file into another file of the same kind, which appears only when it is complete.

    Parameters
    ----------
    prepared
        The prepared router version.
    source
        A ``.parquet`` or ``.jsonl`` file with the text column or field `prompt`; everything else is carried through.
    target
        The file to write, with `flows.batch.files.ADDED` in each row as well.
    chunk_rows
        Prompts in memory at a time, and rows per row group of the output.
    may_overwrite
        Whether an existing target is replaced.
    on_progress
        Called after each chunk with the number of prompts routed so far and the seconds elapsed.
    clock
        Returns the time in seconds.

    Raises
    ------
    InvalidInput
        The kind of a file is unknown, a prompt is missing or not a text, or the target exists.
    FlowError
        The target cannot be written.
    """
    opens = opener_for(source, target)
    refuse_taken(source, target, may_overwrite)
    begun_s, rows, counts = clock(), 0, Counter[str]()
    try:
        with opens(source) as prompts, appearing(target, may_overwrite) as partial, prompts.writer(partial) as write:
            for chunk in prompts.chunks(chunk_rows):
                decisions = prepared.route(chunk.texts)
                write(chunk.carried, _added(decisions, prepared.router.digest))
                counts.update(decisions.llms)
                rows += len(chunk.texts)
                on_progress(rows, clock() - begun_s)
    except OSError as error:
        raise FlowError(
            f"{target} cannot be written: {error.strerror or error}.",
            unchanged="Nothing was written.",
            hint="Name a file in a folder with space that you may write to: --output FILE",
        ) from None
    shares = {llm: count / rows for llm, count in counts.most_common()}
    return RoutedFile(target, rows, clock() - begun_s, shares, prepared.router.digest)


def _added(decisions: Decisions, digest: str) -> Mapping[str, Sequence[Any]]:
    return {
        "llm": decisions.llms,
        "expected_score": decisions.expected_score.tolist(),
        "standard_error": decisions.standard_error.tolist(),
        "expected_cost_usd": decisions.expected_cost_usd.tolist(),
        "cluster": decisions.cluster.tolist(),
        "router_digest": [digest] * len(decisions),
    }
