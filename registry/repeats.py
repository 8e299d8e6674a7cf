"""Repeated answers: what one LLM scored on the same prompts under several sampling settings, such as of every night."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from registry.db.database import Unit, chunks, ids_of
from registry.db.tables import llm, outcome, prompt, protocol


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
