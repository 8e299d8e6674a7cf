"""Prompts and frozen prompt sets: what every LLM is asked, pinned by a digest over the exact bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, select

from registry.db.database import Database, Unit, chunks, ids_of
from registry.db.tables import embedding, prompt, prompt_set, prompt_set_member
from registry.errors import NotFound, counted
from registry.ledger.facts import reopen
from registry.prompts.prompt_sets import Member, Prompt, PromptSet, RoleShares, StoredRoles, checked, prompt_set_of
from registry.prompts.role_memory import RoleMemory
from routing.errors import InvalidInput
from routing.strict_json import canonical_json


@dataclass(frozen=True, eq=False)
class EmbeddingBlock:
    """Stored embeddings of some prompts.

    Attributes
    ----------
    prompt_ids
        The prompts that have one, in the order of the set.
    prompt_digests
        Their digests, in the same order.
    matrix
        ``(n, dim)`` float32; ``(0, 0)`` when nothing is stored.
    """

    prompt_ids: tuple[str, ...]
    prompt_digests: tuple[str, ...]
    matrix: NDArray[np.float32]


class Prompts:
    """Freeze and read prompt sets; store their embeddings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def freeze(
        self, name: str, prompts: Sequence[Prompt], shares: RoleShares | None = None, seed: int = 0
    ) -> PromptSet:
        """Store prompts as a set, each with a role; the same input gives the same set and the same digest.

        Prompts that this registry has given a role keep it; the others are dealt as `prompt_set_of` says.

        Parameters
        ----------
        name
            What people call the set; a set that is already stored keeps its first name.
        prompts
            The prompts, in any order.
        shares
            Share of each role; `RoleShares()` when omitted.
        seed
            Decides which prompt gets which role.

        Raises
        ------
        PromptSetInvalid
            Without prompts, for prompts without text, reference or grader, and for one id with two contents.
        """
        shares = shares or RoleShares()
        with self._database.write() as unit:
            stored = RoleMemory(unit, checked(prompts), shares, seed).read(name)
            frozen = prompt_set_of(name, prompts, shares, seed, stored)
            known = unit.execute(select(prompt_set.c.name).where(prompt_set.c.digest == frozen.digest)).first()
            if known is not None:
                return PromptSet(known.name, frozen.digest, frozen.members)
            self._store(unit, frozen, shares, seed)
        return frozen

    def dealt(
        self,
        name: str,
        prompts: Sequence[Prompt],
        shares: RoleShares,
        seed: int,
        *,
        earlier: PromptSet | None = None,
    ) -> PromptSet:
        """Return the set that `freeze` would store, without storing it, whatever the schema of the registry.

        Parameters
        ----------
        name, prompts, shares, seed
            As for `freeze`; so are the errors.
        earlier
            A set to take as stored even if it is not yet.
        """
        with self._database.read_schema() as unit:
            stored = RoleMemory(unit, checked(prompts), shares, seed).read(name)
        if earlier is not None:
            stored = StoredRoles({**stored.roles, **earlier.roles})
        return prompt_set_of(name, prompts, shares, seed, stored)

    def _store(self, unit: Unit, frozen: PromptSet, shares: RoleShares, seed: int) -> None:
        rows = [
            {
                "digest": member.prompt.digest,
                "text": member.prompt.text,
                "reference": member.prompt.reference,
                "grader": member.prompt.grader,
            }
            for member in frozen.members
        ]
        unit.execute(self._database.insert_missing(prompt, [prompt.c.digest]), rows)
        unit.execute(
            prompt_set.insert().values(
                digest=frozen.digest,
                name=frozen.name,
                seed=seed,
                shares_json=canonical_json(asdict(shares)),
                n_prompts=len(frozen.members),
            )
        )
        numbers = ids_of(unit, prompt.c.digest, prompt.c.id, [row["digest"] for row in rows])
        unit.execute(
            prompt_set_member.insert(),
            [
                {
                    "prompt_set_digest": frozen.digest,
                    "position": position,
                    "prompt_id": numbers[member.prompt.digest],
                    "label": member.prompt.prompt_id,
                    "category": member.prompt.category,
                    "role": member.role,
                }
                for position, member in enumerate(frozen.members)
            ],
        )

    def get(self, digest: str) -> PromptSet:
        """Read a frozen set.

        Raises
        ------
        NotFound
            When no set has that digest.
        """
        with self._database.read() as unit:
            known = unit.execute(select(prompt_set.c.name).where(prompt_set.c.digest == digest)).first()
            if known is None:
                raise NotFound(f"there is no prompt set {digest[:12]}", hint="uniroute prompt list")
            rows = unit.execute(
                select(
                    prompt_set_member.c.label,
                    prompt.c.text,
                    prompt.c.reference,
                    prompt.c.grader,
                    prompt_set_member.c.category,
                    prompt_set_member.c.role,
                )
                .join_from(prompt_set_member, prompt)
                .where(prompt_set_member.c.prompt_set_digest == digest)
                .order_by(prompt_set_member.c.position)
            )
            return PromptSet(known.name, digest, tuple(Member(Prompt(*row[:5]), row[5]) for row in rows))

    def embeddings(self, frozen: PromptSet | Sequence[Prompt], embedder_key: str) -> EmbeddingBlock:
        """Return the stored embeddings of a set, in its order.

        An embedding belongs to a text: prompts that differ only in reference or grader share it.

        Parameters
        ----------
        frozen
            A prompt set, or some prompts.
        embedder_key
            ``name@revision/dim`` of the embedder.
        """
        wanted = frozen.prompts if isinstance(frozen, PromptSet) else tuple(frozen)
        with self._database.read() as unit:
            stored = _vectors(unit, embedder_key, prompt.c.digest, [one.digest for one in wanted])
            missing = [one for one in wanted if one.digest not in stored]
            twins = _vectors(unit, embedder_key, prompt.c.text, [one.text for one in missing])
            stored |= {one.digest: twins[one.text] for one in missing if one.text in twins}
        found = [one for one in wanted if one.digest in stored]
        matrix = np.stack([stored[one.digest] for one in found]) if found else np.empty((0, 0), np.float32)
        return EmbeddingBlock(tuple(one.prompt_id for one in found), tuple(one.digest for one in found), matrix)

    def store_embeddings(
        self,
        embedder_key: str,
        prompts: Sequence[Prompt | str],
        matrix: NDArray[np.float32],
        *,
        unit: Unit | None = None,
    ) -> None:
        """Store embeddings; those already stored for this embedder are replaced.

        Parameters
        ----------
        embedder_key
            ``name@revision/dim`` of the embedder.
        prompts
            Frozen prompts or their digests, one per row.
        matrix
            ``(n, dim)`` finite float32.
        unit
            The transaction to join.

        Raises
        ------
        InvalidInput
            When the matrix has another shape or non-finite values.
        NotFound
            When a prompt was never frozen.
        """
        digests = [one if isinstance(one, str) else one.digest for one in prompts]
        if matrix.ndim != 2 or len(matrix) != len(digests):
            raise InvalidInput(f"{counted(len(digests), 'prompt')} cannot have embeddings of shape {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise InvalidInput("an embedding with NaN or infinite values cannot be stored")
        rows32 = np.ascontiguousarray(matrix, dtype=np.float32)
        with self._database.write(unit) as opened:
            numbers = ids_of(opened, prompt.c.digest, prompt.c.id, digests)
            require_known(digests, numbers)
            if digests:
                for part in chunks(list(numbers.values())):
                    of_embedder = embedding.c.embedder_key == embedder_key
                    reopen(opened, embedding, of_embedder, embedding.c.prompt_id.in_(part))
                opened.execute(
                    self._database.upsert(embedding),
                    [
                        {"prompt_id": numbers[digest], "embedder_key": embedder_key, "vector": vector}
                        for digest, vector in zip(digests, rows32, strict=True)
                    ],
                )


def _vectors(
    unit: Unit, embedder_key: str, column: Column[str], values: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the stored embeddings of prompts by one of their columns."""
    found: dict[str, NDArray[np.float32]] = {}
    for part in chunks(values):
        rows = unit.execute(
            select(column, embedding.c.vector)
            .join_from(embedding, prompt)
            .where(embedding.c.embedder_key == embedder_key, column.in_(part))
        )
        found.update({row[0]: row[1] for row in rows})
    return found


def require_known(digests: Iterable[str], numbers: Iterable[str]) -> None:
    """Refuse prompts that were never frozen.

    Raises
    ------
    NotFound
        Naming how many and the first.
    """
    unknown = set(digests) - set(numbers)
    if unknown:
        raise NotFound(
            f"not in any prompt set: {counted(len(unknown), 'prompt')}, the first is {min(unknown)[:12]}",
            unchanged="Nothing was written.",
            hint="freeze the prompt set first",
        )
