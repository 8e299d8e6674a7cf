"""Outcomes: one per LLM, prompt, grader version and sampling; a score or a failure, never both, never neither.

A score is final. A failure says only that nothing is known, and a later answer replaces it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, or_, select, type_coerce
from sqlalchemy.types import BigInteger

from routing.errors import InvalidInput

from .columns import from_pico_usd, text_bytes, to_pico_usd
from .database import Database, Unit, chunks, ids_of
from .errors import NotFound
from .prompts import Prompt, require_known
from .runs import Run, Runs
from .tables import charge, completion, llm, outcome, prompt, protocol

MAX_COMPLETION_BYTES = 16_384
"""How much of a completion is kept."""


@dataclass(frozen=True)
class Outcome:
    """What one LLM made of one prompt.

    Attributes
    ----------
    llm_key, prompt_digest
        Who was asked what.
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
        As the endpoint said.
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
        What the endpoint says it used, when it says so.
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
        if self.attempts < 1:
            raise InvalidInput(f"an outcome of {self.llm_key} without an attempt")


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


@dataclass(frozen=True)
class EndpointSpend:
    """What one run spent at one endpoint."""

    endpoint: str
    calls: int
    cost_usd: Decimal


@dataclass(frozen=True)
class Spend:
    """What one run spent: settled costs, and what is reserved for calls whose answer never came back."""

    total_usd: Decimal
    reserved_usd: Decimal
    calls: int
    by_endpoint: tuple[EndpointSpend, ...]
    by_llm: Mapping[str, Decimal]


class Outcomes:
    """Record and read outcomes."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def record(
        self, run: Run | int, outcomes: Sequence[Outcome], *, purpose: str = "profile", unit: Unit | None = None
    ) -> int:
        """Keep outcomes and book their cost, in one transaction; a stored score is never overwritten.

        Parameters
        ----------
        run
            The run that asked; a run that lost its lease is refused, a bare run number is not checked.
        outcomes
            Any number of outcomes; of two with one key the first score counts, else the last failure.
        purpose
            What the money was spent on: ``profile``, ``canary``, ``hidden``.
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
        with self._database.write(unit) as opened:
            held = self._runs.require_lease(run, opened)
            keyed = self._keyed(opened, outcomes)
            final = self._final(opened, keyed)
            fresh = {key: one for key, one in keyed.items() if key not in final}
            if fresh:
                opened.execute(self._database.upsert(outcome), [_row(key, one, held) for key, one in fresh.items()])
                self._keep_completions(opened, fresh)
                self._book(opened, held.id, purpose, fresh)
            return len(fresh)

    def _keyed(self, unit: Unit, outcomes: Sequence[Outcome]) -> dict[tuple[int, int, int], Outcome]:
        llms = ids_of(unit, llm.c.key, llm.c.id, [one.llm_key for one in outcomes])
        unknown = {one.llm_key for one in outcomes} - set(llms)
        if unknown:
            raise NotFound(f"there is no LLM {min(unknown)!r}", unchanged="Nothing was written.")
        prompts = ids_of(unit, prompt.c.digest, prompt.c.id, [one.prompt_digest for one in outcomes])
        require_known([one.prompt_digest for one in outcomes], prompts)
        protocols = {pair: self._protocol(unit, *pair) for pair in {(one.grader, one.sampling) for one in outcomes}}
        keyed: dict[tuple[int, int, int], Outcome] = {}
        for one in outcomes:
            key = (llms[one.llm_key], protocols[one.grader, one.sampling], prompts[one.prompt_digest])
            if key not in keyed or keyed[key].score is None:
                keyed[key] = one
        return keyed

    def _protocol(self, unit: Unit, grader: str, sampling: str) -> int:
        pair = {"grader": grader, "sampling": sampling}
        unit.execute(self._database.insert_missing(protocol, [protocol.c.grader, protocol.c.sampling]), pair)
        return unit.execute(select(protocol.c.id).filter_by(**pair)).scalar_one()

    def _final(self, unit: Unit, keys: Iterable[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
        grouped: dict[tuple[int, int], list[int]] = {}
        for llm_number, protocol_number, prompt_number in keys:
            grouped.setdefault((llm_number, protocol_number), []).append(prompt_number)
        final: set[tuple[int, int, int]] = set()
        for (llm_number, protocol_number), prompt_numbers in grouped.items():
            for part in chunks(prompt_numbers):
                scored = select(outcome.c.prompt_id).where(
                    outcome.c.llm_id == llm_number,
                    outcome.c.protocol_id == protocol_number,
                    outcome.c.prompt_id.in_(part),
                    outcome.c.score.is_not(None),
                )
                final.update((llm_number, protocol_number, number) for number in unit.execute(scored).scalars())
        return final

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
        booked: dict[int, tuple[int, Decimal]] = {}
        for (llm_number, _, _), one in fresh.items():
            calls, cost = booked.get(llm_number, (0, Decimal(0)))
            booked[llm_number] = (calls + one.attempts, cost + (one.cost_usd or 0))
        for llm_number, (calls, cost) in booked.items():
            self._add_charge(unit, run_id, llm_number, purpose, calls=calls, cost=cost)

    def _add_charge(
        self,
        unit: Unit,
        run_id: int,
        llm_number: int,
        purpose: str,
        *,
        calls: int = 0,
        cost: Decimal = Decimal(0),
        reserved: Decimal = Decimal(0),
    ) -> None:
        key = {"run_id": run_id, "llm_id": llm_number, "purpose": purpose}
        empty = {"calls": 0, "cost_picousd": Decimal(0), "reserved_picousd": Decimal(0)}
        unit.execute(self._database.insert_missing(charge, list(charge.primary_key)), {**key, **empty})
        unit.execute(
            charge.update()
            .filter_by(**key)
            .values(
                calls=charge.c.calls + calls,
                cost_picousd=type_coerce(charge.c.cost_picousd, BigInteger) + to_pico_usd(cost),
                reserved_picousd=type_coerce(charge.c.reserved_picousd, BigInteger) + _signed_pico_usd(reserved),
            )
        )

    def reserve(self, run: Run | int, llm_key: str, usd: Decimal, *, purpose: str = "profile") -> None:
        """Book the worst cost of calls before they are made; what is never settled counts as spent.

        Parameters
        ----------
        run
            The run that will call.
        llm_key
            The LLM that will be called.
        usd
            The worst the calls can cost.
        purpose
            As in `record`.
        """
        self._change_reservation(run, llm_key, usd, purpose)

    def settle(self, run: Run | int, llm_key: str, usd: Decimal, *, purpose: str = "profile") -> None:
        """Take a reservation back once its calls are recorded.

        Raises
        ------
        RegistryError
            When more is settled than was reserved.
        """
        self._change_reservation(run, llm_key, -usd, purpose)

    def _change_reservation(self, run: Run | int, llm_key: str, usd: Decimal, purpose: str) -> None:
        with self._database.write() as unit:
            held = self._runs.require_lease(run, unit)
            numbers = ids_of(unit, llm.c.key, llm.c.id, [llm_key])
            if not numbers:
                raise NotFound(f"there is no LLM {llm_key!r}", unchanged="Nothing was written.")
            self._add_charge(unit, held.id, numbers[llm_key], purpose, reserved=usd)

    def missing(
        self,
        llm_key: str,
        prompts: Sequence[Prompt],
        grader_versions: Mapping[str, str],
        sampling: str,
        *,
        run: Run | int | None = None,
    ) -> tuple[Prompt, ...]:
        """Give the prompts that still have to be asked, in their order.

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
        return tuple(one for one in prompts if (one.digest, _label(labels, one.grader)) not in found)

    def table(
        self,
        llm_keys: Sequence[str],
        prompts: Sequence[Prompt | str],
        grader_versions: Mapping[str, str],
        sampling: str | Mapping[str, str],
        *,
        unit: Unit | None = None,
    ) -> OutcomeTable:
        """Give the outcomes of some LLMs on some prompts as arrays.

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
                stored = self._column(opened, llms[key], labels, wanted)
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
        """Give an array that maps a prompt's number to its row, -1 for prompts that are not asked for."""
        numbers = ids_of(unit, prompt.c.digest, prompt.c.id, digests)
        row_of = np.full(max(numbers.values(), default=-1) + 1, -1, dtype=np.int64)
        for row, digest in enumerate(digests):
            if digest in numbers:
                row_of[numbers[digest]] = row
        return row_of

    def _column(self, unit: Unit, llm_number: int, labels: Sequence[str], sampling: str) -> list[tuple[Any, ...]]:
        protocols = unit.execute(
            select(protocol.c.id).where(protocol.c.grader.in_(labels), protocol.c.sampling == sampling)
        ).scalars()
        rows = unit.execute(
            select(
                outcome.c.prompt_id,
                outcome.c.score,
                outcome.c.input_tokens,
                outcome.c.output_tokens,
                type_coerce(outcome.c.cost_picousd, BigInteger),
            ).where(outcome.c.llm_id == llm_number, outcome.c.protocol_id.in_(list(protocols)))
        ).fetchall()
        return list(zip(*rows, strict=True))

    def coverage(
        self,
        llm_keys: Sequence[str],
        prompts: Sequence[Prompt],
        grader_versions: Mapping[str, str],
        sampling: str | Mapping[str, str],
    ) -> tuple[Coverage, ...]:
        """Count scored and failed prompts per LLM, in the order of `llm_keys`."""
        table = self.table(llm_keys, prompts, grader_versions, sampling)
        scored = np.isfinite(table.scores).sum(axis=0)
        return tuple(
            Coverage(key, len(prompts), int(scored[place]), int(table.failures[place]))
            for place, key in enumerate(llm_keys)
        )

    def completions(
        self, llm_key: str, prompts: Sequence[Prompt], grader_versions: Mapping[str, str], sampling: str
    ) -> Mapping[str, str]:
        """Give the kept completions of one LLM by prompt digest."""
        labels = sorted(set(grader_labels(grader_versions).values()))
        found: dict[str, str] = {}
        with self._database.read() as unit:
            for part in chunks([one.digest for one in prompts]):
                rows = unit.execute(
                    select(prompt.c.digest, completion.c.text)
                    .join_from(completion, prompt, prompt.c.id == completion.c.prompt_id)
                    .join(llm, llm.c.id == completion.c.llm_id)
                    .join(protocol, protocol.c.id == completion.c.protocol_id)
                    .where(llm.c.key == llm_key, protocol.c.sampling == sampling)
                    .where(protocol.c.grader.in_(labels), prompt.c.digest.in_(part))
                )
                found.update({row[0]: row[1] for row in rows})
        return found

    def spend(self, run: Run | int) -> Spend:
        """Give what a run spent, in all its attempts."""
        run_id = run if isinstance(run, int) else run.id
        with self._database.read() as unit:
            rows = unit.execute(
                select(
                    llm.c.endpoint,
                    llm.c.key,
                    func.sum(charge.c.calls),
                    func.sum(type_coerce(charge.c.cost_picousd, BigInteger)),
                    func.sum(type_coerce(charge.c.reserved_picousd, BigInteger)),
                )
                .join_from(charge, llm)
                .where(charge.c.run_id == run_id)
                .group_by(llm.c.endpoint, llm.c.key)
                .order_by(llm.c.endpoint, llm.c.key)
            ).fetchall()
        by_endpoint: dict[str, EndpointSpend] = {}
        for endpoint, _, calls, cost, _ in rows:
            before = by_endpoint.get(endpoint, EndpointSpend(endpoint, 0, Decimal(0)))
            by_endpoint[endpoint] = EndpointSpend(
                endpoint, before.calls + int(calls), before.cost_usd + from_pico_usd(cost)
            )
        return Spend(
            total_usd=sum((one.cost_usd for one in by_endpoint.values()), Decimal(0)),
            reserved_usd=sum((from_pico_usd(row[4]) for row in rows), Decimal(0)),
            calls=sum(one.calls for one in by_endpoint.values()),
            by_endpoint=tuple(by_endpoint.values()),
            by_llm={row[1]: from_pico_usd(row[3]) for row in rows},
        )


def grader_labels(grader_versions: Mapping[str, str]) -> Mapping[str, str]:
    """Write ``name/version`` per grader name; a value that already is a label stays."""
    return {name: value if "/" in value else f"{name}/{value}" for name, value in grader_versions.items()}


def _label(labels: Mapping[str, str], grader: str) -> str:
    if grader not in labels:
        raise InvalidInput(f"no version of the grader {grader!r} is given", hint=f"known: {', '.join(sorted(labels))}")
    return labels[grader]


def _signed_pico_usd(amount: Decimal) -> int:
    return -to_pico_usd(-amount) if amount < 0 else to_pico_usd(amount)


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
        "score": one.score,
        "failure": one.failure,
        "input_tokens": one.input_tokens,
        "output_tokens": one.output_tokens,
        "cost_picousd": one.cost_usd,
        "latency_s": one.latency_s,
        "finish_reason": one.finish_reason,
        "attempts": one.attempts,
        "usage_estimated": one.usage_estimated,
        "served_llm": one.served_llm,
        "asked_at": one.asked_at,
        "run_id": held.id,
        "lease_number": held.lease_number,
    }
