"""Outcomes: one per LLM, prompt, grader version and sampling; a score or a failure, never both and never neither.

A score is final. A failure says only that nothing is known, and a later answer replaces it. A newer version of a grader
adds outcomes of its own, made from the answers that are stored: with the tokens and costs that were measured when the
LLM was asked, and without booking them again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from registry.answers import (
    AnswerFacts,
    Regrade,
    ScoreMove,
    StoredAnswer,
    UsageEstimate,
    UsageFacts,
    answer_facts,
    final_keys,
    protocol_id_of,
    regraded_rows,
    usage_facts,
)
from registry.charges import JUDGING, Charges, EndpointSpend, GradingCost, PurposeSpend, Spend
from registry.db.columns import text_bytes, to_pico_usd
from registry.db.database import Database, Unit, ids_of
from registry.db.tables import completion, llm, outcome, prompt, protocol
from registry.errors import NotFound
from registry.ledger.facts import reopen_failures
from registry.outcome_tables import Coverage, OutcomeReader, OutcomeTable, grader_labels
from registry.prompts import Prompt, require_known
from registry.runs import Run, Runs
from registry.unreadable import Readability, UnreadableAnswer, Verdict, store_verdicts
from routing.errors import InvalidInput

__all__ = [
    "AnswerFacts",
    "Coverage",
    "EndpointSpend",
    "GradingCost",
    "Outcome",
    "OutcomeTable",
    "Outcomes",
    "PurposeSpend",
    "Readability",
    "Regrade",
    "ScoreMove",
    "Spend",
    "StoredAnswer",
    "UnreadableAnswer",
    "UsageEstimate",
    "UsageFacts",
    "Verdict",
    "grader_labels",
]

MAX_COMPLETION_BYTES = 16_384
"""How much of a completion is kept."""


@dataclass(frozen=True)
class Outcome:
    """The result of asking one LLM one prompt.

    Attributes
    ----------
    llm_key, prompt_digest
        Which LLM was asked what.
    grader
        ``name/version`` of the grader.
    sampling
        Canonical JSON, or hash, of the sampling settings.
    score
        In [0, 1]; None when there is no answer to score.
    failure
        Kind of failure; None when there is a score.
    input_tokens, output_tokens
        As reported or estimated; None when unknown.
    cost_usd
        Money spent on this outcome; None when unknown.
    latency_s
        From the first byte sent to the last received, in seconds.
    finish_reason
        As the endpoint reported it.
    attempts
        How often the endpoint was asked, from 1.
    completion
        The answer; the registry keeps the first 16 kB and the digest of the whole.
    usage_estimated
        Whether the token counts are estimates.
    asked_at
        When, in UTC.
    completion_truncated
        Whether `completion` is only the beginning.
    served_llm
        The LLM that the endpoint says it used, if it does.
    downgrades
        Parameters of `sampling` that were left out, because the LLM refuses them.
    grading
        What grading cost in addition; booked on the LLM that graded, with the purpose ``judge``.
    is_unreadable
        Whether no answer could be read in the completion; None when unknown.
    usage_flags
        Words for what is wrong with the token counts, without white space; empty when nothing is, None when unknown.
    """

    llm_key: str
    prompt_digest: str
    grader: str
    sampling: str
    score: float | None
    failure: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    latency_s: float | None
    finish_reason: str | None
    attempts: int
    completion: str | None
    usage_estimated: bool
    asked_at: datetime
    completion_truncated: bool = False
    served_llm: str | None = None
    downgrades: tuple[str, ...] = ()
    grading: GradingCost | None = None
    is_unreadable: bool | None = None
    usage_flags: tuple[str, ...] | None = None

    @property
    def whole_cost_usd(self) -> Decimal:
        """Money spent on this outcome and on grading it; 0 where unknown."""
        return (self.cost_usd or Decimal(0)) + (self.grading.cost_usd if self.grading is not None else 0)

    def __post_init__(self) -> None:
        if (self.score is None) == (self.failure is None):
            raise InvalidInput(f"the outcome of {self.llm_key} needs a score or a failure, and not both")
        if self.score is not None and not (0.0 <= self.score <= 1.0):
            raise InvalidInput(f"the score {self.score} of {self.llm_key} is not in [0, 1]")
        for name in ("input_tokens", "output_tokens", "latency_s"):
            value = getattr(self, name)
            if value is not None and not (0 <= value < 1e15 and math.isfinite(value)):
                raise InvalidInput(f"{name} {value} of {self.llm_key} is not a finite, non-negative number")
        if self.cost_usd is not None:
            to_pico_usd(self.cost_usd)
        if any(not flag or flag.split() != [flag] for flag in self.usage_flags or ()):
            raise InvalidInput(f"the usage flags {self.usage_flags} of {self.llm_key} are not single words")
        if self.attempts < 1:
            raise InvalidInput(f"an outcome of {self.llm_key} without an attempt")


class Outcomes(OutcomeReader):
    """Record outcomes with their cost, and read them back."""

    def __init__(self, database: Database, runs: Runs, charges: Charges) -> None:
        super().__init__(database, runs)
        self._charges = charges

    def record(
        self,
        run: Run | int,
        outcomes: Sequence[Outcome],
        *,
        purpose: str = "profile",
        settled: Mapping[str, Decimal] | None = None,
        unit: Unit | None = None,
    ) -> int:
        """Store outcomes and book their cost, in one transaction; a stored score is never overwritten.

        Parameters
        ----------
        run
            The run that asked; a run that lost its lease is refused, a bare run number is not checked.
        outcomes
            Any number of outcomes; of two with one key the first score counts, else the last failure.
        purpose
            What the money was spent on: ``profile``, ``canary``, ``hidden``.
        settled
            By LLM key, what `Charges.reserve` booked for these calls; the reservation is cancelled with them.
        unit
            The transaction to join.

        Returns
        -------
        int
            How many rows were written.

        Raises
        ------
        NotFound
            For an unknown run, LLM or prompt.
        RunAlreadyActive
            When another run has taken the lease over.
        """
        if not outcomes:
            return 0

        def record(opened: Unit) -> int:
            written = self._record(opened, run, outcomes, purpose)
            for llm_key, usd in (settled or {}).items():
                self._charges.settle(run, llm_key, usd, purpose=purpose, unit=opened)
            return written

        return self._database.repeated(record, unit)

    def _record(self, opened: Unit, run: Run | int, outcomes: Sequence[Outcome], purpose: str) -> int:
        held = self._runs.require_lease(run, opened)
        keyed = self._keyed(opened, outcomes)
        final = final_keys(opened, keyed)
        fresh = {key: one for key, one in keyed.items() if key not in final}
        if fresh:
            reopen_failures(opened, fresh)
            opened.execute(self._database.upsert(outcome), [_row(key, one, held) for key, one in fresh.items()])
            self._keep_completions(opened, fresh)
            self._book(opened, held.id, purpose, fresh)
        return len(fresh)

    def regrade(self, run: Run | int | None, regrades: Sequence[Regrade], *, now: datetime) -> int:
        """Store grades of stored answers, and book what a judge was paid for them, in one transaction.

        Parameters
        ----------
        run
            The night that regrades; None outside of nights, where nothing can be booked.
        regrades
            Any number; an answer that has a score under its grader by now keeps that.
        now
            The present moment.

        Returns
        -------
        int
            How many rows were written.

        Raises
        ------
        RunAlreadyActive
            When another run has taken the lease over; without `run`, while a night is running.
        """

        def regrade(unit: Unit) -> int:
            held = None
            if run is None:
                self._runs.require_no_night(
                    unit, now, unchanged="No grade was changed.", hint="regrade when it is over"
                )
            else:
                held = self._runs.require_lease(run, unit)
            rows = regraded_rows(unit, regrades, now)
            if rows:
                unit.execute(self._database.upsert(outcome), rows)
            costs = [one.grading for one in regrades if one.grading is not None]
            if held is not None and costs:
                self._book_grading(unit, held.id, costs)
            return len(rows)

        return self._database.repeated(regrade)

    def decide(self, run: Run | int, verdicts: Sequence[Verdict], *, now: datetime) -> int:
        """Store a judge's verdicts on unreadable answers, and book what it was paid for them, in one transaction.

        Parameters
        ----------
        run
            The night that had them judged.
        verdicts
            Any number; an answer that a judge has decided by now keeps that verdict.
        now
            The present moment.

        Returns
        -------
        int
            How many answers were decided.

        Raises
        ------
        RunAlreadyActive
            When another run has taken the lease over.
        """

        def decide(unit: Unit) -> int:
            held = self._runs.require_lease(run, unit)
            decided = store_verdicts(unit, verdicts, now)
            self._book_grading(unit, held.id, [one.grading for one in verdicts if one.grading is not None])
            return decided

        return self._database.repeated(decide)

    def _book_grading(self, unit: Unit, run_id: int, costs: Sequence[GradingCost]) -> None:
        judges = ids_of(unit, llm.c.key, llm.c.id, [cost.llm_key for cost in costs])
        for cost in costs:
            self._charges.add(unit, run_id, judges[cost.llm_key], JUDGING, calls=cost.calls, cost=cost.cost_usd)

    def _keyed(self, unit: Unit, outcomes: Sequence[Outcome]) -> dict[tuple[int, int, int], Outcome]:
        llms = ids_of(unit, llm.c.key, llm.c.id, [one.llm_key for one in outcomes])
        unknown = {one.llm_key for one in outcomes} - set(llms)
        if unknown:
            raise NotFound(f"there is no LLM {min(unknown)!r}", unchanged="Nothing was written.")
        prompts = ids_of(unit, prompt.c.digest, prompt.c.id, [one.prompt_digest for one in outcomes])
        require_known([one.prompt_digest for one in outcomes], prompts)
        protocols = {pair: protocol_id_of(unit, *pair) for pair in {(one.grader, one.sampling) for one in outcomes}}
        keyed: dict[tuple[int, int, int], Outcome] = {}
        for one in outcomes:
            key = (llms[one.llm_key], protocols[one.grader, one.sampling], prompts[one.prompt_digest])
            if key not in keyed or keyed[key].score is None:
                keyed[key] = one
        return keyed

    def graders(self) -> tuple[str, ...]:
        """Return every grader that scored an answer, as ``name/version``."""
        with self._database.read() as unit:
            return tuple(unit.execute(select(protocol.c.grader).distinct().order_by(protocol.c.grader)).scalars())

    def _keep_completions(self, unit: Unit, fresh: Mapping[tuple[int, int, int], Outcome]) -> None:
        rows = []
        for (llm_number, protocol_number, prompt_number), one in fresh.items():
            if one.completion is None:
                continue
            data = text_bytes(one.completion)
            kept = data[:MAX_COMPLETION_BYTES]
            rows.append(
                {
                    "llm_id": llm_number,
                    "protocol_id": protocol_number,
                    "prompt_id": prompt_number,
                    "text": one.completion if len(kept) == len(data) else _whole_characters(kept),
                    "is_truncated": one.completion_truncated or len(kept) < len(data),
                    "full_digest": hashlib.sha256(data).hexdigest(),
                }
            )
        if rows:
            unit.execute(self._database.upsert(completion), rows)

    def _book(self, unit: Unit, run_id: int, purpose: str, fresh: Mapping[tuple[int, int, int], Outcome]) -> None:
        gradings = [one.grading for one in fresh.values() if one.grading is not None]
        judges = ids_of(unit, llm.c.key, llm.c.id, [grading.llm_key for grading in gradings])
        spent = [(number, purpose, one.attempts, one.cost_usd or Decimal(0)) for (number, _, _), one in fresh.items()]
        spent += [(judges[one.llm_key], JUDGING, one.calls, one.cost_usd) for one in gradings]
        booked: dict[tuple[int, str], tuple[int, Decimal]] = {}
        for llm_number, spent_on, more_calls, more_cost in spent:
            calls, cost = booked.get((llm_number, spent_on), (0, Decimal(0)))
            booked[llm_number, spent_on] = (calls + more_calls, cost + more_cost)
        for (llm_number, spent_on), (calls, cost) in booked.items():
            self._charges.add(unit, run_id, llm_number, spent_on, calls=calls, cost=cost)

    def facts(
        self,
        llm_key: str,
        prompts: Sequence[Prompt],
        grader_versions: Mapping[str, str],
        sampling: str,
        *,
        until: datetime | None = None,
    ) -> AnswerFacts:
        """Describe how an LLM answered beyond its scores: failures, cuts, latencies, who answered.

        Parameters
        ----------
        llm_key
            The LLM.
        prompts
            Only answers to these.
        grader_versions, sampling
            As in `table`.
        until
            Only what was asked by this moment. A failure that has since been replaced by a score is no longer counted.
        """
        labels = grader_labels(grader_versions)
        return answer_facts(self._database, llm_key, [one.digest for one in prompts], labels, sampling, until)

    def usage(self, llm_keys: Sequence[str], *, run: Run | int | None = None) -> Mapping[str, UsageFacts]:
        """Describe, by LLM key, what was wrong with the usage that endpoints reported; only LLMs with answers have any.

        Parameters
        ----------
        llm_keys
            The LLMs.
        run
            Only the answers to what this run asked; all that were ever paid for when omitted.
        """
        return usage_facts(self._database, llm_keys, run.id if isinstance(run, Run) else run)

    def spend(self, run: Run | int) -> Spend:
        """Return what a run spent, in all its attempts."""
        return self._charges.spend(run)


def _whole_characters(data: bytes) -> str:
    """Decode, without the last character when it was cut in the middle."""
    for cut in range(len(data), max(len(data) - 4, 0), -1):
        try:
            return data[:cut].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            continue
    return ""


def _row(key: tuple[int, int, int], one: Outcome, held: Run) -> dict[str, Any]:
    return {
        "llm_id": key[0],
        "protocol_id": key[1],
        "prompt_id": key[2],
        # SQLite would silently store numpy's integers as bytes.
        "score": None if one.score is None else float(one.score),
        "failure": one.failure,
        "input_tokens": None if one.input_tokens is None else int(one.input_tokens),
        "output_tokens": None if one.output_tokens is None else int(one.output_tokens),
        "cost_picousd": one.cost_usd,
        "latency_s": None if one.latency_s is None else float(one.latency_s),
        "finish_reason": one.finish_reason,
        "attempts": int(one.attempts),
        "usage_estimated": one.usage_estimated,
        "served_llm": one.served_llm,
        "downgrades": ",".join(one.downgrades),
        "is_unreadable": None if one.is_unreadable is None else bool(one.is_unreadable),
        "usage_flags": None if one.usage_flags is None else " ".join(sorted(set(one.usage_flags))),
        "asked_at": one.asked_at,
        "run_id": held.id,
        "lease_number": held.lease_number,
    }
