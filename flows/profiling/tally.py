"""What is counted over the answers of one LLM while it is asked, to report it or to stop asking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from flows.endpoints import Completion
from flows.endpoints.end_states import CUT
from flows.endpoints.kinds import EMPTY
from flows.graders.reasoning import without_reasoning
from registry.outcomes import Outcome

MOST_EMPTY_IN_A_ROW: Final = 20
"""An LLM that gives so many empty answers is not asked further, and not trusted."""


@dataclass
class Tally:
    """Counts over the answers of one LLM tonight.

    Attributes
    ----------
    answers, cut
        How many answers, and how many of them were cut off at ``max_tokens``.
    downgrades
        Request parameters that were left out because the LLM refuses them.
    empty_in_a_row
        Empty answers in a row, in the order in which they were asked for. That order matters: empty answers are asked
        for twice, so they arrive after all others that were asked for with them.
    """

    answers: int = 0
    cut: int = 0
    downgrades: tuple[str, ...] = ()
    empty_in_a_row: int = 0
    _begun: int = 0
    _counted: int = 0
    _ended: dict[int, bool | None] = field(default_factory=dict)

    def count(self, completion: Completion) -> None:
        """Count an answer."""
        self.answers += 1
        self.cut += completion.finish_reason == CUT
        self.downgrades = tuple(sorted({*self.downgrades, *completion.downgrades}))

    def begin(self) -> int:
        """Return the number of the next call."""
        self._begun += 1
        return self._begun

    def end(self, number: int, outcome: Outcome | None) -> None:
        """Note how a call ended; None when nothing was asked after all."""
        self._ended[number] = None if outcome is None else _is_empty(outcome)
        while self._counted + 1 in self._ended:
            self._counted += 1
            is_empty = self._ended.pop(self._counted)
            if is_empty is not None:
                self.empty_in_a_row = self.empty_in_a_row + 1 if is_empty else 0


def _is_empty(outcome: Outcome) -> bool | None:
    """Whether an answer says nothing; None for calls that were not answered."""
    if outcome.failure == EMPTY:
        return True
    return None if outcome.completion is None else not without_reasoning(outcome.completion).strip()
