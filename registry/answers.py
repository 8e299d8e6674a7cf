"""What an LLM's answers were like beyond their scores, and which of them wait for a newer grader."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, or_, select, type_coerce
from sqlalchemy.types import BigInteger

from registry.charges import GradingCost
from registry.db.columns import from_pico_usd
from registry.db.database import Database, Unit, chunks, ids_of
from registry.db.seals import OPEN
from registry.db.tables import completion, llm, outcome, prompt, protocol
from registry.ledger.facts import by_protocol, reopen_failures
from registry.prompts import Prompt
from routing.errors import InvalidInput

# What endpoints call an answer that ended at `max_tokens`.
_CUT = ("length", "max_tokens")
UNGRADED = ("grading", "judging")
"""The failures that are not the LLM's: it answered, but the grader, or the judge, gave no score."""


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
class UsageEstimate:
    """What an answer with a stored count of 0 tokens is estimated to have used.

    Attributes
    ----------
    input_tokens, output_tokens
        By the texts of prompt and answer.
    cost_usd
        At the present price; None without one. What was booked for the answer stays as it was.
    flags
        As `usage_flags` of `Outcome`.
    """

    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    flags: tuple[str, ...]

    def as_row(self) -> dict[str, Any]:
        """Return the columns that it replaces."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_picousd": self.cost_usd,
            "usage_estimated": True,
            "usage_flags": " ".join(sorted(self.flags)),
        }


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
        query = query.where(known_at() <= until)
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


@dataclass(frozen=True)
class StoredAnswer:
    """An answer that has no score yet under the present version of its grader, and the grade it has.

    Attributes
    ----------
    llm_key, prompt, sampling
        Which LLM was asked what, and how.
    former_grader
        ``name/version`` of the latest grader that saw it.
    former_score
        Its grade; None when that grader, or judge, gave none.
    has_text
        Whether the whole answer is kept. Without it the grade stays as it is.
    is_judged
        Whether that grade is the verdict of a judge, because no answer could be read.
    """

    llm_key: str
    prompt: Prompt
    sampling: str
    former_grader: str
    former_score: float | None
    has_text: bool
    is_judged: bool = False


@dataclass(frozen=True)
class ScoreMove:
    """How much newer graders moved one LLM's scores.

    Attributes
    ----------
    llm_key, sampling
        Which answers.
    regraded, kept
        How many have a new grade, and how many keep the former one because their text is gone.
    compared
        How many of the new grades replace a score.
    before, after
        Mean score in [0, 1] of these before and after; None without any.
    """

    llm_key: str
    sampling: str
    regraded: int
    kept: int
    compared: int
    before: float | None
    after: float | None

    @property
    def change(self) -> float:
        """The change of the mean score, in [-1, 1]; 0 where nothing can be compared."""
        return 0.0 if self.before is None or self.after is None else self.after - self.before


def score_moves(unit: Unit, since: datetime | None) -> tuple[ScoreMove, ...]:
    """Return how regrading moved LLMs; see `OutcomeReader.score_moves`."""
    former = outcome.alias("former")
    is_new = outcome.c.is_old_grade.is_(False)
    both = and_(is_new, former.c.score.is_not(None))
    query = (
        select(
            llm.c.key,
            protocol.c.sampling,
            func.count().filter(is_new),
            func.count().filter(~is_new),
            func.count().filter(both),
            func.avg(former.c.score).filter(both),
            func.avg(outcome.c.score).filter(both),
        )
        .join_from(outcome, llm, llm.c.id == outcome.c.llm_id)
        .join(protocol, protocol.c.id == outcome.c.protocol_id)
        .join(
            former,
            and_(
                former.c.llm_id == outcome.c.llm_id,
                former.c.protocol_id == outcome.c.former_protocol_id,
                former.c.prompt_id == outcome.c.prompt_id,
            ),
        )
        .where(outcome.c.regraded_at.is_not(None))
        .group_by(llm.c.key, protocol.c.sampling)
    )
    if since is not None:
        query = query.where(outcome.c.regraded_at > since)
    found = [ScoreMove(*row) for row in unit.execute(query)]
    return tuple(sorted(found, key=lambda one: (one.llm_key, one.sampling)))


def known_at() -> ColumnElement[Any]:
    """Return the moment from which an outcome was known, as SQL: when it was asked, or regraded."""
    return func.coalesce(outcome.c.regraded_at, outcome.c.asked_at)


def text_of_outcome() -> ColumnElement[bool]:
    """Join an outcome with its text, which stays where the answer was asked."""
    return and_(
        completion.c.llm_id == outcome.c.llm_id,
        completion.c.protocol_id == func.coalesce(outcome.c.asked_protocol_id, outcome.c.protocol_id),
        completion.c.prompt_id == outcome.c.prompt_id,
    )


def waiting_answers(
    unit: Unit, llm_key: str, prompts: Iterable[Prompt], labels: Mapping[str, str], sampling: str
) -> tuple[StoredAnswer, ...]:
    """Return what waits to be graded again; see `OutcomeReader.waiting`."""
    known = unit.execute(select(protocol.c.id, protocol.c.grader).where(protocol.c.sampling == sampling)).fetchall()
    names = {row.id: row.grader.partition("/")[0] for row in known}
    present = [row.id for row in known if row.grader == labels.get(names[row.id])]
    earlier = {row.id: row.grader for row in known if names[row.id] in labels and row.id not in present}
    if not earlier:
        return ()
    scored = outcome.alias("scored")
    is_scored = (
        select(1)
        .where(scored.c.llm_id == outcome.c.llm_id, scored.c.prompt_id == outcome.c.prompt_id)
        .where(scored.c.protocol_id.in_(present), scored.c.score.is_not(None))
    )
    has_text = completion.c.is_truncated.is_(False)
    rows = unit.execute(
        select(
            prompt.c.digest,
            outcome.c.protocol_id,
            outcome.c.score,
            outcome.c.judged_at,
            has_text.label("has_text"),
        )
        .join_from(outcome, prompt, prompt.c.id == outcome.c.prompt_id)
        .join(llm, llm.c.id == outcome.c.llm_id)
        .outerjoin(completion, text_of_outcome())
        .where(llm.c.key == llm_key, outcome.c.protocol_id.in_(list(earlier)), ~is_scored.exists())
        .where(or_(outcome.c.score.is_not(None), and_(outcome.c.failure.in_(UNGRADED), has_text)))
        .order_by(known_at(), outcome.c.protocol_id)
    )
    best: dict[str, Row[Any]] = {}
    for row in rows:
        if row.digest not in best or _rank(row) >= _rank(best[row.digest]):
            best[row.digest] = row
    return tuple(
        StoredAnswer(
            llm_key,
            one,
            sampling,
            earlier[row.protocol_id],
            row.score,
            has_text=bool(row.has_text),
            is_judged=row.judged_at is not None,
        )
        for one in prompts
        if (row := best.get(one.digest)) is not None
    )


def _rank(row: Row[Any]) -> tuple[bool, bool]:
    """Prefer answers that can be graded again, then those with a grade that can stay."""
    return bool(row.has_text), row.score is not None


@dataclass(frozen=True)
class Regrade:
    """A stored answer under the present version of its grader.

    Attributes
    ----------
    answer
        The answer.
    grader
        ``name/version`` of the present grader.
    score
        In [0, 1]; None where it could not be graded again, so that the former grade stays.
    is_unreadable
        As in `Outcome`, of this grading.
    grading
        What grading cost.
    estimate
        Takes the place of usage that was stored as 0 tokens; None keeps it.
    """

    answer: StoredAnswer
    grader: str
    score: float | None
    is_unreadable: bool | None = None
    grading: GradingCost | None = None
    estimate: UsageEstimate | None = None

    def __post_init__(self) -> None:
        if self.score is None and self.answer.former_score is None:
            raise InvalidInput(f"an answer of {self.answer.llm_key} has neither a new grade nor a former one")
        if self.score is not None and not (0.0 <= self.score <= 1.0):
            raise InvalidInput(f"the score {self.score} of {self.answer.llm_key} is not in [0, 1]")


def regraded_rows(unit: Unit, regrades: Sequence[Regrade], now: datetime) -> list[dict[str, Any]]:
    """Return the rows of regrades: the measurements of the answer, with another grade."""
    answers = [one.answer for one in regrades]
    llms = ids_of(unit, llm.c.key, llm.c.id, [one.llm_key for one in answers])
    prompts = ids_of(unit, prompt.c.digest, prompt.c.id, [one.prompt.digest for one in answers])
    pairs = {(label, one.answer.sampling) for one in regrades for label in (one.grader, one.answer.former_grader)}
    protocols = {pair: protocol_id_of(unit, *pair) for pair in sorted(pairs)}
    wanted = {}
    for one in regrades:
        new, former = (protocols[label, one.answer.sampling] for label in (one.grader, one.answer.former_grader))
        wanted[llms[one.answer.llm_key], new, prompts[one.answer.prompt.digest]] = (former, one)
    final, rows = final_keys(unit, wanted), []
    for (llm_number, protocol_number, prompt_number), (former, one) in wanted.items():
        if (llm_number, protocol_number, prompt_number) in final:
            continue
        source = unit.execute(
            select(outcome).filter_by(llm_id=llm_number, protocol_id=former, prompt_id=prompt_number)
        ).one()
        graded = {"is_old_grade": True} if one.score is None else _grade(one, source)
        again = {
            "protocol_id": protocol_number,
            "asked_protocol_id": source.asked_protocol_id or former,
            "former_protocol_id": former,
            "regraded_at": now,
        }
        if one.estimate is not None and source.input_tokens == 0:
            again |= one.estimate.as_row()
        rows.append({**source._mapping, "seal": OPEN, "is_old_grade": False, **graded, **again})
    reopen_failures(unit, [key for key in wanted if key not in final])
    return rows


def _grade(one: Regrade, source: Row[Any]) -> dict[str, Any]:
    """Return a new grade; what still cannot be read keeps the verdict of the judge that was paid for it."""
    assert one.score is not None
    grade = {"score": float(one.score), "failure": None, "is_unreadable": one.is_unreadable}
    if not one.is_unreadable:
        return grade | {"judged_by": None, "judged_at": None}
    return grade if source.judged_at is None else grade | {"score": source.score}


def protocol_id_of(unit: Unit, grader: str, sampling: str) -> int:
    """Return the number of a grader version under sampling settings, which it gets when it has none."""
    pair = {"grader": grader, "sampling": sampling}
    known = unit.execute(select(protocol.c.id).filter_by(**pair)).scalar()
    # Not ON CONFLICT: on a server each attempt would use up a number.
    return known if known is not None else unit.execute(protocol.insert().values(pair)).inserted_primary_key[0]


def final_keys(unit: Unit, keys: Iterable[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
    """Return those of the keys (LLM, protocol, prompt) that have a score, which nothing replaces."""
    final: set[tuple[int, int, int]] = set()
    for llm_number, protocol_number, part in by_protocol(keys):
        scored = select(outcome.c.prompt_id).where(
            outcome.c.llm_id == llm_number,
            outcome.c.protocol_id == protocol_number,
            outcome.c.prompt_id.in_(part),
            outcome.c.score.is_not(None),
        )
        final.update((llm_number, protocol_number, number) for number in unit.execute(scored).scalars())
    return final
