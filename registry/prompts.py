"""Prompts and frozen prompt sets: what every LLM is asked, pinned by a digest over the exact bytes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, select

from registry.db.columns import text_bytes
from registry.db.database import Database, Unit, chunks, ids_of
from registry.db.tables import ROLES, embedding, prompt, prompt_set, prompt_set_member
from registry.errors import NotFound, PromptSetInvalid, counted
from routing.errors import InvalidInput
from routing.strict_json import canonical_json


@dataclass(frozen=True)
class Prompt:
    """One question with its reference answer.

    Attributes
    ----------
    prompt_id
        Its name in the prompt file; not part of its identity.
    text, reference
        Kept to the byte, whatever they contain.
    grader
        Name of the grader, for example ``choice``.
    category
        What it is about, for stratification; None when unknown.
    """

    prompt_id: str
    text: str
    reference: str
    grader: str
    category: str | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the bytes of text, reference and grader, in hexadecimal digits."""
        return _digest((self.text, self.reference, self.grader))


@dataclass(frozen=True)
class Member:
    """A prompt and its role in a set: ``map``, ``representative``, ``gate`` or ``hidden``."""

    prompt: Prompt
    role: str


@dataclass(frozen=True)
class PromptSet:
    """A frozen, ordered set of prompts, identified by its content."""

    name: str
    digest: str
    members: tuple[Member, ...]

    def with_role(self, *roles: str) -> tuple[Prompt, ...]:
        """Return the prompts of these roles, in the order of the set."""
        return tuple(member.prompt for member in self.members if member.role in roles)

    @property
    def is_whole(self) -> bool:
        """Whether texts, order and roles still match the digest."""
        return self.digest == _set_digest(self.members)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts, in the order of the set."""
        return tuple(member.prompt for member in self.members)


@dataclass(frozen=True)
class RoleShares:
    """How a set is divided among the roles: fractions that add up to 1."""

    map: float = 0.6
    representative: float = 0.1
    gate: float = 0.24
    hidden: float = 0.06

    def __post_init__(self) -> None:
        shares = tuple(asdict(self).values())
        if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-9:
            raise InvalidInput(f"the role shares {shares} are not fractions that add up to 1")


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

        Prompts are shuffled by category with the seed and dealt to the roles in proportion to `shares`. Two prompts
        of equal content count once: otherwise one text could have two roles.

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
        frozen = prompt_set_of(name, prompts, shares, seed)
        with self._database.write() as unit:
            known = unit.execute(select(prompt_set.c.name).where(prompt_set.c.digest == frozen.digest)).first()
            if known is not None:
                return PromptSet(known.name, frozen.digest, frozen.members)
            self._store(unit, frozen, shares, seed)
        return frozen

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


def prompt_set_of(name: str, prompts: Sequence[Prompt], shares: RoleShares, seed: int) -> PromptSet:
    """Return the set that `Prompts.freeze` would store, without storing it; parameters and errors are the same."""
    members = _deal(_checked(prompts), shares, seed)
    return PromptSet(name, _set_digest(members), members)


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


def _checked(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    if not prompts:
        raise PromptSetInvalid("the prompt set is empty", hint="name a file with at least one prompt")
    for field in ("text", "reference", "grader", "prompt_id"):
        lacking = [one.prompt_id or "(no id)" for one in prompts if not getattr(one, field).strip()]
        if lacking:
            raise PromptSetInvalid(
                f"{counted(len(lacking), 'prompt')} without {field}: {_named(lacking)}",
                unchanged="No prompt set was stored.",
                hint=f"give each prompt a {field} or leave it out",
            )
    by_id: dict[str, str] = {}
    clashing = [one.prompt_id for one in prompts if by_id.setdefault(one.prompt_id, one.digest) != one.digest]
    if clashing:
        raise PromptSetInvalid(
            f"{counted(len(set(clashing)), 'prompt id')} used for different contents: {_named(sorted(set(clashing)))}",
            unchanged="No prompt set was stored.",
            hint="give every prompt its own id",
        )
    first = {one.digest: one for one in reversed(prompts)}
    return tuple(first[digest] for digest in dict.fromkeys(one.digest for one in prompts))


def _named(ids: Sequence[str], at_most: int = 5) -> str:
    shown = ", ".join(ascii(one)[1:-1][:60] for one in ids[:at_most])
    return shown + (f" and {len(ids) - at_most} more" if len(ids) > at_most else "")


def _deal(prompts: Sequence[Prompt], shares: RoleShares, seed: int) -> tuple[Member, ...]:
    """Deal prompts to roles: shuffled within each category, each to the role that is furthest behind its share."""
    strata: dict[str, list[Prompt]] = {}
    for one in sorted(prompts, key=lambda each: each.digest):
        strata.setdefault(one.category or "", []).append(one)
    wanted = asdict(shares)
    dealt: dict[str, str] = {}
    counts = dict.fromkeys(ROLES, 0)
    shuffled = random.Random(seed)  # noqa: S311 - a reproducible split, not a secret
    for category in sorted(strata):
        stratum = strata[category]
        shuffled.shuffle(stratum)
        for one in stratum:
            n_dealt = len(dealt) + 1
            role = max(ROLES, key=lambda each: wanted[each] * n_dealt - counts[each])
            counts[role] += 1
            dealt[one.digest] = role
    return tuple(Member(one, dealt[one.digest]) for one in prompts)


def _set_digest(members: Sequence[Member]) -> str:
    fields = ((one.prompt.prompt_id, one.prompt.digest, one.prompt.category or "", one.role) for one in members)
    return _digest([field for member_fields in fields for field in member_fields])


def _digest(fields: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for field in fields:
        data = text_bytes(field)
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
