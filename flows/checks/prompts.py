"""Check prompts before LLMs are asked: are they complete, what does adding some change, what is in a cluster."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.checks.design import PromptDesign, design_of
from flows.config.settings import Settings
from flows.errors import PrerequisiteError
from flows.graders import Judge, check_grader, grader
from flows.logs import say
from flows.prompt_file import read_prompts
from flows.text import sanitize
from flows.versions.store import load_version
from flows.workspace import Workspace
from registry.errors import NotFound, PromptSetInvalid, RegistryError
from registry.prompts import Prompt, PromptSet, RoleShares, StoredRoles, prompt_set_of
from registry.prompts.prompt_orders import PromptOrderRecord
from registry.routers import RouterRecord
from registry.store import Registry
from routing.errors import InvalidInput


@dataclass(frozen=True)
class PromptReview:
    """The result of checking prompts.

    Attributes
    ----------
    prompt_set
        The prompts with the roles they would have.
    graders
        By grader name, how many prompts it grades; each but the judge, whose check calls LLMs, passed its self-check.
    categories
        By category, how many prompts; those without one are under the empty string.
    duplicates
        Ids of prompts that repeat an earlier one and do not count.
    design
        What the prompts are good for.
    """

    prompt_set: PromptSet
    graders: dict[str, int]
    categories: dict[str, int]
    duplicates: tuple[str, ...]
    design: PromptDesign

    @property
    def roles(self) -> dict[str, int]:
        """By role, how many prompts have it."""
        return dict(Counter(member.role for member in self.prompt_set.members))


@dataclass(frozen=True)
class Addition:
    """What adding prompts to a file changes.

    Attributes
    ----------
    file
        The prompt file of the settings.
    added
        The prompts that were not in it yet.
    known
        How many were already in it; they are left as they are.
    moved
        How many of the earlier prompts get another role: none, unless the settings of the roles have changed.
    review
        The prompts of the file including the added ones.
    """

    file: Path
    added: tuple[Prompt, ...]
    known: int
    moved: int
    review: PromptReview


@dataclass(frozen=True)
class NearPrompt:
    """A prompt of a cluster, with its rank by nearness to the centre, from 1."""

    rank: int
    prompt: Prompt
    role: str


def with_roles(
    settings: Settings, prompts: Sequence[Prompt], *, earlier: PromptSet | None = None, connect: bool = True
) -> PromptSet:
    """Return prompts with the roles that the next night would give them: stored ones, and new ones for the others.

    Parameters
    ----------
    settings
        How roles are assigned, and the registry that stores those of earlier nights.
    prompts
        The prompts, in any order.
    earlier
        A set to take as stored even if it is not yet.
    connect
        Whether to ask a registry on a server, too. Without it, or when none answers, all roles are new.
    """
    wanted, shares = settings.prompts, _shares(settings)
    if connect or not settings.registry.url:
        try:
            with Registry.open(settings.registry_url, migrate=False) as registry:
                if registry.schema_status().current is not None:
                    return registry.prompts.dealt(wanted.name, prompts, shares, wanted.seed, earlier=earlier)
        except PromptSetInvalid:
            raise
        except NotFound:
            pass
        except RegistryError as error:
            say(f"{sanitize(error.message, width=300)} All roles are shown as a new registry would assign them.")
    stored = None if earlier is None else StoredRoles(earlier.roles)
    return prompt_set_of(wanted.name, prompts, shares, wanted.seed, stored)


@dataclass(frozen=True)
class OrderInForce:
    """An order of the prompts of one role, and how many of its first prompts an LLM is asked."""

    order: PromptOrderRecord
    n_asked: int


def orders_in_force(settings: Settings, prompt_set: PromptSet) -> tuple[OrderInForce, ...]:
    """Return by which orders LLMs are asked the prompts of each role, the latest of each; none without a registry."""
    # Imported here: checking prompts needs no choice among them.
    from flows.night.prompt_order import n_asked_of

    try:
        with Registry.open(settings.registry_url, migrate=False) as registry:
            if not registry.schema_status().is_current:
                return ()
            found = [registry.prompt_orders.of_set(prompt_set.digest, role) for role in ("representative", "map")]
            if settings.routing.method != "posterior":
                # A plain mean is only true of prompts that were drawn.
                found[0] = tuple(one for one in found[0] if one.strategy == "random")
            return tuple(OrderInForce(orders[-1], n_asked_of(orders[-1], settings)) for orders in found if orders)
    except RegistryError:
        return ()


def _shares(settings: Settings) -> RoleShares:
    return RoleShares(**settings.role_shares)


def review(settings: Settings, prompts: Sequence[Prompt]) -> PromptReview:
    """Check prompts as a night does before it calls an LLM.

    Parameters
    ----------
    settings
        How roles are assigned.
    prompts
        The prompts, in any order.

    Raises
    ------
    GradingError
        A grader fails its self-check on the references.
    PromptSetInvalid
        A prompt is incomplete, or one id stands for two contents.
    """
    return _reviewed(settings, prompts, with_roles(settings, prompts))


def _reviewed(settings: Settings, prompts: Sequence[Prompt], found: PromptSet) -> PromptReview:
    graders = Counter(prompt.grader for prompt in found.prompts)
    for name in sorted(set(graders) - {Judge.name}):
        check_grader(grader(name), [prompt for prompt in found.prompts if prompt.grader == name])
    kept = {prompt.prompt_id for prompt in found.prompts}
    return PromptReview(
        prompt_set=found,
        graders=dict(graders),
        categories=dict(Counter(prompt.category or "" for prompt in found.prompts)),
        duplicates=tuple(prompt.prompt_id for prompt in prompts if prompt.prompt_id not in kept),
        design=design_of(found, settings),
    )


def add_prompts(settings: Settings, source: Path, *, is_dry_run: bool) -> Addition:
    """Add the prompts of a file to the prompt file of the settings, which is replaced completely or not at all.

    Parameters
    ----------
    settings
        Their ``[prompts] file`` grows; it must be a ``.jsonl`` file.
    source
        The prompts to add, in any format that `read_prompts` reads.
    is_dry_run
        Whether only to report what would change.

    Raises
    ------
    UnirouteError
        Either file is refused, or the prompts contradict each other.
    """
    file = settings.prompts.file
    if file is None or file.suffix.lower() != ".jsonl":
        raise PrerequisiteError(
            "Prompts can be added only to a .jsonl file, named by [prompts] file.",
            unchanged="Nothing was changed.",
            hint=f"Set [prompts] file = {json.dumps(str(source.with_suffix('.jsonl')))} in the settings.",
        )
    earlier, offered = read_prompts(file), read_prompts(source)
    known = {prompt.digest for prompt in earlier}
    added = tuple({one.digest: one for one in offered if one.digest not in known}.values())
    together = [*earlier, *added]
    before = with_roles(settings, earlier)
    found = _reviewed(settings, together, with_roles(settings, together, earlier=before))
    moved = sum(before.roles.get(one.prompt.digest, one.role) != one.role for one in found.prompt_set.members)
    if added and not is_dry_run:
        _store_roles(settings, earlier, together)
        _append(file, added)
    return Addition(file, added, len(offered) - len(added), moved, found)


def _store_roles(settings: Settings, *in_order: Sequence[Prompt]) -> None:
    """Store the roles of prompts before some are added, so that these get theirs without changing any other."""
    wanted = settings.prompts
    with Workspace(settings) as workspace:
        for prompts in in_order:
            workspace.registry.prompts.freeze(wanted.name, prompts, _shares(settings), seed=wanted.seed)


def _append(file: Path, prompts: Sequence[Prompt]) -> None:
    """Replace the file with a copy that has the new lines, in one step."""
    before = file.read_bytes()
    rows = [
        {"prompt_id": one.prompt_id, "text": one.text, "reference": one.reference, "grader": one.grader}
        | ({"category": one.category} if one.category else {})
        for one in prompts
    ]
    try:
        with tempfile.NamedTemporaryFile("wb", dir=file.parent, prefix=f"{file.name}.", delete=False) as scratch:
            scratch.write(before if before.endswith(b"\n") or not before else before + b"\n")
            scratch.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
            scratch.flush()
            os.fsync(scratch.fileno())
        Path(scratch.name).chmod(file.stat().st_mode)
        Path(scratch.name).replace(file)
    except OSError as error:
        raise PrerequisiteError(
            f"The prompt file {file} cannot be written: {error.strerror}.", unchanged="It was left as it was."
        ) from None


def nearest_prompts(workspace: Workspace, record: RouterRecord, cluster: int, limit: int) -> tuple[NearPrompt, ...]:
    """Return the prompts nearest to the centre of a cluster, which show best what it is about.

    Parameters
    ----------
    workspace
        The opened parts.
    record
        The router version; the numbers of its clusters are those that decisions name.
    cluster
        Number of the cluster, from 0.
    limit
        How many prompts at most.

    Raises
    ------
    InvalidInput
        There is no cluster with that number.
    """
    fitted = load_version(workspace, record.digest).cluster_map
    n_clusters = fitted.blocks[0].size
    if not 0 <= cluster < n_clusters:
        raise InvalidInput(
            f"There is no cluster {cluster}: router {record.digest[:12]} has the clusters 0 to {n_clusters - 1}.",
            hint="uniroute prompt example 0",
        )
    members = {
        member.prompt.digest: member for member in workspace.registry.prompts.get(record.prompt_set_digest).members
    }
    prompts = [member.prompt for member in members.values()]
    stored = workspace.registry.prompts.embeddings(prompts, record.embedder_key)
    if not stored.prompt_digests:
        return ()
    inside = np.flatnonzero(fitted.assign(stored.matrix) == cluster)
    # For prompts of unit length, a larger score of a centre means a smaller distance from it.
    order = inside[np.argsort(-(stored.matrix[inside] @ fitted.matrix[cluster]), kind="stable")]
    chosen = [members[stored.prompt_digests[row]] for row in order[:limit]]
    return tuple(NearPrompt(rank, member.prompt, member.role) for rank, member in enumerate(chosen, start=1))
