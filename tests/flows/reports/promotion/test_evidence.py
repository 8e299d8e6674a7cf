"""The numbers of a promotion report, against the same numbers computed another way or known beforehand."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from flows.gate.measure import measure
from flows.reports.numbers import share_interval
from flows.reports.promotion.clusters import N_SHOWN, N_WORST
from flows.reports.promotion.composition import evidence_of
from flows.reports.promotion.evidence import Evidence
from flows.reports.promotion.gathering import hidden_gap
from flows.reports.promotion.review_inputs import ReviewInputs
from routing.deferral import scores_at_costs
from tests.flows.reports.promotion.synthetic import review_inputs


@pytest.fixture(scope="module")
def given() -> ReviewInputs:
    return review_inputs(200, 8, n_new=2, n_clusters=5)


@pytest.fixture(scope="module")
def evidence(given: ReviewInputs) -> Evidence:
    return evidence_of(given)


def same_router_twice() -> ReviewInputs:
    given = review_inputs(90, 5)
    return replace(given, champion=replace(given.challenger, number=41), new_llms=())


def test_two_equal_routers_do_not_differ_anywhere():
    evidence = evidence_of(same_router_twice())
    numbers = evidence.headline
    assert numbers.route_change.mean == numbers.own_score.mean == numbers.own_cost_usd.mean == 0
    assert numbers.cost_at_equal_score.change < 1e-9
    assert np.allclose(evidence.band.difference, 0) and np.allclose([evidence.band.low, evidence.band.high], 0)
    assert (evidence.flows, evidence.changes, evidence.n_changed, evidence.effects) == ((), (), 0, ())
    assert not any(cluster.is_changed for cluster in evidence.clusters)


def test_flows_and_shares_count_the_prompts_that_both_routers_really_send(given, evidence):
    before, after = (measure(one.router, given.outcomes) for one in (given.champion, given.challenger))
    moved = Counter(pair for pair in zip(before.chosen, after.chosen, strict=True) if pair[0] != pair[1])
    assert {(flow.before, flow.after): flow.n for flow in evidence.flows} == moved
    assert [flow.n for flow in evidence.flows] == sorted(moved.values(), reverse=True)
    assert evidence.n_changed == sum(moved.values())
    assert evidence.headline.route_change.mean == evidence.n_changed / 200
    change = sum(flow.n * flow.score for flow in evidence.flows) / 200
    assert change == pytest.approx(evidence.headline.own_score.mean)
    assert change == pytest.approx(evidence.challenger.score - evidence.champion.score)
    shares = {point.key: point.share_after for point in evidence.llms if point.share_after is not None}
    assert shares == pytest.approx(
        {key: count / 200 for key, count in Counter(after.chosen).items()}
        | {key: 0.0 for key in shares if key not in after.chosen}
    )


def test_the_five_worst_regressions_are_always_among_the_prompts_shown(given, evidence):
    before, after = (measure(one.router, given.outcomes) for one in (given.champion, given.challenger))
    drops = sorted((after.scores - before.scores)[[a != b for a, b in zip(after.chosen, before.chosen, strict=True)]])
    shown = evidence.changes
    assert len(shown) == min(N_SHOWN, evidence.n_changed)
    worst = [one for one in shown if one.is_worst]
    assert len(worst) == min(N_WORST, sum(drop < 0 for drop in drops))
    assert [one.score_after - one.score_before for one in worst] == drops[: len(worst)]
    assert shown[: len(worst)] == tuple(worst)
    digests = [prompt.digest for prompt in given.gate_prompts]
    for one in shown:
        row = digests.index(one.digest)
        assert (one.before, one.after) == (before.chosen[row], after.chosen[row])
        assert (one.score_before, one.score_after) == (before.scores[row], after.scores[row])
        assert one.completion_before.startswith(one.before) and one.completion_after.startswith(one.after)


def test_other_prompts_shown_come_from_every_flow_in_turn(evidence):
    sampled = Counter((one.before, one.after) for one in evidence.changes if not one.is_worst)
    largest = {(flow.before, flow.after) for flow in evidence.flows[: N_SHOWN - N_WORST]}
    assert largest - set(sampled) <= {(one.before, one.after) for one in evidence.changes if one.is_worst}


def test_cost_at_equal_score_is_where_the_curve_reaches_the_champion(evidence):
    cost = evidence.headline.cost_at_equal_score
    target, paid = evidence.champion.score, evidence.champion.cost_usd
    curve = evidence.challenger.curve
    at = paid * (1 + cost.change) / curve.reference_cost_usd
    reached, before = scores_at_costs(curve, [at, at * 0.98])
    assert reached >= target - 1e-9
    assert before < target
    assert cost.low <= cost.change
    assert cost.high is None or cost.change <= cost.high


def test_a_challenger_that_never_gets_as_good_has_no_cost_at_equal_score():
    given = review_inputs(120, 6, n_new=0)
    worse = tuple(llm for llm in given.challenger.router.llms if llm.key.endswith(("00", "01")))
    router = replace(given.challenger.router, llms=worse)
    fewer = replace(given, challenger=replace(given.challenger, router=router), new_llms=(), zero_router=None)
    evidence = evidence_of(fewer)
    cost = evidence.headline.cost_at_equal_score
    assert (cost.change, cost.high) == (None, None)
    assert cost.reached < 0.5
    assert evidence.headline.score_at_equal_cost.high < 0
    gone = {point.key for point in evidence.llms if point.is_gone}
    assert gone == {key for key in given.champion.router.keys if not key.endswith(("00", "01"))}


def test_leaving_out_a_new_llm_that_gets_no_prompt_changes_nothing(given, evidence):
    for effect in evidence.effects:
        assert effect.key in given.new_keys
        if effect.share == 0:
            assert (effect.own_score.mean, effect.own_cost_usd) == (0, 0)
    assert max(effect.share for effect in evidence.effects) > 0
    best = evidence.effects[0]
    assert best.score.mean == max(effect.score.mean for effect in evidence.effects) > 0


def test_thin_evidence_new_and_repriced_llms_are_marked(given, evidence):
    cells = [cell for row in evidence.heat for cell in row.cells]
    assert all(cell.is_thin == (cell.n < 3) for cell in cells)
    assert sum(cell.is_thin for cell in cells) == 8
    assert {row.key for row in evidence.heat if row.is_new} == set(given.new_keys)
    assert sum(cell.is_chosen for cell in cells) == len(evidence.clusters)
    (repriced,) = (point for point in evidence.llms if point.repriced_cost_usd is not None)
    assert repriced.repriced_cost_usd == pytest.approx(3 * repriced.cost_usd, rel=1e-4)
    assert any("changed price since" in sentence for sentence in evidence.limitations)
    for point in evidence.llms:
        beaten = [o for o in evidence.llms if o.score >= point.score and o.cost_usd < point.cost_usd]
        assert point.is_dominated == bool(beaten)


def test_a_vector_without_uncertainty_makes_decisions_that_never_change():
    given = review_inputs(80, 5)
    sure = [
        replace(llm, vector=replace(llm.vector, standard_errors=np.zeros_like(llm.vector.standard_errors)))
        for llm in given.challenger.router.llms
    ]
    router = replace(given.challenger.router, llms=tuple(sure))
    certain = evidence_of(replace(given, challenger=replace(given.challenger, router=router)))
    assert (certain.stability.mean, certain.stability.unsure) == (1.0, 0.0)
    assert 0 < evidence_of(given).stability.mean < 1


def test_clusters_are_named_by_words_of_their_own(evidence):
    topics = [set(cluster.words) for cluster in evidence.clusters]
    assert all(topics)
    assert not any(one & other for at, one in enumerate(topics) for other in topics[:at])
    assert sum(cluster.size for cluster in evidence.clusters) == 200
    assert sum(cluster.share for cluster in evidence.clusters) == pytest.approx(1)


def test_numbers_that_no_longer_agree_with_the_gate_are_reported(given):
    changed = evidence_of(replace(given, metrics={"score": 0.123}))
    assert any("trust neither" in sentence for sentence in changed.limitations)


@pytest.mark.parametrize(("share", "n"), [(0.0, 20), (1.0, 20), (0.5, 400)])
def test_a_share_has_an_interval_that_no_extreme_makes_empty(share, n):
    low, high = share_interval(share, n)
    assert 0 <= low <= share <= high <= 1
    assert high - low > 0.05


def test_a_hidden_gap_is_the_difference_of_means_with_room_on_both_sides():
    known, hidden = np.array([1.0, 1, 1, 0, np.nan]), np.array([0.0, 1, 0, 0])
    gap = hidden_gap(known, hidden)
    assert (gap.mean, gap.n_known, gap.n_hidden) == (0.5, 4, 4)
    assert gap.low < 0.5 < gap.high
    assert hidden_gap(known, np.array([np.nan])) is None
