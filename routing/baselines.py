"""The baseline router: it sees the same labels, and no router that has learned anything is below it."""

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
    """A router that ignores the prompt: it mixes two neighbouring LLMs on the hull of mean score over mean cost.

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
    Sending half of the prompts to the first LLM and half to the last is better than the second at the same cost.

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
            When the tables are empty, or a number is not finite or out of range.
        """
        names = tuple(keys)
        right = finite_array(scores, "scores", shape=(None, len(names)), minimum=0, maximum=1)
        costs = finite_array(costs_usd, "costs_usd", shape=right.shape, minimum=0)
        if not right.size:
            raise InvalidInput("a ZeroRouter needs a prompt and an LLM")
        # Sorted by key first, so that the choice among equal LLMs depends on the key, not on the column.
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
        """Return the deferral curve of the mixtures on other prompts.

        Parameters
        ----------
        scores, costs_usd : array-like of shape (n, m)
            Tables with the columns of `fit`.
        reference_cost_usd
            Mean cost of the most expensive LLM; zero if all of them are free.

        Returns
        -------
        DeferralCurve
            One point per LLM on the hull, the most expensive first; its straight lines are the mixtures. Its cost
            weights are the slopes of the hull.
        """
        right = finite_array(scores, "scores", shape=(None, None), minimum=0, maximum=1)
        costs = finite_array(costs_usd, "costs_usd", shape=right.shape, minimum=0)
        if not len(right) or max(self.columns) >= right.shape[1]:
            raise InvalidInput(
                f"a ZeroRouter over column {max(self.columns)} cannot read a table of shape {right.shape}"
            )
        descending = list(self.columns[::-1])
        slopes = np.diff(self.scores) / np.diff(self.costs_usd)
        return DeferralCurve(
            np.concatenate([[0.0], slopes[::-1]]),
            costs.mean(axis=0)[descending],
            right.mean(axis=0)[descending],
            reference_cost_usd,
        )
