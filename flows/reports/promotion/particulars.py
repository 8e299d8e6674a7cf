"""The parts of a promotion report: heat map cells, clusters, flows, prompts, new LLMs, money."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal


@dataclass(frozen=True)
class HeatCell:
    """Expected error of one LLM in one cluster, what it rests on, and which routers choose the LLM there."""

    error: float
    standard_error: float
    n: int
    is_thin: bool
    is_chosen: bool
    was_chosen: bool


@dataclass(frozen=True)
class HeatRow:
    """One LLM in all clusters, in the order of the clusters."""

    key: str
    mean_error: float
    coverage: float
    is_new: bool
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True)
class Example:
    """A prompt, or the digest and length of one whose text is not shown."""

    digest: str
    length: int
    text: str | None


@dataclass(frozen=True)
class Cluster:
    """One cluster of prompts.

    Attributes
    ----------
    number
        Number of the cluster, as in `Decision.cluster`.
    words
        Words that distinguish its prompts from the others.
    size, share
        Prompts of the prompt set that belong to it, and their share.
    examples
        The prompts nearest to its centre.
    before, after
        The LLMs that champion and challenger choose most often there; None without a champion.
    error_before, error_after
        Expected errors of these LLMs there, by the challenger's vectors.
    changed
        Share of its prompts whose route changes.
    """

    number: int
    words: tuple[str, ...]
    size: int
    share: float
    examples: tuple[Example, ...]
    before: str | None
    after: str
    error_before: float | None
    error_after: float
    changed: float

    @property
    def name(self) -> str:
        """Its words, or its number when no word distinguishes it."""
        return ", ".join(self.words[:3]) or f"cluster {self.number}"

    @property
    def is_changed(self) -> bool:
        """Whether most of its prompts go to another LLM than before."""
        return self.before is not None and self.before != self.after


@dataclass(frozen=True)
class Flow:
    """The gate prompts that go from one LLM to another, with what that changes on average."""

    before: str
    after: str
    n: int
    score: float
    cost_usd: float


@dataclass(frozen=True)
class RouteChange:
    """One gate prompt whose route changes, with what both LLMs answered."""

    digest: str
    text: str
    category: str | None
    cluster: int
    before: str
    after: str
    score_before: float
    score_after: float
    cost_before_usd: float
    cost_after_usd: float
    completion_before: str | None
    completion_after: str | None
    is_worst: bool


@dataclass(frozen=True)
class Gap:
    """How much better an LLM does on representative prompts than on hidden ones, with a 95 % interval."""

    mean: float
    low: float
    high: float
    p_value: float
    n_known: int
    n_hidden: int


@dataclass(frozen=True)
class NewLLM:
    """What is known of an LLM that the champion does not have.

    Attributes
    ----------
    key, name, released_on
        Identity according to the catalog.
    input_usd_per_mtok, output_usd_per_mtok, catalog, price_since
        Price, its catalog and since when.
    n_asked, n_scored, failures
        Answers: asked, scored, and failures by kind.
    n_cut
        Answers that ended at ``max_tokens``.
    unreadable
        In how many no answer could be read, in words.
    latency_p50_s, latency_p95_s
        In seconds; None when unknown.
    served_as
        Other names that the endpoint gave in its answers.
    gap
        The hidden-prompt gap; None without hidden prompts.
    drift
        What the canaries found; empty for nothing.
    share
        Share of the gate prompts that the challenger routes to it.
    """

    key: str
    name: str
    released_on: date | None
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    catalog: str
    price_since: date | None
    n_asked: int
    n_scored: int
    failures: tuple[tuple[str, int], ...]
    n_cut: int
    unreadable: str
    latency_p50_s: float | None
    latency_p95_s: float | None
    served_as: tuple[str, ...]
    gap: Gap | None
    drift: str
    share: float


@dataclass(frozen=True)
class NightSpend:
    """What the night spent: in all, by purpose, and its ceiling."""

    total_usd: Decimal
    calls: int
    by_purpose: tuple[tuple[str, int, Decimal], ...]
    ceiling_usd: Decimal | None
