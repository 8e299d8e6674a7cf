"""Endpoints that misbehave: nothing they do counts as a wrong answer, and nothing they do brings down the night."""

import asyncio
import time

import numpy as np
import pytest
from click.testing import CliRunner

from flows.cli.llm import llm as llm_commands
from flows.endpoints.completion import NotACompletion, is_the_llm_asked_for, parse_body, read_answer
from flows.errors import CredentialsMissing, EndpointError
from flows.night.context import Night
from tests.fakes.endpoint import STEPS, FakeEndpoint
from tests.faults.asked_night import FIRST, SECOND, THIRD, AskedNight, candidate, require_answers, right, wrong
from tests.flows.endpoints.test_client import CANARY, Waits, ask, ask_one, ask_together, endpoint


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
def fake():
    with FakeEndpoint(lambda llm_id, prompt: right(prompt), drip_s=0.02) as server:
        yield server


@pytest.fixture
def bare():
    with FakeEndpoint(drip_s=0.02) as server:
        yield server


@pytest.fixture
def asked(tmp_path, fake, migrated, monkeypatch):
    return AskedNight(tmp_path, fake, migrated, monkeypatch)


def is_hit(prompt: str) -> bool:
    """Choose one prompt in five, too few for a circuit to open."""
    return int(prompt.split()[1]) % 5 == 0


@pytest.mark.parametrize(
    ("script", "least_s"), [("429,ok", 0), ("429@1,ok", 1), ("429@date,ok", 0.5), ("429@-5,ok", 0)]
)
def test_f28_a_call_waits_as_long_as_the_endpoint_asks(bare, waits, script, least_s):
    assert ask_one(bare, script, waits).attempts == 2
    assert least_s <= max(waits.seconds) < least_s + 2


def test_f28_a_wait_of_an_hour_is_a_failure_and_not_a_wrong_answer(asked, fake):
    fake.scripts = {"busy": "429@3600"}
    report = asked.prepare("busy").run()
    assert set(asked.rows("o.score, o.failure", "busy")) == {(None, "rate_limited")}
    assert (report.profiles[0].scored, report.profiles[0].mean_score) == (0, None)


def test_f28_an_llm_that_is_limited_for_good_is_left_for_the_next_night_and_the_others_are_not(asked, fake):
    fake.scripts = {"busy": "429@0.05", "free": "ok"}
    report = asked.prepare("busy", "free", night="canary_prompts = 0\nllm_patience_s = 0.3").run()
    found = {profile.llm_key: profile for profile in report.profiles}
    assert found["fake:busy"].stopped_for == "rate_limited" and found["fake:free"].coverage == 1.0
    assert fake.calls["busy"] < 160, "four attempts at each of 40 prompts would take much longer than patience"
    assert any("busy" in line and "left for the next night" in line for line in report.attention)
    fake.scripts["busy"] = "ok"
    assert asked.run(SECOND).profiles[0].coverage == 1.0


def test_a_night_that_is_over_asks_nothing_more_and_keeps_what_is_complete(asked, fake, monkeypatch):
    async def slow(server, request, writer):
        await asyncio.sleep(0.05)
        await STEPS["ok"](server, request, writer)

    fake.scripts = {"first": "ok", "second": "slow"}
    monkeypatch.setitem(STEPS, "slow", slow)
    monkeypatch.setattr(Night, "is_over", property(lambda night: fake.calls["first"] == 40))
    asked.prepare("first", "second", endpoint="concurrency = 2", night="canary_prompts = 0\nmax_hours = 8")
    routed = []
    report = asked.run(look=lambda night: routed.append(candidate(night).router.keys))
    found = {profile.llm_key: profile for profile in report.profiles}
    late = found["fake:second"]
    assert late.asked == fake.calls["second"], "calls under way end and count"
    assert (found["fake:first"].coverage, late.stopped_for) == (1.0, "max_hours") and 0 < late.coverage < 1
    assert late.stopped_by == "the night has lasted 8 h, as long as [night] max_hours allows"
    assert routed == [("fake:first",)], "what is complete can be published"
    monkeypatch.undo()
    fake.scripts["second"] = "ok"
    asked.__post_init__()  # the patches of the fixture were undone too
    assert asked.run(SECOND).profiles[0].coverage == 1.0
    assert max(fake.calls_per_prompt.values()) == 1


def test_f29_what_passes_is_retried_and_what_stays_opens_the_circuit_until_the_next_night(asked, fake):
    fake.scripts = {"shaky": "500,reset,ok", "broken": "500"}
    fake.choose = lambda request: None if request.llm_id == "broken" or is_hit(request.prompt) else "ok"
    report = asked.prepare("shaky", "broken", endpoint="concurrency = 2").run()
    found = {profile.llm_key: profile for profile in report.profiles}
    assert found["fake:shaky"].coverage == 1.0
    assert found["fake:broken"].stopped_for == "circuit_open"
    assert fake.calls["broken"] < found["fake:shaky"].asked
    fake.scripts["broken"] = "ok"
    assert asked.run(SECOND).profiles[0].coverage == 1.0


def test_f29_a_port_that_refuses_is_a_failure_of_the_endpoint(waits):
    with FakeEndpoint() as gone:
        pass
    raised = ask_one(gone, "ok", waits)
    assert (raised.kind, raised.attempts) == ("unreachable", 3)


@pytest.mark.parametrize("script", ["hang", "drip", "drip-head"])
def test_f30_the_deadline_holds_from_the_first_to_the_last_byte(bare, waits, script):
    started_s = time.monotonic()
    raised = ask_one(bare, script, waits, timeout_s=0.25)
    assert (raised.kind, raised.attempts) == ("timeout", 2)
    assert time.monotonic() - started_s < 5, "a byte now and then must not start the deadline anew"


@pytest.mark.parametrize(("script", "kind"), [("trunc,trunc,ok", "truncated"), ("sse,sse,ok", "malformed")])
def test_f31_half_an_answer_is_asked_again_and_never_graded(asked, fake, script, kind):
    fake.scripts = {"cut": script}
    asked.prepare("cut", n_prompts=20, endpoint="max_attempts = 2").run()
    assert set(asked.rows("o.score, o.failure, o.attempts", "cut")) <= {(None, kind, 2), (None, kind, 1)}
    # So many failures in a row give the LLM a rest, so that some prompts wait for a further start.
    starts = (asked.run(SECOND).profiles for _ in range(6))
    assert next(found[0] for found in starts if found and found[0].coverage == 1.0).mean_score == 1.0


@pytest.mark.parametrize("script", ["garbled", "empty", "html", "text", "204", "latin1"])
def test_f32_what_is_not_a_completion_is_asked_once_more_and_is_then_malformed(bare, waits, script):
    raised = ask_one(bare, script, waits, max_attempts=9)
    assert (raised.kind, raised.attempts, bare.calls[script]) == ("malformed", 2, 2)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("200!429", "rate_limited"),
        ("200!503", "transient"),
        ("200!401", "refused_auth"),
        ("200!402", "quota"),
        ("choice-error", "transient"),
        ("nochoices", "malformed"),
        ("nullchoices", "malformed"),
        ("200!strange", "malformed"),
    ],
)
def test_f33_an_error_inside_a_200_is_the_error_it_says(bare, waits, script, kind):
    assert ask_one(bare, script, waits).kind == kind


_GREEDY = """
import asyncio, re, sys
from pathlib import Path
from flows.config.settings import EndpointSettings
from flows.endpoints import BoundedEndpoint
from flows.errors import EndpointError

async def ask(script):
    settings = EndpointSettings(name="fake", base_url=sys.argv[1], timeout_s=20, max_attempts=1)
    async with BoundedEndpoint(settings) as opened:
        try:
            return (await opened.complete(script, "x")).text
        except EndpointError as error:
            return error.kind

asyncio.run(ask("ok"))
def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = peak_kib()
kinds = [asyncio.run(ask(script)) for script in ("big", "gzipbomb", "headers", "biglength", "long-headers")]
print(*kinds, (peak_kib() - before) // 1024)
"""


def test_f34_floods_and_bombs_cost_no_memory(bare, in_child):
    out, errors = in_child(_GREEDY, bare.base_url).communicate(timeout=60)
    *kinds, grown_mib = out.split()
    assert kinds == ["too_large", "malformed", "transient", "too_large", "too_large"], errors
    assert int(grown_mib) < 20
    assert bare.bytes_sent < 64 * 2**20


def test_f35_a_redirect_is_named_and_not_followed(bare, waits):
    raised = ask_one(bare, "redirect", waits)
    assert (raised.kind, raised.attempts) == ("redirect", 1)
    assert "169.254.169.254" in raised.message and "token" not in raised.message
    assert CANARY not in str(ask_one(bare, "redirect-with-key", waits))
    with FakeEndpoint(choose=lambda request: "redirect") as elsewhere:
        ask(endpoint(elsewhere, waits), ("ok", "x"))
        assert [request.path for request in elsewhere.requests] == ["/v1/chat/completions"]


def test_f36_a_refused_key_stops_the_endpoint_after_one_call_and_its_echo_is_dropped(asked, fake, monkeypatch):
    monkeypatch.setenv("OUR_TEST_KEY", CANARY)
    fake.scripts = {"one": "401", "two": "401"}
    report = asked.prepare("one", "two", endpoint='api_key_env = "OUR_TEST_KEY"\nconcurrency = 1').run()
    assert sum(fake.calls.values()) == 1
    assert {profile.stopped_for for profile in report.profiles} == {"refused_auth"}
    assert CANARY not in str(report)
    with pytest.raises(CredentialsMissing):
        require_answers(report)


def test_f37_an_endpoint_without_credit_is_left_alone_and_others_continue(asked, fake):
    fake.scripts = {"poor": "402", "rich": "ok"}
    second = (
        f'[[endpoint]]\nname = "other"\nbase_url = "{fake.base_url}"\nmax_tokens = 64\n'
        '[[catalog]]\nname = "theirs"\nkind = "toml"\nlocation = "llms.toml"\nendpoint = "other"\ninclude = ["rich"]\n'
    )
    report = asked.prepare("poor", endpoint="concurrency = 1", more=second).run()
    (asked.folder / "llms.toml").write_text(
        (asked.folder / "llms.toml").read_text()
        + '[[llm]]\nid = "rich"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n'
    )
    report = asked.run(SECOND)
    found = {profile.llm_key: profile for profile in report.profiles}
    assert found["other:rich"].coverage == 1.0
    assert found["fake:poor"].stopped_for == "quota" and found["fake:poor"].coverage == 0.0
    assert any("fake:poor is incomplete" in line and "no credit" in line for line in report.attention)


def test_f38_an_llm_gone_from_its_endpoint_is_masked_at_once_and_withdrawn_on_the_second_night(asked, fake):
    fake.scripts = {"gone": "ok", "stays": "ok"}
    seen = []

    def look(night):
        router = candidate(night).router
        seen.append((router.keys, night.registry.llms.get("fake:gone").status))

    asked.prepare("gone", "stays", night="canary_prompts = 10", endpoint="concurrency = 1").run(FIRST, look)
    fake.scripts["gone"] = "404"
    before = fake.calls["gone"]
    report = asked.run(SECOND, look)
    assert fake.calls["gone"] == before + 1, "an LLM that is not there is asked once"
    assert any("fake:gone is unknown to its endpoint" in line for line in report.attention)
    asked.run(THIRD, look)
    both, one = ("fake:gone", "fake:stays"), ("fake:stays",)
    assert seen == [(both, "available"), (one, "available"), (one, "withdrawn")]
    assert {score for (score,) in asked.rows("o.score", "gone")} == {1.0, None}, "nothing counts as wrong"


def test_f38_what_an_endpoint_neither_lists_nor_knows_is_withdrawn_the_same_night(asked, fake):
    fake.scripts = {"gone": "ok", "stays": "ok"}
    asked.prepare("gone", "stays", night="canary_prompts = 10", endpoint="concurrency = 1").run(FIRST)
    fake.scripts["gone"] = "404"
    seen = []
    report = asked.run(SECOND, lambda night: seen.append(night.registry.llms.get("fake:gone")), ("fake:gone",))
    assert [(one.llm_key, one.is_withdrawn) for one in report.absent] == [("fake:gone", True)]
    (found,) = seen
    assert (found.status, found.status_reason) == ("withdrawn", "its endpoint neither knows it nor lists it any more")


def test_f39_a_refused_parameter_is_dropped_once_and_the_night_says_so(asked, fake):
    fake.scripts = {"picky": "no-temperature", "hopeless": "no-messages"}
    report = asked.prepare("picky", "hopeless", endpoint="concurrency = 1").run()
    found = {profile.llm_key: profile for profile in report.profiles}
    assert found["fake:picky"].coverage == 1.0
    assert found["fake:picky"].downgrades == ("temperature",)
    assert set(asked.rows("o.downgrades, o.failure", "picky")) == {("temperature", None)}, "every answer says so"
    refused = [request for request in fake.requests if request.llm_id == "picky" and "temperature" in request.body]
    assert len(refused) == 1
    assert {failure for (failure,) in asked.rows("o.failure", "hopeless")} == {"unsupported"}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("content-parts", "The answer is (B)."),
        ("content-null", ""),
        ("content-empty", ""),
        ("content-tools", ""),
        ("json-as-text", "x"),
        ("filtered", "moderated"),
        ("content-none", "empty"),
        ("content-reasoned", "empty"),
        ("interrupted", "interrupted"),
        ("content-int", "malformed"),
        ("content-image", "malformed"),
    ],
)
def test_f41_any_content_is_an_answer_or_a_failure_of_its_kind(bare, waits, script, expected):
    outcome = ask_one(bare, script, waits)
    assert (outcome.kind if isinstance(outcome, EndpointError) else outcome.text) == expected


def test_f42_answers_cut_at_max_tokens_are_graded_and_the_profile_is_called_degraded(asked, fake):
    fake.scripts = {"wordy": "length"}
    report = asked.prepare("wordy").run()
    assert set(asked.rows("o.score, o.finish_reason", "wordy")) == {(0.0, "length")}
    assert any("fake:wordy is degraded: 100% of its answers were cut" in line for line in report.attention)


def test_f44_the_answers_of_another_llm_are_not_answers_of_the_one_asked(asked, fake):
    fake.scripts = {"swapped": "othermodel"}
    report = asked.prepare("swapped", endpoint="concurrency = 2").run()
    assert set(asked.rows("o.score, o.failure", "swapped")) == {(None, "substituted")}
    assert {name for (name,) in asked.rows("o.served_llm", "swapped")} == {"another-llm"}
    assert fake.calls["swapped"] <= 4, "no more money is spent on it tonight"
    assert any("another-llm" in line and "accepted_names" in line for line in report.attention)


def test_f44_an_llm_whose_place_another_took_is_quarantined_until_a_person_accepts_it(asked, fake):
    fake.scripts = {"swapped": "othermodel", "honest": "ok"}
    statuses = []

    def look(night):
        statuses.append(night.registry.llms.get("fake:swapped").status)

    report = asked.prepare("swapped", "honest", endpoint="concurrency = 2").run(look=look)
    assert [found.llm_key for found in report.quarantined] == ["fake:swapped"]
    assert any("uniroute llm include fake:swapped" in line for line in report.attention)
    before = fake.calls["swapped"]
    asked.prepare("swapped", "honest", endpoint='accepted_names = ["another-*"]').run(SECOND, look)
    assert fake.calls["swapped"] == before, "a quarantined LLM is not asked"
    config = str(asked.folder / "uniroute.toml")
    done = CliRunner().invoke(llm_commands, ["include", "fake:swapped", "--reason", "the same LLM", "--config", config])
    assert done.exit_code == 0, done.output
    assert asked.run(THIRD, look).profiles[0].coverage == 1.0
    assert statuses == ["quarantined", "quarantined", "available"]


def test_f44_an_llm_that_is_replaced_after_its_profile_is_found_by_its_canaries(asked, fake):
    fake.scripts = {"swapped": "ok", "honest": "ok"}
    asked.prepare("swapped", "honest", night="canary_prompts = 10").run()
    fake.scripts["swapped"] = "othermodel"
    routed = []
    asked.run(SECOND, lambda night: routed.append(candidate(night).router.keys))
    assert routed == [("fake:honest",)]


@pytest.mark.parametrize(
    ("served", "asked_for", "is_same"),
    [
        ("gpt-4o-2024-08-06", "openai/gpt-4o", True),
        ("mistralai/Mistral-7B", "mistral-7b:free", True),
        ("gpt-4o-mini", "gpt-4o", False),
        ("gpt-4", "gpt-4o", False),
        ("", "gpt-4o", False),
        ("llama-3-8b", "llama-3-70b", False),
    ],
)
def test_f44_a_dated_release_is_the_same_llm_and_a_small_one_is_not(served, asked_for, is_same):
    assert is_the_llm_asked_for(served, asked_for, None) is is_same


@pytest.mark.parametrize("script", ["usage-missing", "usage-negative", "usage-absurd", "usage-float"])
def test_f47_impossible_usage_is_estimated_flagged_and_booked(asked, fake, script):
    fake.scripts = {"odd": script}
    report = asked.prepare("odd", n_prompts=20).run()
    rows = asked.rows("o.usage_estimated, o.output_tokens, o.cost_picousd", "odd")
    assert {(flag, tokens) for flag, tokens, _ in rows} == {(1, 10)}
    assert all(cost > 0 for *_, cost in rows) and report.spent_usd > 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":NaN}}',
        b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":Infinity}}',
        b'{"choices":[{"message":{"content":"x","content":"y"}}]}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"1" * 100_000,
        b"\xff\xfe{}",
        b"null",
    ],
)
def test_f48_json_that_python_would_accept_or_crash_on_is_refused(body):
    with pytest.raises(NotACompletion):
        read_answer(parse_body(body), "prompt")


def test_f50_an_llm_that_hangs_leaves_room_for_all_others(asked, fake):
    fake.scripts = {"a-hangs": "hang", **{f"fast{number}": "ok" for number in range(9)}}
    asked.prepare(*fake.scripts, endpoint="concurrency = 4\ntimeout_s = 600", night="batch_size = 8")

    async def until_the_fast_are_done():
        night = asyncio.create_task(asked.run_async())
        # Another thread adds keys meanwhile. Were no room left, pytest's own timeout would end this.
        while sum(key[0] != "a-hangs" for key in list(fake.calls_per_prompt)) < 9 * 32:
            assert not night.done(), "the night waits for the LLM that hangs"
            await asyncio.sleep(0.01)
        night.cancel()
        await asyncio.gather(night, return_exceptions=True)

    asyncio.run(until_the_fast_are_done())
    assert fake.calls["a-hangs"] == 2


def test_f51_what_failed_is_missing_and_moves_no_feature_vector(asked, fake):
    fake.scripts = {"flaky": "ok", "whole": "ok"}
    lost = {"reset", "503", "hang", "garbled", "429@3600"}
    steps = sorted(lost)

    def choose(request):
        number = int(request.prompt.split()[1])
        return steps[number % 5] if request.llm_id == "flaky" and number % 7 == 0 else None

    fake.choose = choose
    fake.answer = lambda llm_id, prompt: (wrong if int(prompt.split()[1]) % 4 == 1 else right)(prompt)
    asked.prepare(
        "flaky",
        "whole",
        n_prompts=80,
        endpoint="max_attempts = 1\ntimeout_s = 2\nconcurrency = 8",
        routing="min_coverage = 0.5",
    )
    vectors = {}

    def look(night):
        for llm in candidate(night).router.llms:
            vectors[llm.key] = llm.vector

    report = asked.run(look=look)
    failed = next(profile.failed for profile in report.profiles if profile.llm_key == "fake:flaky")
    assert failed >= 5
    rows = asked.rows("o.score, o.failure", "flaky")
    assert all((score is None) == (failure is not None) for score, failure in rows)
    flaky, whole = vectors["fake:flaky"], vectors["fake:whole"]
    assert flaky.n_scored < whole.n_scored == whole.n_prompts
    assert flaky.counts.sum() == flaky.n_scored
    np.testing.assert_allclose(flaky.errors @ flaky.counts / flaky.n_scored, 0.25, atol=0.1)


def test_f51_an_llm_that_answered_too_little_is_left_out_and_not_called_wrong(asked, fake):
    fake.scripts = {"flaky": "ok", "whole": "ok"}

    def choose(request):
        # Fewer than 20, which in a row would pause the LLM.
        number = int(request.prompt.split()[1])
        return "garbled" if request.llm_id == "flaky" and number % 3 == 1 else None

    fake.choose = choose
    left_out = []
    asked.prepare("flaky", "whole").run(look=lambda night: left_out.extend(candidate(night).left_out))
    ((llm_key, reason),) = left_out
    assert llm_key == "fake:flaky" and reason.endswith("; failures: 13 malformed")
    assert {score for (score,) in asked.rows("o.score", "flaky")} == {1.0, None}


def test_f51_an_llm_that_answered_too_little_of_one_topic_is_left_out(asked, fake):
    fake.scripts = {"patchy": "ok", "whole": "ok"}

    def choose(request):
        number = int(request.prompt.split()[1])
        return "garbled" if request.llm_id == "patchy" and number % 6 == 0 else None

    fake.choose = choose
    left_out = []
    asked.prepare("patchy", "whole", n_prompts=120, routing='method = "kmeans"\nmin_coverage = 0.75').run(
        look=lambda night: left_out.extend(candidate(night).left_out)
    )
    ((llm_key, reason),) = left_out
    assert llm_key == "fake:patchy" and "prompts of cluster" in reason


def test_f51_an_llm_that_has_a_profile_keeps_it_when_too_few_answers_make_a_new_one(asked, fake):
    fake.scripts = {"patchy": "ok", "whole": "ok"}
    fake.choose = lambda request: "garbled" if request.llm_id == "patchy" and is_hit(request.prompt) else None
    found = []
    for day, least in ((FIRST, "0.7"), (SECOND, "0.95")):
        asked.prepare(
            "patchy", "whole", n_prompts=80, routing=f'method = "kmeans"\nmin_coverage = {least}\nmin_answers = 9'
        )
        asked.run(day, lambda night: found.append(candidate(night)))
    before, now = ({llm.key: llm.vector.errors.tolist() for llm in one.router.llms} for one in found)
    assert [one.carried_over for one in found] == [(), ("fake:patchy",)]
    assert now["fake:patchy"] == before["fake:patchy"]


def test_f52_only_failures_of_the_infrastructure_are_drawn_again(asked, fake):
    fake.scripts = {"wrong": "content-empty,ok", "unlucky": "500,content-empty,ok"}
    fake.choose = lambda request: None if request.llm_id == "wrong" or is_hit(request.prompt) else "content-empty"
    asked.prepare("wrong", "unlucky", n_prompts=20).run()
    assert set(asked.rows("o.score, o.attempts, o.is_unreadable", "wrong")) == {(0.0, 1, 1)}
    assert set(asked.rows("o.score, o.attempts", "unlucky")) == {(0.0, 1), (0.0, 2)}
    asked.run(SECOND)
    assert fake.calls["wrong"] == len(asked.rows("o.score", "wrong")), "a score is final"


def test_f28_concurrency_shrinks_when_calls_are_rate_limited():
    with FakeEndpoint(latency_s=0.002) as fake:
        fake.choose = lambda request: "429" if len(fake.requests) <= 8 else None
        opened = endpoint(fake, Waits(), concurrency=8, max_attempts=9)
        outcomes = ask_together(opened, "ok", 16)
        assert all(not isinstance(outcome, Exception) for outcome in outcomes)
        assert opened._limiter.limit < 8
