"""What a refit of cluster map and prior changes: levels of LLMs and decisions on gate prompts, for the same answers."""

from __future__ import annotations

from dataclasses import dataclass

from flows.text import counted

_SHOWN = 5
# Levels are shown to three digits.
_MOVED = 0.0005


@dataclass(frozen=True)
class LLMChange:
    """What a refit changes for one LLM.

    Attributes
    ----------
    llm
        Its key.
    level_before, level
        Its expected error over the representative prompts, in [0, 1].
    prompts_before, prompts
        Gate prompts that are routed to it.
    """

    llm: str
    level_before: float
    level: float
    prompts_before: int
    prompts: int


@dataclass(frozen=True)
class RefitChange:
    """What a refit changes.

    Attributes
    ----------
    why
        What made it due, as a clause.
    n_llms
        Number of LLMs whose answers map and prior were fitted on.
    same_map
        Whether the clusters are the same and the prior alone is another.
    gate_prompts, rerouted
        Number of gate prompts, and of those that are routed to another LLM than by the map and prior before, for the
        same answers and prices.
    llms
        The LLMs of the router, the one whose prompts changed most first.
    """

    why: str
    n_llms: int
    same_map: bool
    gate_prompts: int
    rerouted: int
    llms: tuple[LLMChange, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What the refit changed, for a digest: names of LLMs are as catalogs wrote them."""
        what = "the prior" if self.same_map else "cluster map and prior"
        moved = [one for one in self.llms if one.prompts != one.prompts_before]
        shown = [f"{one.llm} {one.prompts - one.prompts_before:+,}" for one in moved[:_SHOWN]]
        levels = sorted(self.llms, key=lambda one: -abs(one.level - one.level_before))
        others = [one for one in levels if abs(one.level - one.level_before) >= _MOVED]
        expected = [f"{one.llm} {one.level_before:.3f} -> {one.level:.3f}" for one in others[:_SHOWN]]
        of_all = f"of {counted(self.gate_prompts, 'gate prompt')} routed otherwise"
        return [
            f"refit: {what} fitted anew on {counted(self.n_llms, 'LLM')}, from stored answers alone ({self.why})",
            f"refit: {self.rerouted:,} {of_all}" + _listed(": ", shown, len(moved)),
            f"refit: expected error of {counted(len(others), 'LLM')} moved" + _listed(": ", expected, len(others)),
        ]


def _listed(before: str, shown: list[str], total: int) -> str:
    more = f" and {total - len(shown)} more" if total > len(shown) else ""
    return f"{before}{', '.join(shown)}{more}" if shown else ""
