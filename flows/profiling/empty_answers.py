"""Empty answers: an LLM that gives nothing else for a while is not asked further, and not trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from flows.endpoints.kinds import EMPTY
from flows.graders.reasoning import without_reasoning
from registry.outcomes import Outcome

MOST_IN_A_ROW: Final = 20


@dataclass
class EmptyAnswers:
    """Count the empty answers of one LLM in a row, in the order in which they were asked for.

    That order matters: empty answers are asked for twice, so they arrive after all others that were asked with them.
    """

    in_a_row: int = 0
    _asked: int = 0
    _counted: int = 0
    _waiting: dict[int, bool | None] = field(default_factory=dict)

    def ask(self) -> int:
        """Return the number of the next call."""
        self._asked += 1
        return self._asked

    def end(self, number: int, outcome: Outcome | None) -> None:
        """Note how a call ended; None when nothing was asked after all."""
        self._waiting[number] = None if outcome is None else _is_empty(outcome)
        while self._counted + 1 in self._waiting:
            self._counted += 1
            is_empty = self._waiting.pop(self._counted)
            if is_empty is not None:
                self.in_a_row = self.in_a_row + 1 if is_empty else 0


def _is_empty(outcome: Outcome) -> bool | None:
    """Whether an answer says nothing; None for calls that were not answered."""
    if outcome.failure == EMPTY:
        return True
    return None if outcome.completion is None else not without_reasoning(outcome.completion).strip()
