"""The self-check of a grader: it must score references as right, and everything else no better than chance."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flows.errors import GradingError
from flows.graders.base import Grader, Referenced

_LEAST_REFERENCE_SCORE: Final = 0.99
_STANDARD_ERRORS: Final = 4.0
_UNCHANGED: Final = "nothing was asked or spent"
# Answers that are right without being the same text: 1/2 and 0.5, "York" in "New York".
_COLLISIONS: Final = {"choice": 0.0}
_OTHER_COLLISIONS: Final = 0.05


@dataclass(frozen=True)
class GraderCheck:
    """What a grader scored in its self-check, as means over the references.

    Attributes
    ----------
    reference_score
        With each reference as its own answer.
    empty_score
        With empty answers.
    shuffled_score
        With the references as answers to each other's prompts.
    chance
        What a correct grader scores with shuffled references: how often two prompts share one.
    """

    reference_score: float
    empty_score: float
    shuffled_score: float
    chance: float


def check_grader(grader: Grader, prompts: Sequence[Referenced], *, seed: int = 0) -> GraderCheck:
    """Check a grader on answers whose score is known.

    Parameters
    ----------
    grader
        The grader.
    prompts
        All prompts whose answers it will grade.
    seed
        Seed of the shuffling.

    Returns
    -------
    GraderCheck
        The scores, all within their bounds.

    Raises
    ------
    GradingError
        There are no prompts, the grader crashed, or it scores references below 0.99, empty answers above 0, or
        shuffled answers above chance by more than four binomial standard errors (and, for graders other than choice, a
        twentieth for answers that agree without being the same text).
    """
    if not prompts:
        raise GradingError(f"grader {grader.label} cannot be checked: no prompt names it", unchanged=_UNCHANGED)
    references = [prompt.reference for prompt in prompts]
    shuffled = list(references)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - a permutation to repeat, nothing to guard
    counts = Counter(reference.strip().casefold() for reference in references)
    check = GraderCheck(
        reference_score=_mean_score(grader, references, prompts),
        empty_score=_mean_score(grader, [""] * len(prompts), prompts),
        shuffled_score=_mean_score(grader, shuffled, prompts),
        chance=sum((count / len(references)) ** 2 for count in counts.values()),
    )
    _refuse(grader, check, len(prompts))
    return check


def _refuse(grader: Grader, check: GraderCheck, n: int) -> None:
    limit = check.chance + _STANDARD_ERRORS * math.sqrt(max(check.chance * (1 - check.chance), 1 / n) / n)
    limit += _COLLISIONS.get(grader.name, _OTHER_COLLISIONS)
    if check.reference_score < _LEAST_REFERENCE_SCORE:
        finding = f"the {n} references themselves score {check.reference_score:.3f} instead of 1"
        hint = "look for references that this grader cannot recognise, or name another grader for these prompts"
    elif check.empty_score > 0:
        finding = f"empty answers score {check.empty_score:.3f} instead of 0"
        hint = "fix the grader: it gives credit for nothing"
    elif check.shuffled_score > limit:
        finding = (
            f"shuffled answers score {check.shuffled_score:.3f}, chance is {check.chance:.3f} (at most {limit:.3f})"
        )
        hint = "name a stricter grader for these prompts, or references that do not contain each other"
    else:
        return
    raise GradingError(f"grader {grader.label} failed its self-check: {finding}", unchanged=_UNCHANGED, hint=hint)


def _mean_score(grader: Grader, answers: Sequence[str], prompts: Sequence[Referenced]) -> float:
    total = 0.0
    for answer, prompt in zip(answers, prompts, strict=True):
        score = _score(grader, answer, prompt)
        if not 0 <= score <= 1:
            raise GradingError(
                f"grader {grader.label} failed its self-check: it scored {score!r}, which is not between 0 and 1",
                unchanged=_UNCHANGED,
                hint="fix the grader",
            )
        total += score
    return total / len(prompts)


def _score(grader: Grader, answer: str, prompt: Referenced) -> float:
    try:
        return float(grader.grade(answer, prompt.reference, prompt.text).score)
    except GradingError:
        raise
    except Exception as error:
        raise GradingError(
            f"grader {grader.label} failed its self-check: it crashed with {type(error).__name__}",
            unchanged=_UNCHANGED,
            hint="fix the grader",
        ) from error
