"""What a bounded endpoint does with everything a server can do, over real HTTP on loopback."""

import asyncio
import random
import time
import tracemalloc
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from flows.config.settings import EndpointSettings
from flows.endpoints import BoundedEndpoint, RetryPolicy
from flows.endpoints.usage import Usage
from flows.errors import (
    EndpointError,
    FatalEndpointError,
    MalformedCompletion,
    PrerequisiteError,
    RateLimited,
    TransientEndpointError,
)
from tests.fakes.endpoint import STEPS, FakeEndpoint, completion

CANARY = "sk-CANARY-do-not-leak"
PROMPT = "Which letter? é"


class Waits:
    """Stands in for sleeping, and records for how long."""

    def __init__(self):
        self.seconds = []

    async def __call__(self, seconds):
        self.seconds.append(seconds)
        await asyncio.sleep(0)

    def clock(self):
        """Return the time as it would be had it really slept."""
        return time.monotonic() + sum(self.seconds)


@pytest.fixture
def fake():
    with FakeEndpoint(drip_s=0.02) as server:
        yield server


@pytest.fixture
def waits():
    return Waits()


def endpoint(fake, waits=asyncio.sleep, **changes):
    """Return a client; `changes` are settings of the endpoint, or what the client is built with beside them."""
    own = {name: changes.pop(name) for name in ("retry_policy", "llm_patience_s", "clock", "now") if name in changes}
    if isinstance(waits, Waits):
        own.setdefault("clock", waits.clock)
    settings = EndpointSettings(name="fake", base_url=fake.base_url, **{"timeout_s": 5.0, "max_attempts": 3, **changes})
    return BoundedEndpoint(settings, SecretStr(CANARY), rng=random.Random(1), sleep=waits, **own)


def house(base_url, **changes):
    """Return settings that pydantic has not checked: the client relies on its own checks."""
    return EndpointSettings.model_construct(name="house", base_url=base_url, **changes)


def ask(opened, *calls):
    """Ask one after the other; return answers and errors."""

    async def run():
        async with opened:
            outcomes = []
            for llm_id, prompt in calls:
                try:
                    outcomes.append(await opened.complete(llm_id, prompt))
                except EndpointError as error:
                    outcomes.append(error)
            return outcomes

    return asyncio.run(run())


def ask_together(opened, llm_id, number):
    async def run():
        async with opened:
            prompts = (f"prompt {n}" for n in range(number))
            return await asyncio.gather(*(opened.complete(llm_id, one) for one in prompts), return_exceptions=True)

    return asyncio.run(run())


def ask_one(fake, script, waits=asyncio.sleep, **changes):
    return ask(endpoint(fake, waits, **changes), (script, PROMPT))[0]


def test_an_answer_comes_with_usage_and_with_what_served_it(fake):
    answer = ask_one(fake, "ok")
    assert (answer.text, answer.input_tokens, answer.output_tokens) == ("The answer is (A).", 12, 3)
    assert (answer.usage_estimated, answer.finish_reason, answer.served_llm) == (False, "stop", "ok")
    assert (answer.attempts, answer.downgrades) == (1, ())
    assert 0 < answer.latency_s < 5


def test_a_request_carries_the_prompt_the_limits_and_no_header_that_describes_this_machine(fake, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    ask(endpoint(fake, max_tokens=77), ("ok", PROMPT))
    (request,) = fake.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        "model": "ok",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 77,
        "temperature": 0.0,
        "stream": False,
    }
    sent = {"host", "accept", "accept-encoding", "content-type", "user-agent", "authorization", "content-length"}
    assert set(request.headers) == sent
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["authorization"] == f"Bearer {CANARY}"


def test_without_a_key_no_authorization_is_sent(fake):
    ask(BoundedEndpoint(EndpointSettings(name="fake", base_url=fake.base_url)), ("ok", PROMPT))
    assert "authorization" not in fake.requests[0].headers


def test_a_prompt_with_lone_surrogates_and_nul_arrives_unchanged(fake):
    prompt = "a\ud800b\0c"
    ask(endpoint(fake), ("ok", prompt))
    assert fake.requests[0].prompt == prompt


@pytest.mark.parametrize(
    ("script", "error", "kind", "calls"),
    [
        ("429", RateLimited, "rate_limited", 3),
        ("429@3600", RateLimited, "rate_limited", 1),
        ("200!429", RateLimited, "rate_limited", 3),
        ("500", TransientEndpointError, "transient", 3),
        ("503@1", TransientEndpointError, "transient", 3),
        ("html-502", TransientEndpointError, "transient", 3),
        ("200!503", TransientEndpointError, "transient", 3),
        ("choice-error", TransientEndpointError, "transient", 3),
        ("close", TransientEndpointError, "transient", 3),
        ("garbage", TransientEndpointError, "transient", 3),
        ("reset", TransientEndpointError, "transient", 3),
        ("headers", TransientEndpointError, "transient", 3),
        ("trunc", TransientEndpointError, "truncated", 3),
        ("garbled", MalformedCompletion, "malformed", 2),
        ("empty", MalformedCompletion, "malformed", 2),
        ("204", MalformedCompletion, "malformed", 2),
        ("html", MalformedCompletion, "malformed", 2),
        ("text", MalformedCompletion, "malformed", 2),
        ("sse", MalformedCompletion, "malformed", 2),
        ("latin1", MalformedCompletion, "malformed", 2),
        ("list", MalformedCompletion, "malformed", 2),
        ("nochoices", MalformedCompletion, "malformed", 2),
        ("nullchoices", MalformedCompletion, "malformed", 2),
        ("nomessage", MalformedCompletion, "malformed", 2),
        ("content-int", MalformedCompletion, "malformed", 2),
        ("content-image", MalformedCompletion, "malformed", 2),
        ("content-null-unfinished", MalformedCompletion, "malformed", 2),
        ("content-none", MalformedCompletion, "empty", 2),
        ("content-reasoned", MalformedCompletion, "empty", 2),
        ("interrupted", TransientEndpointError, "interrupted", 2),
        ("filtered", FatalEndpointError, "moderated", 1),
        ("finish-int", MalformedCompletion, "malformed", 2),
        ("nan", MalformedCompletion, "malformed", 2),
        ("dupkeys", MalformedCompletion, "malformed", 2),
        ("deep", MalformedCompletion, "malformed", 2),
        ("gzipbomb", MalformedCompletion, "malformed", 2),
        ("200!strange", MalformedCompletion, "malformed", 2),
        ("big", MalformedCompletion, "too_large", 1),
        ("biglength", MalformedCompletion, "too_large", 1),
        ("long-headers", MalformedCompletion, "too_large", 1),
        ("redirect", FatalEndpointError, "redirect", 1),
        ("redirect-with-key", FatalEndpointError, "redirect", 1),
        ("401", FatalEndpointError, "refused_auth", 1),
        ("403", FatalEndpointError, "refused_auth", 1),
        ("200!401", FatalEndpointError, "refused_auth", 1),
        ("402", FatalEndpointError, "quota", 1),
        ("429!insufficient_quota", FatalEndpointError, "quota", 1),
        ("404", FatalEndpointError, "not_found", 1),
        ("403!model_not_found", FatalEndpointError, "not_found", 1),
        ("400", FatalEndpointError, "bad_request", 1),
        ("422", FatalEndpointError, "bad_request", 1),
        ("400!context_length_exceeded", FatalEndpointError, "context", 1),
        ("too-long", FatalEndpointError, "context", 1),
        ("no-messages", FatalEndpointError, "unsupported", 1),
        ("flagged", FatalEndpointError, "moderated", 1),
    ],
)
def test_every_failure_has_one_kind_and_its_number_of_attempts_and_leaks_nothing(
    fake, waits, script, error, kind, calls
):
    raised = ask_one(fake, script, waits)
    assert type(raised) is error
    assert (raised.kind, raised.attempts, fake.calls[script]) == (kind, calls, calls)
    assert CANARY not in f"{raised!s} {raised!r} {raised.hint} {vars(raised)}"
    assert raised.__cause__ is None and raised.__context__ is None


@pytest.mark.parametrize(
    ("script", "text", "finish_reason"),
    [
        ("content-null", "", "stop"),
        ("content-empty", "", "stop"),
        ("content-parts", "The answer is (B).", "stop"),
        ("content-tools", "", "tool_calls"),
        ("json-as-text", "x", "stop"),
        ("length", "half an ans", "length"),
        ("content-odd", "a\N{REPLACEMENT CHARACTER}b?c é", "stop"),
    ],
)
def test_odd_but_valid_answers_are_answers(fake, script, text, finish_reason):
    answer = ask_one(fake, script)
    assert (answer.text, answer.finish_reason, answer.attempts) == (text, finish_reason, 1)


@pytest.mark.parametrize("script", ["usage-missing", "usage-negative", "usage-absurd", "usage-float"])
def test_implausible_usage_is_estimated_and_flagged(fake, script):
    answer = ask_one(fake, script)
    assert answer.usage_estimated
    assert (answer.input_tokens, answer.output_tokens) == (4, 10)


def test_another_llm_in_the_answer_is_recorded(fake):
    assert ask_one(fake, "othermodel").served_llm == "another-llm"


def test_a_failure_that_passes_is_retried_and_the_attempts_are_counted(fake, waits):
    answer = ask_one(fake, "500,close,ok", waits)
    assert (answer.text, answer.attempts) == ("The answer is (A).", 3)
    assert len(waits.seconds) == 2


def test_a_wrong_answer_is_never_asked_again(fake):
    ask_one(fake, "content-empty,ok")
    assert fake.calls["content-empty,ok"] == 1


@pytest.mark.parametrize(
    ("step", "least"), [("429@2", 2.0), ("429@date", 0.5), ("503@2", 2.0), ("429@-5", 0.0), ("429@soon", 0.0)]
)
def test_retry_after_is_honoured_and_nonsense_is_ignored(fake, waits, step, least):
    answer = ask_one(fake, f"{step},ok", waits)
    assert answer.attempts == 2
    assert least <= max(waits.seconds) <= least + 2


def test_a_call_does_not_wait_longer_than_the_cap(fake, waits):
    raised = ask_one(fake, "429@3600,ok", waits)
    assert raised.retry_after_s == 3600
    assert waits.seconds == []


@pytest.mark.parametrize("script", ["hang", "drip", "drip-head"])
def test_a_deadline_bounds_the_whole_response(fake, waits, script):
    started = time.monotonic()
    raised = ask_one(fake, script, waits, timeout_s=0.25)
    assert isinstance(raised, TransientEndpointError)
    assert (raised.kind, raised.attempts) == ("timeout", 2)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(("script", "kind"), [("big", "too_large"), ("gzipbomb", "malformed")])
def test_a_flood_is_cut_off_early_in_bytes_and_in_memory(fake, waits, script, kind):
    ask_one(fake, "ok")  # what the SDK imports at first use is not the flood's
    tracemalloc.start()
    try:
        raised = ask_one(fake, script, waits, max_response_bytes=2**20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert raised.kind == kind
    assert fake.bytes_sent < 16 * 2**20
    assert peak < 12 * 2**20


def test_a_redirect_is_named_but_not_followed(fake):
    assert "169.254.169.254" in str(ask_one(fake, "redirect"))
    assert "example" not in str(ask_one(fake, "redirect-with-key"))


def test_a_refused_port_is_unreachable_and_retried(waits):
    with FakeEndpoint() as gone:
        pass
    raised = ask_one(gone, "ok", waits)
    assert isinstance(raised, TransientEndpointError)
    assert (raised.kind, raised.attempts) == ("unreachable", 3)


@pytest.mark.parametrize(
    ("script", "downgrades"), [("no-temperature", ("temperature",)), ("no-max-tokens", ("max_tokens",))]
)
def test_a_refused_parameter_is_dropped_once_and_for_all(fake, script, downgrades):
    first, second = ask(endpoint(fake), (script, "one"), (script, "two"))
    assert (first.downgrades, first.attempts) == (downgrades, 2)
    assert (second.downgrades, second.attempts) == (downgrades, 1)
    last = fake.requests[-1].body
    assert ("temperature" in last) == (script != "no-temperature")
    assert ("max_completion_tokens" in last) == (script == "no-max-tokens")


def test_sampling_names_what_is_asked_for():
    settings = EndpointSettings(name="e", base_url="https://x/v1", max_tokens=9)
    assert BoundedEndpoint(settings).sampling == '{"max_tokens":9,"temperature":0.0}'


def test_a_refused_key_stops_the_endpoint_at_once(fake):
    first, second = ask(endpoint(fake), ("401", PROMPT), ("ok", PROMPT))
    assert first.is_endpoint_wide and second.is_endpoint_wide
    assert (second.kind, second.attempts) == ("refused_auth", 0)
    assert sum(fake.calls.values()) == 1


def test_an_unknown_llm_stops_that_llm_only(fake):
    first, second, third = ask(endpoint(fake), ("404,ok", "one"), ("404,ok", "two"), ("ok", PROMPT))
    assert (first.kind, second.kind, second.attempts) == ("not_found", "not_found", 0)
    assert not first.is_endpoint_wide
    assert third.text == "The answer is (A)."


def test_a_circuit_opens_after_failures_in_a_row_and_lets_a_call_through_after_a_rest(fake, waits):
    seconds = [0.0]
    retry_policy = RetryPolicy(failures_to_open=3, first_rest_s=30)
    opened = endpoint(fake, waits, max_attempts=1, retry_policy=retry_policy, clock=lambda: seconds[0])

    async def run():
        kinds = []
        async with opened:
            for number in range(8):
                if number == 5:
                    seconds[0] = 31.0
                    fake.scripts["sick"] = "ok"
                try:
                    kinds.append((await opened.complete("sick", f"prompt {number}")).finish_reason)
                except EndpointError as error:
                    kinds.append((error.kind, error.attempts))
                    assert ("asked 1 time" in error.message) == (error.attempts == 1)
                    assert "asked 0 times" not in error.message
        return kinds

    fake.scripts["sick"] = "500"
    assert asyncio.run(run()) == [("transient", 1)] * 3 + [("circuit_open", 0)] * 2 + ["stop"] * 3


def test_an_outage_of_an_llm_that_has_answered_before_loses_no_prompt():
    retry_policy = RetryPolicy(failures_to_open=3, first_rest_s=0.05, first_backoff_s=0.01)
    with FakeEndpoint() as fake:
        fake.choose = lambda request: "503" if 10 <= len(fake.requests) < 18 else None
        opened = endpoint(fake, concurrency=4, max_attempts=9, retry_policy=retry_policy)
        outcomes = ask_together(opened, "ok", 40)
    assert [outcome.text for outcome in outcomes] == ["The answer is (A)."] * 40
    assert sum(outcome.attempts for outcome in outcomes) == len(fake.requests)


def test_calls_do_not_wait_for_a_lasting_outage(fake):
    retry_policy = RetryPolicy(failures_to_open=3, first_rest_s=0.01, first_backoff_s=0.001, rests_waited_for=3)
    fake.choose = lambda request: "503" if len(fake.requests) > 5 else None
    outcomes = ask_together(endpoint(fake, concurrency=4, retry_policy=retry_policy), "ok", 40)
    kinds = [outcome.kind for outcome in outcomes if isinstance(outcome, EndpointError)]
    assert len(kinds) >= 34
    assert "circuit_open" in kinds
    assert len(fake.requests) < 30


def test_a_sick_llm_does_not_close_the_endpoint_to_others(fake, waits):
    retry_policy = RetryPolicy(failures_to_open=2)
    calls = [("500", "one"), ("500", "two"), ("500", "three"), ("ok", PROMPT)]
    outcomes = ask(endpoint(fake, waits, max_attempts=1, retry_policy=retry_policy), *calls)
    assert [error.kind for error in outcomes[:3]] == ["transient", "transient", "circuit_open"]
    assert outcomes[3].text == "The answer is (A)."


def test_concurrency_is_bounded_and_shrinks_when_calls_are_rate_limited():
    with FakeEndpoint(latency_s=0.02) as fake:
        opened = endpoint(fake, Waits(), concurrency=4)

        async def run(script, prompts):
            await asyncio.gather(*(opened.complete(script, prompt) for prompt in prompts))

        async def both():
            async with opened:
                await run("ok", "abcdefghijkl")
                wide, fake.peak_in_flight = fake.peak_in_flight, 0
                await run("429,ok", "abcd")
                narrow, fake.peak_in_flight = opened._limiter.limit, 0
                await run("ok", "mnopqrst")
                return wide, narrow, opened._limiter.limit

        assert asyncio.run(both()) == (4, 3, 4)


def test_an_llm_that_is_only_limited_is_left_when_patience_ends_and_the_others_are_not(waits):
    with FakeEndpoint(scripts={"busy": "429@30", "free": "ok"}) as fake:
        opened = endpoint(fake, waits, llm_patience_s=100.0)
        found = ask(opened, ("busy", "a"), ("busy", "b"), ("busy", "c"), ("free", "d"))
        assert [error.attempts for error in found[:3]] == [3, 2, 0]
        assert all(error.kind == "rate_limited" for error in found[:3])
        assert "only refusals for 100 s ([night] llm_patience_s), so it is left for the next night" in found[2].message
        assert found[3].text and sum(waits.seconds) < 160


def test_a_wait_beyond_patience_is_believed_when_it_is_announced_several_times(waits):
    with FakeEndpoint(scripts={"busy": "429@3600"}) as fake:
        retry_policy = RetryPolicy(failures_to_open=3)
        opened = endpoint(fake, waits, llm_patience_s=100.0, retry_policy=retry_policy)
        found = ask(opened, *(("busy", prompt) for prompt in "abcde"))
        assert [error.attempts for error in found] == [1, 1, 1, 0, 0]


def test_an_answer_renews_the_patience(waits):
    with FakeEndpoint(scripts={"busy": "429@30,429@30,ok"}) as fake:
        opened = endpoint(fake, waits, llm_patience_s=70.0)
        assert [answer.attempts for answer in ask(opened, ("busy", "a"), ("busy", "b"))] == [3, 3]
        assert opened.patience_left_s("busy") is None


def test_what_is_raised_before_sending_ends_the_call_unsent(fake):
    sent = []

    def once(lost):
        assert lost == Usage(0, 0)
        if sent:
            raise FatalEndpointError("enough", kind="bad_request")
        sent.append(1)

    async def run():
        async with endpoint(fake) as opened:
            await opened.complete("ok", PROMPT, before_sending=once)
            with pytest.raises(FatalEndpointError, match="enough"):
                await opened.complete("ok", PROMPT, before_sending=once)

    asyncio.run(run())
    assert fake.calls["ok"] == 1


def test_attempts_that_are_billed_without_an_answer_count_before_the_next_one_and_with_the_answer(waits, monkeypatch):
    empty = {"content": "", "reasoning_content": "so, " * 40}
    reasoned = {
        "choices": [{"message": empty, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 50},
    }

    async def play(server, request, writer):
        await server.send_document(writer, completion(request, "", **reasoned))

    monkeypatch.setitem(STEPS, "reasons-only", play)
    seen, limit = [], 2

    def check(lost):
        seen.append((lost.input_tokens, lost.output_tokens))
        if len(seen) > limit:
            raise FatalEndpointError("enough", kind="bad_request")

    async def run(script):
        async with endpoint(fake, waits) as opened:
            return await opened.complete(script, PROMPT, before_sending=check)

    with FakeEndpoint() as fake:
        answer = asyncio.run(run("reasons-only,ok"))
        assert seen == [(0, 0), (12, 50)]
        assert (answer.lost.output_tokens, answer.output_tokens, answer.attempts) == (50, 3, 2)
        limit = 3
        with pytest.raises(EndpointError) as raised:
            asyncio.run(run("reasons-only"))
        assert (raised.value.attempts, raised.value.output_tokens) == (1, 50), "what was billed is not forgotten"


def test_a_call_that_has_to_wait_takes_no_place_from_other_llms():
    with FakeEndpoint(scripts={"busy": "429@30,ok", "free": "ok"}) as fake:

        async def run():
            async with endpoint(fake, concurrency=1) as opened, asyncio.timeout(5):
                waiting = [asyncio.create_task(opened.complete("busy", prompt)) for prompt in "ab"]
                while not fake.calls["busy"]:
                    await asyncio.sleep(0.001)
                answers = [await opened.complete("free", prompt) for prompt in "cd"]
                for task in waiting:
                    task.cancel()
                return [answer.attempts for answer in answers], fake.calls["busy"]

        assert asyncio.run(run()) == ([1, 1], 1)


def test_attempts_start_at_the_pace_that_is_set(fake, waits):
    opened = endpoint(fake, waits, requests_per_second=2.0, clock=lambda: 100.0)
    ask(opened, *[("ok", str(number)) for number in range(4)])
    assert waits.seconds == [0.5, 1.0, 1.5]


def test_a_cancelled_call_leaves_the_endpoint_usable():
    async def run(fake):
        async with endpoint(fake, concurrency=1) as opened:
            task = asyncio.create_task(opened.complete("hang", PROMPT))
            while not fake.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return await opened.complete("ok", PROMPT)

    with FakeEndpoint() as fake:
        assert asyncio.run(run(fake)).text == "The answer is (A)."


@pytest.mark.parametrize(
    "base_url",
    [
        "http://llm.example/v1",
        "http://127.0.0.1.example/v1",
        "ftp://127.0.0.1/v1",
        "https:///v1",
        "https://user:secret@x.example/v1",
        "https://x.example:99999/v1",
        "https://x.example/v1?key=secret",
        "http://[::ffff:10.0.0.1]/v1",
        "http://2130706433/v1",
        "llm.example",
        "",
    ],
)
def test_addresses_a_key_must_not_be_sent_to_are_refused_without_repeating_them(base_url):
    with pytest.raises(PrerequisiteError) as raised:
        BoundedEndpoint(house(base_url), SecretStr(CANARY))
    assert "house" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "base_url", ["http://localhost:1/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1", "https://x/v1"]
)
def test_this_machine_and_https_are_allowed(base_url):
    assert BoundedEndpoint(house(base_url)).settings.base_url == base_url


def test_plain_http_elsewhere_needs_to_be_allowed():
    settings = house("http://vllm.cluster/v1", allow_insecure=True)
    assert BoundedEndpoint(settings).settings.name == "house"


def test_the_key_is_in_no_representation_of_the_endpoint():
    opened = BoundedEndpoint(house("https://x/v1"), SecretStr(CANARY))
    assert CANARY not in f"{opened!r} {vars(opened)}"


def test_a_closed_endpoint_says_so():
    opened = BoundedEndpoint(house("https://x/v1"))
    with pytest.raises(RuntimeError, match="not open"):
        asyncio.run(opened.complete("a", "b"))


def test_a_bug_of_ours_is_not_taken_for_a_failure(fake):
    def broken():
        raise ZeroDivisionError

    async def run():
        async with endpoint(fake, now=lambda: datetime.now(UTC)) as opened:
            opened._wire.post = lambda body: broken()
            await opened.complete("ok", PROMPT)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
