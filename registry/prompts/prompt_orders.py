"""Prompt orders: in which order LLMs are asked the prompts of a role, and how many of them each LLM is asked.

Both are only ever added. An order belongs to a prompt set and has a digest of its own; the scope of an LLM names the
order that it is asked by and says how many of its first prompts, so that an LLM keeps its order when a later night
chooses another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from registry.db.database import Database, ids_of
from registry.db.tables import asked_scope, llm, prompt, prompt_order, prompt_order_member
from registry.errors import RegistryCorrupt
from registry.runs import Run, Runs
from routing.strict_json import canonical_json


@dataclass(frozen=True)
class PromptOrderRecord:
    """An order of the prompts of one role.

    Attributes
    ----------
    prompt_set_digest, role
        Whose prompts.
    strategy
        How they were ordered.
    prompt_digests
        The prompts, those that are asked first in front.
    n_random
        How many of the first were drawn uniformly.
    n_asked
        How many an LLM is asked when the settings leave that to the order.
    n_known
        Number of LLMs whose answers the choice rests on.
    seed
        Of every draw.
    losses
        What the simulation found: ``{"by_strategy": {...}, "by_n": {...}}``.
    run_id
        The run that chose it.
    """

    prompt_set_digest: str
    role: str
    strategy: str
    prompt_digests: tuple[str, ...]
    n_random: int
    n_asked: int
    n_known: int
    seed: int
    losses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    run_id: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over prompts, their order, and what was chosen with it."""
        facts = (self.prompt_set_digest, self.role, self.strategy, list(self.prompt_digests))
        content = canonical_json([*facts, self.n_random, self.n_asked, self.seed])
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class AskedScope:
    """How many of the first prompts of an order one LLM is asked.

    Attributes
    ----------
    llm_key, sampling
        Which LLM, and under which sampling settings.
    order_digest
        The order.
    n_prompts
        How many of its first prompts.
    is_decided
        Whether the profile ended there because more answers would have changed no decision.
    """

    llm_key: str
    sampling: str
    order_digest: str
    n_prompts: int
    is_decided: bool = False


class PromptOrders:
    """Store and read prompt orders and scopes."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def save(self, record: PromptOrderRecord, run: Run | int) -> None:
        """Store an order; one that is already stored stays as it is.

        Parameters
        ----------
        record
            The order.
        run
            The run that chose it; fenced as in `Outcomes.record`.
        """
        with self._database.write() as unit:
            held = self._runs.require_lease(run, unit)
            if unit.execute(select(prompt_order.c.id).where(prompt_order.c.digest == record.digest)).first():
                return
            names = ("digest", "prompt_set_digest", "role", "strategy", "n_random", "n_asked", "n_known", "seed")
            facts: dict[str, Any] = {name: getattr(record, name) for name in names}
            facts |= {"losses_json": canonical_json(record.losses), "run_id": held.id}
            number = unit.execute(prompt_order.insert().values(facts)).inserted_primary_key[0]
            numbers = ids_of(unit, prompt.c.digest, prompt.c.id, record.prompt_digests)
            unit.execute(
                prompt_order_member.insert(),
                [
                    {
                        "prompt_order_id": number,
                        "rank": rank,
                        "prompt_id": numbers[digest],
                        "is_random": rank <= record.n_random,
                    }
                    for rank, digest in enumerate(record.prompt_digests, start=1)
                ],
            )

    def of_set(
        self, prompt_set_digest: str, role: str, *, until_run: int | None = None
    ) -> tuple[PromptOrderRecord, ...]:
        """Return the orders of a prompt set's prompts of one role, the latest last.

        Parameters
        ----------
        prompt_set_digest, role
            Whose prompts.
        until_run
            Only what this run and earlier ones chose.

        Raises
        ------
        RegistryCorrupt
            A stored order is not the one that its digest names.
        """
        query = select(prompt_order).where(
            prompt_order.c.prompt_set_digest == prompt_set_digest, prompt_order.c.role == role
        )
        if until_run is not None:
            query = query.where(prompt_order.c.run_id <= until_run)
        with self._database.read() as unit:
            rows = unit.execute(query.order_by(prompt_order.c.id)).all()
            members = {
                row.id: unit.execute(
                    select(prompt.c.digest)
                    .join_from(prompt_order_member, prompt)
                    .where(prompt_order_member.c.prompt_order_id == row.id)
                    .order_by(prompt_order_member.c.rank)
                )
                .scalars()
                .all()
                for row in rows
            }
            found = tuple(_record(row, members[row.id]) for row in rows)
        if any(one.digest != row.digest for one, row in zip(found, rows, strict=True)):
            raise RegistryCorrupt(
                "an order of prompts is not the one that its digest names",
                unchanged="Nothing was changed.",
                hint="uniroute audit verify",
            )
        return found

    def latest_of_others(
        self, prompt_set_digest: str, role: str, *, until_run: int | None = None
    ) -> PromptOrderRecord | None:
        """Return the latest order of a role that belongs to another prompt set; None if there is none.

        Parameters
        ----------
        prompt_set_digest, role, until_run
            As for `of_set`.
        """
        query = select(prompt_order.c.prompt_set_digest).where(
            prompt_order.c.prompt_set_digest != prompt_set_digest, prompt_order.c.role == role
        )
        if until_run is not None:
            query = query.where(prompt_order.c.run_id <= until_run)
        with self._database.read() as unit:
            other = unit.execute(query.order_by(prompt_order.c.id.desc()).limit(1)).scalar()
        return None if other is None else self.of_set(other, role, until_run=until_run)[-1]

    def save_scopes(self, scopes: Sequence[AskedScope], run: Run | int) -> None:
        """Store scopes; of several with one LLM and one sampling the last counts.

        Parameters
        ----------
        scopes
            Of LLMs and orders that are stored.
        run
            The run that asks; fenced as in `Outcomes.record`.
        """
        if not scopes:
            return
        with self._database.write() as unit:
            held = self._runs.require_lease(run, unit)
            llms = ids_of(unit, llm.c.key, llm.c.id, [one.llm_key for one in scopes])
            orders = ids_of(unit, prompt_order.c.digest, prompt_order.c.id, [one.order_digest for one in scopes])
            unit.execute(
                asked_scope.insert(),
                [
                    {
                        "llm_id": llms[one.llm_key],
                        "prompt_order_id": orders[one.order_digest],
                        "sampling": one.sampling,
                        "n_prompts": one.n_prompts,
                        "is_decided": one.is_decided,
                        "run_id": held.id,
                    }
                    for one in scopes
                ],
            )

    def scopes(self, prompt_set_digest: str, *, until_run: int | None = None) -> dict[tuple[str, str], AskedScope]:
        """Return the scope of each LLM on a prompt set, by its key and sampling.

        Parameters
        ----------
        prompt_set_digest
            The prompt set.
        until_run
            Only what this run and earlier ones stored.
        """
        query = (
            select(
                llm.c.key,
                asked_scope.c.sampling,
                prompt_order.c.digest,
                asked_scope.c.n_prompts,
                asked_scope.c.is_decided,
            )
            .join_from(asked_scope, llm)
            .join(prompt_order, prompt_order.c.id == asked_scope.c.prompt_order_id)
            .where(prompt_order.c.prompt_set_digest == prompt_set_digest)
        )
        if until_run is not None:
            query = query.where(asked_scope.c.run_id <= until_run)
        with self._database.read() as unit:
            found: Iterable[AskedScope] = (AskedScope(*row) for row in unit.execute(query.order_by(asked_scope.c.id)))
            return {(one.llm_key, one.sampling): one for one in found}


def _record(row: Any, prompt_digests: Sequence[str]) -> PromptOrderRecord:
    names = ("prompt_set_digest", "role", "strategy", "n_random", "n_asked", "n_known", "seed", "run_id")
    facts = {name: getattr(row, name) for name in names}
    return PromptOrderRecord(prompt_digests=tuple(prompt_digests), losses=json.loads(row.losses_json), **facts)
