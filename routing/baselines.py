"""Routers to compare with: they see the same labels, and nothing else may be below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import finite_array
from .deferral import DeferralCurve, upper_hull
from .errors import InvalidInput


@dataclass(frozen=True)
class ZeroRouter:
    """Ignore the prompt: mix two LLMs that are neighbours on the hull of mean score over mean cost.

    Source: UniRoute section 3 (Hu et al. 2024, RouterBench). A strong baseline: a router below it has learned noise.

    Attributes
    ----------
    keys
        LLMs on the hull, by ascending cost.
    columns
        Their columns in the tables it was fitted on.
    costs_usd, scores
        Their mean cost and mean score on these tables.

    Examples
    --------
    Half of the prompts to the first LLM and half to the last is better than the second one at the same cost.

    >>> from routing import ZeroRouter
    >>> ZeroRouter.fit([[0.2, 0.3, 1.0]], [[1.0, 2.0, 3.0]], ["first", "second", "last"]).keys
    ('first', 'last')
    """

    keys: tuple[str, ...]
    columns: tuple[int, ...]
    costs_usd: tuple[float, ...]
    scores: tuple[float, ...]

    @classmethod
    def fit(cls, scores: npt.ArrayLike, costs_usd: npt.ArrayLike, keys: Sequence[str]) -> ZeroRouter:
        """Find the non-decreasing hull of the LLMs' means on representative prompts.

        Parameters
        ----------
        scores : array-like of shape (n, m)
            Scores in [0, 1].
        costs_usd : array-like of shape (n, m)
            USD per prompt.
        keys
            Keys of the m LLMs.

        Raises
        ------
        InvalidInput
            When nothing is there, or a number is not finite or out of range.
        """
        names = tuple(keys)
        right = finite_array(scores, "scores", shape=(None, len(names)), minimum=0, maximum=1)
        costs = finite_array(costs_usd, "costs_usd", shape=right.shape, minimum=0)
        if not right.size:
            raise InvalidInput("a ZeroRouter needs a prompt and an LLM")
        # By key first, so that equal LLMs are told apart by key and not by column.
        order = np.array(sorted(range(len(names)), key=names.__getitem__))
        mean_scores, mean_costs = right.mean(axis=0), costs.mean(axis=0)
        hull = order[upper_hull(mean_costs[order], mean_scores[order])]
        return cls(
            tuple(names[i] for i in hull),
            tuple(hull.tolist()),
            tuple(mean_costs[hull].tolist()),
            tuple(mean_scores[hull].tolist()),
        )

    def curve(self, scores: npt.ArrayLike, costs_usd: npt.ArrayLike, *, reference_cost_usd: float) -> DeferralCurve:
        """Show what the mixtures are worth on other prompts.

        Parameters
        ----------
        scores, costs_usd : array-like of shape (n, m)
            Tables with the columns of `fit`.
        reference_cost_usd
            Mean cost of the dearest LLM, positive.

        Returns
        -------
        DeferralCurve
            One point per LLM on the hull, the dearest first; its straight lines are the mixtures. Its cost weights are
            the slopes of the hull.
        """
        right = finite_array(scores, "scores", shape=(None, None), minimum=0, maximum=1)
        costs = finite_array(costs_usd, "costs_usd", shape=right.shape, minimum=0)
        if not len(right) or max(self.columns) >= right.shape[1]:
            raise InvalidInput(
                f"a ZeroRouter over column {max(self.columns)} cannot read a table of shape {right.shape}"
            )
        dearest_first = list(self.columns[::-1])
        slopes = np.diff(self.scores) / np.diff(self.costs_usd)
        return DeferralCurve(
            np.concatenate([[0.0], slopes[::-1]]),
            costs.mean(axis=0)[dearest_first],
            right.mean(axis=0)[dearest_first],
            reference_cost_usd,
        )
