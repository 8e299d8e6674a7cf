"""Prompts, prompt sets and their roles: how prompts that have no role yet are dealt, and which keep theirs."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final

from registry.db.columns import text_bytes
from registry.db.prompt_tables import ROLES
from registry.errors import PromptSetInvalid, counted
from routing.errors import InvalidInput

MEASURING_ROLES: Final = ("gate", "hidden")
"""Roles of the prompts on which routers are judged: nothing is ever fitted on them."""


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
    def roles(self) -> dict[str, str]:
        """By digest, the role of each prompt."""
        return {member.prompt.digest: member.role for member in self.members}

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


@dataclass(frozen=True)
class StoredRoles:
    """The roles that prompts already have in a registry.

    Attributes
    ----------
    roles
        By digest, for those prompts that have a role; also for a prompt that was changed, whose role is kept.
    measuring
        Digests of prompts on which a router has been judged.
    shares, seed
        How the set that most of them are from was dealt; None when that was as prompts are dealt now.
    """

    roles: Mapping[str, str]
    measuring: AbstractSet[str] = frozenset()
    shares: RoleShares | None = None
    seed: int | None = None

    def kept(self, prompts: Sequence[Prompt], shares: RoleShares, seed: int) -> dict[str, str]:
        """Return, by digest, the roles that prompts keep when they are dealt with these shares and this seed.

        All of them, unless the settings changed. Another seed deals all prompts again, other shares as few as bring
        the roles to their new shares; prompts on which a router has been judged keep their role even then.
        """
        known = {one.digest: self.roles[one.digest] for one in prompts if one.digest in self.roles}
        if self.shares is None or (self.shares, self.seed) == (shares, seed):
            return known
        movable = sorted(digest for digest in known if digest not in self.measuring)
        if self.seed == seed:
            random.Random(seed).shuffle(movable)  # noqa: S311 - a reproducible split, not a secret
            counts, wanted = Counter(known.values()), asdict(shares)
            surplus = {role: counts[role] - math.ceil(wanted[role] * len(prompts)) for role in ROLES}
            of_role = {role: [digest for digest in movable if known[digest] == role] for role in ROLES}
            movable = [digest for role in ROLES for digest in of_role[role][: max(surplus[role], 0)]]
        return {digest: role for digest, role in known.items() if digest not in set(movable)}


def prompt_set_of(
    name: str, prompts: Sequence[Prompt], shares: RoleShares, seed: int, stored: StoredRoles | None = None
) -> PromptSet:
    """Return a prompt set without storing it.

    Prompts that have a role keep it. The others are shuffled by category with the seed and dealt to the roles that are
    furthest behind their shares, so that adding, dropping or changing a prompt changes the role of no other. Two
    prompts of equal content count once, and a prompt gets the role of another with the same text: otherwise one text
    could be fitted on and judged on.

    Parameters
    ----------
    name
        What people call the set.
    prompts
        The prompts, in any order.
    shares
        Share of each role.
    seed
        Decides which prompt gets which role.
    stored
        The roles that prompts already have; none when omitted.

    Raises
    ------
    PromptSetInvalid
        Without prompts, for prompts without text, reference or grader, and for one id with two contents.
    """
    counted_once = checked(prompts)
    kept = (stored or StoredRoles({})).kept(counted_once, shares, seed)
    members = _deal(counted_once, shares, seed, kept)
    return PromptSet(name, _set_digest(members), members)


def checked(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Return prompts without those that repeat an earlier one.

    Raises
    ------
    PromptSetInvalid
        As for `prompt_set_of`.
    """
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


def _deal(prompts: Sequence[Prompt], shares: RoleShares, seed: int, kept: Mapping[str, str]) -> tuple[Member, ...]:
    """Deal prompts to roles: shuffled within each category, each to the role that is furthest behind its share."""
    strata: dict[str, list[Prompt]] = {}
    for one in sorted(prompts, key=lambda each: each.digest):
        if one.digest not in kept:
            strata.setdefault(one.category or "", []).append(one)
    wanted = asdict(shares)
    dealt = dict(kept)
    of_text = {one.text: kept[one.digest] for one in prompts if one.digest in kept}
    counts = Counter(kept.values())
    shuffled = random.Random(seed)  # noqa: S311 - a reproducible split, not a secret
    for category in sorted(strata):
        stratum = strata[category]
        shuffled.shuffle(stratum)
        for one in stratum:
            n_dealt = len(dealt) + 1
            furthest = max(ROLES, key=lambda each: wanted[each] * n_dealt - counts[each])
            role = of_text.setdefault(one.text, furthest)
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
