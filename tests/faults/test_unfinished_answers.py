"""Answers that are none: one night with LLMs that break off, are forbidden, refuse a parameter or say nothing."""

import pytest

from tests.fakes.endpoint import FakeEndpoint, FakeReply, completion
from tests.faults.asked_night import SECOND, AskedNight, candidate, right

EMPTY_USAGE = {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12}


def broken_off(request):
    """Break off every other answer without an error object."""
    document = completion(request, right(request.prompt))
    document["choices"][0]["finish_reason"] = "error"
    return FakeReply(document) if int(request.prompt.split()[1]) % 2 else None


def region(request):
    return FakeReply({"error": {"message": "This model is not available in your region."}}, status=403)


def without_temperature(request):
    error = {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."}
    return FakeReply({"type": "error", "error": error}, status=400) if "temperature" in request.body else None


def in_parts(request):
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "The answer is (Z)."}]}
    return FakeReply(completion(request, [thinking, {"type": "text", "text": right(request.prompt)}]))


def silent(request):
    """Say nothing in the ways that servers have: no tokens, reasoning alone, tokens without text."""
    number = int(request.prompt.split()[1]) % 3
    reasoned = completion(request, None)
    reasoned["choices"][0]["message"]["reasoning_content"] = "Hm."
    return FakeReply(
        [completion(request, "", usage=EMPTY_USAGE), reasoned, completion(request, "<think>Hm.</think>")][number]
    )


REPLIES = {
    "broken": broken_off,
    "region": region,
    "opus": without_temperature,
    "magistral": in_parts,
    "silent": silent,
    "honest": lambda request: None,
}


@pytest.fixture(scope="module")
def night(tmp_path_factory, migrated):
    with FakeEndpoint(lambda llm_id, prompt: right(prompt)) as fake, pytest.MonkeyPatch.context() as patch:
        fake.scripts, fake.replies = dict.fromkeys(REPLIES, "ok"), dict(REPLIES)
        asked = AskedNight(tmp_path_factory.mktemp("unfinished"), fake, migrated, patch)
        asked.prepare(*REPLIES, n_prompts=60, endpoint="concurrency = 2")
        routed = []
        report = asked.run(look=lambda night: routed.extend(candidate(night).router.keys))
        yield asked, {found.llm_key.partition(":")[2]: found for found in report.profiles}, report, routed


def test_answers_that_something_else_ended_are_failures_and_leave_the_llm_out(night):
    asked, profiles, _, routed = night
    assert profiles["broken"].coverage == pytest.approx(0.5, abs=0.1)
    assert set(asked.rows("o.score, o.failure", "broken")) == {(1.0, None), (None, "interrupted")}
    assert "fake:broken" not in routed


def test_answers_that_are_billed_and_not_given_are_booked(night):
    asked, profiles, _, _ = night
    rows = asked.rows("o.failure, o.attempts, o.cost_picousd", "broken")
    assert {attempts * 15 * 10**6 for failure, attempts, _ in rows if failure} == {
        cost for failure, _, cost in rows if failure
    }
    assert profiles["broken"].spent_usd > profiles["honest"].spent_usd


def test_one_forbidden_llm_leaves_all_others_to_be_profiled(night):
    _, profiles, report, routed = night
    assert (profiles["region"].stopped_for, profiles["region"].asked) == ("forbidden", 1)
    assert any("fake:region is incomplete" in line and "does not let this key use" in line for line in report.attention)
    assert sorted(routed) == ["fake:honest", "fake:magistral", "fake:opus"]


def test_an_llm_that_refuses_a_parameter_in_words_is_profiled_without_it(night):
    _, profiles, _, _ = night
    assert (profiles["opus"].coverage, profiles["opus"].mean_score) == (1.0, 1.0)
    assert profiles["opus"].downgrades == ("temperature",)


def test_reasoning_parts_are_not_graded(night):
    _, profiles, _, _ = night
    assert (profiles["magistral"].coverage, profiles["magistral"].mean_score) == (1.0, 1.0)


def test_twenty_empty_answers_in_a_row_stop_and_quarantine_an_llm(night):
    asked, profiles, report, _ = night
    silent = profiles["silent"]
    assert silent.stopped_for == "empty" and silent.coverage < 1.0
    assert 20 <= silent.asked <= 24, "calls in flight are finished"
    assert {failure for (failure,) in asked.rows("o.failure", "silent")} == {"empty", None}
    (found,) = report.quarantined
    assert (found.llm_key, found.reason) == ("fake:silent", "does not answer: it gave 20 empty answers in a row")
    assert any("fake:silent is incomplete" in line and "20 empty answers" in line for line in report.attention)
    assert any("uniroute llm include fake:silent" in line for line in report.attention)


def test_a_silent_llm_is_not_asked_in_the_next_night(night):
    asked, *_ = night
    before = asked.fake.calls["silent"]
    report = asked.run(SECOND)
    assert asked.fake.calls["silent"] == before
    assert "fake:silent" not in {found.llm_key for found in report.profiles}
