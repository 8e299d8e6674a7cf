"""Promotion reports as people get them: from a registry with real answers, kept by digest, and found again."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.promotion.decisions import approve
from flows.reports.promotion.gathering import Gathering
from flows.reports.promotion.reviews import attempt_review, build_review, kept_review, subject_of
from flows.versions.store import REVIEW, publication_folder, router_folder
from flows.workspace import Workspace
from registry.errors import RegistryCorrupt
from registry.promotions import Promotion
from tests.commands import Uniroute
from tests.fakes.promoted import BY, REQUESTED_AT, promoted_home, settings_of


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Make a home folder with a pending promotion, once; return it and the promotion's number."""
    home = tmp_path_factory.mktemp("asked") / "home"
    with promoted_home(home) as (_, promotion):
        return home, promotion.id


@pytest.fixture(scope="module")
def asked(template: tuple[Path, int]) -> Iterator[tuple[Workspace, Promotion]]:
    """That home folder, to read only."""
    home, number = template
    with Workspace(settings_of(home)) as workspace:
        yield workspace, workspace.registry.promotions.get(number)


@pytest.fixture
def own(template: tuple[Path, int], tmp_path: Path) -> Iterator[tuple[Workspace, Promotion]]:
    """A copy of it, to change."""
    home, number = template
    shutil.copytree(home, tmp_path / "home")
    with Workspace(settings_of(tmp_path / "home")) as workspace:
        yield workspace, workspace.registry.promotions.get(number)


def page_of(workspace: Workspace, promotion: Promotion) -> Path:
    return publication_folder(workspace, promotion.router_digest) / REVIEW[0]


def test_a_request_keeps_the_page_and_the_promotion_names_its_digest(asked):
    workspace, promotion = asked
    page = page_of(workspace, promotion)
    assert promotion.report_digest == hashlib.sha256(page.read_bytes()).hexdigest()
    assert kept_review(workspace, promotion) == page
    (requested,) = workspace.registry.ledger.events(subject=promotion.router_digest, event="router:promotion:requested")
    assert json.loads(requested.payload_json)["report_digest"] == promotion.report_digest
    short = page.with_name(REVIEW[1]).read_text()
    assert promotion.report_digest in short
    assert len(short.encode()) < 60_000


def test_the_page_is_computed_again_byte_for_byte_from_what_the_registry_holds(asked):
    workspace, promotion = asked
    review = build_review(workspace, subject_of(promotion))
    assert review.digest == promotion.report_digest
    assert build_review(workspace, subject_of(promotion)).html == review.html


def test_what_is_decided_later_does_not_change_the_page(own):
    workspace, promotion = own
    applied = approve(workspace, promotion.id, by=BY, reason="looked at it", clock=lambda: REQUESTED_AT).promotion
    assert (applied.status, applied.report_digest) == ("applied", promotion.report_digest)
    assert build_review(workspace, subject_of(applied)).digest == promotion.report_digest


def test_the_page_says_what_the_gate_stored_and_what_the_challenger_brings(asked):
    workspace, promotion = asked
    review = build_review(workspace, subject_of(promotion))
    evidence, stored = review.evidence, json.loads(promotion.gate.details_json)
    assert [check.name for check in evidence.checks] == [check["name"] for check in stored["checks"]]
    assert evidence.headline.score_at_equal_cost.mean == stored["metrics"]["score_difference_at_equal_cost"]
    assert evidence.headline.route_change.mean == pytest.approx(stored["route_change"])
    assert evidence.challenger.score == pytest.approx(stored["metrics"]["score"])
    assert [effect.key for effect in evidence.effects] == ["sandbox:fresh"]
    (newcomer,) = evidence.new_llms
    # Three roles of a set of 200 prompts: 80 of them; answers cut at max_tokens are every fiftieth prompt.
    assert (newcomer.n_asked, newcomer.n_scored, newcomer.failures) == (80, 80, ())
    assert 0 < newcomer.n_cut < 5
    assert newcomer.latency_p50_s < newcomer.latency_p95_s
    assert newcomer.gap.n_known == 20
    assert not any("trust neither" in sentence for sentence in evidence.limitations)


def test_hidden_prompts_are_shown_nowhere(asked):
    workspace, promotion = asked
    text = page_of(workspace, promotion).read_text() + page_of(workspace, promotion).with_name(REVIEW[1]).read_text()
    prompt_set = workspace.registry.prompts.get(
        workspace.registry.routers.get(promotion.router_digest).prompt_set_digest
    )
    assert any(prompt.text in text for prompt in prompt_set.with_role("gate"))
    hidden = prompt_set.with_role("hidden")
    assert not any(prompt.text in text for prompt in hidden)
    inputs = Gathering(workspace, subject_of(promotion)).inputs()
    assert not {prompt.digest for prompt in hidden} & {prompt.digest for prompt in inputs.known_prompts}


def test_a_changed_page_is_not_decided_on(own):
    workspace, promotion = own
    page = page_of(workspace, promotion)
    page.write_bytes(page.read_bytes().replace(b"Gate", b"Gate ", 1))
    assert kept_review(workspace, promotion) is None
    with pytest.raises(RegistryCorrupt, match="is not the one that was kept"):
        approve(workspace, promotion.id, by=BY, reason="looked at it", clock=lambda: REQUESTED_AT)


def test_an_earlier_page_stays_under_its_digest(own):
    workspace, promotion = own
    page = page_of(workspace, promotion)
    page.write_bytes(b"another page")
    attempt_review(workspace, subject_of(promotion))
    (earlier,) = page.parent.glob("review-*.html")
    assert earlier.read_bytes() == b"another page"
    assert earlier.stem == f"review-{hashlib.sha256(b'another page').hexdigest()[:12]}"
    assert kept_review(workspace, promotion) == page


def test_a_page_that_cannot_be_written_is_reported_and_loses_nothing(own):
    workspace, promotion = own
    folder = page_of(workspace, promotion).parent
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_text("a file where a folder should be")
    attempt = attempt_review(workspace, subject_of(promotion))
    assert attempt.digest is None and attempt.path is None
    assert attempt.error.startswith("FileExistsError")


def test_the_command_line_gives_the_very_page_and_says_that_it_is_what_was_reviewed(
    own, uniroute: Uniroute, monkeypatch
):
    workspace, promotion = own
    monkeypatch.setenv("UNIROUTE_HOME", str(workspace.home))
    for name in (str(promotion.id), promotion.router_digest[:12]):
        ended = uniroute("report", "promotion", name, "--json")
        assert ended.code == 0, ended.err
        assert ended.data["is_reproduced"] and ended.data["is_what_was_reviewed"]
        assert ended.data["digest"] == ended.data["reviewed_digest"] == promotion.report_digest
        assert hashlib.sha256(Path(ended.data["path"]).read_bytes()).hexdigest() == promotion.report_digest
    assert ended.data["bytes"] < 2_000_000


def test_the_command_line_prefers_what_was_reviewed_and_refuses_to_pass_another_page_for_it(
    own, uniroute: Uniroute, monkeypatch
):
    workspace, promotion = own
    monkeypatch.setenv("UNIROUTE_HOME", str(workspace.home))
    monkeypatch.setattr("flows.reports.promotion.wording.title", lambda _evidence: "Drawn by a later version")
    monkeypatch.setattr("flows.reports.promotion.page.title", lambda _evidence: "Drawn by a later version")
    ended = uniroute("report", "promotion", str(promotion.id), "--json")
    assert (ended.code, ended.data["is_reproduced"], ended.data["is_what_was_reviewed"]) == (0, False, True)
    assert Path(ended.data["path"]).read_bytes() == page_of(workspace, promotion).read_bytes()
    page_of(workspace, promotion).unlink()
    ended = uniroute("report", "promotion", str(promotion.id), "--json")
    assert (ended.code, ended.data["is_what_was_reviewed"]) == (5, False)
    assert any("is not what the reviewer saw" in line for line in json.loads(ended.out)["warnings"])


def test_what_can_no_longer_be_computed_is_given_as_it_was_kept(own, uniroute: Uniroute, monkeypatch):
    workspace, promotion = own
    monkeypatch.setenv("UNIROUTE_HOME", str(workspace.home))
    shutil.rmtree(router_folder(workspace, promotion.router_digest))
    ended = uniroute("report", "promotion", str(promotion.id), "--json")
    assert (ended.code, ended.data["is_reproduced"], ended.data["is_what_was_reviewed"]) == (0, False, True)
    assert Path(ended.data["path"]).read_bytes() == page_of(workspace, promotion).read_bytes()
    assert uniroute("report", "promotion", str(promotion.id), "--format", "markdown").out.startswith("## Router 2")
    page_of(workspace, promotion).unlink()
    refused = uniroute("report", "promotion", str(promotion.id))
    assert refused.out == "" and refused.code != 0


def test_every_form_is_printed_or_written_where_asked(own, uniroute: Uniroute, monkeypatch, tmp_path):
    workspace, promotion = own
    monkeypatch.setenv("UNIROUTE_HOME", str(workspace.home))
    markdown = uniroute("report", "promotion", str(promotion.id), "--format", "markdown")
    assert markdown.out.startswith("## Router 2")
    data = uniroute("report", "promotion", str(promotion.id), "--format", "json").data
    assert data["evidence"]["challenger"]["digest"] == promotion.router_digest
    out = tmp_path / "deep" / "page.html"
    assert uniroute("report", "promotion", str(promotion.id), "--out", str(out)).out == f"{out}\n"
    assert hashlib.sha256(out.read_bytes()).hexdigest() == promotion.report_digest
    refused = uniroute("report", "promotion", str(promotion.id), "--out", str(workspace.home / "registry.db" / "x"))
    assert (refused.code, refused.out) == (78, "")


def test_what_was_never_compared_has_no_report(own, uniroute: Uniroute, monkeypatch):
    workspace, promotion = own
    monkeypatch.setenv("UNIROUTE_HOME", str(workspace.home))
    approve(workspace, promotion.id, by=BY, reason="looked at it", clock=lambda: REQUESTED_AT)
    back = workspace.registry.promotions.rollback(actor="ann", reason="back", now=REQUESTED_AT)
    refused = uniroute("report", "promotion", str(back.id))
    assert (refused.code, refused.out) == (2, "")
    assert "nothing was compared" in refused.err
    assert uniroute("report", "promotion", "99").code == 2
