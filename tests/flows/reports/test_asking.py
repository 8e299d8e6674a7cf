"""What new LLMs are asked, what more answers would buy, and what an early end saved, in words."""

from dataclasses import replace
from decimal import Decimal

from flows.profiling.plan import PlannedOrder
from flows.reports.asking import choice_lines, order_lines, reason_of, saved_of
from registry.prompts.prompt_orders import PromptOrderRecord

ORDER = PromptOrderRecord(
    "set", "representative", "variance", tuple("abcdef"), n_random=2, n_asked=4, n_known=9, seed=0
)


def test_a_rank_says_why_a_prompt_stands_there_and_whether_it_is_asked() -> None:
    reasons = [reason_of(ORDER, rank, 4) for rank in range(1, 7)]
    assert reasons[:2] == ["drawn at random"] * 2
    assert reasons[2:4] == ["the known LLMs disagree"] * 2
    assert reasons[4:] == ["the known LLMs disagree (not asked)"] * 2


def test_an_order_is_shown_beside_those_that_lost_more_and_with_the_number_that_is_asked() -> None:
    simulated = replace(ORDER, losses={"by_strategy": {"random": 0.02, "variance": 0.01}, "by_n": {}})
    first, second = choice_lines(simulated, 5)
    assert first == (
        "representative prompts: the first 5 of 6 for each new LLM, 2 of them drawn at random; "
        f"order variance, chosen on 9 known LLMs ({ORDER.digest[:12]})"
    )
    assert second == "expected area lost, by order: variance 0.0100, random 0.0200"
    (only,) = choice_lines(replace(ORDER, role="map", strategy="random", n_random=6), 4)
    assert "each LLM of the night that fits the map, all drawn at random; order random (" in only


def test_the_plan_says_how_many_are_asked_and_what_other_numbers_would_buy() -> None:
    chosen = PlannedOrder("ab" * 32, "variance", 100, 600, n_known=9, expected_loss={"50": 0.0125, "100": 0.006})
    asked, bought = order_lines(chosen)
    assert asked == (
        "representative prompts: 100 of 600 for each new LLM, chosen on 9 known LLMs (variance, abababababab)"
    )
    assert bought == "expected area lost against asking all, by answers: 50 0.0125, 100 0.0060 ([prompts] ask)"
    (only,) = order_lines(PlannedOrder("ab" * 32, "random", 100, 600))
    assert "in a random order" in only
    assert order_lines(None) == []


def test_what_was_saved_is_summed_over_the_llms_that_ended_early() -> None:
    assert saved_of([("a", 0, Decimal(0))]) == []
    (line,) = saved_of([("a", 20, Decimal("0.5")), ("b", 0, Decimal(0)), ("c", 5, 0.25)])
    assert line == "decided early: 2 LLMs, 25 calls and about $0.7500 saved ([profiling] decided)"
