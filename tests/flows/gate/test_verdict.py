"""Three verdicts: shown to be good enough, shown to be worse, and neither; and what would decide the third."""

import json
import re
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from flows.config.settings import GateSettings, Settings
from flows.gate.alpha_spending import REGRADED, Spending, level_of, spend
from flows.gate.checks import NewcomerGap
from flows.gate.evidence import evidence_digest
from flows.gate.gate import gate_as_json
from flows.gate.power import Power, power_of, prompts_needed, visible_difference
from flows.gate.verdict import GateRules, check_text, stored_checks, undecided_sentence
from flows.promotion.judging import refusal
from registry.promotion_records import PROMOTE, REJECT, REVIEW, UNDECIDED, GateRecord, gate_result
from tests.flows.gate.test_gate import EQUAL, FIRST, NEW, OLD, outcomes, router, run

SCORE = "score at the champion's cost, against the champion"
CHEAPER = {"a": 0.01, "b": 0.005}


def record(found) -> GateRecord:
    return gate_result(found.passed, gate_as_json(found))


def check(found, name: str):
    return next(one for one in found.checks if one.name.startswith(name))


@pytest.mark.parametrize(
    ("right", "n", "verdict"),
    [
        ({"a": 0.5, "b": 0.7}, 400, PROMOTE),
        ({"a": 0.7, "b": 0.5}, 400, REJECT),
        ({"a": 0.7, "b": 0.3}, 60, REJECT),
        (EQUAL, 100, UNDECIDED),
        ({"a": 0.6, "b": 0.58}, 400, UNDECIDED),
        ({"a": 0.5, "b": 0.6}, 20, UNDECIDED),
    ],
)
def test_the_verdict_rests_on_both_bounds(right, n, verdict) -> None:
    found = run(outcomes(right, n=n))
    assert found.verdict == verdict
    assert found.passed == (verdict == PROMOTE) == (found.lower_bound >= -0.02)
    assert (found.upper_bound < -0.02) == (verdict == REJECT)
    assert found.lower_bound < found.difference.mean < found.upper_bound
    stored = record(found)
    assert (stored.passed, stored.verdict, stored.is_undecided) == (found.passed, verdict, verdict == UNDECIDED)
    assert bool(undecided_sentence(gate_as_json(found))) == (verdict == UNDECIDED)


def test_any_other_check_that_fails_rejects_what_would_be_undecided() -> None:
    seen = outcomes(EQUAL, n=100)
    assert run(seen).verdict == UNDECIDED
    assert run(seen, unavailable=("b",)).verdict == REJECT
    assert run(seen, max_share=0.8).verdict == REJECT
    assert run(seen, newcomers=(NewcomerGap("b", 0.3, 1e-5, False),)).verdict == REJECT


def test_a_first_router_is_never_undecided() -> None:
    assert run(outcomes(EQUAL, n=20), champion=None).verdict == PROMOTE
    assert run(outcomes(EQUAL, n=20), champion=None, unavailable=("b",)).verdict == REJECT


@pytest.mark.parametrize(
    ("setting", "costs", "right", "decision"),
    [
        ("review", CHEAPER, EQUAL, REVIEW),
        ("reject", CHEAPER, EQUAL, REJECT),
        ("promote_if_cheaper", CHEAPER, EQUAL, PROMOTE),
        ("promote_if_cheaper", None, EQUAL, REVIEW),
        ("promote_if_cheaper", {"a": 0.01, "b": 0.00995}, EQUAL, REVIEW),
        ("promote_if_cheaper", CHEAPER, {"a": 0.7, "b": 0.66}, REVIEW),
        ("promote_if_cheaper", CHEAPER, {"a": 0.9, "b": 0.3}, REJECT),
        ("reject", CHEAPER, {"a": 0.2, "b": 0.9}, PROMOTE),
    ],
    ids=["review", "reject", "cheaper", "as dear", "hardly cheaper", "scores less", "worse", "better"],
)
def test_the_setting_decides_what_becomes_of_an_undecided_one(setting, costs, right, decision) -> None:
    found = run(outcomes(right, n=100, cost_usd=costs), undecided=setting)
    assert found.decision == decision
    assert record(found).decision == decision
    assert bool(refusal(record(found))) == (decision == REJECT)


def test_cheaper_counts_only_where_the_router_as_it_serves_scores_no_less() -> None:
    """At the champion's cost both are alike, but the challenger would serve at a much cheaper point, and be worse."""
    prices, costs = {"a": 4.0, "b": 4.0, "c": 1.0}, {"a": 0.04, "b": 0.04, "c": 0.01}
    seen = outcomes({"a": 0.8, "b": 0.8, "c": 0.4}, n=60, cost_usd=costs)
    thrifty = replace(router({"b": 0.2, "c": 0.6}, prices=prices), cost_weight=1e5)
    found = run(seen, thrifty, router({"a": 0.2, "c": 0.6}, prices=prices), undecided="promote_if_cheaper")
    assert found.verdict == UNDECIDED
    assert found.difference.mean == pytest.approx(0.0, abs=0.02)
    assert found.challenger.cost_usd < 0.5 * found.champion.cost_usd
    assert found.decision == REVIEW


def test_every_check_that_is_not_passed_names_the_setting_or_the_number_of_prompts_that_would_decide() -> None:
    seen = outcomes({"a": 0.5, "b": 0.7}, n=94, n_dropped=6, cost_usd={"a": 0.01, "b": 0.02})
    found = run(seen, max_share=0.8, unavailable=("b",), newcomers=(NewcomerGap("b", 0.3, 1e-5, False),))
    expected = {
        "LLMs that may be routed to": "uniroute llm include",
        "gate prompts with a score from every LLM": r"min_coverage = 0\.95, or every LLM's score for 1 more",
        "representative score above hidden score": "uniroute llm include",
        "cost per prompt": r"\[gate\] max_cost_increase = 0\.25 \(this needs at least 1\)",
        "largest share": r"\[gate\] max_share = 0\.8 \(this needs at least 1\)",
    }
    for name, remedy in expected.items():
        assert not check(found, name).passed
        assert re.search(remedy, check(found, name).remedy), name
        assert re.search(remedy, check_text(check(found, name)))
    assert all(one.remedy for one in found.checks if not one.passed)
    assert "to change that" not in check_text(check(found, "LLMs to choose from"))
    single = run(outcomes({"b": 0.7}), router({"b": 0.1}), champion=None)
    assert "include of [[catalog]]" in check(single, "LLMs to choose from").remedy


def test_the_epsilon_that_a_remedy_names_lets_the_challenger_pass() -> None:
    for right, n in (({"a": 0.7, "b": 0.5}, 400), (EQUAL, 100)):
        seen = outcomes(right, n=n)
        (needed,) = re.findall(r"epsilon = 0\.02 \(this needs at least ([0-9.]+)\)", check(run(seen), SCORE).remedy)
        assert run(seen, epsilon=float(needed)).passed
        assert not run(seen, epsilon=float(needed) - 2e-4).passed


def test_about_so_many_prompts_do_decide_when_the_difference_stays_as_it_is() -> None:
    seen = outcomes({"a": 0.6, "b": 0.62}, n=100)
    found = run(seen)
    assert found.verdict == UNDECIDED
    power = found.power
    assert (power.n_prompts, power.prompts_needed > 100) == (100, True)
    assert f"about {power.prompts_needed:,}" in undecided_sentence(gate_as_json(found))
    assert f"about {power.prompts_needed:,} gate prompts" in check(found, SCORE).remedy
    copies = -(-power.prompts_needed // 100)

    def longer(times: int):
        embeddings = np.tile(seen.embeddings, (times, 1))
        scores, costs = np.tile(seen.scores, (times, 1)), np.tile(seen.costs_usd, (times, 1))
        return replace(seen, embeddings=embeddings, scores=scores, costs_usd=costs)

    later = Spending(2, FIRST.next_level)
    assert run(longer(copies), spending=later).verdict == PROMOTE
    assert run(longer(max(copies // 4, 1)), spending=later).verdict == UNDECIDED


def test_the_power_of_a_pair_rests_on_its_own_spread() -> None:
    rare, often = np.zeros(400), np.zeros(400)
    rare[:4], often[:160] = [1, -1] * 2, [1, -1] * 80
    powers = [power_of(one, epsilon=0.02, level=0.025, reject_level=0.025) for one in (rare, often)]
    assert powers[0].visible_difference < visible_difference(400, 0.025) < powers[1].visible_difference
    assert powers[0].prompts_needed < prompts_needed(0.02, 0.025) < powers[1].prompts_needed
    worse = power_of(often - 0.05, epsilon=0.02, level=1e-4, reject_level=0.025)
    assert worse.prompts_needed == prompts_needed(0.03, 0.025, float(often.var()))
    assert power_of(often - 0.02, epsilon=0.02, level=0.025, reject_level=0.025).prompts_needed is None


def test_gate_results_of_earlier_releases_read_as_they_did() -> None:
    old = {"passed": False, "checks": [{"name": "n", "value": "v", "threshold": "t", "passed": False}]}
    for passed, verdict in ((True, PROMOTE), (False, REJECT)):
        stored = GateRecord(passed, json.dumps(old | {"passed": passed}))
        assert (stored.verdict, stored.decision, stored.is_undecided) == (verdict, verdict, False)
    (one,) = stored_checks(old)
    assert (one.outcome, one.remedy, check_text(one)) == ("FAILED", "", "n: v (t)")
    assert undecided_sentence(old) == undecided_sentence({}) == undecided_sentence(None) == ""


def test_no_number_of_prompts_decides_a_difference_at_the_margin() -> None:
    found = gate_as_json(run(outcomes(EQUAL, n=100))) | {"power": {**vars(Power(100, 0.1, None))}}
    assert "no number of gate prompts would decide it" in undecided_sentence(found)


def test_the_default_leaves_the_digest_of_a_policy_as_it_was_and_another_choice_changes_it() -> None:
    digests = {
        GateRules.of(Settings(gate=GateSettings(undecided=one))).policy_digest
        for one in ("review", "promote_if_cheaper", "reject")
    }
    assert len(digests) == 3
    assert GateRules.of(Settings()).policy_digest in digests
    assert "undecided" not in Settings().canonical()


def test_the_same_recorded_scores_are_the_same_test_and_others_are_a_second_look() -> None:
    seen = outcomes(EQUAL, n=100)
    first = evidence_digest(NEW, seen)
    repriced = replace(seen, costs_usd=seen.costs_usd * 2)
    assert evidence_digest(NEW, repriced) == first, "prices tell nothing new about answers"
    regraded = seen.scores.copy()
    regraded[0, 0] = 1 - regraded[0, 0]
    others = [replace(seen, scores=regraded), outcomes(EQUAL, n=101)]
    assert len({first, *(evidence_digest(NEW, one) for one in others)}) == 3
    assert evidence_digest(OLD, seen) == first, "it is of the answers; which router they judge is kept beside it"
    looks = [("x", "e1"), ("y", "e1"), ("x", "e2")]
    assert [spend(0.05, look, looks[:place]).ordinal for place, look in enumerate(looks)] == [1, 2, 3]
    assert spend(0.05, ("x", "e1"), looks).ordinal == 1
    assert spend(0.05, ("x", "e3"), looks) == Spending(4, level_of(0.05, 4))


def test_the_next_look_is_never_at_a_higher_level() -> None:
    for ordinal in range(1, 60):
        now = Spending(ordinal, level_of(0.05, ordinal))
        assert now.next_level == pytest.approx(level_of(0.05, ordinal + 1))
        assert 9e-6 < now.next_level <= now.level
    assert REGRADED.next_level == REGRADED.level


def test_f94_twenty_looks_at_one_challenger_err_no_more_often_than_promised() -> None:
    """A challenger worse by just epsilon, judged on 50 more prompts each night: 4,000 histories."""
    steps = np.random.default_rng(7).standard_normal((4000, 20))
    seen = steps.cumsum(axis=1) / np.sqrt(np.arange(1, 21))
    spent = [NormalDist().inv_cdf(1 - level_of(0.05, look)) for look in range(1, 21)]
    assert (seen > spent).any(axis=1).mean() <= 0.05
    assert (seen > spent[0]).any(axis=1).mean() > 0.05, "looks that spend nothing would break the promise"
