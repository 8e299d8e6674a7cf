"""Compare routers at equal cost: what one scores when it may spend exactly what another spends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import finite_array, finite_number
from .deferral import Switches, switches
from .errors import InvalidInput

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_ROUNDING = 1e-10
"""Share by which a mean over the same prompts in another order of summation may differ."""


@dataclass(frozen=True, eq=False)
class EqualCost:
    """Scores of a router at a given mean cost.

    Attributes
    ----------
    scores : (n,) float64
        Score of every prompt, in [0, 1]: the expected one where a coin decides between two LLMs.
    cost_usd
        Mean USD per prompt; at most the one asked for, and equal to it unless the best the router can do is cheaper.
    cost_weight
        Cost weight at which the router spends it: the larger of the two between which the coin decides.
    is_reached
        Whether the router can be that cheap at all; otherwise `scores` and `cost_usd` are those of its cheapest
        choices.
    choices : (2, n) int64
        Columns of the chosen LLMs at the two cost weights between which the coin decides; equal where no coin is
        needed.
    """

    scores: F64
    cost_usd: float
    cost_weight: float
    is_reached: bool
    choices: I64


def scores_at_equal_cost(
    expected_errors: npt.ArrayLike,
    expected_costs: npt.ArrayLike,
    scores: npt.ArrayLike,
    costs_usd: npt.ArrayLike,
    *,
    target_usd: float,
    own_weight: float = 0.0,
) -> EqualCost:
    """Change the cost weight from the router's own until it spends a given mean cost, exactly.

    The choices change at finitely many cost weights. Where the cost falls past the target from one to the next, a coin
    between both spends the target; its score is the expected one, prompt by prompt, so no randomness enters. Answers
    do not cost what was expected, so several cost weights may spend the target: the nearest to the router's own counts,
    and a router that spends the target as it serves is compared as it serves.

    Parameters
    ----------
    expected_errors, expected_costs : array-like of shape (n, m)
        What the router expects and chooses by. Costs in USD.
    scores, costs_usd : array-like of shape (n, m)
        Scores and costs of the answers.
    target_usd
        Mean USD per prompt that may be spent.
    own_weight
        The cost weight that the router serves with, at least 0.

    Raises
    ------
    InvalidInput
        When shapes differ, an array is empty, or a number is not finite or out of range.
    """
    believed = finite_array(expected_errors, "expected_errors", shape=(None, None))
    n, m = believed.shape
    if n == 0 or m == 0:
        raise InvalidInput(f"a comparison at equal cost needs a prompt and an LLM, got {n} and {m}")
    believed_costs = finite_array(expected_costs, "expected_costs", shape=(n, m), minimum=0)
    worth = finite_array(scores, "scores", shape=(n, m), minimum=0, maximum=1)
    spent = finite_array(costs_usd, "costs_usd", shape=(n, m), minimum=0)
    target = finite_number(target_usd, "target_usd", minimum=0)

    moves = switches(believed, believed_costs)
    at_weights, n_moves = _points(moves)
    steps = spent[moves.rows, moves.after] - spent[moves.rows, moves.before]
    costliest = spent[np.arange(n), moves.first].sum()
    costs = (costliest + np.concatenate([[0.0], np.cumsum(steps)]))[n_moves] / n
    own = int(np.searchsorted(at_weights, finite_number(own_weight, "own_weight", minimum=0), side="right")) - 1
    at, is_reached = _place(costs, max(own, 0), target)
    before = after = _chosen(moves, n_moves[at])
    rows = np.arange(n)
    found = worth[rows, after]
    cost_usd = float(costs[at])
    if is_reached and at > 0 and cost_usd < target < costs[at - 1] and not _is_same(cost_usd, target):
        share = (target - cost_usd) / (costs[at - 1] - cost_usd)
        before = _chosen(moves, n_moves[at - 1])
        found = share * worth[rows, before] + (1 - share) * found
        cost_usd = target
    return EqualCost(found, cost_usd, float(at_weights[at]), is_reached, np.stack([before, after]))


def _is_same(cost_usd: float, target_usd: float) -> bool:
    return abs(cost_usd - target_usd) <= _ROUNDING * target_usd


def _place(costs: F64, own: int, target: float) -> tuple[int, bool]:
    """Return the first point after the cost falls past the target, the nearest to `own`, and whether there is one."""
    if _is_same(float(costs[own]), target):
        return own, True
    is_within = costs <= target * (1 + _ROUNDING)
    within = np.flatnonzero(is_within)
    if not len(within):
        return len(costs) - 1, False
    later = within[within >= own]
    last = int(later[0] if len(later) else within[-1])
    above = np.flatnonzero(~is_within[:last])
    return (int(above[-1]) + 1 if len(above) else 0), True


def _points(moves: Switches) -> tuple[F64, I64]:
    """Return the cost weights at which choices change, from zero, and the number of moves up to each."""
    is_last = np.append(np.diff(moves.cost_weights) > 0, True) if len(moves.rows) else np.zeros(0, dtype=bool)
    done = np.flatnonzero(is_last) + 1
    weights = np.concatenate([[0.0], moves.cost_weights[is_last]])
    counts = np.concatenate([[0], done]).astype(np.int64)
    # Moves at cost weight zero happen before anything is spent.
    start = 1 if len(weights) > 1 and weights[1] == 0 else 0
    return weights[start:], counts[start:]


def _chosen(moves: Switches, n_moves: int) -> I64:
    """Return the columns chosen after the first `n_moves` moves, ``(n,)``; the last move of a prompt counts."""
    chosen = moves.first.copy()
    chosen[moves.rows[:n_moves]] = moves.after[:n_moves]
    return chosen
