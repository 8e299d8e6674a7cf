"""Roles are stable: whatever happens to some prompts, no other prompt changes its role."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from registry.cluster_maps import FitSettings
from registry.prompts import MEASURING_ROLES, Prompt, PromptSet, RoleShares, prompt_set_of
from registry.store import Registry
from tests.registry.samples import cluster_map, know_llms, prompts, router, start_night

WANTED = FitSettings("hashing@1/8", "kmeans/1", 0)
MANY = prompts(100)
NEW = tuple(Prompt(f"new-{i}", f"A new question {i}?", "B", "choice") for i in range(40))


@pytest.fixture
def frozen(registry: Registry) -> PromptSet:
    """A hundred prompts with roles, on which a router was judged."""
    found = registry.prompts.freeze("core", MANY)
    judge(registry, found)
    return found


def judge(registry: Registry, prompt_set: PromptSet) -> None:
    run = start_night(registry, prompt_set_digest=prompt_set.digest)
    keys = know_llms(registry, run, "a", "b")
    registry.routers.save_cluster_map(cluster_map(prompt_set))
    registry.routers.save(router(run, prompt_set, 100, keys))


def moved(before: PromptSet, after: PromptSet) -> list[str]:
    """Return the ids of the prompts that had another role before."""
    roles = {one.prompt.prompt_id: one.role for one in before.members}
    return [one.prompt.prompt_id for one in after.members if roles.get(one.prompt.prompt_id, one.role) != one.role]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param([*MANY, *NEW], id="added at the end"),
        pytest.param([*NEW[:1], *MANY], id="one added at the beginning"),
        pytest.param(MANY[1:], id="the first dropped"),
        pytest.param(MANY[:30], id="most dropped"),
        pytest.param(MANY[::-1], id="another order"),
        pytest.param([replace(one, category="other") for one in MANY], id="another category"),
        pytest.param(
            [replace(one, text=one.text + "!") for one in MANY[:50]] + [*MANY[50:]], id="half of them changed"
        ),
        pytest.param([replace(one, reference="C") for one in MANY], id="all references changed"),
        pytest.param([replace(one, text=one.text + "!") for one in MANY], id="all texts changed"),
    ],
)
def test_adding_dropping_or_changing_prompts_changes_the_role_of_no_other(
    registry: Registry, frozen: PromptSet, changed: Sequence[Prompt]
) -> None:
    after = registry.prompts.freeze("core", changed)
    assert moved(frozen, after) == []
    assert len(after.members) == len(changed)
    assert registry.prompts.dealt("core", changed, RoleShares(), 0).digest == after.digest


def test_the_roles_of_a_file_that_grows_prompt_by_prompt_keep_their_shares(registry: Registry) -> None:
    before = registry.prompts.freeze("core", MANY[:10])
    for n in range(11, 61):
        after = registry.prompts.freeze("core", MANY[:n])
        assert moved(before, after) == []
        before = after
    for role, share in vars(RoleShares()).items():
        assert abs(len(before.with_role(role)) - share * 60) < 2


def test_a_prompt_that_comes_back_has_the_role_it_had(registry: Registry, frozen: PromptSet) -> None:
    dropped = [one for one in frozen.members if one.role == "hidden"]
    assert dropped
    gone = {one.prompt for one in dropped}
    registry.prompts.freeze("core", [one for one in MANY if one not in gone])
    renamed = [replace(one, prompt_id=f"again-{one.prompt_id}", reference="D") for one in gone]
    found = registry.prompts.freeze("core", [*(one for one in MANY if one not in gone), *renamed])
    assert {one.role for one in found.members if one.prompt.prompt_id.startswith("again-")} == {"hidden"}


@pytest.mark.parametrize(
    ("shares", "seed"),
    [(RoleShares(), 1), (RoleShares(0.3, 0.4, 0.24, 0.06), 0), (RoleShares(0.3, 0.4, 0.2, 0.1), 7)],
    ids=["another seed", "other shares", "both"],
)
def test_prompts_that_judged_a_router_never_become_representative(
    registry: Registry, frozen: PromptSet, shares: RoleShares, seed: int
) -> None:
    judged = {one.prompt.digest for one in frozen.members if one.role in MEASURING_ROLES}
    after = registry.prompts.freeze("core", MANY, shares, seed)
    assert moved(frozen, after), "the settings changed"
    assert judged.isdisjoint(one.digest for one in after.with_role("representative", "map"))
    assert abs(len(after.with_role("representative")) - shares.representative * 100) <= 4


def test_other_shares_move_no_more_prompts_than_they_must(registry: Registry, frozen: PromptSet) -> None:
    after = registry.prompts.freeze("core", MANY, RoleShares(0.5, 0.1, 0.34, 0.06))
    assert len(moved(frozen, after)) == 10
    assert {one.role for one in after.members if one.prompt.prompt_id in moved(frozen, after)} == {"gate"}


def test_a_set_that_was_only_planned_with_other_settings_decides_nothing(registry: Registry) -> None:
    registry.prompts.freeze("core", MANY, RoleShares(0.05, 0.05, 0.45, 0.45))
    assert registry.prompts.freeze("core", MANY).digest == prompt_set_of("core", MANY, RoleShares(), 0).digest


def test_two_files_in_one_registry_keep_their_roles_apart(registry: Registry, frozen: PromptSet) -> None:
    other = registry.prompts.freeze("core", NEW, RoleShares(0.5, 0.2, 0.2, 0.1), 3)
    assert other.digest == prompt_set_of("core", NEW, RoleShares(0.5, 0.2, 0.2, 0.1), 3).digest
    assert registry.prompts.freeze("core", MANY).digest == frozen.digest
    assert registry.prompts.freeze("core", NEW, RoleShares(0.5, 0.2, 0.2, 0.1), 3).digest == other.digest


def test_two_prompts_with_one_text_have_one_role(registry: Registry) -> None:
    twins = [replace(one, prompt_id=f"{one.prompt_id}-twin", reference="D") for one in MANY]
    roles = {}
    for member in registry.prompts.freeze("core", [*MANY, *twins]).members:
        assert roles.setdefault(member.prompt.text, member.role) == member.role


def test_a_map_that_two_sets_share_is_found_for_the_second(registry: Registry, frozen: PromptSet) -> None:
    """A gate prompt more changes the set and not the map, which is stored once."""
    second = registry.prompts.freeze("core", [*MANY, *NEW[:1]])
    assert registry.routers.fitted_map(WANTED, second.digest) is None
    run = registry.runs.list(limit=1)[0]
    registry.routers.save(router(run, second, 101, ["router:a", "router:b"]))
    found = registry.routers.fitted_map(WANTED, second.digest)
    assert found is not None
    assert found.record.digest == registry.routers.fitted_map(WANTED, frozen.digest).record.digest
