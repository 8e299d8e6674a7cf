"""The gate over many nights: simulated histories in which the truth is known."""

import pytest

from tests.bench.gate_nights import REFRESHED, Conditions, history, report, simulate

CONDITIONS = Conditions()
EDGE = -CONDITIONS.epsilon


@pytest.mark.parametrize("truth", [EDGE, -0.05])
def test_f94_two_hundred_nights_of_worse_challengers_hardly_ever_promote_one(truth: float) -> None:
    corrected, alone = (
        simulate(truth, is_corrected=flag, conditions=CONDITIONS, n_histories=60) for flag in (True, False)
    )
    assert corrected.any_promotion <= 0.10
    assert truth != EDGE or alone.any_promotion > 0.7, "without the correction, a wrong promotion is almost certain"
    assert corrected.promotions_per_history < alone.promotions_per_history


def test_f94_nightly_refreshes_leave_the_rate_of_wrong_promotions_where_it_was() -> None:
    refreshed = Conditions(refreshed=REFRESHED)
    assert simulate(EDGE, is_corrected=True, conditions=refreshed, n_histories=60).any_promotion <= 0.10


def test_f94_challengers_that_are_no_better_are_promoted_several_times_less_often() -> None:
    corrected, alone = (
        simulate(0.0, is_corrected=flag, conditions=CONDITIONS, n_histories=20) for flag in (True, False)
    )
    assert corrected.per_night < alone.per_night / 3


def test_a_better_challenger_is_still_promoted() -> None:
    found = simulate(0.06, is_corrected=True, conditions=CONDITIONS, n_histories=30)
    assert (found.any_promotion, found.nights_to_first) == (1.0, 1)


def test_a_history_is_the_same_every_time_and_is_reported_in_a_table() -> None:
    given = {"is_corrected": True, "conditions": CONDITIONS, "n_nights": 50, "seed": 3}
    assert history(0.0, **given) == history(0.0, **given)
    text = report(
        [simulate(truth, is_corrected=True, conditions=CONDITIONS, n_nights=5, n_histories=2) for truth in (EDGE, 0.06)]
    )
    assert "TRUE DIFFERENCE" in text
    assert len(text.splitlines()) == 3
