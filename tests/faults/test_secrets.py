"""Keys are written nowhere, and hostile text has no effect anywhere: one whole night, then every byte it left."""

import ast
import base64
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

import flows
from flows.cli.endings import report_bug, report_error
from flows.config.settings import EndpointSettings
from flows.endpoints import BoundedEndpoint
from flows.errors import CatalogUnavailable, PrerequisiteError
from flows.masking import masked_failures
from flows.prompt_file import read_prompts
from flows.reports.digest import escape
from flows.text import sanitize
from registry.clock import utc_now
from registry.db.redaction import REDACTION
from registry.store import Registry
from tests.fakes.endpoint import FakeEndpoint
from tests.fakes.settings import QUICK
from tests.faults.asked_night import right
from tests.faults.tiny_night import FIRST, LLMS, ForkedCommand, TinyNight, answer
from tests.homes import with_prefect

UNIROUTE = Path(sys.executable).with_name("uniroute")
CANARY = "sk-CANARY-7f3a91c2d4e5b6a7-do-not-leak"
IN_URL, IN_ENVIRONMENT = "url-CANARY-91c2d4e5b6a77f3a", "env-CANARY-c2d4e5b6a77f3a91"
KEYS = {"OUR_KEY": CANARY, "OTHER_API_KEY": IN_ENVIRONMENT}
CODED = "".join(f"\\u{ord(sign):04x}" for sign in CANARY)
DISGUISES = (
    CANARY,
    CODED,
    json.dumps({"headers": {"Authorization": f"bEARER {CODED}"}}),
    "".join(f"%{ord(sign):02x}" for sign in CANARY),
    base64.b64encode(f"user:{CANARY}".encode()).decode(),
    f"{CANARY[:9]}\n{CANARY[9:20]}\u200b{CANARY[20:]}",
    CANARY.upper(),
    f"https://me:{CANARY}@host.example/v1?api_key={CANARY}",
)
HOSTILE = [
    "[/b] [link=https://evil.example]x[/link]",
    "\x1b[31mred\x1b]8;;https://evil.example\x07link\x1b]8;;\x07",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "$x_{\\frac{",
    "[x](javascript:alert(1)) ![y](https://evil.example/p.png) | a | b |",
    "{{ 7 * 7 }} {% for x in y %}",
    "line\r\nERROR forged log line\u2028\u202egnirts",
]
CONFIG = ("--config", "uniroute.toml")
LOOKED_AT = (
    ("night", "list"),
    ("llm", "list"),
    ("llm", "show", "fake:good"),
    ("router", "show"),
    ("llm", "list", "--json"),
)
MODELS = f"/v1/models?token={IN_URL}"
LISTED = [{"id": "listed", "name": "x " + DISGUISES[2], "note": {f"{one} ": [one]}} for one in DISGUISES[:1]]
LISTED += [{"id": f"listed-{number}", "name": one, one: {"deep": [one]}} for number, one in enumerate(DISGUISES)]
NAME = "Nice <script>alert(1)</script> [/b] =1+1 $x_{"


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory, template: Path, prefect_template: Path):
    """Run a night with keys against an endpoint that repeats them wherever it can; return folder and output."""
    folder = tmp_path_factory.mktemp("secrets")
    shutil.copyfile(template, with_prefect(folder / "home", prefect_template) / "mlflow.db")

    def answer(llm_id: str, prompt: str) -> str:
        hostile = HOSTILE[len(prompt) % len(HOSTILE)]
        disguise = DISGUISES[int(prompt.split()[1]) % len(DISGUISES)]
        return f"{disguise if llm_id == 'echo' else ''} {hostile} {right(prompt)}"

    scripts = {"good": "ok", "echo": "ok", "fails": "500", "moves": "redirect-with-key", "refuses": "401"}
    with FakeEndpoint(answer, scripts=scripts, documents={MODELS: {"data": LISTED}}) as fake:
        (folder / "key").write_text(CANARY)
        with (folder / "prompts.jsonl").open("w") as file:
            for number in range(40):
                text = f"Question {number} {HOSTILE[number % len(HOSTILE)]}: A, B, C or D?"
                row = {"prompt_id": f"p{number}", "text": text, "reference": "ABCD"[number % 4], "grader": "choice"}
                file.write(json.dumps(row) + "\n")
        priced = "input_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n"
        (folder / "llms.toml").write_text(
            "\n".join(f'[[llm]]\nid = "{name}"\nname = {json.dumps(NAME)}\n{priced}' for name in scripts)
        )
        (folder / "uniroute.toml").write_text(
            QUICK
            + f"""
            [routing]
            n_clusters = 2
            [[catalog]]
            name = "ours"
            kind = "toml"
            location = "llms.toml"
            endpoint = "fake"
            exclude = ["refuses"]
            [[catalog]]
            name = "theirs"
            kind = "openai"
            location = "{fake.base_url}/models?token={IN_URL}"
            endpoint = "fake"
            [[catalog]]
            name = "refused"
            kind = "toml"
            location = "llms.toml"
            endpoint = "second"
            include = ["refuses"]
            [[endpoint]]
            name = "fake"
            base_url = "{fake.base_url}"
            api_key_env = "OUR_KEY"
            max_attempts = 2
            [[endpoint]]
            name = "second"
            base_url = "{fake.base_url}"
            api_key_file = "key"
            """
        )
        output = run(folder, [UNIROUTE, "night", "run", *CONFIG])
        for words in LOOKED_AT:
            ended = ForkedCommand.start(folder, *words, *CONFIG, **KEYS).end()
            assert ended.code in (0, 3), ended.err
            output += ended.out + ended.err
        assert any(request.headers.get("authorization") == f"Bearer {CANARY}" for request in fake.requests)
        assert any(request.method == "GET" for request in fake.requests)
    (folder / "key").unlink()
    return folder, output


def run(folder: Path, command: list[str | Path]) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UNIROUTE_", "PREFECT_"))}
    environment |= {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    done = subprocess.run(command, env=environment | KEYS, cwd=folder, capture_output=True, timeout=240)
    output = (done.stdout + done.stderr).decode()
    assert done.returncode in (0, 3), output
    return output


@pytest.mark.slow
def test_f100_a_key_is_in_no_file_database_log_or_output_after_a_whole_night(left_behind):
    folder, output = left_behind
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "uniroute.toml"]
    assert {"registry.db", "mlflow.db", "prefect.db"} <= {path.name for path in files}
    assert {str(path.relative_to(folder)) for path in files if traces(path.read_bytes().decode("latin-1"))} == set()
    assert not traces(output)
    dumped = dump(folder / "home" / "registry.db")
    assert len(dumped) > 500 and not [text for text in dumped if traces(text)]
    completions = [text for text in dumped if "[key]" in text and "answer" in text]
    assert len(completions) >= 40 - 4, "the echoes were there, each was replaced, and nothing else of the answer"
    assert any("[key]" in text and '"listed"' in text for text in dumped), "a row of a catalog"


def dump(file: Path) -> list[str]:
    """Return every text of a database, those that are stored as bytes too."""
    with sqlite3.connect(file) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        cells = [cell for name in tables for row in connection.execute(f"SELECT * FROM {name}") for cell in row]
    connection.close()
    return [one.decode("latin-1") if isinstance(one, bytes) else one for one in cells if isinstance(one, bytes | str)]


def traces(text: str) -> list[str]:
    """Return the canaries that a text shows, by readers of their own: nothing here is the code under test."""
    bare = re.sub(r"[^!-~]", "", text)
    spelled = re.sub(r"\\+u00([0-9a-f]{2})|%([0-9a-fA-F]{2})", lambda one: chr(int(one[1] or one[2], 16)), bare)
    forms = [form.casefold() for form in (bare, spelled)]
    found = [one for one in (CANARY, IN_URL, IN_ENVIRONMENT) if any(one.casefold() in form for form in forms)]
    inner = [base64.b64encode(bytes(at) + CANARY.encode()).decode()[4:40] for at in range(3)]
    return found + [one for one in (*inner, CANARY.encode().hex()) if one in bare]


@pytest.mark.slow
def test_f102_hostile_text_is_harmless_in_everything_a_night_prints_and_publishes(left_behind):
    folder, output = left_behind
    printed = output.replace("\\u", "")
    assert "\x1b" not in printed and "\u2028" not in printed and "\u202e" not in printed
    assert "forged log line\n" not in printed
    for path in folder.rglob("*"):
        if path.suffix in (".md", ".html", ".csv", ".log", ".txt") and path.is_file() and "mlflow" in str(path):
            text = path.read_text(errors="replace")
            assert "<script>alert" not in text and "\x1b" not in text, path


@pytest.mark.parametrize("text", HOSTILE)
def test_f102_every_writer_makes_hostile_text_harmless(text):
    plain, markdown = sanitize(text), escape(text)
    for written in (plain, markdown):
        assert not any(sign in written for sign in "\x1b\r\n\u2028\u202e")
    for active in ("<", "[", "]", "|", "$", "*", "`"):
        assert all(markdown[at - 1] == "\\" for at, sign in enumerate(markdown) if sign == active)


def test_f100_a_key_is_in_no_representation_of_what_holds_it():
    from pydantic import SecretStr

    endpoint = BoundedEndpoint(EndpointSettings(name="fake", base_url="https://example.org/v1"), SecretStr(CANARY))
    assert CANARY not in f"{endpoint!r} {endpoint!s} {vars(endpoint)}"


@pytest.mark.slow
def test_what_a_night_logs_is_in_the_log_of_its_flow_run_in_prefect(left_behind):
    folder, _ = left_behind
    with sqlite3.connect(folder / "home" / "prefect" / "prefect.db") as connection:
        logged = connection.execute(
            "SELECT message FROM log WHERE name = 'uniroute' AND flow_run_id IS NOT NULL"
        ).fetchall()
    connection.close()
    events = {message.split()[0] for (message,) in logged}
    assert {"started", "planned", "reached", "finished", "llm_profiled", "llm_stopped", "endpoint_stopped"} <= events


@pytest.mark.parametrize("script", ["ok", "401"])
def test_f100_the_log_holds_every_event_and_neither_keys_nor_texts(tmp_path, template, script):
    def echo(llm_id: str, prompt: str) -> str:
        return f"{CANARY} SECRET-COMPLETION {answer(llm_id, prompt)}"

    with FakeEndpoint(echo, scripts=dict.fromkeys(LLMS, script)) as fake:
        night = TinyNight.prepare(tmp_path / "night", fake, template, more='api_key_env = "OUR_KEY"')
        variables = {"UNIROUTE_LOG__FORMAT": "json", "UNIROUTE_LOG__LEVEL": "DEBUG", "OUR_KEY": CANARY}
        code = night.run(FIRST, **variables)
    lines = [line for line in night.output().splitlines() if line.startswith("{")]
    seen = [json.loads(line) for line in lines]
    events = {line.get("event") for line in seen}
    assert {"started", "planned", "reached", "finished"} <= events
    if script == "ok":
        assert code == 0
        assert {"answered", "llm_profiled", "promotion_decided"} <= events
        one = next(line for line in seen if line.get("event") == "answered")
        assert {"run", "llm", "endpoint", "prompt_id", "attempt", "cost_usd", "latency_s"} <= set(one)
    else:
        assert code == 77
        assert {"endpoint_stopped", "llm_left_alone", "llm_stopped", "refused"} <= events
    assert "CANARY" not in night.output()
    assert "SECRET-COMPLETION" not in night.output()
    assert "A, B, C or D?" not in night.output(), "a prompt"


def test_a_key_in_an_exception_is_in_no_crash_file_no_state_of_prefect_and_no_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path))
    monkeypatch.setenv("OTHER_API_KEY", CANARY)
    for number, disguise in enumerate(DISGUISES):
        try:
            with masked_failures():
                try:
                    raise ValueError(disguise, number)
                except ValueError as error:
                    raise CatalogUnavailable(f"no: {disguise}", hint=disguise) from error
        except CatalogUnavailable as error:
            assert not traces(f"{error} {error!r} {error.hint} {error.__cause__!r}")
            assert error.__cause__.args[1] == number
        with pytest.raises(RuntimeError) as caught, masked_failures():
            raise UnicodeDecodeError("utf-8", b"x", 0, 1, disguise)
        assert not traces(str(caught.value))
        report_bug(ValueError(f"{disguise} Authorization: Basic {disguise}"))
        report_error(CatalogUnavailable(disguise, hint=disguise), as_json=True, verbose=True)
    crashes = list(tmp_path.glob("crash-*.log"))
    assert len(crashes) == len(DISGUISES)
    assert not traces("".join(path.read_text() for path in crashes))
    printed = capsys.readouterr()
    assert "error" in printed.out and not traces(printed.out + printed.err)


def test_every_task_and_flow_of_prefect_masks_the_exceptions_that_leave_it():
    found = []
    for path in Path(flows.__file__).parent.rglob("*.py"):
        source = path.read_text()
        for one in ast.walk(ast.parse(source)):
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                marks = [ast.unparse(mark) for mark in one.decorator_list]
                if any(mark.startswith(("task(", "flow(")) for mark in marks):
                    found.append(one.name)
                    body = [ast.unparse(statement) for statement in one.body]
                    is_masked = any(line.startswith("with masked_failures()") for line in body)
                    assert is_masked or "masked_failures()" in marks, one.name
    assert {"night", "promote", "profile_llm", "profile_batch", "refit"} <= {*found}


def test_what_was_not_masked_where_it_came_in_is_masked_when_it_is_stored(tmp_path):
    REDACTION.learn([CANARY])
    (tmp_path / "prompts.jsonl").write_text(
        json.dumps({"prompt_id": "p", "text": DISGUISES[5], "reference": "A", "grader": "choice"})
    )
    with pytest.raises(PrerequisiteError, match="holds a key of this machine") as caught:
        read_prompts(tmp_path / "prompts.jsonl")
    assert not traces(str(caught.value))
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}") as registry:
        for disguise in DISGUISES:
            event = registry.ledger.append(
                "a:b:c", disguise, actor=disguise, now=utc_now(), reason=disguise, payload={disguise: [disguise]}
            )
            assert "[key]" in event.reason
        assert registry.ledger.verify().is_intact
        registry.runs.start(
            "night:2024-09-01:abc",
            as_of=date(2024, 9, 1),
            settings_hash="0" * 64,
            settings_json=json.dumps(DISGUISES),
            host="h",
            pid=1,
            now=utc_now(),
            lease_s=60,
        )
    assert not [text for text in dump(tmp_path / "registry.db") if traces(text)]
