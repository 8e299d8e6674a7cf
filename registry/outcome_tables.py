"""Outcomes read back: as arrays, as coverage, and as what is still missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, or_, select, type_coerce
from sqlalchemy.types import BigInteger

from registry.answers import ScoreMove, StoredAnswer, known_at, score_moves, text_of_outcome, waiting_answers
from registry.db.database import Database, Unit, chunks, ids_of
from registry.db.tables import completion, llm, outcome, prompt, protocol
from registry.outcome_queries import (
    OutcomeSums,
    RepeatedScores,
    count_failures,
    repeated_samplings,
    repeated_scores,
    sum_outcomes,
)
from registry.prompts import Prompt
from registry.runs import Run, Runs
from registry.unreadable import (
    Readability,
    UnreadableAnswer,
    judged_since,
    readability,
    score_before,
    undecided_answers,
    unreadable_answers,
)
from routing.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class OutcomeTable:
    """Outcomes as arrays: one row per prompt, one column per LLM.

    Attributes
    ----------
    llm_keys
        The m columns.
    prompt_digests
        The n rows.
    scores
        ``(n, m)`` float64 in [0, 1]; NaN where there is no score.
    input_tokens, output_tokens
        ``(n, m)`` float64; NaN where unknown.
    cost_usd
        ``(n, m)`` float64 in USD; NaN where unknown.
    failures
        ``(m,)`` int64: how many of the prompts ended in a failure.
    """

    llm_keys: tuple[str, ...]
    prompt_digests: tuple[str, ...]
    scores: NDArray[np.float64]
    input_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    failures: NDArray[np.int64]


@dataclass(frozen=True)
class Coverage:
    """How much of a set of prompts one LLM has answered."""

    llm_key: str
    n_prompts: int
    n_scored: int
    n_failed: int

    @property
    def share(self) -> float:
        """Scored prompts among all, in [0, 1]; 0 for no prompts."""
        return self.n_scored / self.n_prompts if self.n_prompts else 0.0


class OutcomeReader:
    """Read outcomes."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def missing(
        self,
        llm_key: str,
        prompts: Sequence[Prompt],
        grader_versions: Mapping[str, str],
        sampling: str,
        *,
        run: Run | int | None = None,
    ) -> tuple[Prompt, ...]:
        """Return the prompts that still have to be asked, in their order.

        What was answered under an earlier version of its grader is not asked again: it waits to be regraded.

        Parameters
        ----------
        llm_key
            The LLM.
        prompts
            What it should have answered.
        grader_versions
            Version per grader name: ``{"choice": "1"}``.
        sampling
            As in `Outcome`.
        run
            When given, prompts that failed in the present attempt of this run are not asked again; failures of earlier
            runs and attempts are.
        """
        labels = grader_labels(grader_versions)
        answered = outcome.c.score.is_not(None)
        with self._database.read() as unit:
            if run is not None:
                held = run if isinstance(run, Run) else self._runs.get(run, unit=unit)
                answered = or_(answered, outcome.c.lease_number == held.lease_number)
            done = unit.execute(
                select(prompt.c.digest)
                .join_from(outcome, prompt)
                .join(llm, llm.c.id == outcome.c.llm_id)
                .join(protocol, protocol.c.id == outcome.c.protocol_id)
                .where(llm.c.key == llm_key, protocol.c.sampling == sampling, answered)
                .where(protocol.c.grader.in_(sorted(set(labels.values()))))
                .add_columns(protocol.c.grader)
            )
            found = {(digest, grader) for digest, grader in done}
            waiting = waiting_answers(unit, llm_key, prompts, labels, sampling)
        found |= {(one.prompt.digest, labels[one.prompt.grader]) for one in waiting}
        return tuple(one for one in prompts if (one.digest, _label(labels, one.grader)) not in found)

    def waiting(
        self, llm_key: str, prompts: Sequence[Prompt], grader_versions: Mapping[str, str], sampling: str
    ) -> tuple[StoredAnswer, ...]:
        """Return the stored answers that the present graders have yet to grade, in the order of the prompts.

        They were scored under an earlier version of their grader, or that one failed and the whole text is kept; of
        several grades of an answer the latest counts.

        Parameters
        ----------
        llm_key
            The LLM.
        prompts
            Only answers to these.
        grader_versions, sampling
            As in `missing`.
        """
        with self._database.read() as unit:
            return waiting_answers(unit, llm_key, prompts, grader_labels(grader_versions), sampling)

    def undecided(
        self, llm_key: str, prompts: Sequence[Prompt], grader_versions: Mapping[str, str], sampling: str
    ) -> tuple[StoredAnswer, ...]:
        """Return the answers that the present graders could not read and no judge has decided, in the prompts' order.

        Answers whose whole text is not kept, and answers that a judge grades anyway, are not among them.

        Parameters
        ----------
        llm_key, prompts, grader_versions, sampling
            As in `waiting`.
        """
        with self._database.read() as unit:
            return undecided_answers(unit, llm_key, prompts, grader_labels(grader_versions), sampling)

    def unreadable(
        self, llm_key: str, prompt_set_digest: str, sampling: str, *, limit: int
    ) -> tuple[UnreadableAnswer, ...]:
        """Return answers in which no answer could be read, under their latest graders; those in doubt come first.

        Parameters
        ----------
        llm_key, sampling
            Which LLM, and how it was asked.
        prompt_set_digest
            Only answers to the prompts of this set, in its order.
        limit
            At most this many.
        """
        with self._database.read() as unit:
            return unreadable_answers(unit, llm_key, prompt_set_digest, sampling, limit)

    def readability(
        self,
        llm_keys: Sequence[str],
        prompts: Sequence[Prompt],
        grader_versions: Mapping[str, str],
        sampling: str | Mapping[str, str],
        *,
        until: datetime | None = None,
    ) -> Mapping[str, Readability]:
        """Count, by LLM key, the answers in which no answer could be read.

        Parameters
        ----------
        llm_keys, prompts, grader_versions, sampling, until
            As in `table`.
        """
        digests, labels = [one.digest for one in prompts], grader_labels(grader_versions)
        with self._database.read() as unit:
            return readability(unit, llm_keys, digests, labels, sampling, until)

    def judged_since(self, moment: datetime) -> frozenset[tuple[str, str]]:
        """Return LLM key and sampling of every answer about which a judge decided after a moment."""
        with self._database.read() as unit:
            return judged_since(unit, moment)

    def score_moves(self, since: datetime | None = None) -> tuple[ScoreMove, ...]:
        """Return how much newer graders moved the scores of LLMs, by key and sampling.

        Parameters
        ----------
        since
            Only what was regraded after this moment; everything when omitted.
        """
        with self._database.read() as unit:
            return score_moves(unit, since)

    def old_grades(
        self, llm_key: str, prompts: Sequence[Prompt], grader_versions: Mapping[str, str], sampling: str
    ) -> frozenset[str]:
        """Return the digests of the prompts whose answer keeps the grade of an earlier grader: its text is gone."""
        labels = sorted(set(grader_labels(grader_versions).values()))
        with self._database.read() as unit:
            rows = unit.execute(
                select(prompt.c.digest)
                .join_from(outcome, prompt, prompt.c.id == outcome.c.prompt_id)
                .join(llm, llm.c.id == outcome.c.llm_id)
                .join(protocol, protocol.c.id == outcome.c.protocol_id)
                .where(llm.c.key == llm_key, protocol.c.sampling == sampling, protocol.c.grader.in_(labels))
                .where(outcome.c.is_old_grade.is_(True))
            )
            found = set(rows.scalars())
        return frozenset(one.digest for one in prompts if one.digest in found)

    def repeated_samplings(self, llm_key: str, start: str, containing: str) -> tuple[str, ...]:
        """Return under which sampling settings an LLM was asked, in their order as text.

        Parameters
        ----------
        llm_key
            The LLM.
        start, containing
            Only settings that begin like this and contain that, for example the canaries of all nights.
        """
        with self._database.read() as unit:
            return repeated_samplings(unit, llm_key, start, containing)

    def repeated_scores(
        self, llm_key: str, prompts: Sequence[Prompt], grader_versions: Mapping[str, str], samplings: Sequence[str]
    ) -> RepeatedScores:
        """Return what an LLM scored on the same prompts under several sampling settings.

        Parameters
        ----------
        llm_key, prompts, grader_versions
            As in `missing`; scores of other graders are left out.
        samplings
            The rows.
        """
        digests, labels = [one.digest for one in prompts], set(grader_labels(grader_versions).values())
        with self._database.read() as unit:
            return repeated_scores(unit, llm_key, digests, labels, samplings)

    def table(
        self,
        llm_keys: Sequence[str],
        prompts: Sequence[Prompt | str],
        grader_versions: Mapping[str, str],
        sampling: str | Mapping[str, str],
        *,
        until: datetime | None = None,
        is_undecided: bool = False,
        unit: Unit | None = None,
    ) -> OutcomeTable:
        """Return the outcomes of some LLMs on some prompts as arrays.

        Parameters
        ----------
        llm_keys
            The columns.
        prompts
            The rows: prompts, or digests of prompts.
        grader_versions
            Version per grader name.
        sampling
            As in `Outcome`; a mapping when it differs from LLM to LLM.
        until
            Only what was asked, regraded or judged by this moment: since scores are final, the table as it was then.
        is_undecided
            Whether unreadable answers have the score that they had before a judge decided.
        unit
            The transaction to join.
        """
        digests = tuple(one if isinstance(one, str) else one.digest for one in prompts)
        shape = (len(digests), len(llm_keys))
        columns = [np.full(shape, np.nan) for _ in range(4)]
        failures = np.zeros(len(llm_keys), dtype=np.int64)
        labels = sorted(set(grader_labels(grader_versions).values()))
        with self._database.read(unit) as opened:
            llms = ids_of(opened, llm.c.key, llm.c.id, llm_keys)
            row_of = self._row_numbers(opened, digests)
            for place, key in enumerate(llm_keys):
                if key not in llms or not len(row_of):
                    continue
                wanted = sampling if isinstance(sampling, str) else sampling[key]
                stored = self._column(
                    opened, llms[key], labels, wanted, until, score_before(until, is_undecided=is_undecided)
                )
                if not stored:
                    continue
                numbers = np.array(stored[0], dtype=np.int64)
                rows = np.where(numbers < len(row_of), row_of[np.minimum(numbers, len(row_of) - 1)], -1)
                inside = rows >= 0
                for column, values in zip(columns, stored[1:], strict=True):
                    column[rows[inside], place] = np.array(values, dtype=np.float64)[inside]
                failures[place] = int(np.isnan(np.array(stored[1], dtype=np.float64)[inside]).sum())
        scores, input_tokens, output_tokens, pico_usd = columns
        return OutcomeTable(tuple(llm_keys), digests, scores, input_tokens, output_tokens, pico_usd / 1e12, failures)

    def _row_numbers(self, unit: Unit, digests: Sequence[str]) -> NDArray[np.int64]:
        """Return an array that maps a prompt's number to its row, -1 for prompts that are not asked for."""
        numbers = ids_of(unit, prompt.c.digest, prompt.c.id, digests)
        row_of = np.full(max(numbers.values(), default=-1) + 1, -1, dtype=np.int64)
        for row, digest in enumerate(digests):
            if digest in numbers:
                row_of[numbers[digest]] = row
        return row_of

    def _column(
        self,
        unit: Unit,
        llm_number: int,
        labels: Sequence[str],
        sampling: str,
        until: datetime | None,
        score: ColumnElement[Any],
    ) -> list[tuple[Any, ...]]:
        protocols = unit.execute(
            select(protocol.c.id).where(protocol.c.grader.in_(labels), protocol.c.sampling == sampling)
        ).scalars()
        query = select(
            outcome.c.prompt_id,
            score,
            outcome.c.input_tokens,
            outcome.c.output_tokens,
            type_coerce(outcome.c.cost_picousd, BigInteger),
        ).where(outcome.c.llm_id == llm_number, outcome.c.protocol_id.in_(list(protocols)))
        if until is not None:
            query = query.where(known_at() <= until)
        return list(zip(*unit.execute(query).fetchall(), strict=True))

    def coverage(
        self,
        llm_keys: Sequence[str],
        prompts: Sequence[Prompt],
        grader_versions: Mapping[str, str],
        sampling: str | Mapping[str, str],
    ) -> tuple[Coverage, ...]:
        """Count scored and failed prompts per LLM, in the order of `llm_keys`."""
        sums = self.sums(llm_keys, {one.digest: 0 for one in prompts}, grader_versions, sampling)
        n_scored, n_failed = (counts.sum(axis=1) for counts in (sums.n_scored, sums.n_failed))
        return tuple(
            Coverage(key, len(prompts), int(n_scored[place]), int(n_failed[place]))
            for place, key in enumerate(llm_keys)
        )

    def sums(
        self,
        llm_keys: Sequence[str],
        groups: Mapping[str, int],
        grader_versions: Mapping[str, str],
        sampling: str | Mapping[str, str],
    ) -> OutcomeSums:
        """Sum up scores and tokens per LLM and group of prompts, in the database.

        Parameters
        ----------
        llm_keys
            The rows.
        groups
            Group of each prompt by its digest, from 0: its cluster, or 0 for all.
        grader_versions, sampling
            As in `table`.
        """
        labels = sorted(set(grader_labels(grader_versions).values()))
        with self._database.read() as unit:
            return sum_outcomes(unit, llm_keys, groups, labels, sampling)

    def failures(self, llm_key: str, grader_versions: Mapping[str, str], sampling: str) -> Mapping[str, int]:
        """Count the prompts that ended in a failure of one LLM, by kind, the most frequent first."""
        labels = sorted(set(grader_labels(grader_versions).values()))
        with self._database.read() as unit:
            return count_failures(unit, llm_key, labels, sampling)

    def completions(
        self, llm_key: str, prompts: Sequence[Prompt], grader_versions: Mapping[str, str], sampling: str
    ) -> Mapping[str, str]:
        """Return the kept completions of one LLM by prompt digest."""
        labels = sorted(set(grader_labels(grader_versions).values()))
        found: dict[str, str] = {}
        with self._database.read() as unit:
            for part in chunks([one.digest for one in prompts]):
                rows = unit.execute(
                    select(prompt.c.digest, completion.c.text)
                    .join_from(outcome, completion, text_of_outcome())
                    .join(prompt, prompt.c.id == outcome.c.prompt_id)
                    .join(llm, llm.c.id == outcome.c.llm_id)
                    .join(protocol, protocol.c.id == outcome.c.protocol_id)
                    .where(llm.c.key == llm_key, protocol.c.sampling == sampling)
                    .where(protocol.c.grader.in_(labels), prompt.c.digest.in_(part))
                )
                found.update({row[0]: row[1] for row in rows})
        return found


def grader_labels(grader_versions: Mapping[str, str]) -> Mapping[str, str]:
    """Write ``name/version`` per grader name; a value that is already a label stays."""
    return {name: value if "/" in value else f"{name}/{value}" for name, value in grader_versions.items()}


def _label(labels: Mapping[str, str], grader: str) -> str:
    if grader not in labels:
        raise InvalidInput(f"no version of the grader {grader!r} is given", hint=f"known: {', '.join(sorted(labels))}")
    return labels[grader]
