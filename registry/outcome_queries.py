"""Queries about outcomes: sums that the database makes, so that single answers need not leave it; repeated answers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ARRAY, FromClause, Integer, Select, bindparam, cast, column, func, select

from registry.db.database import Unit, chunks, ids_of
from registry.db.tables import llm, outcome, prompt, protocol
from routing.errors import InvalidInput

_AT_ONCE = 10_000
_FIELDS = ("n_scored", "n_failed", "score", "input_tokens", "output_tokens")


@dataclass(frozen=True, eq=False)
class OutcomeSums:
    """Sums over groups of prompts, for example the clusters of a map: one row per LLM, one column per group.

    Attributes
    ----------
    llm_keys
        The m rows.
    n_scored, n_failed
        ``(m, g)`` int64: how many prompts have a score, and how many ended in a failure.
    score, input_tokens, output_tokens
        ``(m, g)`` float64: sums over the scored prompts.
    """

    llm_keys: tuple[str, ...]
    n_scored: NDArray[np.int64]
    n_failed: NDArray[np.int64]
    score: NDArray[np.float64]
    input_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]

    def mean_errors(self) -> NDArray[np.float64]:
        """Return the mean error per group, ``(m, g)``: the plain feature vector; without scores, the overall mean.

        That is UniRoute's equation 8, with what `plain_feature_vector` does in a cluster without an answer.
        """
        with np.errstate(invalid="ignore"):
            whole = 1 - self.score.sum(axis=1) / self.n_scored.sum(axis=1)
            errors = 1 - self.score / self.n_scored
        return np.where(self.n_scored > 0, errors, whole[:, None])


@dataclass(frozen=True, eq=False)
class RepeatedScores:
    """What one LLM scored under several sampling settings.

    Attributes
    ----------
    samplings
        The sampling settings, in their order as text.
    scores
        ``(len(samplings), n)`` float64 in [0, 1]; NaN where there is no score of a present grader.
    is_asked
        ``(len(samplings), n)`` bool: whether the prompt was asked at all, whatever came of it.
    """

    samplings: tuple[str, ...]
    scores: NDArray[np.float64]
    is_asked: NDArray[np.bool_]


def count_failures(unit: Unit, llm_key: str, labels: Sequence[str], sampling: str) -> dict[str, int]:
    """Count the failures of one LLM by kind, the most frequent first; see `OutcomeReader.failures`."""
    number = func.count().label("number")
    query = (
        select(outcome.c.failure, number)
        .join_from(outcome, llm, llm.c.id == outcome.c.llm_id)
        .join(protocol, protocol.c.id == outcome.c.protocol_id)
        .where(llm.c.key == llm_key, protocol.c.grader.in_(labels), protocol.c.sampling == sampling)
        .where(outcome.c.failure.is_not(None))
        .group_by(outcome.c.failure)
        .order_by(number.desc(), outcome.c.failure)
    )
    return {row.failure: row.number for row in unit.execute(query)}


def sum_outcomes(
    unit: Unit,
    llm_keys: Sequence[str],
    groups: Mapping[str, int],
    labels: Sequence[str],
    sampling: str | Mapping[str, str],
) -> OutcomeSums:
    """Sum up scores and tokens per LLM and group of prompts; see `OutcomeReader.sums`."""
    n_groups = max(groups.values(), default=-1) + 1
    if any(group < 0 for group in groups.values()):
        raise InvalidInput("groups of prompts are numbered from 0")
    found = {name: np.zeros((len(llm_keys), n_groups)) for name in _FIELDS}
    numbers = ids_of(unit, llm.c.key, llm.c.id, llm_keys)
    place_of = {numbers[key]: place for place, key in enumerate(llm_keys) if key in numbers}
    known = ids_of(unit, prompt.c.digest, prompt.c.id, list(groups))
    members = [(number, groups[digest]) for digest, number in known.items()]
    by_sampling: dict[str, list[int]] = {}
    for key in llm_keys:
        if key in numbers:
            by_sampling.setdefault(sampling if isinstance(sampling, str) else sampling[key], []).append(numbers[key])
    make_room(unit)
    for wanted, asked in by_sampling.items():
        for part in chunks(asked, _AT_ONCE):
            for row in unit.execute(sums_query(unit, part, members, labels, wanted)):
                place = place_of[row.llm_id], row.group_number
                for name in _FIELDS:
                    found[name][place] = float(getattr(row, name) or 0)
    counts = {name: found.pop(name).astype(np.int64) for name in ("n_scored", "n_failed")}
    return OutcomeSums(tuple(llm_keys), **counts, **found)


def make_room(unit: Unit) -> None:
    """Let a server keep the sums of many LLMs in memory: with its usual few MB it would sort every answer on disk."""
    if unit.dialect.name == "postgresql":
        unit.exec_driver_sql("SET LOCAL work_mem = '64MB'")


def sums_query(
    unit: Unit, llm_numbers: Sequence[int], members: Sequence[tuple[int, int]], labels: Sequence[str], sampling: str
) -> Select[Any]:
    """Build the one statement that sums up.

    Parameters
    ----------
    unit
        The transaction in which it will run: the list of prompts is written as its database reads lists.
    llm_numbers
        Row numbers of `llm`.
    members
        Row numbers of `prompt`, each with its group.
    labels, sampling
        What counts as the same question.
    """
    member = _members(unit, members)
    # Looked up first: for literal numbers a server can estimate how many answers have them.
    same = select(protocol.c.id).where(protocol.c.grader.in_(labels), protocol.c.sampling == sampling)
    protocols = list(unit.execute(same).scalars())
    is_scored = outcome.c.score.is_not(None)
    return (
        select(
            outcome.c.llm_id,
            member.c.group_number,
            func.count(outcome.c.score).label("n_scored"),
            func.count(outcome.c.failure).label("n_failed"),
            func.sum(outcome.c.score).label("score"),
            func.sum(outcome.c.input_tokens).filter(is_scored).label("input_tokens"),
            func.sum(outcome.c.output_tokens).filter(is_scored).label("output_tokens"),
        )
        .join_from(outcome, member, member.c.prompt_id == outcome.c.prompt_id)
        .where(outcome.c.llm_id.in_(llm_numbers), outcome.c.protocol_id.in_(protocols))
        .group_by(outcome.c.llm_id, member.c.group_number)
    )


def _members(unit: Unit, members: Sequence[tuple[int, int]]) -> FromClause:
    """Write a list of pairs as a table: a reading transaction may not create one."""
    if unit.dialect.name == "sqlite":
        pairs = func.json_each(json.dumps(members)).table_valued("value", name="pair")
        number, group = (func.json_extract(pairs.c.value, f"$[{place}]") for place in (0, 1))
        return select(number.label("prompt_id"), group.label("group_number")).subquery("member")
    lists = (bindparam(None, [pair[place] for pair in members], type_=ARRAY(Integer)) for place in (0, 1))
    given = func.unnest(*(cast(one, ARRAY(Integer)) for one in lists))
    pair = given.table_valued(
        column("prompt_id", Integer), column("group_number", Integer), name="pair"
    ).render_derived()
    # Grouped, a server knows that no prompt occurs twice, and hashes the list instead of sorting all answers.
    unique = select(pair.c.prompt_id, func.min(pair.c.group_number).label("group_number")).group_by(pair.c.prompt_id)
    return unique.subquery("member")


def repeated_samplings(unit: Unit, llm_key: str, start: str, containing: str) -> tuple[str, ...]:
    """Return the sampling settings under which an LLM was asked, of those that begin and contain a text like this."""
    llm_number = select(llm.c.id).where(llm.c.key == llm_key).scalar_subquery()
    was_asked = select(outcome.c.prompt_id).where(
        outcome.c.llm_id == llm_number, outcome.c.protocol_id == protocol.c.id
    )
    rows = unit.execute(
        select(protocol.c.sampling)
        .distinct()
        .where(protocol.c.sampling.startswith(start, autoescape=True))
        .where(protocol.c.sampling.contains(containing, autoescape=True), was_asked.exists())
    )
    # Databases sort text in ways of their own.
    return tuple(sorted(rows.scalars()))


def repeated_scores(
    unit: Unit, llm_key: str, prompt_digests: Sequence[str], labels: Collection[str], samplings: Sequence[str]
) -> RepeatedScores:
    """Return what an LLM scored under these sampling settings; see `OutcomeReader.repeated_scores`."""
    row_of = {sampling: row for row, sampling in enumerate(samplings)}
    scores = np.full((len(samplings), len(prompt_digests)), np.nan)
    is_asked = np.zeros(scores.shape, dtype=bool)
    numbers = ids_of(unit, prompt.c.digest, prompt.c.id, prompt_digests)
    column_of = {numbers[digest]: column for column, digest in enumerate(prompt_digests) if digest in numbers}
    for part in chunks(samplings):
        rows = unit.execute(
            select(protocol.c.sampling, protocol.c.grader, outcome.c.prompt_id, outcome.c.score)
            .join_from(outcome, protocol, protocol.c.id == outcome.c.protocol_id)
            .join(llm, llm.c.id == outcome.c.llm_id)
            .where(llm.c.key == llm_key, protocol.c.sampling.in_(part))
        )
        for sampling, grader, prompt_number, score in rows:
            place = row_of[sampling], column_of.get(prompt_number, -1)
            if place[1] < 0:
                continue
            is_asked[place] = True
            if score is not None and grader in labels:
                scores[place] = score
    return RepeatedScores(tuple(samplings), scores, is_asked)
