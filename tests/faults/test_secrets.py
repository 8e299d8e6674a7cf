"""Keys are written nowhere, and hostile text has no effect anywhere: one whole night, then every byte it left."""

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flows.config.settings import EndpointSettings
from flows.endpoints import BoundedEndpoint
from flows.reports.digest import escape
from flows.text import sanitize
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import right
from tests.faults.tiny_night import FIRST, LLMS, TinyNight, answer
from tests.homes import with_prefect

UNIROUTE = Path(sys.executable).with_name("uniroute")
CANARY = "sk-CANARY-7f3a91c2d4e5b6a7-do-not-leak"
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
# All in one process: importing what they need takes longer than they do.
LOOK = """
import json, sys
from flows.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        assert ended.code in (0, 3), (arguments, ended.code)
"""
NAME = "Nice <script>alert(1)</script> [/b] =1+1 $x_{"


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory, template: Path, prefect_template: Path):
    """Run a night with keys against an endpoint that repeats them wherever it can; return folder and output."""
    folder = tmp_path_factory.mktemp("secrets")
    shutil.copyfile(template, with_prefect(folder / "home", prefect_template) / "mlflow.db")

    def answer(llm_id: str, prompt: str) -> str:
        hostile = HOSTILE[len(prompt) % len(HOSTILE)]
        return f"{CANARY if llm_id == 'echo' else ''} {hostile} {right(prompt)}"

    scripts = {"good": "ok", "echo": "ok", "fails": "500", "moves": "redirect-with-key", "refuses": "401"}
    with FakeEndpoint(answer, scripts=scripts, documents={"/v1/models": {"data": [{"id": "listed"}]}}) as fake:
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
            f"""
            home = "home"
            [prompts]
            file = "prompts.jsonl"
            map = 0.2
            representative = 0.4
            gate = 0.3
            hidden = 0.1
            [embedder]
            name = "hashing-256"
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
            location = "{fake.base_url}/models"
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
        output += run(folder, [sys.executable, "-c", LOOK, json.dumps([[*words, *CONFIG] for words in LOOKED_AT])])
        assert any(request.headers.get("authorization") == f"Bearer {CANARY}" for request in fake.requests)
        assert any(request.method == "GET" for request in fake.requests)
    (folder / "key").unlink()
    return folder, output


def run(folder: Path, command: list[str | Path]) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UNIROUTE_", "PREFECT_"))}
    environment |= {"OUR_KEY": CANARY, "PREFECT_LOGGING_LEVEL": "DEBUG"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, timeout=240)
    output = (done.stdout + done.stderr).decode()
    assert done.returncode in (0, 3), output
    return output


@pytest.mark.slow
def test_f100_a_key_is_in_no_file_database_log_or_output_after_a_whole_night(left_behind):
    folder, output = left_behind
    forms = [CANARY.encode(), base64.b64encode(CANARY.encode())[:40], CANARY.encode().hex().encode()]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"registry.db", "mlflow.db", "prefect.db"} <= {path.name for path in files}
    found = {str(path.relative_to(folder)) for path in files for form in forms if form in path.read_bytes()}
    assert found == set()
    assert CANARY not in output
    assert "[key]" in output or any(b"[key]" in path.read_bytes() for path in files), "the echo was there and replaced"


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
