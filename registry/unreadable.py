"""Answers in which nothing could be read: how many there are, what was answered, and what a judge decided about them.

Such an answer scores 0, but in doubt. Once a judge has decided, its verdict is the score, and the outcome keeps who
decided and when: the score as it was before can still be computed, and the answer still counts as unreadable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, update

from registry.answers import StoredAnswer, known_at, text_of_outcome
from registry.charges import JUDGING, GradingCost
from registry.db.database import Unit, chunks, ids_of
from registry.db.tables import completion, llm, outcome, prompt, prompt_set_member, protocol
from registry.ledger.facts import reopen
from registry.prompts import Prompt
from routing.errors import InvalidInput


@dataclass(frozen=True)
class Readability:
    """How many of an LLM's scored answers could be read.

    Attributes
    ----------
    n_scored
        Scored answers.
    n_known
        Those of which it is known; of answers of earlier releases it is not.
    n_unreadable
        Those in which no answer could be read.
    n_judged
        How many of these a judge has decided, so that they are not in doubt any more.
    """

    n_scored: int = 0
    n_known: int = 0
    n_unreadable: int = 0
    n_judged: int = 0

    @property
    def share(self) -> float | None:
        """Unreadable answers among those of which it is known, in [0, 1]; None when it is known of none."""
        return self.n_unreadable / self.n_known if self.n_known else None

    @property
    def doubtful_share(self) -> float:
        """Unreadable answers that no judge has decided, among those of which it is known; 0 when there are none."""
        return (self.n_unreadable - self.n_judged) / self.n_known if self.n_known else 0.0


@dataclass(frozen=True)
class UnreadableAnswer:
    """One answer in which nothing could be read, to be looked at.

    Attributes
    ----------
    prompt_id
        As in the prompt file.
    prompt, reference, grader
        What was asked, the accepted answer, and the name and version of the grader.
    completion
        The answer, or its first 16 kB; None when the text is not kept any more.
    is_truncated
        Whether `completion` is only the beginning.
    score
        In [0, 1]; 0 unless a judge decided otherwise.
    judged_by
        Name and version of the judge that decided; None when none has.
    asked_at
        When, in UTC.
    """

    prompt_id: str
    prompt: str
    reference: str
    grader: str
    completion: str | None
    is_truncated: bool
    score: float
    judged_by: str | None
    asked_at: datetime


@dataclass(frozen=True)
class Verdict:
    """What a judge decided about an unreadable answer.

    Attributes
    ----------
    answer
        The answer.
    judge
        Name and version of the judge.
    score
        In [0, 1].
    grading
        What the verdict cost; None when the judge needed no call.
    """

    answer: StoredAnswer
    judge: str
    score: float
    grading: GradingCost | None = None

    def __post_init__(self) -> None:
        if not (0.0 <= self.score <= 1.0):
            raise InvalidInput(f"the verdict {self.score} on {self.answer.llm_key} is not in [0, 1]")


def score_before(until: datetime | None, *, is_undecided: bool) -> ColumnElement[Any]:
    """Return the score as it was at a moment, or as if no judge had decided, as SQL.

    Parameters
    ----------
    until
        Verdicts after this moment do not count; None: all count.
    is_undecided
        Whether no verdict counts at all.
    """
    if is_undecided:
        return case((outcome.c.judged_at.is_not(None), 0.0), else_=outcome.c.score)
    return outcome.c.score if until is None else case((outcome.c.judged_at > until, 0.0), else_=outcome.c.score)


def readability(
    unit: Unit,
    llm_keys: Sequence[str],
    prompt_digests: Sequence[str],
    labels: Mapping[str, str],
    sampling: str | Mapping[str, str],
    until: datetime | None,
) -> Mapping[str, Readability]:
    """Count unreadable answers by LLM; see `OutcomeReader.readability`."""
    is_judged = or_(outcome.c.judged_at.is_not(None), protocol.c.grader.startswith(f"{JUDGING}/"))
    if until is not None:
        is_judged = or_(outcome.c.judged_at <= until, protocol.c.grader.startswith(f"{JUDGING}/"))
    is_unreadable = outcome.c.is_unreadable.is_(True)
    query = (
        select(
            func.count(outcome.c.score),
            func.count(outcome.c.is_unreadable),
            func.count().filter(is_unreadable),
            func.count().filter(and_(is_unreadable, is_judged)),
        )
        .join_from(outcome, prompt, prompt.c.id == outcome.c.prompt_id)
        .join(llm, llm.c.id == outcome.c.llm_id)
        .join(protocol, protocol.c.id == outcome.c.protocol_id)
        .where(outcome.c.score.is_not(None), protocol.c.grader.in_(sorted(set(labels.values()))))
    )
    if until is not None:
        query = query.where(known_at() <= until)
    found = {}
    for key in llm_keys:
        wanted = sampling if isinstance(sampling, str) else sampling.get(key, "")
        of_one = query.where(llm.c.key == key, protocol.c.sampling == wanted)
        parts = [
            unit.execute(of_one.where(prompt.c.digest.in_(part))).one() for part in chunks(list(prompt_digests))
        ] or [(0, 0, 0, 0)]
        found[key] = Readability(*(sum(column) for column in zip(*parts, strict=True)))
    return found


def undecided_answers(
    unit: Unit, llm_key: str, prompts: Iterable[Prompt], labels: Mapping[str, str], sampling: str
) -> tuple[StoredAnswer, ...]:
    """Return what a judge may decide; see `OutcomeReader.undecided`."""
    rows = unit.execute(
        select(prompt.c.digest, protocol.c.grader)
        .join_from(outcome, prompt, prompt.c.id == outcome.c.prompt_id)
        .join(llm, llm.c.id == outcome.c.llm_id)
        .join(protocol, protocol.c.id == outcome.c.protocol_id)
        .join(completion, text_of_outcome())
        .where(llm.c.key == llm_key, protocol.c.sampling == sampling, completion.c.is_truncated.is_(False))
        .where(protocol.c.grader.in_(sorted(set(labels.values()))))
        .where(outcome.c.is_unreadable.is_(True), outcome.c.score.is_not(None), outcome.c.judged_at.is_(None))
    )
    graders = {row.digest: row.grader for row in rows}
    return tuple(
        StoredAnswer(llm_key, one, sampling, labels[one.grader], 0.0, has_text=True)
        for one in prompts
        if one.grader != JUDGING and one.grader in labels and graders.get(one.digest) == labels[one.grader]
    )


def unreadable_answers(
    unit: Unit, llm_key: str, prompt_set_digest: str, sampling: str, limit: int
) -> tuple[UnreadableAnswer, ...]:
    """Return unreadable answers, those in doubt first; see `OutcomeReader.unreadable`."""
    again = outcome.alias("again")
    is_regraded = (
        select(1)
        .where(again.c.llm_id == outcome.c.llm_id, again.c.prompt_id == outcome.c.prompt_id)
        .where(again.c.former_protocol_id == outcome.c.protocol_id)
    )
    rows = unit.execute(
        select(
            prompt_set_member.c.label,
            prompt.c.text,
            prompt.c.reference,
            protocol.c.grader,
            completion.c.text,
            func.coalesce(completion.c.is_truncated, False),
            outcome.c.score,
            outcome.c.judged_by,
            outcome.c.asked_at,
        )
        .join_from(outcome, prompt, prompt.c.id == outcome.c.prompt_id)
        .join(prompt_set_member, prompt_set_member.c.prompt_id == prompt.c.id)
        .join(llm, llm.c.id == outcome.c.llm_id)
        .join(protocol, protocol.c.id == outcome.c.protocol_id)
        .outerjoin(completion, text_of_outcome())
        .where(llm.c.key == llm_key, protocol.c.sampling == sampling, outcome.c.is_unreadable.is_(True))
        .where(prompt_set_member.c.prompt_set_digest == prompt_set_digest, outcome.c.score.is_not(None))
        .where(prompt_set_member.c.role != "map")
        .where(~is_regraded.exists())
        .order_by(outcome.c.judged_at.is_not(None), prompt_set_member.c.position)
        .limit(limit)
    )
    return tuple(UnreadableAnswer(*row) for row in rows)


def store_verdicts(unit: Unit, verdicts: Sequence[Verdict], now: datetime) -> int:
    """Let verdicts be the scores of answers that are still undecided; return how many were; see `Outcomes.decide`."""
    llms = ids_of(unit, llm.c.key, llm.c.id, [one.answer.llm_key for one in verdicts])
    prompts = ids_of(unit, prompt.c.digest, prompt.c.id, [one.answer.prompt.digest for one in verdicts])
    written = 0
    for one in verdicts:
        graded_as = (
            select(protocol.c.id)
            .where(protocol.c.grader == one.answer.former_grader, protocol.c.sampling == one.answer.sampling)
            .scalar_subquery()
        )
        undecided = (
            outcome.c.llm_id == llms[one.answer.llm_key],
            outcome.c.protocol_id == graded_as,
            outcome.c.prompt_id == prompts[one.answer.prompt.digest],
            outcome.c.is_unreadable.is_(True),
            outcome.c.score == 0.0,
            outcome.c.judged_at.is_(None),
        )
        reopen(unit, outcome, *undecided)
        verdict = {"score": float(one.score), "judged_by": one.judge, "judged_at": now}
        written += unit.execute(update(outcome).where(*undecided).values(verdict)).rowcount
    return written


def judged_since(unit: Unit, moment: datetime) -> frozenset[tuple[str, str]]:
    """Return LLM key and sampling of all answers that a judge decided after a moment; see `OutcomeReader`."""
    rows = unit.execute(
        select(llm.c.key, protocol.c.sampling)
        .join_from(outcome, llm, llm.c.id == outcome.c.llm_id)
        .join(protocol, protocol.c.id == outcome.c.protocol_id)
        .where(outcome.c.judged_at > moment)
        .distinct()
    )
    return frozenset((row.key, row.sampling) for row in rows)
