"""What testing every night costs: the chance of a wrong promotion is spent, challenger by challenger.

A champion meets a new challenger on the same gate prompts night after night. Were each judged at 2.5 %, some bad one
would be promoted sooner or later. So the k-th challenger of a champion is judged at the level ``total / (k (k + 1))``;
these sum to `total` over any number of nights (alpha spending, Lan and DeMets 1983, with the telescoping series). A
challenger that is measured again against the same champion is the same test, and a promotion begins a new account.

A margin that must hold on two nights would not help here: the gate prompts and their recorded answers are the same on
both, so the second night would repeat the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_LEVEL = 1e-4
"""Where spending stops falling, after some 20 challengers: further 100 of them add 1 %, and none becomes impossible."""


@dataclass(frozen=True)
class Spending:
    """The share of the wrong promotions that one test may spend.

    Attributes
    ----------
    ordinal
        Which challenger of the champion this is, from 1.
    level
        Chance that this test passes a challenger at the edge of what is tolerated, in (0, 0.5].
    """

    ordinal: int
    level: float


def spend(total: float, challenger: str, tested: Sequence[str]) -> Spending:
    """Give what the test of a challenger may spend.

    Parameters
    ----------
    total
        Chance of a wrong promotion over all challengers of one champion, in (0, 1].
    challenger
        Who is tested.
    tested
        Who was tested against the champion before, in this order; the challenger itself may be among them.
    """
    known = list(tested)
    ordinal = known.index(challenger) + 1 if challenger in known else len(known) + 1
    return Spending(ordinal, level_of(total, ordinal))


def level_of(total: float, ordinal: int) -> float:
    """Give the level of a champion's challenger by its number, from 1; `total` as for `spend`."""
    return max(total / (ordinal * (ordinal + 1)), min(LEAST_LEVEL, total / 2))
