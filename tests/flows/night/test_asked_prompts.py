"""Which prompts an LLM is asked: nothing is asked because of a choice, and what an LLM was told stands."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.config.settings import Settings
from flows.night.asked_prompts import AskedPrompts, enters_means, is_uniform, uniform_representative
from flows.night.context import Night
from flows.night.prompt_order import carried_over, drawn, is_good, n_asked_of
from flows.stages import plan
from flows.workspace import Workspace
from registry.llms import LLM
from registry.prompts import PromptSet
from registry.prompts.prompt_orders import AskedScope, PromptOrderRecord
from registry.prompts.prompt_sets import Member
from tests.fakes.nights import Clock, answer, settings_of
from tests.homes import copied_home
from tests.registry.samples import fetch, listing, record_fetch

NEXT = date(2024, 11, 1)
KNOWN = ("weak", "fair", "good")

Opened = Callable[..., Night]


@pytest.fixture
def opened(tmp_path: Path, answered_template: Path) -> Iterator[Opened]:
    """Start a night on a home in which three LLMs have answered everything and a fourth one is new.

    Settings of ``[prompts]`` may be given; the nights follow each other, and each one holds the lease.
    """
    shutil.copy(answered_template.with_name("uniroute.toml"), tmp_path)
    home = copied_home(answered_template, tmp_path / "home")
    clock, days = Clock(), [NEXT]
    opened: list[Workspace] = []

    def start(method: str = "posterior", **prompts: Any) -> Night:
        while opened:
            opened.pop().__exit__(None, None, None)
        settings = settings_of(home)
        changed = {
            "prompts": settings.prompts.model_copy(update=prompts),
            "routing": settings.routing.model_copy(update={"min_answers": 1, "method": method}),
        }
        workspace = Workspace(settings.model_copy(update=changed))
        opened.append(workspace)
        night = Night(workspace, days[-1], clock)
        days.append(days[-1] + timedelta(days=1))
        registry = workspace.registry
        clock.now += timedelta(days=1)
        night.run = registry.runs.start(
            night.run_key,
            as_of=night.as_of,
            settings_hash="abc",
            settings_json="{}",
            prompt_set_digest=night.prompt_set.digest,
            host="host-a",
            pid=1,
            now=clock(),
            lease_s=60,
        )
        names = (*KNOWN, "late")
        listings = [listing(name, price=str(1 + place), endpoint="fake") for place, name in enumerate(names)]
        record_fetch(registry, night.run, fetch(listings, f"{night.as_of}", catalog="of fake"), night.as_of)
        return night

    yield start
    while opened:
        opened.pop().__exit__(None, None, None)


def late(night: Night) -> LLM:
    return night.registry.llms.get("fake:late")


def keep(night: Night) -> None:
    """Store what is going to be asked, as a night does before it asks."""
    night.asked.keep(one.llm for one in plan.fn(night).profiles)


def asked(night: Night) -> dict[str, list[str]]:
    """Return, by LLM key, the representative prompts that a night asks, in their order."""
    wanted = {one.digest for one in night.prompt_set.with_role("representative")}
    return {
        one.llm.key: [prompt.digest for prompt in one.prompts if prompt.digest in wanted]
        for one in plan.fn(night).profiles
    }


def test_llms_that_answered_everything_stay_complete_and_a_new_one_is_asked_the_first_of_an_order(opened) -> None:
    night = opened(ask=4)
    (key, first) = next(iter(asked(night).items()))
    assert (key, len(asked(night)), len(first)) == ("fake:late", 1, 4)
    planned = plan.fn(night).profiles[0].prompts
    measuring = {one.digest for one in night.prompt_set.with_role("gate", "hidden")}
    assert [one.digest for one in planned[:4]] == first
    assert {one.digest for one in planned[4:]} == measuring
    everything = opened(ask="auto")
    assert len(asked(everything)["fake:late"]) == len(everything.prompt_set.with_role("representative"))


def test_a_plan_stores_nothing_and_a_night_that_is_killed_resumes_with_its_order(opened) -> None:
    night = opened(ask=4)
    before = asked(night)
    assert night.registry.prompt_orders.scopes(night.prompt_set.digest) == {}
    keep(night)
    again = opened(ask=4)
    assert asked(again) == before
    stored = again.registry.prompt_orders.of_set(again.prompt_set.digest, "representative")
    assert [n_asked_of(one, again.settings) for one in stored] == [4]
    keep(again)
    assert len(again.registry.prompt_orders.of_set(again.prompt_set.digest, "representative")) == 1


def test_a_number_that_is_left_to_the_order_again_is_not_the_number_of_before(opened) -> None:
    keep(opened(ask=4))
    night = opened(ask="auto")
    # No simulation says that fewer than all are enough.
    assert len(asked(night)["fake:late"]) == len(night.prompt_set.with_role("representative"))


def test_an_llm_keeps_its_order_when_another_is_in_force_and_is_only_ever_asked_more(opened) -> None:
    night = opened(ask=4)
    keep(night)
    before = asked(night)["fake:late"]
    (stored,) = night.registry.prompt_orders.of_set(night.prompt_set.digest, "representative")
    other = replace(stored, strategy="variance", prompt_digests=stored.prompt_digests[::-1], n_known=9)
    night.registry.prompt_orders.save(other, night.run)
    assert asked(opened(ask=4))["fake:late"] == before
    assert asked(opened(ask=6))["fake:late"] == list(stored.prompt_digests[:6])
    assert asked(opened(ask=2))["fake:late"] == before


def test_a_profile_that_was_decided_is_complete_and_stays_so(opened) -> None:
    night = opened(ask=4)
    keep(night)
    night.asked.decide(late(night), 3)
    assert len(night.asked.representative(late(night))) == 3
    assert len(asked(opened(ask=9))["fake:late"]) == 3


def test_plain_means_need_all_answers_or_some_that_were_drawn(opened) -> None:
    night = opened(ask=4)
    keep(night)
    night.asked.decide(late(night), 3)
    (stored,) = night.registry.prompt_orders.of_set(night.prompt_set.digest, "representative")
    night.registry.prompt_orders.save(replace(stored, strategy="variance", n_known=9), night.run)
    for method in ("kmeans", "learned_map"):
        plain = opened(method, ask=4)
        assert plain.asked.order is not None and plain.asked.order.strategy == "random"
        assert plain.asked.is_asked(late(plain)).sum() == 4, "its profile had ended early, which bends a plain mean"
        every = opened(method, ask="auto").asked
        assert every.order is None
        assert every.is_asked(late(plain)).all(), "also of an LLM whose profile had ended early"
    assert opened(ask=4).asked.is_asked(late(plain)).sum() == 3


def test_prompts_that_were_chosen_enter_no_plain_mean_also_after_a_switch_of_the_method(opened) -> None:
    night = opened(ask=4)
    keep(night)
    of_set, registry = (night.prompt_set.digest, "representative"), night.registry
    (drawn,) = registry.prompt_orders.of_set(*of_set)
    chosen = replace(drawn, strategy="variance", prompt_digests=drawn.prompt_digests[::-1], n_random=2, n_known=9)
    registry.prompt_orders.save(chosen, night.run)
    registry.prompt_orders.save_scopes(
        [AskedScope(late(night).key, night.asked_sampling(late(night)), chosen.digest, 4)], night.run
    )

    def entering(night: Night) -> set[str]:
        prompts = night.prompt_set.with_role("representative")
        enters = enters_means(night.registry, night.prompt_set, {late(night).key: night.counted_sampling(late(night))})
        return {one.digest for one, is_in in zip(prompts, enters[:, 0], strict=True) if is_in}

    assert entering(night) == set(chosen.prompt_digests[:2]), "of four that were asked, two were drawn"
    plain = opened("kmeans", ask=4)
    assert asked(plain)["fake:late"] == list(drawn.prompt_digests[:4]), "the others are drawn now"
    assert entering(plain) == set(chosen.prompt_digests[:2])
    keep(plain)
    assert entering(plain) == set(drawn.prompt_digests[:4])
    plain.asked.decide(late(plain), 3)
    assert entering(plain) == set(drawn.prompt_digests[: drawn.n_random]), "the end depended on the answers"
    assert enters_means(plain.registry, plain.prompt_set, {"fake:fair": ""}).all(), "it was asked all of them"


def test_a_map_that_was_fitted_on_all_map_prompts_is_fitted_anew_on_all_of_them(opened) -> None:
    night = opened(map_answers=5)
    assert not night.fits_map and len(night.prompt_set.with_role("map")) > 5
    assert night.asked.map_rows() is None


def test_coverage_counts_what_was_asked_and_what_failed_is_missing(opened) -> None:
    night = opened(ask=4)
    keep(night)
    prompts = night.profiled_prompts
    wanted = {one.digest for one in night.prompts_for(late(night))}
    has_score = np.array([one.digest in wanted for one in prompts])
    assert night.asked.share(late(night), prompts, has_score) == 1.0
    has_score[np.flatnonzero(has_score)[0]] = False
    assert night.asked.share(late(night), prompts, has_score) == pytest.approx(1 - 1 / len(wanted))
    others = np.ones(len(prompts), dtype=bool)
    assert night.asked.share(late(night), prompts, others) == 1.0, "what else it has answered counts as asked"


def test_means_are_taken_over_the_drawn_part_of_those_that_were_asked_by_an_order(opened) -> None:
    night = opened(ask=4)
    keep(night)
    representative = night.prompt_set.with_role("representative")
    (order,) = night.registry.prompt_orders.of_set(night.prompt_set.digest, "representative")
    sampling = {key: night.counted_sampling(night.registry.llms.get(key)) for key in ("fake:weak", "fake:late")}
    drawn = uniform_representative(night.registry, night.prompt_set, sampling)
    assert drawn["fake:weak"] == representative
    assert {one.digest for one in drawn["fake:late"]} == set(order.prompt_digests[: order.n_random])
    found = is_uniform(night.registry, night.prompt_set, sampling)
    assert found[:, 0].all()
    assert [one.digest in set(order.prompt_digests[: order.n_random]) for one in representative] == found[:, 1].tolist()
    answer(night, late(night))
    (row,) = [one for one in night.registry.leaderboard(night.prompt_set.digest) if one.llm_key == "fake:late"]
    judging = night.prompt_set.with_role("gate", "hidden")
    assert row.n_scored == row.n_prompts == order.n_random + len(judging)


def test_many_more_known_llms_get_another_order_and_few_more_do_not() -> None:
    settings = Settings(prompts={"ask": 4})
    made = PromptOrderRecord("set", "representative", "random", ("a",) * 9, 2, 4, 3, 0)
    assert is_good(made, 7, settings) and not is_good(made, 8, settings)
    assert is_good(replace(made, n_known=8), 15, settings) and not is_good(replace(made, n_known=8), 16, settings)
    assert not is_good(replace(made, n_random=5), 3, settings), "fewer are to be asked than are drawn for all"


def changed_set(digest: str, members: Iterable[Member]) -> PromptSet:
    return PromptSet("changed", digest, tuple(members))


def test_an_order_is_carried_over_to_the_next_prompt_set_so_that_few_prompts_are_asked_anew(opened) -> None:
    prompt_set = opened(ask=8).prompt_set
    members = [one for one in prompt_set.members if one.role == "representative"]
    prompts = [one.prompt.digest for one in members]
    uniform = [prompts[row] for row in drawn([one.prompt for one in members], 7)]
    chosen = [digest for digest in reversed(prompts) if digest not in uniform[:4]]
    earlier = PromptOrderRecord(
        "before", "representative", "variance", (*uniform[:4], *chosen), 4, 8, 9, 7, {"by_n": {"5": 0.25, "12": 0.0}}
    )
    gone, new = uniform[0], replace(members[0], prompt=replace(members[0].prompt, text="new"))
    kept = [one for one in members if one.prompt.digest != gone]
    found = carried_over(earlier, changed_set("after", [*kept, new]))
    assert found is not None and sorted(found.prompt_digests) == sorted([*set(prompts) - {gone}, new.prompt.digest])
    assert set(found.prompt_digests[:4]) <= {*uniform[1:5], new.prompt.digest}, "the draw is that of the changed set"
    assert len(set(found.prompt_digests[:8]) - set(earlier.prompt_digests[:8])) <= 1
    assert (found.strategy, found.n_random, found.n_asked) == ("variance", 4, 8)
    assert found.losses["by_n"] == {"5": 0.25, "12": 0.0}
    assert carried_over(earlier, changed_set("other", [new])) is None


def test_what_was_decided_on_the_prompt_set_before_is_not_asked_for_again(opened) -> None:
    night = opened(ask=8)
    keep(night)
    night.asked.decide(late(night), 5)
    members = [one for one in night.prompt_set.members if one.prompt != night.asked.representative(late(night))[0]]
    night.prompt_set = changed_set(night.prompt_set.digest[::-1], members)
    asking = AskedPrompts(night)
    scope = asking.scope(late(night))
    assert scope is not None and (scope.n_prompts, scope.is_decided) == (5, True)
    assert asking.order is not None and scope.order_digest == asking.order.digest
    now = {one.digest for one in asking.representative(late(night))}
    assert len(now - {one.digest for one in night.asked.representative(late(night))}) <= 1


def test_the_first_llms_are_asked_some_map_prompts_and_another_prompt_set_those_they_answered(
    tmp_path: Path, migrated: Path
) -> None:
    shutil.copy(migrated, tmp_path / "registry.db")
    settings = Settings(home=tmp_path, embedder={"name": "hashing-256"}, prompts={"map_answers": 60})
    with Workspace(settings) as workspace:
        night = Night(workspace, NEXT)
        assert night.fits_map
        n_map = len(night.prompt_set.with_role("map"))
        assert len(night.asked.map) == 60 < n_map
        assert night.asked.map_order is not None and night.asked.map_order.n_random == n_map
        rows = night.asked.map_rows()
        assert rows is not None and len(rows) == 60
        roles = [night.prompt_set.roles[one.digest] for one in night.profiled_prompts]
        assert roles.count("map") == 60 and roles.count("representative") == len(
            night.prompt_set.with_role("representative")
        )
