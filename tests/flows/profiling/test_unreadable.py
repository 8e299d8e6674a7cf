"""Answers in which nothing could be read: their share is a figure, and a judge may decide them, once and for good."""

import re
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from flows.graders import GRADERS
from flows.graders.choice import ChoiceGrader
from flows.profiling.unreadable import readability_of
from flows.reports.digest import digest, llm_endings, llm_table
from flows.reports.recording import night_record
from flows.reports.terminal import plan_text, profiles_text
from registry.outcomes import Outcomes
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import SECOND, THIRD, AskedNight, right
from tests.faults.test_judging import charges, obliging_judge, quotations

QUIET = "canary_prompts = 0"
JUDGE = '[judge]\nllm = "fake:judge"\nunreadable = true\n'
VAGUE = "It depends."


def numbered(prompt: str) -> int:
    return int(prompt.split()[1])


def vague(prompt: str) -> str:
    """Answer every eighth prompt so that nothing can be read, and the others right."""
    return VAGUE if numbered(prompt) % 8 == 0 else right(prompt)


def kind_judge(prompt: str) -> str:
    """Find vague answers to every other question right; judge all others as they deserve."""
    if "BEGIN" not in prompt:
        return right(prompt)
    question, _, answer = quotations(prompt)
    if VAGUE not in answer or numbered(question) % 16:
        return obliging_judge(prompt)
    return re.sub(r"WRONG$", "RIGHT", obliging_judge(prompt))


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(lambda llm_id, prompt: (kind_judge if llm_id == "judge" else vague)(prompt)) as server:
        server.scripts = dict.fromkeys(("good", "judge"), "ok")
        yield server


@pytest.fixture
def asked(tmp_path: Path, fake: FakeEndpoint, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> AskedNight:
    return AskedNight(tmp_path, fake, migrated, monkeypatch)


def prepared(asked: AskedNight, more: str = JUDGE, **sections: str) -> AskedNight:
    return asked.prepare("good", "judge", more=more, **({"night": QUIET} | sections))


def execute(asked: AskedNight, statement: str) -> None:
    with sqlite3.connect(asked.folder / "home" / "registry.db") as connection:
        connection.execute(statement)
    connection.close()


def spent_usd(asked: AskedNight) -> Decimal:
    return Decimal(sum(picousd for _, picousd, _ in charges(asked).values())) / 10**12


def doubtful(asked: AskedNight) -> list[tuple]:
    """Return score and judge of every unreadable answer, by prompt."""
    rows = asked.rows("o.prompt_id, o.score, o.judged_by", "good")
    unreadable = {row[0] for row in asked.rows("o.prompt_id, o.is_unreadable", "good") if row[1]}
    return [row[1:] for row in sorted(rows) if row[0] in unreadable]


def test_the_share_of_unreadable_answers_is_shown_everywhere_and_needs_attention_above_five_percent(asked):
    report = prepared(asked, more="").run()
    read = report.readability["fake:good"]
    assert (read.n_scored, read.n_known, read.n_unreadable, read.n_judged) == (40, 40, 5, 0)
    assert "no answer could be read in: fake:good 12.5%" in digest(report).replace("\\", "")
    assert [row["unreadable"] for row in llm_table(report) if "good" in row["LLM"]] == ["12.5%"]
    assert {one["llm"]: one["unreadable_share"] for one in llm_endings(report)}["fake:good"] == 0.125
    (header, row) = profiles_text(report).splitlines()[1:3]
    assert row[: header.index("UNREADABLE") + len("UNREADABLE")].endswith(" 12.5%")
    assert {one.llm: one.unreadable_share for one in night_record(report).profiles}["fake:good"] == 0.125
    (line,) = [line for line in report.attention if "fake:good" in line]
    assert "no answer could be read in 5 of 40 answers (12.5%)" in line
    assert "uniroute llm show fake:good --unreadable" in line
    assert "[judge] unreadable = true" in line
    assert prepared(asked, more="").run(SECOND).attention == (), "said in the night that finds it"


def test_five_percent_and_less_is_a_figure_only_and_unknown_is_not_zero(asked, fake):
    fake.answer = lambda llm_id, prompt: VAGUE if numbered(prompt) in (3, 5) else right(prompt)
    report = prepared(asked, more="").run()
    assert (report.readability["fake:good"].share, report.attention) == (0.05, ())
    execute(asked, "UPDATE outcome SET is_unreadable = NULL")
    seen = []
    asked.run(SECOND, look=lambda night: seen.append(readability_of(night, ["fake:good"])["fake:good"]))
    assert (seen[0].share, seen[0].n_scored, seen[0].n_known) == (None, 40, 0)


def test_with_a_judge_unreadable_answers_are_decided_once_within_the_budget_and_marked(asked, fake):
    report = prepared(asked).run()
    label = report_label(asked)
    assert doubtful(asked) == [(1.0, label), (0.0, label), (1.0, label), (0.0, label), (1.0, label)]
    assert fake.calls["judge"] == 24 + 5, "its check, and the answers in doubt"
    assert charges(asked)["judge", "judge"][0] == 24 + 5
    assert report.decided == {"fake:good": 5}
    read = report.readability["fake:good"]
    assert (read.share, read.n_judged, read.doubtful_share) == (0.125, 5, 0.0)
    assert "judged: 5 unreadable answers of 1 LLM" in digest(report)
    assert "12.5%, 5 judged" in profiles_text(report)
    assert report.attention == ()
    (profile,) = report.profiles
    assert profile.llm_key == "fake:good", "the judge is not profiled"
    assert sum(score for (score,) in asked.rows("o.score", "good")) == 38
    assert report.spent_usd == spent_usd(asked)
    before = dict(fake.calls)
    assert asked.run(SECOND).decided == {}
    assert fake.calls == before, "nothing is asked twice"


def report_label(asked: AskedNight) -> str:
    (label,) = {judge for _, judge in doubtful(asked)}
    assert re.fullmatch(r"judge/2\.[0-9a-f]{8}\.fake:judge", label)
    return label


def test_answers_of_earlier_nights_are_planned_and_decided_and_no_llm_is_asked_again(asked, fake):
    prepared(asked, more="").run()
    plans = []
    prepared(asked)
    asked_before = fake.calls["good"]
    report = asked.run(SECOND, look=lambda night: plans.append(night))
    (planned,) = report.plan.regrades
    assert (planned.unreadable, planned.by_judge, planned.worst_usd > 0) == (5, 0, True)
    assert "verdicts: 5 unreadable answers by the judge, at most $" in plan_text(report)
    assert (report.plan.calls, fake.calls["good"]) == (0, asked_before)
    assert [score for score, _ in doubtful(asked)] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert (report.decided, report.readability["fake:good"].n_judged) == ({"fake:good": 5}, 5)


def test_a_judge_that_fails_leaves_answers_in_doubt_and_the_night_goes_on(asked, fake):
    fake.scripts["judge"] = "500"
    report = prepared(asked, endpoint="max_attempts = 1").run()
    assert doubtful(asked) == [(0.0, None)] * 5
    assert report.profiles[0].coverage == 1.0
    assert any("5 unreadable answers wait for the judge" in line for line in report.attention)
    fake.scripts["judge"] = "ok"
    report = asked.run(SECOND)
    assert (report.decided, [score for score, _ in doubtful(asked)]) == ({"fake:good": 5}, [1.0, 0.0, 1.0, 0.0, 1.0])


def test_a_judge_that_no_catalog_lists_decides_nothing_and_stops_no_night(asked, fake):
    report = prepared(asked, more=JUDGE.replace("fake:judge", "fake:nobody")).run()
    assert doubtful(asked) == [(0.0, None)] * 5
    assert any("5 unreadable answers wait for the judge: there is no LLM" in line for line in report.attention)


def test_a_judge_that_misjudges_decides_nothing(asked, fake):
    fake.answer = lambda llm_id, prompt: "RIGHT" if llm_id == "judge" else vague(prompt)
    report = prepared(asked).run()
    assert doubtful(asked) == [(0.0, None)] * 5
    assert any("failed its check" in line for line in report.attention)
    assert report.spent_usd == spent_usd(asked), "the check is paid for"


def test_what_the_budget_does_not_allow_waits(asked, fake):
    prepared(asked, more="").run()
    calls = dict(fake.calls)
    report = prepared(asked, budget="call_usd = 0.005").run(SECOND)
    assert (fake.calls, doubtful(asked)) == (calls, [(0.0, None)] * 5), "the worst verdict counts beforehand"
    assert any("5 unreadable answers wait for the judge" in line for line in report.attention)


def test_an_interrupted_judgement_resumes_where_it_stopped(asked, fake, monkeypatch):
    prepared(asked)
    stored = []

    def breaks(outcomes, run, verdicts, *, now):
        stored.append(original(outcomes, run, verdicts, now=now))
        raise RuntimeError("killed")

    original = Outcomes.decide
    with monkeypatch.context() as patched:
        patched.setattr(Outcomes, "decide", breaks)
        with pytest.raises(RuntimeError):
            asked.run()
    calls = dict(fake.calls)
    asked.run()
    left = 5 - stored[0]
    assert fake.calls["judge"] - calls["judge"] == (24 + left if left else 0)
    assert fake.calls["good"] == calls["good"]
    assert [score for score, _ in doubtful(asked)] == [1.0, 0.0, 1.0, 0.0, 1.0]


class BlindGrader(ChoiceGrader):
    """A later version that still cannot read vague answers."""

    version = "98"


class KeenGrader(ChoiceGrader):
    """A later version that reads vague answers, as wrong ones."""

    version = "99"

    def grade(self, *given):
        graded = super().grade(*given)
        return type(graded)(0.0) if graded.is_unreadable else graded


def test_a_newer_grader_keeps_verdicts_unless_it_can_read_the_answer(asked, fake, monkeypatch):
    prepared(asked).run()
    calls = dict(fake.calls)
    monkeypatch.setitem(GRADERS, "choice", BlindGrader())
    report = asked.run(SECOND)
    assert [(one.before, one.after) for one in report.regraded] == [(0.95, 0.95)]
    assert fake.calls == calls
    assert sorted(score for score, judge in doubtful(asked) if judge) == [0.0] * 4 + [1.0] * 6
    monkeypatch.setitem(GRADERS, "choice", KeenGrader())
    report = asked.run(THIRD)
    assert [(one.before, one.after) for one in report.regraded] == [(0.95, 0.875)], "a rule that reads it decides"
    assert report.readability["fake:good"].n_unreadable == 0


def test_a_verdict_is_no_drift(asked, fake):
    prepared(asked, night="canary_prompts = 28").run()
    fake.answer = lambda llm_id, prompt: obliging_judge(prompt) if llm_id == "judge" else VAGUE
    prepared(asked, night="canary_prompts = 28", more="")
    fake.answer = lambda llm_id, prompt: (kind_judge if llm_id == "judge" else vague)(prompt)
    (canary,) = prepared(asked, night="canary_prompts = 28").run(SECOND).canaries
    assert (canary.pairs, canary.worse, canary.better) == (28, 0, 0)


def test_prompts_that_the_judge_grades_anyway_are_not_judged_twice(asked, fake):
    fake.answer = lambda llm_id, prompt: obliging_judge(prompt) if llm_id == "judge" else "The answer is"
    report = asked.prepare("good", "judge", more=JUDGE, night=QUIET, grader="judge").run()
    assert fake.calls["judge"] == 24
    read = report.readability["fake:good"]
    assert (read.n_unreadable, read.n_judged, report.decided) == (40, 40, {})
