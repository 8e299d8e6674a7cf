"""Alpha spending: the chance of a wrong promotion is spent, challenger by challenger.

A champion meets a new challenger on the same gate prompts night after night. If each were judged at 2.5 %, a bad one
would be promoted sooner or later. So the k-th challenger of a champion is judged at the level ``total / (k (k + 1))``;
these sum to `total` over any number of nights (alpha spending, Lan and DeMets 1983, with the telescoping series). A
challenger that is measured again against the same champion is the same test, and a promotion begins a new account.

A margin that must hold on two nights would not help here: the gate prompts and their recorded answers are the same on
both, so the second night would repeat the first.

When a grader changes, the champion as it was rests on grades that are known to be wrong, and keeping it is not the safe
choice. The champion with its stored answers graded again is no challenger: it has the same LLMs, map and prices, claims
nothing new, and spends nothing (`REGRADED`). It continues the account of the champion that it replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_LEVEL = 1e-4
"""Lowest level, reached after about 20 challengers: 100 more of them add 1 %, and no challenger becomes impossible."""


@dataclass(frozen=True)
class Spending:
    """The part of the chance of a wrong promotion that one test may spend.

    Attributes
    ----------
    ordinal
        Number of the challenger among those of the champion, from 1; 0 for the champion itself, regraded.
    level
        Chance that this test passes a challenger that is just not good enough, in (0, 0.5].
    """

    ordinal: int
    level: float

    @property
    def is_regraded(self) -> bool:
        """Whether the champion itself is judged, under newer grades: no test of a challenger."""
        return self.ordinal == 0


REGRADED = Spending(ordinal=0, level=0.5)
"""For the champion under newer grades. Its bound is the difference itself: no certainty is demanded, and none spent."""


def spend(total: float, challenger: str, tested: Sequence[str]) -> Spending:
    """Return what the test of a challenger may spend.

    Parameters
    ----------
    total
        Chance of a wrong promotion over all challengers of one champion, in (0, 1].
    challenger
        Digest of the router that is tested.
    tested
        Digests of the routers tested against the champion so far, in order; the challenger may be among them.
    """
    known = list(tested)
    ordinal = known.index(challenger) + 1 if challenger in known else len(known) + 1
    return Spending(ordinal, level_of(total, ordinal))


def level_of(total: float, ordinal: int) -> float:
    """Return the level of a champion's challenger by its number, from 1; `total` as for `spend`."""
    return max(total / (ordinal * (ordinal + 1)), min(LEAST_LEVEL, total / 2))
