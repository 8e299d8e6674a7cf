"""Which prompts each LLM is asked: gate and hidden ones all, representative ones by a stored order, map ones a part.

An LLM that is asked for the first time gets a *scope*: the order in force, and how many of its first prompts. It keeps
that, also when a later night chooses another order, so nothing is asked because of a choice. LLMs without a scope were
asked all representative prompts: those of the first night, on which the choice rests, and those of older releases.

The first prompts of every order are drawn uniformly, and every LLM is asked all of them. Means over representative
prompts are taken over those alone (`uniform_representative`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from flows.night.prompt_order import DRAWN, asks_all, carried_over, choose, is_good, n_asked_of
from registry.prompts.prompt_orders import AskedScope, PromptOrderRecord

if TYPE_CHECKING:
    from flows.config.settings import Settings
    from flows.workspace import Workspace
    from registry.cluster_maps import ClusterMapRecord
    from registry.llms import LLM
    from registry.outcomes import OutcomeTable
    from registry.prompts import Prompt, PromptSet
    from registry.runs import Run
    from registry.store import Registry

_REPRESENTATIVE, _MAP = "representative", "map"


class AskingNight(Protocol):
    """What is read of a night, which has all of it."""

    workspace: Workspace
    settings: Settings
    registry: Registry

    @property
    def run(self) -> Run: ...  # noqa: D102
    @property
    def prompt_set(self) -> PromptSet: ...  # noqa: D102
    @property
    def fits_map(self) -> bool: ...  # noqa: D102
    @property
    def grader_versions(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def sampling(self) -> dict[str, str]: ...  # noqa: D102
    def asked_sampling(self, llm: LLM) -> str: ...  # noqa: D102
    def counted_sampling(self, llm: LLM) -> str: ...  # noqa: D102
    def is_judge(self, llm: LLM) -> bool: ...  # noqa: D102
    def is_founding(self, llm: LLM) -> bool: ...  # noqa: D102
    def outcome_table(self, llms: list[LLM], prompts: tuple[Prompt, ...]) -> OutcomeTable: ...  # noqa: D102
    def prompts_for(self, llm: LLM) -> tuple[Prompt, ...]: ...  # noqa: D102


class AskedPrompts:
    """What LLMs are asked tonight, and what they were asked before.

    Parameters
    ----------
    night
        The night.
    until_run
        Only what this run and earlier ones stored; everything when omitted.
    """

    def __init__(self, night: AskingNight, *, until_run: int | None = None) -> None:
        self._night = night
        self._until_run = until_run
        self._scopes: dict[tuple[str, str], AskedScope] | None = None
        self._ordered: dict[str, tuple[Prompt, ...]] = {}

    # --- representative prompts -------------------------------------------------------------------------------------

    def representative(self, llm: LLM) -> tuple[Prompt, ...]:
        """Return the representative prompts that an LLM is asked, in the order in which it is asked them."""
        scope = self.scope(llm)
        if scope is None:
            return self._all(_REPRESENTATIVE)
        return self.prompts_of(scope.order_digest)[: scope.n_prompts]

    def scope(self, llm: LLM) -> AskedScope | None:
        """Return the scope that an LLM has, or gets when it is asked tonight; None when it is asked all prompts."""
        sampling = self._night.asked_sampling(llm)
        stored = self._stored.get((llm.key, sampling))
        if stored is None:
            if llm.key in self._asked_all or self.order is None:
                return None
            return self._first_scope(llm.key, sampling, self.order)
        order = self.order_of(stored.order_digest)
        if self._is_plain and self.order is not None and order.strategy != DRAWN:
            # Of those that it was asked, only the drawn ones enter a plain mean: the others are drawn now.
            return AskedScope(llm.key, sampling, self.order.digest, n_asked_of(self.order, self._night.settings))
        is_open = self._is_plain or not stored.is_decided
        if is_open and n_asked_of(order, self._night.settings) > stored.n_prompts:
            return replace(stored, n_prompts=n_asked_of(order, self._night.settings), is_decided=False)
        return stored

    def _first_scope(self, llm_key: str, sampling: str, order: PromptOrderRecord) -> AskedScope:
        n_asked, before = n_asked_of(order, self._night.settings), self._decided_before.get((llm_key, sampling))
        if before is None or before.n_prompts >= n_asked:
            return AskedScope(llm_key, sampling, order.digest, n_asked)
        return AskedScope(llm_key, sampling, order.digest, max(before.n_prompts, order.n_random), is_decided=True)

    def scope_tonight(self, llm: LLM) -> AskedScope | None:
        """Return the scope by which an LLM is asked tonight; None also for those with which the map is fitted."""
        return None if self._night.is_founding(llm) else self.scope(llm)

    def n_random(self, llm: LLM) -> int:
        """Return how many of the first prompts of an LLM are drawn uniformly: the fewest that it is asked."""
        scope = self.scope(llm)
        return len(self._all(_REPRESENTATIVE)) if scope is None else self.order_of(scope.order_digest).n_random

    def prompts_of(self, order_digest: str) -> tuple[Prompt, ...]:
        """Return the prompts of an order that is stored, or chosen tonight."""
        if order_digest not in self._ordered:
            self._ordered[order_digest] = _prompts(self._night.prompt_set, self.order_of(order_digest))
        return self._ordered[order_digest]

    def is_asked(self, llm: LLM) -> NDArray[np.bool_]:
        """Return which of the representative prompts, in the order of the prompt set, an LLM is asked, ``(n,)``."""
        asked = {one.digest for one in self.representative(llm)}
        return np.array([one.digest in asked for one in self._all(_REPRESENTATIVE)], dtype=bool)

    def n_counted(self, llm: LLM) -> int:
        """Return how many representative prompts an LLM was asked for the answers that count."""
        stored = self._stored.get((llm.key, self._night.counted_sampling(llm)))
        return len(self._all(_REPRESENTATIVE)) if stored is None else stored.n_prompts

    def answers_needed(self, n_asked: int) -> int:
        """Return how many own answers an LLM needs that was asked so many representative prompts, at least 1.

        One that is asked as few as it needs may lack some of them, too: a call that fails every night must not keep it
        from being routed to for ever.
        """
        rules = self._night.settings.routing
        return max(1, min(rules.min_answers, math.ceil(rules.min_coverage * n_asked - 1e-9)))

    def keep(self, llms: Iterable[LLM]) -> None:
        """Store the order in force, and the scopes of the LLMs that are about to be asked, before anything is asked."""
        llms = list(llms)
        fresh = [
            scope
            for llm in llms
            if (scope := self.scope_tonight(llm)) is not None
            and self._stored.get((llm.key, self._night.asked_sampling(llm))) != scope
        ]
        store, run = self._night.registry.prompt_orders, self._night.run
        if self._night.fits_map and self.map_order is not None:
            store.save(self.map_order, run)
        for digest in {scope.order_digest for scope in fresh}:
            store.save(self.order_of(digest), run)
        store.save_scopes(fresh, run)
        self._scopes = None

    def decide(self, llm: LLM, n_prompts: int) -> None:
        """Store that the profile of an LLM ends after so many prompts of its order."""
        scope = self.scope(llm)
        assert scope is not None, "only an LLM that is asked by an order is asked less of it"
        decided = replace(scope, n_prompts=n_prompts, is_decided=True)
        self._night.registry.prompt_orders.save_scopes([decided], self._night.run)
        self._scopes = None

    def forget(self) -> None:
        """Read the scopes again: another process of the run may have stored some."""
        self._scopes = None

    @cached_property
    def order(self) -> PromptOrderRecord | None:
        """The order by which LLMs without a scope are asked; None when they are asked all representative prompts."""
        prompts, wanted = self._all(_REPRESENTATIVE), self._night.settings.prompts.ask
        if asks_all(self._night.settings) or (wanted != "auto" and wanted >= len(prompts)):
            return None
        # A plain mean is only true of prompts that were drawn.
        known = [] if self._is_plain else self._known
        stored = [one for one in self._stored_orders if not self._is_plain or one.strategy == DRAWN]
        found = stored[-1] if stored else self._carried_over
        if found is None or not is_good(found, len(known), self._night.settings):
            found = self._chosen(known)
        return found if n_asked_of(found, self._night.settings) < len(prompts) else None

    def _chosen(self, known: Sequence[LLM]) -> PromptOrderRecord:
        night, prompts = self._night, self._all(_REPRESENTATIVE)
        block = night.registry.prompts.embeddings(prompts, night.workspace.embedder.id.key)
        is_embedded = len(block.prompt_digests) == len(prompts)
        rows = block.matrix if is_embedded else np.ones((len(prompts), 1), dtype=np.float32)
        errors = 1 - night.outcome_table(list(known) if is_embedded else [], prompts).scores
        return choose(night.prompt_set, rows, errors, night.settings)

    @property
    def _carried_over(self) -> PromptOrderRecord | None:
        """The order of the prompt set before, as far as it serves for this one."""
        earlier = self._earlier
        is_other = earlier is None or earlier.seed != self._night.settings.prompts.seed
        if is_other or (self._is_plain and earlier.strategy != DRAWN):
            return None
        return carried_over(earlier, self._night.prompt_set)

    @cached_property
    def _earlier(self) -> PromptOrderRecord | None:
        store, prompt_set = self._night.registry.prompt_orders, self._night.prompt_set
        return store.latest_of_others(prompt_set.digest, _REPRESENTATIVE, until_run=self._until_run)

    @cached_property
    def _decided_before(self) -> dict[tuple[str, str], AskedScope]:
        """The scopes that ended early on the prompt set before: what was decided there is not asked for again."""
        if self._earlier is None or self._is_plain:
            return {}
        store = self._night.registry.prompt_orders
        found = store.scopes(self._earlier.prompt_set_digest, until_run=self._until_run)
        return {key: scope for key, scope in found.items() if scope.is_decided}

    @property
    def _is_plain(self) -> bool:
        """Whether vectors are the paper's plain means."""
        return self._night.settings.routing.method != "posterior"

    @cached_property
    def _known(self) -> list[LLM]:
        """The LLMs that answered all representative prompts."""
        return [llm for llm in self._askable if llm.key in self._asked_all]

    @cached_property
    def _asked_all(self) -> frozenset[str]:
        """Keys of the LLMs without a scope that were asked all representative prompts: no choice asks them more."""
        llms = [llm for llm in self._askable if (llm.key, self._night.asked_sampling(llm)) not in self._stored]
        prompts, night = self._all(_REPRESENTATIVE), self._night
        sampling = {llm.key: night.asked_sampling(llm) for llm in llms}
        found = night.registry.outcomes.coverage(list(sampling), prompts, night.grader_versions, sampling)
        return frozenset(one.llm_key for one in found if one.share >= night.settings.routing.min_coverage)

    @cached_property
    def _askable(self) -> list[LLM]:
        night = self._night
        known = night.registry.llms.all(status="available")
        return [llm for llm in known if llm.endpoint in night.sampling and not night.is_judge(llm)]

    # --- map prompts ------------------------------------------------------------------------------------------------

    @cached_property
    def map(self) -> tuple[Prompt, ...]:
        """The map prompts that LLMs answer in the night in which the map is fitted."""
        order = self.map_order
        return self._all(_MAP) if order is None else _prompts(self._night.prompt_set, order)[: order.n_asked]

    @cached_property
    def map_order(self) -> PromptOrderRecord | None:
        """The order of the map prompts, those that known LLMs have answered in front; None when all are asked."""
        stored = self._orders(_MAP)
        if stored:
            return stored[-1]
        night, prompts = self._night, self._all(_MAP)
        n_asked, seed = night.settings.prompts.map_answers, night.settings.prompts.seed
        # A map that was fitted on answers to all prompts, in this night's past or by an earlier release, has no order.
        if self._until_run is not None or not night.fits_map or n_asked >= len(prompts):
            return None
        n_answers = np.isfinite(night.outcome_table(self._askable, prompts).scores).sum(axis=1)
        drawn = np.random.default_rng(seed).permutation(len(prompts))
        drawn = drawn[np.argsort(-n_answers[drawn], kind="stable")]
        return PromptOrderRecord(
            prompt_set_digest=night.prompt_set.digest,
            role=_MAP,
            strategy=DRAWN if not n_answers.any() else "answered",
            prompt_digests=tuple(prompts[row].digest for row in drawn),
            n_random=len(prompts) if not n_answers.any() else 0,
            n_asked=n_asked,
            n_known=len(self._askable),
            seed=seed,
        )

    def map_rows(self) -> NDArray[np.int64] | None:
        """Return the places of the map prompts that LLMs were asked; None when that is all of them."""
        if self.map_order is None:
            return None
        asked = {one.digest for one in self.map}
        return np.array([row for row, one in enumerate(self._all(_MAP)) if one.digest in asked], dtype=np.int64)

    # --- both -------------------------------------------------------------------------------------------------------

    def share(self, llm: LLM, prompts: Sequence[Prompt], has_score: NDArray[np.bool_]) -> float:
        """Return the share of the prompts that an LLM was asked that have a score, in [0, 1].

        A call that failed counts as missing. What it answered without being asked tonight counts as asked.

        Parameters
        ----------
        llm
            The LLM.
        prompts, has_score
            Prompts, and for each whether the LLM has a score, ``(n,)``.
        """
        wanted = {one.digest for one in self._night.prompts_for(llm)}
        asked = np.array([one.digest in wanted for one in prompts], dtype=bool) | has_score
        return float(has_score[asked].mean()) if asked.any() else 0.0

    def _all(self, role: str) -> tuple[Prompt, ...]:
        return self._night.prompt_set.with_role(role)

    @property
    def _stored(self) -> dict[tuple[str, str], AskedScope]:
        if self._scopes is None:
            orders, prompt_set = self._night.registry.prompt_orders, self._night.prompt_set
            self._scopes = orders.scopes(prompt_set.digest, until_run=self._until_run)
        return self._scopes

    def _orders(self, role: str) -> tuple[PromptOrderRecord, ...]:
        orders, prompt_set = self._night.registry.prompt_orders, self._night.prompt_set
        return orders.of_set(prompt_set.digest, role, until_run=self._until_run)

    def order_of(self, digest: str) -> PromptOrderRecord:
        """Return an order by its digest: one that is stored, or the one in force."""
        for one in self._stored_orders:
            if one.digest == digest:
                return one
        assert self.order is not None and self.order.digest == digest, "a scope names an order that is stored"
        return self.order

    @cached_property
    def _stored_orders(self) -> tuple[PromptOrderRecord, ...]:
        return self._orders(_REPRESENTATIVE)


def uniform_representative(
    registry: Registry, prompt_set: PromptSet, sampling: Mapping[str, str]
) -> dict[str, tuple[Prompt, ...]]:
    """Return, by LLM key, the representative prompts over which its means are taken: drawn uniformly, and asked whole.

    Parameters
    ----------
    registry, prompt_set
        Where the scopes are, and the prompts.
    sampling
        By LLM key, how it was asked; an LLM without a scope was asked all representative prompts.
    """
    prompts = prompt_set.with_role(_REPRESENTATIVE)
    scopes = registry.prompt_orders.scopes(prompt_set.digest)
    orders = registry.prompt_orders.of_set(prompt_set.digest, _REPRESENTATIVE) if scopes else ()
    drawn = {one.digest: set(one.prompt_digests[: one.n_random]) for one in orders}
    of_order = {digest: tuple(one for one in prompts if one.digest in kept) for digest, kept in drawn.items()}
    return {
        key: prompts if (scope := scopes.get((key, used))) is None else of_order[scope.order_digest]
        for key, used in sampling.items()
    }


def is_uniform(registry: Registry, prompt_set: PromptSet, sampling: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return for which representative prompts means of some LLMs may be taken, ``(n, m)``; see above."""
    drawn = uniform_representative(registry, prompt_set, sampling)
    digests = [{one.digest for one in drawn[key]} for key in sampling]
    prompts = prompt_set.with_role(_REPRESENTATIVE)
    found = [[one.digest in kept for kept in digests] for one in prompts]
    return np.array(found, dtype=bool).reshape(len(prompts), len(digests))


def enters_means(
    registry: Registry, prompt_set: PromptSet, sampling: Mapping[str, str], *, until_run: int | None = None
) -> NDArray[np.bool_]:
    """Return which representative prompts enter the plain means of one LLM by itself, ``(n, m)``.

    All, of an LLM that was asked all; those of an order that was drawn; and of one that was chosen, or that ended early
    because of the answers, the part that was drawn, which every LLM is asked.

    Parameters
    ----------
    registry, prompt_set, sampling
        As for `uniform_representative`.
    until_run
        Only scopes that this run and earlier ones stored; all when omitted.
    """
    prompts = [one.digest for one in prompt_set.with_role(_REPRESENTATIVE)]
    scopes = registry.prompt_orders.scopes(prompt_set.digest, until_run=until_run)
    orders = {one.digest: one for one in registry.prompt_orders.of_set(prompt_set.digest, _REPRESENTATIVE)}
    found = np.ones((len(prompts), len(sampling)), dtype=bool)
    for column, (key, used) in enumerate(sampling.items()):
        scope = scopes.get((key, used))
        if scope is None or (scope.n_prompts >= len(prompts) and not scope.is_decided):
            continue
        order = orders[scope.order_digest]
        is_drawn = order.strategy == DRAWN and not scope.is_decided
        entering = set(order.prompt_digests[: scope.n_prompts if is_drawn else order.n_random])
        found[:, column] = [digest in entering for digest in prompts]
    return found


def places_among(fitted: Sequence[str], asked: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each prompt among those that an estimator was fitted on, ``(n,)``; -1 for any other.

    Parameters
    ----------
    fitted, asked
        Digests of prompts.
    """
    at = {digest: place for place, digest in enumerate(fitted)}
    return np.array([at.get(digest, -1) for digest in asked], dtype=np.int64)


def fitted_prompts(registry: Registry, record: ClusterMapRecord) -> tuple[str, ...]:
    """Return the digests of the representative prompts that an estimator was fitted on, in their order."""
    fitted_on = registry.prompts.get(record.prompt_set_digest)
    return tuple(one.digest for one in fitted_on.with_role("representative"))


def _prompts(prompt_set: PromptSet, record: PromptOrderRecord) -> tuple[Prompt, ...]:
    by_digest = {one.digest: one for one in prompt_set.with_role(record.role)}
    return tuple(by_digest[digest] for digest in record.prompt_digests)
