"""Prompt orders and the scopes of profiles: only ever added, and put under the digests of the night."""

from dataclasses import replace

import pytest

from registry.db.tables import prompt_order
from registry.errors import RegistryCorrupt, RunAlreadyActive
from registry.prompts.prompt_orders import AskedScope, PromptOrderRecord
from tests.registry.samples import SAMPLING, TODAY, fetch, freeze, listing, start_night


@pytest.fixture
def stored(registry, night):
    frozen = freeze(registry, 30)
    prompts = frozen.with_role("representative")
    record = PromptOrderRecord(
        prompt_set_digest=frozen.digest,
        role="representative",
        strategy="variance",
        prompt_digests=tuple(one.digest for one in reversed(prompts)),
        n_random=2,
        n_asked=3,
        n_known=9,
        seed=7,
        losses={"by_strategy": {"random": 0.5}, "by_n": {"3": 0.25}},
    )
    registry.llms.record_fetches(night, [fetch([listing("a"), listing("b")], "d")], TODAY)
    registry.prompt_orders.save(record, night)
    return record


def test_an_order_comes_back_as_it_was_stored_and_is_stored_once(registry, night, stored):
    registry.prompt_orders.save(stored, night)
    (found,) = registry.prompt_orders.of_set(stored.prompt_set_digest, "representative")
    assert found == replace(stored, run_id=night.id)
    assert found.digest == stored.digest
    assert registry.prompt_orders.of_set(stored.prompt_set_digest, "map") == ()
    other = replace(stored, strategy="random", n_asked=4)
    registry.prompt_orders.save(other, night)
    assert [one.digest for one in registry.prompt_orders.of_set(stored.prompt_set_digest, "representative")] == [
        stored.digest,
        other.digest,
    ]


def test_of_the_scopes_of_an_llm_the_last_counts_and_an_earlier_run_sees_only_its_own(registry, night, stored):
    first = AskedScope("router:a", SAMPLING, stored.digest, 3)
    registry.prompt_orders.save_scopes([first, replace(first, llm_key="router:b")], night)
    registry.runs.finish(night, "completed", verdict="", summary="{}", now=night.started_at)
    second = start_night(registry, "night:2024-09-02:abc")
    decided = replace(first, n_prompts=2, is_decided=True)
    registry.prompt_orders.save_scopes([decided], second)
    assert registry.prompt_orders.scopes(stored.prompt_set_digest) == {
        ("router:a", SAMPLING): decided,
        ("router:b", SAMPLING): replace(first, llm_key="router:b"),
    }
    before = registry.prompt_orders.scopes(stored.prompt_set_digest, until_run=night.id)
    assert before["router:a", SAMPLING] == first
    with pytest.raises(RunAlreadyActive):
        registry.prompt_orders.save_scopes([decided], night)


def test_a_changed_rank_or_scope_does_not_fit_the_digests_of_the_night(registry, night, stored):
    registry.prompt_orders.save_scopes([AskedScope("router:a", SAMPLING, stored.digest, 3)], night)
    registry.runs.finish(night, "completed", verdict="", summary="{}", now=night.started_at)
    assert registry.check_facts(registry.ledger.events()).problems == ()
    with registry.unit() as unit:
        unit.exec_driver_sql("UPDATE asked_scope SET n_prompts = 1")
        unit.exec_driver_sql("UPDATE prompt_order_member SET is_random = NOT is_random WHERE rank = 1")
    problems = registry.check_facts(registry.ledger.events()).problems
    assert {one for word in ("scopes of profiles", "prompts of prompt orders") for one in problems if word in one} == (
        set(problems)
    )
    assert len(problems) == 2


def test_the_latest_order_of_another_prompt_set_is_found_and_a_changed_one_is_refused(registry, night, stored):
    orders = registry.prompt_orders
    assert orders.latest_of_others(stored.prompt_set_digest, "representative") is None
    assert orders.latest_of_others("another", "representative") == replace(stored, run_id=night.id)
    assert orders.latest_of_others("another", "map") is None
    assert orders.latest_of_others("another", "representative", until_run=night.id - 1) is None
    with registry._database.write() as unit:
        unit.execute(prompt_order.update().values(n_random=1))
    with pytest.raises(RegistryCorrupt, match="digest"):
        orders.of_set(stored.prompt_set_digest, "representative")
