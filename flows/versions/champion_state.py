"""What the champion rests on today: which of its LLMs cannot serve, and the share of prompts that goes to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from flows.text import counted
from registry.store import Registry


@dataclass(frozen=True)
class ChampionState:
    """The champion and its LLMs that cannot serve.

    Attributes
    ----------
    router_digest
        The champion.
    n_llms
        Number of its LLMs.
    dead
        Key and reason of each LLM that cannot serve.
    dead_share
        Share of the gate prompts that it sends to them, as measured when it was put forward; None if never measured.
    """

    router_digest: str
    n_llms: int
    dead: tuple[tuple[str, str], ...]
    dead_share: float | None

    @property
    def warning(self) -> str:
        """The sentence that comes first wherever the champion rests on LLMs that cannot serve; empty if it does not."""
        if not self.dead:
            return ""
        share = "an unknown share" if self.dead_share is None else f"{self.dead_share:.1%}"
        key, reason = self.dead[0]
        example = f"{key}, {reason}" if len(self.dead) == 1 else f"among them {key}, {reason}"
        return (
            f"The champion rests on LLMs that cannot serve: {len(self.dead)} of its {counted(self.n_llms, 'LLM')} "
            f"({example}); {share} of the prompts goes to them"
        )


def champion_state(registry: Registry, on: date) -> ChampionState | None:
    """Return what the champion rests on, on a day; None before the first."""
    digest = registry.routers.aliases().champion
    if digest is None:
        return None
    keys = registry.routers.get(digest).llm_keys
    # One by one: a registry may know thousands of LLMs, and monitoring asks this every few seconds.
    dead = tuple((key, refusal) for key in keys if (refusal := registry.llms.get(key).refusal_to_serve(on)))
    traffic = registry.promotions.traffic(digest)
    share = sum(traffic.get(key, 0.0) for key, _ in dead) if traffic or not dead else None
    return ChampionState(digest, len(keys), dead, share)
