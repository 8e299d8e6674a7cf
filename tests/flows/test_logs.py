"""What the log holds: facts as fields, nothing secret, nothing forged."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from flows import logs
from flows.config.settings import Settings
from flows.logs import LOGGER, log_event, say
from tests.fakes.hostile import HOSTILE, active_signs

KEY = "sk-CANARY-4c1d"
every_string = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)

Error = Callable[[], str]


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]) -> Iterator[Error]:
    """Return what was written to standard error since the last call; the loggers are restored afterwards."""
    ours, root = logging.getLogger(LOGGER), logging.getLogger()
    before = [(one, list(one.handlers), one.level, one.propagate) for one in (ours, root)]
    yield lambda: capsys.readouterr().err
    for one, handlers, level, propagate in before:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def settings(form: str = "json", **more: object) -> Settings:
    return Settings(log={"format": form}, **more)


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_as_text_people_see_what_is_said_to_them_and_warnings(error: Error) -> None:
    logs.set_up(settings("text"))
    say("Plan: 2 LLMs\n  one line more")
    log_event("reached", run="night:x", stage="planned")
    log_event("lease_lost", level=logging.ERROR, run="night:x")
    assert error() == "Plan: 2 LLMs\n  one line more\nlease_lost run=night:x\n"
    assert not logs.is_json()


def test_as_json_every_record_is_a_line_with_the_facts_as_fields(error: Error) -> None:
    logs.set_up(settings())
    log_event("asked", level=logging.DEBUG, llm="a:b")
    log_event("answered", llm="a:b", cost_usd=Decimal("0.25"), latency_s=1.5, attempt=2, prompt_id=None)
    say("two\nlines")
    logging.getLogger("another.library").warning("of a library: %s", 1)
    answered, said, library = lines(error())
    assert {"level": "INFO", "logger": LOGGER, "event": "answered", "llm": "a:b", "cost_usd": 0.25}.items() <= (
        answered.items()
    )
    assert (answered["latency_s"], answered["attempt"], "prompt_id" in answered) == (1.5, 2, False)
    assert answered["at"].endswith("+00:00")
    assert (said["event"], said["message"]) == ("narration", "two\nlines")
    assert (library["logger"], library["message"]) == ("another.library", "of a library: 1")


@pytest.mark.parametrize(("is_terminal", "is_json"), [(True, False), (False, True)])
def test_auto_is_json_unless_people_watch(
    error: Error, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, is_json: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    logs.set_up(settings("auto"))
    assert logs.is_json() == is_json


@every_string
def test_no_name_can_forge_a_line_or_act_on_a_terminal(error: Error, text: str) -> None:
    logs.set_up(settings())
    log_event("llm_stopped", level=logging.WARNING, llm=text, reason=text)
    written = error()
    (line,) = lines(written)
    assert not active_signs(line["message"])
    assert not active_signs(written), "JSON escapes what is not plain"
    logs.set_up(settings("text"))
    log_event("llm_stopped", level=logging.WARNING, llm=text, reason=text)
    written = error()
    assert written.count("\n") == 1
    assert not active_signs(written)


def test_f100_secrets_are_masked_wherever_they_stand(error: Error, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "key").write_text(f"{KEY}-of-a-file\n")
    monkeypatch.setenv("OUR_KEY", KEY)
    monkeypatch.setenv("PGPASSWORD", "pg-CANARY")
    endpoints = [
        {"name": "one", "base_url": "https://one.example/v1", "api_key_env": "OUR_KEY"},
        {"name": "two", "base_url": "https://two.example/v1", "api_key_file": tmp_path / "key"},
        {"name": "none", "base_url": "https://three.example/v1", "api_key_env": "NOT_SET"},
    ]
    url = "postgresql://ann:url%2FCANARY@db/uniroute"
    logs.set_up(settings(endpoint=endpoints, registry={"url": url}, mlflow={"tracking_url": "http://u:ml-CANARY@m"}))
    elsewhere = logging.getLogger("a.library")
    try:
        raise RuntimeError(f"no way in with {KEY}")
    except RuntimeError:
        elsewhere.exception("refused: %s", {"headers": f"Authorization: Bearer {KEY}"})
    elsewhere.warning("to %s and url/CANARY, %s", url, KEY, extra={"facts": {"deep": [KEY, f"{KEY}-of-a-file"]}})
    elsewhere.error("header Bearer abcdefgh-CANARY, ml-CANARY pg-CANARY https://u:other-CANARY@x/ api_key=q-CANARY")
    log_event("x", level=logging.WARNING, reason=f"key {KEY}")
    written = error()
    assert len(lines(written)) == 4
    assert "CANARY" not in written
    assert "RuntimeError: no way in with ***" in lines(written)[0]["exc_info"]
