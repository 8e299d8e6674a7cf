"""The sandbox serves recorded answers to any OpenAI-compatible client."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from decimal import Decimal

import httpx2
import openai
import pytest

from flows.config.settings import EndpointSettings
from flows.endpoints import BoundedEndpoint
from flows.errors import FatalEndpointError, PrerequisiteError
from flows.sandbox import Sandbox
from flows.sandbox.recording import read_answers, read_llms, read_prompts


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as running:
        yield running


def get(url):
    response = httpx2.get(url, trust_env=False).raise_for_status()
    assert response.headers["content-type"] == "application/json"
    return response.json()


def ask(sandbox, llm_id, text):
    async def run():
        async with BoundedEndpoint(EndpointSettings(name="sandbox", base_url=sandbox.base_url)) as endpoint:
            return await endpoint.complete(llm_id, text)

    return asyncio.run(run())


def is_serving(base_url):
    try:
        get(f"{base_url}/models")
    except httpx2.TransportError:
        return False
    return True


def wait_until(condition, limit_s=10.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_recording_is_complete():
    answers = read_answers()
    assert len(read_prompts()) == 1500
    assert {llm.llm_id for llm in read_llms()} == set(answers)
    assert {len(of_llm) for of_llm in answers.values()} == {1500}


def test_recorded_answers_come_back_with_their_usage(sandbox):
    answers = read_answers()
    prompts = read_prompts()
    for llm, prompt in zip(read_llms(), prompts, strict=False):
        recorded = answers[llm.llm_id][prompt.prompt_id]
        answer = ask(sandbox, llm.llm_id, prompt.text)
        assert (answer.text, answer.served_llm) == (recorded.text, llm.llm_id)
        assert (answer.input_tokens, answer.output_tokens) == (recorded.input_tokens, recorded.output_tokens)
        assert (answer.finish_reason, answer.usage_estimated) == ("stop", False)


def test_an_empty_recorded_answer_is_an_answer(sandbox):
    texts = {prompt.prompt_id: prompt.text for prompt in read_prompts()}
    llm_id, prompt_id = next(
        (llm_id, prompt_id)
        for llm_id, of_llm in read_answers().items()
        for prompt_id, answer in of_llm.items()
        if not answer.text
    )
    answer = ask(sandbox, llm_id, texts[prompt_id])
    assert (answer.text, answer.finish_reason) == ("", "stop")


def test_the_plain_sdk_accepts_it(sandbox):
    with openai.OpenAI(api_key="none", base_url=sandbox.base_url, max_retries=0) as client:
        listed = [llm.id for llm in client.models.list()]
        message = [{"role": "user", "content": read_prompts()[0].text}]
        answer = client.chat.completions.create(model=listed[0], messages=message)
    assert listed == [llm.llm_id for llm in read_llms()]
    assert answer.choices[0].message.content == read_answers()[listed[0]][read_prompts()[0].prompt_id].text


@pytest.mark.parametrize(("llm_id", "kind"), [("gpt-99", "not_found"), ("yi-6b-chat", "bad_request")])
def test_what_is_not_recorded_is_refused(sandbox, llm_id, kind):
    with pytest.raises(FatalEndpointError) as raised:
        ask(sandbox, llm_id, "Is this recorded?")
    assert raised.value.kind == kind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"model":1,"messages":[{"content":"x"}]}',
        b'{"model":"x","messages":[]}',
        b"[" * 10**5,
    ],
)
def test_an_invalid_request_is_answered_with_an_error_object(sandbox, body):
    response = httpx2.post(f"{sandbox.base_url}/chat/completions", content=body, trust_env=False)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "bad_request"


def test_the_catalog_has_real_dates_and_exact_prices_per_token(sandbox):
    rows = {row["id"]: row for row in get(sandbox.catalog_url)["data"]}
    assert set(rows) == {llm.llm_id for llm in read_llms()}
    for llm in read_llms():
        row = rows[llm.llm_id]
        assert row["created"] == llm.released_at.timestamp()
        assert Decimal(row["pricing"]["prompt"]) * 1_000_000 == llm.input_usd_per_mtok
        assert "E" not in row["pricing"]["prompt"] + row["pricing"]["completion"]
        assert "recorded" in row["description"].lower()
    assert rows["gemini-1.5-flash-002"]["pricing"]["prompt"] == "0.000000075"


def test_prompts_are_returned_as_the_registry_stores_them(sandbox):
    prompts = Sandbox.prompts()
    assert len(prompts) == len({prompt.prompt_id for prompt in prompts}) == 1500
    assert {prompt.grader for prompt in prompts} == {"choice"}
    assert prompts[0].text == read_prompts()[0].text
    assert all(prompt.reference and prompt.category for prompt in prompts)


def test_latency_delays_answers():
    with Sandbox(latency_s=0.3) as slow:
        started = time.monotonic()
        ask(slow, "yi-6b-chat", read_prompts()[0].text)
        assert time.monotonic() - started >= 0.3


def test_a_taken_port_is_named_and_nothing_is_left_running():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PrerequisiteError, match=f"exit code 75.*cannot listen on 127.0.0.1:{port}") as raised:
            Sandbox(port=port).start()
    assert "another port" in raised.value.hint


def test_stopping_ends_the_server_and_may_be_repeated():
    running = Sandbox().start()
    base_url = running.base_url
    running.stop()
    running.stop()
    assert not is_serving(base_url)


def test_the_server_ends_when_the_process_that_started_it_is_killed():
    code = (
        "import sys; from flows.sandbox import Sandbox; print(Sandbox().start().base_url, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        base_url = parent.stdout.readline().strip()
        assert is_serving(base_url)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not is_serving(base_url))
