"""Graders change, and nobody pays again: stored answers are graded again, and nights take the change for no drift."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows import stages
from flows.checks.preflight import check
from flows.config.loading import load_settings
from flows.graders import GRADERS
from flows.graders.choice import ChoiceGrader
from flows.night.context import Night
from flows.night.interruption import Interruption
from flows.profiling import regrading, stored_answers
from flows.reports.digest import digest
from flows.reports.terminal import ending_text, plan_text
from flows.workspace import Workspace
from registry.db.database import Database
from registry.db.schema import Schema
from registry.pruning import Retention
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import SECOND, THIRD, AskedNight, candidate, right, wrong
from tests.faults.test_judging import JUDGE, charges, obliging_judge

QUIET = "canary_prompts = 0"


class StrictGrader(ChoiceGrader):
    """A later version, for which every answer that settles on A is wrong: it moves scores."""

    version = "99"

    def grade(self, *given):
        graded = super().grade(*given)
        return graded if "(A)" not in given[0] else type(graded)(0.0)


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(lambda llm_id, prompt: (wrong if llm_id == "bad" else right)(prompt)) as server:
        server.scripts = dict.fromkeys(("good", "bad", "judge", "other"), "ok")
        yield server


@pytest.fixture
def asked(tmp_path: Path, fake: FakeEndpoint, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> AskedNight:
    return AskedNight(tmp_path, fake, migrated, monkeypatch)


def calls_of(fake: FakeEndpoint, work) -> int:
    before = sum(fake.calls.values())
    work()
    return sum(fake.calls.values()) - before


def opened(asked: AskedNight) -> Workspace:
    return Workspace(load_settings(asked.folder / "uniroute.toml"))


def prune(asked: AskedNight) -> None:
    with opened(asked) as workspace:
        later = datetime.now(UTC) + timedelta(days=9)
        assert workspace.registry.pruning.prune(Retention(1, None), later, actor="t").completions


def means(asked: AskedNight, llm_id: str) -> dict[str, float]:
    """Return an LLM's mean score by grader, canaries included."""
    with sqlite3.connect(asked.folder / "home" / "registry.db") as connection:
        rows = connection.execute(
            "SELECT p.grader, AVG(o.score) FROM outcome o JOIN llm l ON l.id = o.llm_id "
            "JOIN protocol p ON p.id = o.protocol_id WHERE l.llm_id = ? GROUP BY p.grader",
            (llm_id,),
        ).fetchall()
    connection.close()
    return dict(rows)


def newer(monkeypatch: pytest.MonkeyPatch, grader: object = None) -> None:
    monkeypatch.setitem(GRADERS, "choice", grader or StrictGrader())


def test_a_newer_grader_asks_no_llm_anything_and_the_scores_are_its_own(asked, fake, monkeypatch):
    asked.prepare("good", "bad", night=QUIET).run()
    tokens = asked.rows("o.input_tokens, o.output_tokens, o.cost_picousd, o.latency_s, o.asked_at", "good")
    newer(monkeypatch)
    reports = []
    assert calls_of(fake, lambda: reports.append(asked.run(SECOND))) == 0
    (report,) = reports
    assert (report.plan.calls, report.plan.complete, report.spent_usd) == (0, 2, 0)
    scores = means(asked, "good")
    assert scores[ChoiceGrader().label] == 1.0
    assert scores["choice/99"] == 0.75, "every fourth reference is A"
    again = asked.rows("o.input_tokens, o.output_tokens, o.cost_picousd, o.latency_s, o.asked_at", "good")
    assert sorted(again) == sorted(tokens * 2), "what was measured stays"
    assert calls_of(fake, lambda: asked.run(THIRD)) == 0


def test_answers_stored_with_no_tokens_route_nothing_until_they_are_estimated_with_their_grade(
    asked, fake, monkeypatch
):
    """As earlier releases stored what an endpoint without usage reported: its LLM seemed to cost nothing."""
    asked.prepare("good", "bad", night=QUIET).run()
    with sqlite3.connect(asked.folder / "home" / "registry.db") as connection:
        connection.execute(
            "UPDATE outcome SET input_tokens = 0, output_tokens = 0, cost_picousd = 0, usage_flags = NULL "
            "WHERE llm_id = (SELECT id FROM llm WHERE llm_id = 'good')"
        )
    connection.close()
    found = []
    asked.run(SECOND, lambda night: found.append(candidate(night)))
    newer(monkeypatch)
    assert calls_of(fake, lambda: asked.run(THIRD, lambda night: found.append(candidate(night)))) == 0
    assert [one.router.keys for one in found] == [("fake:bad",), ("fake:bad", "fake:good")]
    assert found[0].left_out[0][1].startswith("its endpoint reported no tokens")
    rows = asked.rows("o.input_tokens > 0 AND o.output_tokens > 0 AND o.cost_picousd > 0, o.usage_flags", "good")
    assert sorted(set(rows), key=repr) == [(0, None), (1, "few_input few_output")]
    assert asked.run(THIRD).spent_usd == 0, "what is estimated later is not spent again"


def test_the_digest_and_the_terminal_say_which_llms_moved_and_by_how_much(asked, monkeypatch):
    asked.prepare("good", "bad", night=QUIET).run()
    newer(monkeypatch)
    report = asked.run(SECOND)
    assert [(one.llm_key, one.regraded, one.before, one.after) for one in report.regraded] == [
        ("fake:bad", 40, 0.0, 0.0),
        ("fake:good", 40, 1.0, 0.75),
    ]
    assert "- regraded: 80 stored answers of 2 LLMs by newer graders; scores moved: fake:good -0.2500" in digest(report)
    assert "-0.2500" in ending_text(report)
    assert asked.run(THIRD).regraded == (), "said once"


def test_a_plan_shows_what_would_be_graded_again_and_keeps_nothing(asked, monkeypatch):
    asked.prepare("good", night=QUIET).run()
    newer(monkeypatch)
    seen = []
    asked.patch.setattr(stages, "regrade", lambda night: seen.append(stages.plan(night)))
    report = asked.run(SECOND)
    (plan,) = seen
    assert [(one.by_rule, one.by_judge, one.kept) for one in plan.regrades] == [(40, 0, 0)]
    assert "regrades: 40 stored answers by newer graders, without a call" in plan_text(report)
    assert report.plan.calls == 0
    assert len(asked.rows("o.score", "good")) == 40, "a plan stores nothing"


def test_a_jump_of_scores_is_no_drift(asked, fake, monkeypatch):
    asked.prepare("good", night="canary_prompts = 20").run()
    newer(monkeypatch)
    report = asked.run(SECOND)
    (canary,) = report.canaries
    assert (canary.asked, canary.pairs, canary.worse, canary.better, canary.is_drifted) == (20, 20, 0, 0, False)
    assert report.quarantined == report.drifted == ()


def test_grades_that_stay_because_texts_are_gone_are_used_and_not_compared_with_new_ones(asked, fake, monkeypatch):
    asked.prepare("good", night="canary_prompts = 20").run()
    prune(asked)
    newer(monkeypatch)
    reports = []
    assert calls_of(fake, lambda: reports.append(asked.run(SECOND))) == 20, "canaries, and nothing else"
    (report,) = reports
    assert [(one.regraded, one.kept, one.change) for one in report.regraded] == [(0, 40, 0.0)]
    assert "- earlier grades kept: 40 answers whose text is gone" in digest(report)
    assert means(asked, "good")["choice/99"] < 1.0, "the canaries, under the new grader"
    assert not report.canaries[0].is_drifted
    assert asked.run(THIRD).canaries[0].worse == 0
    fake.answer = lambda llm_id, prompt: wrong(prompt)
    (canary,) = asked.run("2024-09-04").canaries
    assert (canary.pairs, canary.is_drifted) == (20, True), "compared with the first canaries under the new grader"
    assert set(asked.rows("o.score, o.is_old_grade", "good")) >= {(1.0, 1)}


def test_an_answer_that_the_newer_grader_cannot_grade_keeps_its_grade(asked, fake, monkeypatch):
    class Crashing(ChoiceGrader):
        version = "99"

        def _graded(self, *given):
            raise ZeroDivisionError

    asked.prepare("good", night=QUIET).run()
    monkeypatch.setattr(regrading, "log_event", lambda *_a, **_k: None)
    newer(monkeypatch, Crashing())
    asked.patch.setattr("flows.night.context.check_grader", lambda *_: None)
    assert calls_of(fake, lambda: asked.run(SECOND)) == 0
    assert means(asked, "good") == {ChoiceGrader().label: 1.0, "choice/99": 1.0}
    newer(monkeypatch, type("Fixed", (StrictGrader,), {"version": "100"})())
    assert calls_of(fake, lambda: asked.run(THIRD)) == 0
    assert means(asked, "good")["choice/100"] == 0.75


def test_what_was_graded_before_an_interruption_is_not_graded_again(asked, fake, monkeypatch):
    asked.prepare("good", "bad", night=QUIET).run()
    newer(monkeypatch)
    monkeypatch.setattr(stored_answers, "_AT_ONCE", 15)
    reached = []

    def die(point: str) -> None:
        reached.append(point)
        if len(reached) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(regrading.crash_points, "reach", lambda point: die(point) if point == "grades stored" else None)
        with pytest.raises(KeyboardInterrupt):
            asked.run(SECOND)
    graded = []
    strict = StrictGrader.grade
    monkeypatch.setattr(StrictGrader, "grade", lambda self, *given: graded.append(given) or strict(self, *given))
    reports = []
    assert calls_of(fake, lambda: reports.append(asked.run(SECOND))) == 0
    assert len(graded) == 80 - (15 + 15 + 10 + 15)
    assert [one.regraded for one in reports[0].regraded] == [40, 40], "the digest counts both attempts"


def test_a_night_that_is_stopped_while_it_regrades_keeps_what_it_has(asked, monkeypatch):
    asked.prepare("good", "bad", night=QUIET).run()
    newer(monkeypatch)
    monkeypatch.setattr(stored_answers, "_AT_ONCE", 10)
    monkeypatch.setattr(Interruption, "is_requested", property(lambda _: next(stopped)))
    stopped = iter([False, True])
    with opened(asked) as workspace:
        (moved,) = regrading.regrade_by_rule(Night(workspace, datetime.now(UTC).date()), None)
        assert (moved.llm_key, moved.regraded) == ("fake:bad", 10)
        assert workspace.registry.outcomes.score_moves() == (moved,)


@pytest.fixture
def judged(asked: AskedNight, fake: FakeEndpoint) -> AskedNight:
    """A night whose answers a judge graded; the next one has another judge."""
    fake.answer = lambda llm_id, prompt: (obliging_judge if "\nBEGIN " in prompt else right)(prompt)
    asked.prepare("good", "judge", "other", grader="judge", more=JUDGE, n_prompts=24, night=QUIET)
    asked.run()
    return asked


def another_judge(asked: AskedNight, **sections: str) -> AskedNight:
    more = '[judge]\nllm = "fake:other"\n'
    with opened(asked) as workspace:
        now = datetime.now(UTC)
        workspace.registry.llms.set_status("fake:judge", "excluded", "it judged", actor="ann", now=now)
    return asked.prepare("good", "other", grader="judge", more=more, n_prompts=24, night=QUIET, **sections)


def test_a_new_judge_grades_stored_answers_and_the_llm_is_not_asked(judged, fake):
    calls = dict(fake.calls)
    report = another_judge(judged).run(SECOND)
    assert fake.calls["good"] == calls["good"]
    assert fake.calls["other"] - calls.get("other", 0) == 24 + 24, "its check, and every stored answer once"
    assert [(one.by_rule, one.by_judge) for one in report.plan.regrades] == [(0, 24)]
    assert f"24 stored answers by the judge, at most ${report.plan.regrades[0].worst_usd:.2f}" in plan_text(report)
    assert report.unjudged == ()
    assert set(judged.rows("o.score, o.failure", "good")) == {(1.0, None)}
    n_calls, cost, reserved = charges(judged)["other", "judge"]
    assert (n_calls, reserved) == (48, 0)
    assert cost == round(report.spent_usd * 10**12)
    assert calls_of(fake, lambda: judged.run(THIRD)) == 0


def test_judging_again_stays_within_the_budget_and_the_next_night_continues(judged, fake):
    calls = dict(fake.calls)
    n_calls, cost, _ = charges(judged)["judge", "judge"]
    with opened(another_judge(judged)) as workspace:
        (planned,) = regrading.planned_regrades(Night(workspace, datetime.now(UTC).date()))
    # Enough for the check of the judge, and then for the worst case of one judgement after five real ones.
    ceiling = float(planned.worst_usd) / 24 + 29 * cost / n_calls / 10**12
    report = another_judge(judged, budget=f"night_usd = {ceiling:.6f}").run(SECOND)
    judged_now = fake.calls["other"] - calls.get("other", 0) - 24
    assert 0 < judged_now < 24
    assert fake.calls["good"] == calls["good"]
    (left,) = report.unjudged
    assert (left.llm_key, left.answers) == ("fake:good", 24 - judged_now)
    assert any("wait for the judge" in line and f"{ceiling:.6f}".rstrip("0") in line for line in report.attention), (
        report.attention
    )
    assert float(report.spent_usd) <= ceiling
    another_judge(judged).run(THIRD)
    assert fake.calls["good"] == calls["good"]
    assert fake.calls["other"] - calls.get("other", 0) == 24 + 24 + 24, "two checks, and every stored answer once"


def test_a_judge_without_verdicts_costs_what_it_costs_and_the_answers_go_on_waiting(judged, fake):
    calls = dict(fake.calls)
    seen = []

    def answer(llm_id: str, prompt: str) -> str:
        seen.append(prompt)
        return obliging_judge(prompt) if len(seen) <= 24 else "Well."

    fake.answer = answer
    report = another_judge(judged).run(SECOND)
    assert (report.unjudged[0].answers, report.unjudged[0].reason) == (24, "the judge gave no verdict")
    assert charges(judged)["other", "judge"][0] == 48
    assert fake.calls["good"] == calls["good"]


def as_of_0005(registry: Path) -> None:
    """Rewrite a registry as the release before would have left it."""
    old = registry.with_name("old.db")
    database = Database(f"sqlite:///{old}", create=True)
    with database.migration() as unit:
        Schema(database).upgrade(unit, "0005")
    database.close()
    with sqlite3.connect(old) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("ATTACH ? AS new", (str(registry),))
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in (name for name in names if name not in ("schema_file", "uniroute_alembic_version")):
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({name})"))
            connection.execute(f"DELETE FROM {name}") if name == "ledger_head" else None
            connection.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM new.{name}")
    connection.close()
    for suffix in ("", "-wal", "-shm"):
        registry.with_name(registry.name + suffix).unlink(missing_ok=True)
    old.rename(registry)


@pytest.mark.parametrize("is_newer", [False, True], ids=["the same graders", "newer graders"])
def test_upgrading_a_registry_of_the_release_before_asks_nobody_anything(asked, fake, monkeypatch, is_newer):
    asked.prepare("good", "bad", night=QUIET).run()
    as_of_0005(asked.folder / "home" / "registry.db")
    if is_newer:
        newer(monkeypatch)
    with opened(asked) as workspace:
        check(workspace)
    assert calls_of(fake, lambda: asked.run(SECOND)) == 0
    as_it_was = "o.usage_flags, CASE WHEN o.regraded_at IS NULL THEN o.is_unreadable END"
    assert set(asked.rows(as_it_was, "good")) == {(None, None)}, "unknown, not 0"
    assert len(asked.rows("o.score", "good")) == 40 * (1 + is_newer)
