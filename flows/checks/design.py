"""Judge the design of a prompt set: what a night could find out with so many prompts of each role."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flows.config.settings import Settings
from flows.gate.alpha_spending import level_of
from flows.gate.power import DIFFERING_SHARE, POWER, prompts_needed, visible_difference
from flows.night.prompt_order import asked_and_drawn
from flows.profiling.contamination import SIGNIFICANCE, contamination_p_value
from flows.text import counted
from registry.prompts import PromptSet

_MOST_VISIBLE = 0.1
"""A gate that cannot see a tenth of the score is of little use: it is called weak."""


@dataclass(frozen=True)
class PromptDesign:
    """What a prompt set is good for.

    Attributes
    ----------
    representative, gate, hidden
        Number of prompts with these roles.
    asked, drawn
        Representative prompts that a new LLM is asked at most (``[prompts] ask``), and those of them that are drawn at
        random: only these tell whether it has memorised them.
    visible_difference
        Smallest difference in mean score that the gate sees, as `flows.gate.power` defines it.
    epsilon
        The setting ``[gate] epsilon``.
    gate_needed, prompts_needed
        Gate prompts, and prompts in all at the shares of the settings, with which the gate sees `epsilon`; None when no
        number is enough.
    shortfalls
        What no night would start with, one clause each.
    weaknesses
        What a night could not find out, one clause each.
    """

    representative: int
    gate: int
    hidden: int
    asked: int
    drawn: int
    visible_difference: float
    epsilon: float
    gate_needed: int | None
    prompts_needed: int | None
    shortfalls: tuple[str, ...]
    weaknesses: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether a night would start and could find out what it has to."""
        return not self.shortfalls and not self.weaknesses

    @property
    def verdict(self) -> str:
        """One line on the design as a whole."""
        if self.shortfalls:
            return "A night would not start with these prompts: " + "; ".join(self.shortfalls) + "."
        if self.weaknesses:
            return "The prompts are complete, but too few for a sound set: " + "; ".join(self.weaknesses) + "."
        return "The prompts are sound."

    @property
    def figures(self) -> str:
        """How many prompts there are of each role, what the gate sees with them, and what `epsilon` would need."""
        hidden = counted(self.hidden, "hidden prompt")
        asked = f" ({self.asked:,} asked)" if self.asked < self.representative else ""
        return f"{self.representative:,} representative{asked}, {self.gate:,} gate and {hidden}; {self.sight}"

    @property
    def sight(self) -> str:
        """What the gate sees, and what `epsilon` would need."""
        basis = f"{POWER:.0%} of the time, if two routers score differently on {DIFFERING_SHARE:.0%} of the prompts"
        sees = "the gate sees no difference in score"
        if self.visible_difference < 1:
            sees = f"the gate sees a difference of {self.visible_difference:.3f} in score"
        if self.gate_needed is None:
            needs = f"no number of gate prompts is enough for [gate] epsilon = {self.epsilon:g}"
        elif self.gate >= self.gate_needed:
            needs = f"enough for [gate] epsilon = {self.epsilon:g}"
        else:
            needs = (
                f"[gate] epsilon = {self.epsilon:g} would need {counted(self.gate_needed, 'gate prompt')}, "
                f"{counted(self.prompts_needed or 0, 'prompt')} in all"
            )
        return f"{sees} ({basis}); {needs}"


def design_of(prompt_set: PromptSet, settings: Settings) -> PromptDesign:
    """Judge the design of a prompt set under the settings."""
    counts = Counter(member.role for member in prompt_set.members)
    level = level_of(settings.gate.false_promotion_rate, 1)
    needed = prompts_needed(settings.gate.epsilon, level)
    visible = visible_difference(counts["gate"], level)
    asked, drawn = asked_and_drawn(counts["representative"], settings)
    return PromptDesign(
        representative=counts["representative"],
        gate=counts["gate"],
        hidden=counts["hidden"],
        asked=asked,
        drawn=drawn,
        visible_difference=visible,
        epsilon=settings.gate.epsilon,
        gate_needed=needed,
        prompts_needed=None if needed is None else math.ceil(needed / settings.role_shares["gate"]),
        shortfalls=tuple(shortfalls(prompt_set, settings)),
        weaknesses=tuple(_weaknesses(counts, drawn, visible)),
    )


def shortfalls(prompt_set: PromptSet, settings: Settings) -> Iterator[str]:
    """Yield what no night would start with, one clause each."""
    counts = Counter(member.role for member in prompt_set.members)
    # A learned map whose number of clusters is chosen by simulation has two or more.
    n_clusters = settings.routing.clusters or 2
    if min(counts["map"], counts["representative"]) < n_clusters:
        yield (
            f"{counted(counts['map'], 'map prompt')} and "
            f"{counted(counts['representative'], 'representative prompt')} "
            f"are too few for {counted(n_clusters, 'cluster')} ([routing] n_clusters)"
        )
    if not counts["gate"]:
        yield "there is no gate prompt, so no router could be measured"


def _weaknesses(counts: Counter[str], drawn: int, visible: float) -> Iterator[str]:
    if counts["gate"] and visible > _MOST_VISIBLE:
        sees = "cannot see any difference" if visible >= 1 else f"cannot see a difference below {visible:.3f}"
        yield f"with {counted(counts['gate'], 'gate prompt')} the gate {sees} in score"
    known, hidden = np.ones(drawn), np.zeros(counts["hidden"])
    if not len(known) or not len(hidden) or contamination_p_value(known, hidden) > SIGNIFICANCE:
        of_all = " that are drawn for a new LLM" if drawn < counts["representative"] else ""
        beside = f"{counted(drawn, 'representative prompt')}{of_all}"
        yield (
            f"{counted(len(hidden), 'hidden prompt')} beside {beside} could not even "
            "show an LLM that has memorised all of the latter"
        )
