"""The gate over many nights: simulated histories in which the truth is known, and recorded answers."""

from dataclasses import replace

import pytest

from tests.bench.gate_nights import EDGE, REFRESHED, Conditions, report, simulate
from tests.bench.recorded_gate import recorded_widths, widths_report

GATE, BOTH = Conditions(is_cross_fit=False), Conditions()
SHORT = {"n_nights": 12, "n_histories": 200}


@pytest.mark.parametrize("conditions", [GATE, BOTH, Conditions(refreshed=REFRESHED), replace(GATE, is_coin=True)])
def test_f94_many_nights_of_worse_challengers_hardly_ever_promote_one(conditions: Conditions) -> None:
    assert simulate(EDGE, conditions, **SHORT).any_promotion <= 0.10


def test_f94_without_the_correction_wrong_promotions_pile_up() -> None:
    alone = simulate(EDGE, Conditions(is_cross_fit=False, is_corrected=False), **SHORT)
    assert alone.any_promotion > 0.12 > 2 * alone.first_night


def test_representative_prompts_make_the_interval_narrower_and_promotions_earlier() -> None:
    gate, both = (simulate(0.03, kind, n_nights=1, n_histories=300) for kind in (GATE, BOTH))
    assert both.n_judging == gate.n_judging + 20 * 21
    assert both.width < 0.9 * gate.width
    assert both.first_night > gate.first_night


def test_a_history_is_the_same_every_time_and_is_reported_in_a_table() -> None:
    given = {"n_nights": 3, "n_histories": 20}
    assert simulate(0.0, BOTH, **given) == simulate(0.0, BOTH, **given)
    text = report([simulate(truth, BOTH, **given) for truth in (EDGE, 0.06)])
    assert "TRUE DIFFERENCE" in text
    assert len(text.splitlines()) == 3


def test_recorded_answers_judge_better_together() -> None:
    found = recorded_widths(n=8)
    assert 0.5 < found.ratio < 0.95
    assert "WIDTH RATIO" in widths_report(found)
