"""Estimated costs of nights, and that the document contains what the code calculates."""

from pathlib import Path

import pytest

from tests.bench.scaling import Figures, first_night, later_night, table

DOCUMENT = Path(__file__).resolve().parents[2] / "docker" / "SCALING.md"


def test_the_document_holds_the_tables_that_the_code_prints():
    assert table() in DOCUMENT.read_text(encoding="utf-8")


def test_the_first_night_asks_what_the_prior_needs_and_a_later_one_new_llms_and_canaries():
    figures = Figures(usd_per_call=0.001, calls_per_s=100, endpoint_calls_per_s=10, new_llms=2, canaries=20)
    first, later = first_night(100, 1000, figures), later_night(100, 1000, figures)
    assert (first.calls, later.calls) == pytest.approx((100_000, 2 * 400 + 20 * 100))
    assert first.usd == pytest.approx(100)
    assert (first.hours, first.hours_one_endpoint) == pytest.approx((1000 / 3600, 10_000 / 3600))
    first, later = first_night(100, 10_000, figures), later_night(100, 10_000, figures)
    assert (first.calls, later.calls) == pytest.approx((100 * 5_000, 2 * 3_100 + 20 * 100))


@pytest.mark.parametrize("night", [first_night, later_night])
def test_more_llms_or_prompts_never_make_a_night_cheaper(night):
    sizes = [(10, 10), (10, 1000), (100, 1000), (100, 5000)]
    costs = [night(*size, Figures()) for size in sizes]
    assert [one.usd for one in costs] == sorted(one.usd for one in costs)
    assert all(one.gigabytes > 0 for one in costs)


def test_a_demo_sized_night_costs_what_the_demo_cost():
    every_map_prompt = Figures(map_answers=899)
    assert first_night(14, 1498, every_map_prompt).usd == pytest.approx(13.97, rel=0.05)
