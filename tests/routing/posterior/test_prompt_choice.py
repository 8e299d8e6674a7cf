"""The order in which new LLMs are asked: a permutation whose first part is drawn uniformly, chosen by simulation."""

import numpy as np
import pytest

from routing.errors import InvalidInput
from routing.posterior.prompt_choice import FEWEST_KNOWN, RANDOM, choose_order


def known_llms(n: int = 120, m: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings, and errors of LLMs of different levels on prompts of different difficulty."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 6)).astype(np.float32)
    hard = rows[:, :1] * 1.5 + rng.normal(size=(n, 1)) * 1.5
    skill = np.linspace(-1.5, 1.5, m)
    return rows, (rng.random((n, m)) < 1 / (1 + np.exp(-(hard - skill)))).astype(float)


def test_an_order_is_a_permutation_whose_first_part_is_the_same_whatever_the_strategy() -> None:
    rows, errors = known_llms()
    found = choose_order(rows, errors, n_asked=40, seed=3)
    few = choose_order(rows, errors[:, : FEWEST_KNOWN - 1], n_asked=40, seed=3)
    assert few.strategy == RANDOM and not few.losses
    assert sorted(found.order.tolist()) == sorted(few.order.tolist()) == list(range(len(rows)))
    assert found.n_random == few.n_random == 20
    assert found.order[:20].tolist() == few.order[:20].tolist()
    again = choose_order(rows, errors, n_asked=40, seed=3)
    assert again.order.tolist() == found.order.tolist() and dict(again.losses) == dict(found.losses)


def test_more_answers_never_cost_and_all_of_them_lose_nothing() -> None:
    rows, errors = known_llms()
    found = choose_order(rows, errors, n_asked=40, seed=0)
    losses = list(found.expected_loss_by_n.values())
    assert list(found.expected_loss_by_n) == [25, 50, 100, 120]
    assert losses == sorted(losses, reverse=True) and losses[-1] == 0 < losses[0]
    assert found.losses[found.strategy] == min(found.losses.values())


def test_answers_may_be_missing_and_asking_all_is_a_random_order() -> None:
    rows, errors = known_llms()
    errors[::7, ::2] = np.nan
    assert np.isfinite(list(choose_order(rows, errors, n_asked=40, seed=0).losses.values())).all()
    everything = choose_order(rows, errors, n_asked=1000, seed=0)
    assert (everything.strategy, everything.n_random) == (RANDOM, len(rows))


def test_tables_that_do_not_fit_are_refused() -> None:
    rows, errors = known_llms()
    with pytest.raises(InvalidInput, match="shape"):
        choose_order(rows, errors[1:], n_asked=10, seed=0)
    with pytest.raises(InvalidInput, match="at least one"):
        choose_order(rows, errors, n_asked=0, seed=0)
