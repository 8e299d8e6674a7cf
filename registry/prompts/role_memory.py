"""The roles that prompts already have in a registry: those of the set that they continue, and of earlier ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Column, func, select

from registry.db.database import Unit, chunks
from registry.db.tables import prompt, prompt_set, prompt_set_member, router, run
from registry.prompts.prompt_sets import MEASURING_ROLES, Prompt, RoleShares, StoredRoles
from routing.strict_json import canonical_json


class RoleMemory:
    """What a registry knows about the roles of some prompts, read in one transaction.

    A set counts if a router was made from it, or if it was dealt with the shares and the seed of today: a set that was
    only planned with other settings has decided nothing.
    """

    def __init__(self, unit: Unit, prompts: Sequence[Prompt], shares: RoleShares, seed: int) -> None:
        self._unit = unit
        self._prompts = prompts
        self._deal = (canonical_json(asdict(shares)), seed)
        used = select(router.c.prompt_set_digest).distinct()
        self._used = {row[0] for row in unit.execute(used)}
        last_run = select(run.c.prompt_set_digest, func.max(run.c.id)).group_by(run.c.prompt_set_digest)
        self._last_run = {row[0]: row[1] for row in unit.execute(last_run)}
        sets = unit.execute(select(prompt_set))
        self._sets = {
            row.digest: row for row in sets if row.digest in self._used or (row.shares_json, row.seed) == self._deal
        }

    def read(self, name: str) -> StoredRoles:
        """Return the roles that the prompts have; `name` tells sets apart none of whose prompts is unchanged."""
        if not self._sets:
            return StoredRoles({})
        digests = [one.digest for one in self._prompts]
        shared = self._shared(prompt.c.digest, digests)
        base = self._nearest(shared) if shared else self._renamed(name)
        by_digest, by_label = self._members(base)
        roles = {digest: by_digest[digest] for digest in digests if digest in by_digest}
        missing = [one for one in self._prompts if one.digest not in roles]
        of_text = self._of_texts([one.text for one in missing], base)
        gone = {label: role for label, (digest, role) in by_label.items() if digest not in roles}
        for one in missing:
            role = of_text.get(one.text) or gone.get(one.prompt_id)
            if role is not None:
                roles[one.digest] = role
        found = self._sets.get(base)
        if found is None or (found.shares_json, found.seed) == self._deal:
            return StoredRoles(roles)
        return StoredRoles(roles, self._measuring(digests), RoleShares(**json.loads(found.shares_json)), found.seed)

    def _shared(self, column: Column[str], values: Sequence[str]) -> Counter[str]:
        """Count, by set, the members that have one of these values."""
        counts: Counter[str] = Counter()
        for part in chunks(list(dict.fromkeys(values))):
            rows = self._unit.execute(
                select(prompt_set_member.c.prompt_set_digest, func.count())
                .join_from(prompt_set_member, prompt)
                .where(column.in_(part))
                .group_by(prompt_set_member.c.prompt_set_digest)
            )
            counts.update({row[0]: row[1] for row in rows if row[0] in self._sets})
        return counts

    def _nearest(self, shared: Counter[str]) -> str:
        """Return the set that these prompts continue: dealt like today, with most of them, and used last."""
        most = max(shared.values())

        def nearness(digest: str) -> tuple[bool, int, int, str]:
            found = self._sets[digest]
            is_same_deal = (found.shares_json, found.seed) == self._deal
            return is_same_deal and 2 * shared[digest] >= most, shared[digest], self._last_run.get(digest, 0), digest

        return max(shared, key=nearness)

    def _renamed(self, name: str) -> str | None:
        """Return the set of this name with the same ids, when every text has changed; None when there is none."""
        labels = [one.prompt_id for one in self._prompts]
        shared = self._shared(prompt_set_member.c.label, labels)
        alike = {
            digest: count
            for digest, count in shared.items()
            if self._sets[digest].name == name and 2 * count >= max(self._sets[digest].n_prompts, len(labels))
        }
        return self._nearest(Counter(alike)) if alike else None

    def _members(self, base: str | None) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
        """Return the roles of a set's prompts by digest, and their digests and roles by id."""
        rows = self._unit.execute(
            select(prompt.c.digest, prompt_set_member.c.label, prompt_set_member.c.role)
            .join_from(prompt_set_member, prompt)
            .where(prompt_set_member.c.prompt_set_digest == base)
        ).all()
        return {row.digest: row.role for row in rows}, {row.label: (row.digest, row.role) for row in rows}

    def _of_texts(self, texts: Sequence[str], base: str | None) -> dict[str, str]:
        """Return the role of each text: a measuring role if a router was judged on it, else that of its last set."""
        best: dict[str, tuple[tuple[bool, bool, int, str], str]] = {}
        for part in chunks(list(dict.fromkeys(texts))):
            rows = self._unit.execute(
                select(prompt.c.text, prompt_set_member.c.role, prompt_set_member.c.prompt_set_digest)
                .join_from(prompt_set_member, prompt)
                .where(prompt.c.text.in_(part))
            )
            for text, role, digest in rows:
                if digest in self._sets:
                    is_measuring = role in MEASURING_ROLES and digest in self._used
                    rank = (is_measuring, digest == base, self._last_run.get(digest, 0), digest)
                    best[text] = max(best.get(text, (rank, role)), (rank, role))
        return {text: role for text, (_, role) in best.items()}

    def _measuring(self, digests: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for part in chunks(digests):
            rows = self._unit.execute(
                select(prompt.c.digest, prompt_set_member.c.prompt_set_digest)
                .join_from(prompt_set_member, prompt)
                .where(prompt.c.digest.in_(part), prompt_set_member.c.role.in_(MEASURING_ROLES))
            )
            found.update(row[0] for row in rows if row[1] in self._used)
        return frozenset(found)
