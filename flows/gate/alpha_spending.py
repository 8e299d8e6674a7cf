"""Alpha spending: the chance of a wrong promotion is spent, challenger by challenger.

A champion meets a new challenger on the same gate prompts night after night. If each were judged at 2.5 %, a bad one
would be promoted sooner or later. So the k-th challenger of a champion is judged at the level ``0.95 total / (k (k +
1))``, but the first 200 at no less than ``0.00019 total``, and later ones at no less than that times ``(200 / k)^2``.
All these levels sum to less than `total` over any number of nights (alpha spending, Lan and DeMets 1983, with the
telescoping series), and none is so small that a clearly better challenger could not pass. A
promotion begins a new account.

A challenger that is measured again on the same recorded scores is the same test, and spends nothing more. On other
scores (more gate prompts, more or other answers) it is a second look, which could succeed by luck where the first did
not: it is the next test of the account, as if another challenger had come. So an undecided challenger may be judged as
often as there is new evidence, and the chance that any look of any challenger errs stays below `total`.

A margin that must hold on two nights would not help here: the gate prompts and their recorded answers are the same on
both, so the second night would repeat the first.

When a grader changes, the champion as it was rests on grades that are known to be wrong, and keeping it is not the safe
choice. The champion with its stored answers graded again is no challenger: it has the same LLMs, map and prices, claims
nothing new, and spends nothing (`REGRADED`). It continues the account of the champion that it replaces.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_FALLING = 0.95
"""Part of the total that the falling series spends; the rest keeps later challengers from becoming impossible."""

_LEAST, _LEAST_UNTIL = 1.9e-4, 200
"""Smallest part of the total that one of the first 200 challengers may spend; after them it falls with the square."""


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

    @property
    def next_level(self) -> float:
        """Level of the next look at the same challenger, on more evidence, if no other challenger comes before it."""
        if self.is_regraded:
            return self.level
        return level_of(self.level / level_of(1.0, self.ordinal), self.ordinal + 1)


REGRADED = Spending(ordinal=0, level=0.5)
"""For the champion under newer grades. Its bound is the difference itself: no certainty is demanded, and none spent."""


def spend(total: float, test: Hashable, tested: Sequence[Hashable]) -> Spending:
    """Return what a test may spend.

    Parameters
    ----------
    total
        Chance of a wrong promotion over all challengers of one champion, in (0, 1].
    test
        The router that is tested, on the evidence it is tested on.
    tested
        The tests against the champion so far, in order; this one may be among them.
    """
    known = list(tested)
    ordinal = known.index(test) + 1 if test in known else len(known) + 1
    return Spending(ordinal, level_of(total, ordinal))


def level_of(total: float, ordinal: int) -> float:
    """Return the level of a champion's challenger by its number, from 1; `total` as for `spend`."""
    least = _LEAST * min(1.0, (_LEAST_UNTIL / ordinal) ** 2)
    return total * max(_FALLING / (ordinal * (ordinal + 1)), least)
