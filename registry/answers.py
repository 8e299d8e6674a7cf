"""What an LLM's answers were like beyond their scores: failures, answers cut short, latencies, who really answered."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select, type_coerce
from sqlalchemy.types import BigInteger

from registry.db.columns import from_pico_usd
from registry.db.database import Database, chunks
from registry.db.tables import llm, outcome, prompt, protocol

# What endpoints call an answer that ended at `max_tokens`.
_CUT = ("length", "max_tokens")


@dataclass(frozen=True)
class AnswerFacts:
    """How one LLM answered some prompts.

    Attributes
    ----------
    n_scored
        Answers with a score.
    failures
        Kind of failure and how often, the most frequent first.
    n_cut
        Scored answers that ended at ``max_tokens``.
    latencies_s
        Of the scored answers, ascending, in seconds.
    served_as
        What the endpoint said it used, where it did, in alphabetical order.
    last_at
        When the last scored answer was asked for; None without any.
    """

    n_scored: int
    failures: tuple[tuple[str, int], ...]
    n_cut: int
    latencies_s: tuple[float, ...]
    served_as: tuple[str, ...]
    last_at: datetime | None


@dataclass(frozen=True)
class UsageFacts:
    """What was wrong with the usage that an endpoint reported for the answers of one LLM.

    Attributes
    ----------
    n_answers
        Answers whose usage was checked; those of earlier releases are not among them.
    answers
        How many answers have the same flags, for every combination of flags that occurs.
    highest_usd
        Cost of the most expensive answer, in USD.
    """

    n_answers: int = 0
    answers: tuple[tuple[tuple[str, ...], int], ...] = ()
    highest_usd: Decimal = Decimal(0)

    @property
    def flags(self) -> Mapping[str, int]:
        """By flag, how many answers have it, the most frequent first."""
        counts = Counter[str]()
        for flags, n in self.answers:
            counts.update(dict.fromkeys(flags, n))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def count(self, flags: Collection[str]) -> int:
        """Return how many answers have at least one of some flags."""
        return sum(n for found, n in self.answers if not set(found).isdisjoint(flags))


def usage_facts(database: Database, llm_keys: Sequence[str], run_id: int | None) -> Mapping[str, UsageFacts]:
    """Describe the usage reported for answers; see `Outcomes.usage`."""
    query = (
        select(
            llm.c.key,
            outcome.c.usage_flags,
            func.count(),
            func.max(type_coerce(outcome.c.cost_picousd, BigInteger)),
        )
        .join_from(outcome, llm)
        .where(outcome.c.input_tokens.is_not(None), outcome.c.asked_protocol_id.is_(None))
        .group_by(llm.c.key, outcome.c.usage_flags)
    )
    if run_id is not None:
        query = query.where(outcome.c.run_id == run_id)
    with database.read() as unit:
        rows = [
            row for part in chunks(list(llm_keys)) for row in unit.execute(query.where(llm.c.key.in_(part))).fetchall()
        ]
    by_llm: defaultdict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
    highest: defaultdict[str, int] = defaultdict(int)
    for key, flags, n, pico_usd in sorted(rows, key=lambda row: (row[0], row[1] or "")):
        highest[key] = max(highest[key], pico_usd or 0)
        if flags is not None:
            by_llm[key].append((tuple(flags.split()), n))
    return {
        key: UsageFacts(sum(n for _, n in by_llm[key]), tuple(by_llm[key]), from_pico_usd(pico_usd))
        for key, pico_usd in highest.items()
    }


def answer_facts(
    database: Database,
    llm_key: str,
    prompt_digests: Sequence[str],
    labels: Mapping[str, str],
    sampling: str,
    until: datetime | None,
) -> AnswerFacts:
    """Describe how an LLM answered; see `Outcomes.facts`."""
    names = ("score", "failure", "latency_s", "finish_reason", "served_llm", "asked_at")
    columns = [outcome.c[name] for name in names]
    query = (
        select(*columns)
        .join_from(outcome, prompt, prompt.c.id == outcome.c.prompt_id)
        .join(llm, llm.c.id == outcome.c.llm_id)
        .join(protocol, protocol.c.id == outcome.c.protocol_id)
        .where(llm.c.key == llm_key, protocol.c.sampling == sampling)
        .where(protocol.c.grader.in_(sorted(set(labels.values()))))
    )
    if until is not None:
        query = query.where(outcome.c.asked_at <= until)
    with database.read() as unit:
        rows = [
            row
            for part in chunks(list(prompt_digests))
            for row in unit.execute(query.where(prompt.c.digest.in_(part))).fetchall()
        ]
    scored = [row for row in rows if row.score is not None]
    kinds = Counter(row.failure for row in rows if row.failure is not None)
    return AnswerFacts(
        n_scored=len(scored),
        failures=tuple(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))),
        n_cut=sum(row.finish_reason in _CUT for row in scored),
        latencies_s=tuple(sorted(row.latency_s for row in scored if row.latency_s is not None)),
        served_as=tuple(sorted({row.served_llm for row in rows if row.served_llm is not None})),
        last_at=max((row.asked_at for row in scored), default=None),
    )
