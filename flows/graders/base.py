"""What every grader promises, and the base of graders that follow a rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from flows.errors import GradingError
from flows.graders.reasoning import without_reasoning

_LONGEST_END: Final = 100_000
"""Characters at either end of an answer that are searched for what it settles on."""


@dataclass(frozen=True)
class Grade:
    """What a grader makes of an answer.

    Attributes
    ----------
    score
        Between 0 (wrong) and 1 (right).
    is_unreadable
        Whether no answer could be read, so that the score of 0 is in doubt.
    """

    score: float
    is_unreadable: bool = False


UNREADABLE = Grade(0.0, is_unreadable=True)


class Referenced(Protocol):
    """A prompt as graders know it."""

    @property
    def text(self) -> str:
        """What LLMs are asked."""
        ...

    @property
    def reference(self) -> str:
        """The accepted answer."""
        ...


class Labelled(Protocol):
    """Something that turns completions into scores; name and version are part of the outcome key."""

    @property
    def name(self) -> str:
        """The name that prompts use."""
        ...

    @property
    def version(self) -> str:
        """Raised whenever the same completion may get another score."""
        ...

    @property
    def label(self) -> str:
        """Name and version, for example ``choice/1``."""
        ...


class Grader(Labelled, Protocol):
    """Turns a completion into a score at once, without calling an LLM."""

    def grade(self, completion: str, reference: str, question: str = "") -> Grade:
        """Score a completion, or raise `GradingError`."""
        ...

    def chance(self, question: str) -> float | None:
        """Return the score that a blind guess may expect, in [0, 1]; None where that is unknown."""
        ...


class RuleGrader(ABC):
    """Grade by a fixed rule: reasoning is removed first, and a crash never counts as a wrong answer.

    An answer in which nothing can be read scores 0 and is unreadable.
    """

    name: ClassVar[str]
    version: ClassVar[str]

    @property
    def label(self) -> str:
        """Name and version, as part of the outcome key."""
        return f"{self.name}/{self.version}"

    def grade(self, completion: str, reference: str, question: str = "") -> Grade:
        """Score a completion.

        Parameters
        ----------
        completion
            What the LLM said, reasoning included.
        reference
            The one accepted answer.
        question
            The text of the prompt, which tells how the answer was to be written; empty where it is unknown.

        Returns
        -------
        Grade
            Scored 1 for right, 0 for wrong.

        Raises
        ------
        GradingError
            The reference is not one that this grader can compare with, or the grader crashed.
        """
        try:
            return self._graded(without_reasoning(completion), reference, question)
        except GradingError:
            raise
        except Exception as error:
            raise GradingError(
                f"grader {self.label} crashed: {type(error).__name__}",
                unchanged="the answer is not counted as wrong",
                hint="the completion is kept: grade it again with a fixed grader of a higher version",
            ) from error

    def chance(self, question: str) -> float | None:
        """Return the score that a blind guess may expect, in [0, 1]; None where that is unknown.

        Parameters
        ----------
        question
            The text of the prompt.
        """
        return None

    @abstractmethod
    def _graded(self, answer: str, reference: str, question: str) -> Grade:
        """Compare an answer without reasoning with the reference."""

    def _unusable(self, reference: str, wanted: str) -> GradingError:
        return GradingError(
            f"grader {self.label} cannot use the reference {reference[:60]!r}: it is not {wanted}",
            unchanged="nothing was scored",
            hint="fix the reference, or name another grader for this prompt",
        )


def both_ends(answer: str) -> str:
    """Return an answer without the middle of a very long one: an endpoint that ignores ``max_tokens`` sends megabytes.

    What an answer settles on stands where it begins or where it ends.
    """
    if len(answer) <= 2 * _LONGEST_END:
        return answer
    return f"{answer[:_LONGEST_END]}\n{answer[-_LONGEST_END:]}"
