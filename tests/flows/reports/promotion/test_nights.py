"""A night leaves the report of its promotion: kept, published, and the same when it is computed again."""

import json
from dataclasses import replace
from pathlib import Path

from flows.config.loading import load_settings
from flows.reports.attention import attention_lines
from flows.reports.promotion.reviews import build_review, kept_review, subject_of
from flows.workspace import Workspace
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.tiny_night import FIRST, LLMS, SECOND, TinyNight, answer
from tests.flows.cli.test_hostile import report_of


def test_a_night_keeps_publishes_and_reproduces_the_report_of_its_promotion(tmp_path: Path, template: Path) -> None:
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as endpoint:
        night = TinyNight.prepare(tmp_path / "night", endpoint, template)
        assert [night.run(FIRST), night.run(SECOND)] == [0, 0], night.output()
    with Workspace(load_settings(night.folder / "uniroute.toml")) as workspace:
        promotion = workspace.registry.promotions.find("champion")
        record = workspace.registry.routers.get("champion")
        page = kept_review(workspace, promotion)
        assert page is not None
        review = build_review(workspace, subject_of(promotion))
        assert review.digest == promotion.report_digest
        workspace.publisher.client.download_artifacts(record.mlflow_run_id, "review.html", str(tmp_path))
        assert (tmp_path / "review.html").read_bytes() == page.read_bytes()
        assert [effect.key for effect in review.evidence.effects] == ["fake:good"]
        assert [check.name for check in review.evidence.checks if not check.passed] == []
        run = workspace.registry.runs.get(record.run_id)
        assert json.loads(run.summary_json)["router"]["review"] == str(page)
        first = workspace.registry.promotions.get(1)
        assert build_review(workspace, subject_of(first)).digest == first.report_digest, "later nights change nothing"


def test_a_report_that_could_not_be_made_is_one_line_of_attention() -> None:
    report = report_of("east:llm")
    assert report.router is not None
    lines = attention_lines(replace(report, router=replace(report.router, review_error="the disk is full")))
    assert set(lines) - set(attention_lines(report)) == {
        "no promotion report: the disk is full; the gate decided without it"
    }
