"""What the facts of an LLM say about its level before its first answer."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from routing.day_zero import LEAST_KNOWN, DayZero, KnownFacts, LevelPrior, LLMFacts
from routing.errors import InvalidInput


def llm(number: int, price: float | None, days: int | None, size: float | None = None, reasons: bool = False):
    released = None if days is None else date(2024, 1, 1) + timedelta(days)
    return LLMFacts(f"e:{number}", price, released, size, reasons)


def market(n: int = 24, *, noise: float = 0.03, seed: int = 0) -> tuple[list[LLMFacts], np.ndarray]:
    """LLMs that are better the more expensive and the newer they are."""
    rng = np.random.default_rng(seed)
    prices, days = np.exp(rng.normal(0, 1.2, n)), rng.integers(0, 700, n)
    levels = 0.5 - 0.08 * np.log(prices) - 0.0003 * (days - 350) + rng.normal(0, noise, n)
    sizes = [None if number % 3 == 0 else float(20 * prices[number]) for number in range(n)]
    llms = [llm(number, float(prices[number]), int(days[number]), sizes[number]) for number in range(n)]
    return llms, np.clip(levels, 0.02, 0.98)


LLMS, LEVELS = market()


@pytest.fixture(scope="module")
def fitted() -> DayZero:
    return DayZero.fit(KnownFacts.of(LLMS), LEVELS)


def test_unseen_llms_are_expected_near_their_level_and_within_their_interval(fitted: DayZero) -> None:
    others, levels = market(200, seed=1)
    found = [fitted.level(one) for one in others]
    missed = np.array([one.mean for one in found]) - levels
    assert np.sqrt(np.mean(missed**2)) < 0.5 * levels.std()
    inside = np.abs(missed) < 1.96 * np.sqrt([one.variance for one in found])
    assert inside.mean() > 0.9


def test_the_error_is_that_of_leaving_each_llm_out(fitted: DayZero) -> None:
    missed = []
    for i in range(len(LLMS)):
        rest = [j for j in range(len(LLMS)) if j != i]
        without = DayZero.fit(KnownFacts.of([LLMS[j] for j in rest]), LEVELS[rest])
        missed.append(without._at(np.array(LLMS[i].row))[0] - LEVELS[i])
    assert fitted.error == pytest.approx(np.sqrt(np.mean(np.square(missed))), rel=1e-9)
    from_mean = [LEVELS[i] - np.delete(LEVELS, i).mean() for i in range(len(LEVELS))]
    assert fitted.mean_error == pytest.approx(np.sqrt(np.mean(np.square(from_mean))), rel=1e-9)


def test_facts_that_say_nothing_are_not_believed() -> None:
    rng = np.random.default_rng(3)
    believed = sum(DayZero.fit(KnownFacts.of(LLMS), rng.permutation(LEVELS)).says_something for _ in range(40))
    assert believed <= 2
    off = DayZero.fit(KnownFacts.of(LLMS), np.random.default_rng(0).permutation(LEVELS))
    assert off.level(LLMS[0]) is None
    assert "off by" in off.why_off and "mean alone" in off.why_off


@pytest.mark.parametrize("n", [0, 1, LEAST_KNOWN - 1])
def test_a_few_known_llms_say_nothing(n: int) -> None:
    fitted = DayZero.fit(KnownFacts.of(LLMS[:n]), LEVELS[:n])
    assert fitted.level(LLMS[-1]) is None
    assert f"only {n} known LLMs" in fitted.why_off


def test_a_missing_fact_is_not_zero_and_makes_the_level_less_certain(fitted: DayZero) -> None:
    whole, same = llm(99, 8.0, 600, 160.0), llm(98, 8.0, 600)
    assert fitted.level(same).mean == pytest.approx(fitted.level(whole).mean, abs=0.05)
    free, unpriced = llm(97, 0.0, 600), llm(96, None, 600)
    assert fitted.level(free) == fitted.level(unpriced)
    assert fitted.level(unpriced).variance > fitted.level(whole).variance
    assert fitted.level(llm(95, None, None, None)) is None


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_price_that_cannot_be_is_a_missing_price(price: float, fitted: DayZero) -> None:
    assert fitted.level(llm(99, price, 600)) == fitted.level(llm(99, None, 600))


def test_facts_beyond_those_known_are_not_extrapolated_to_without_end(fitted: DayZero) -> None:
    absurd, high = fitted.level(llm(99, 1e9, 90_000)), fitted.level(llm(98, 1e8, 80_000))
    assert 0 < absurd.mean < 1 and absurd == high
    assert absurd.variance > fitted.level(LLMS[1]).variance


def test_facts_that_all_share_say_nothing_and_break_nothing() -> None:
    same = [llm(number, 2.0, 100, 7.0) for number in range(12)]
    fitted = DayZero.fit(KnownFacts.of(same), np.linspace(0.2, 0.6, 12))
    assert not fitted.says_something
    nothing = [LLMFacts(f"e:{number}") for number in range(12)]
    assert not DayZero.fit(KnownFacts.of(nothing), np.linspace(0.2, 0.6, 12)).says_something


def test_few_llms_on_a_line_are_not_believed_to_the_last_digit() -> None:
    llms, levels = market(LEAST_KNOWN, noise=0.0)
    fitted = DayZero.fit(KnownFacts.of(llms), levels)
    found = fitted.level(llm(99, 2.0, 300))
    assert found is None or found.variance >= 0.03**2


def test_what_is_stored_is_read_back_bit_for_bit(fitted: DayZero) -> None:
    known = KnownFacts.of(LLMS)
    arrays = known.arrays() | fitted.arrays()
    assert all(np.isfinite(values).all() for values in arrays.values())
    again, facts = DayZero.from_arrays(arrays), KnownFacts.from_arrays(arrays)
    newcomer = llm(99, 3.0, None, 12.0, reasons=True)
    assert again.level(newcomer) == fitted.level(newcomer)
    assert (again.why_off, again.says_something) == (fitted.why_off, fitted.says_something)
    assert DayZero.fit(facts, LEVELS).level(newcomer) == fitted.level(newcomer)
    assert DayZero.from_arrays({}) is None and KnownFacts.from_arrays({}) is None


@pytest.mark.parametrize("n_sizes", [0, 3])
def test_where_few_names_say_a_size_everything_stored_is_finite(n_sizes: int) -> None:
    llms = [replace(one, parameters_b=20.0 if place < n_sizes else None) for place, one in enumerate(LLMS)]
    known = KnownFacts.of(llms)
    fitted = DayZero.fit(known, LEVELS)
    arrays = fitted.arrays()
    assert all(np.isfinite(values).all() for values in arrays.values())
    found = DayZero.from_arrays(arrays)
    assert found is not None and fitted.says_something
    assert [found.level(one) for one in llms] == [fitted.level(one) for one in llms]


def test_facts_are_found_by_key() -> None:
    known = KnownFacts.of(LLMS)
    assert known.include(LLMS[3]) and not known.include(replace(LLMS[3], key="other"))
    picked = known.of_keys(["e:5", "e:2"])
    np.testing.assert_array_equal(picked.rows, KnownFacts.of([LLMS[5], LLMS[2]]).rows)
    assert known.of_keys(["e:5", "unknown"]) is None


@pytest.mark.parametrize("levels", [LEVELS[:-1], np.where(np.arange(24) == 3, np.nan, LEVELS)])
def test_levels_that_do_not_fit_are_refused(levels: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="24 finite numbers"):
        DayZero.fit(KnownFacts.of(LLMS), levels)


@pytest.mark.parametrize(("mean", "variance"), [(1.2, 0.01), (float("nan"), 0.01), (0.5, 0.0), (0.5, float("inf"))])
def test_a_level_that_cannot_be_is_refused(mean: float, variance: float) -> None:
    with pytest.raises(InvalidInput):
        LevelPrior(mean, variance)
