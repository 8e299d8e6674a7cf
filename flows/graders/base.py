"""What every grader promises, and the base of graders that follow a rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from flows.errors import GradingError
from flows.graders.reasoning import without_reasoning


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

    def grade(self, completion: str, reference: str) -> float:
        """Score a completion between 0 and 1, or raise `GradingError`."""
        ...


class RuleGrader(ABC):
    """Grade by a fixed rule: reasoning is removed first, and a crash never counts as a wrong answer.

    An empty completion scores 0.
    """

    name: ClassVar[str]
    version: ClassVar[str]

    @property
    def label(self) -> str:
        """Name and version, as part of the outcome key."""
        return f"{self.name}/{self.version}"

    def grade(self, completion: str, reference: str) -> float:
        """Score a completion.

        Parameters
        ----------
        completion
            What the LLM said, reasoning included.
        reference
            The one accepted answer.

        Returns
        -------
        float
            1 for right, 0 for wrong.

        Raises
        ------
        GradingError
            The reference is not one that this grader can compare with, or the grader crashed.
        """
        try:
            return float(self._is_right(without_reasoning(completion), reference))
        except GradingError:
            raise
        except Exception as error:
            raise GradingError(
                f"grader {self.label} crashed: {type(error).__name__}",
                unchanged="the answer is not counted as wrong",
                hint="the completion is kept: grade it again with a fixed grader of a higher version",
            ) from error

    @abstractmethod
    def _is_right(self, answer: str, reference: str) -> bool:
        """Compare an answer without reasoning with the reference."""

    def _unusable(self, reference: str, wanted: str) -> GradingError:
        return GradingError(
            f"grader {self.label} cannot use the reference {reference[:60]!r}: it is not {wanted}",
            unchanged="nothing was scored",
            hint="fix the reference, or name another grader for this prompt",
        )
