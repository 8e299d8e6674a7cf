"""Commands that run until they are stopped, or for minutes: what they print for machines, and how they end."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import click
import pytest

from flows.config.settings import Settings
from tests.commands import Uniroute
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.tiny_night import FIRST, LLMS, TinyNight, answer
from tests.flows.cli.shapes import PINNED, misfits
from tests.flows.cli.test_hostile import report_of

UNIROUTE = str(Path(sys.executable).with_name("uniroute"))


def test_the_sandbox_says_in_a_line_of_json_where_it_serves(home: Path) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen([UNIROUTE, "sandbox", "--port", "0", "--json"], text=True, **pipes) as child:
        assert child.stdout is not None
        line = json.loads(child.stdout.readline())
        assert (line["schema"], line["event"]) == ("uniroute.sandbox/1", "serving")
        assert list(misfits(line, PINNED["uniroute.sandbox/1"]["lines"]["serving"], "line")) == []
        with urlopen(line["catalog_url"], timeout=30) as found:
            assert json.load(found)["data"]
        port = line["base_url"].split(":")[2].split("/")[0]
        taken = subprocess.run([UNIROUTE, "sandbox", "--port", port, "--json"], capture_output=True, text=True)
        child.send_signal(signal.SIGTERM)
        child.wait(30)
    assert taken.returncode == 75
    assert json.loads(taken.stdout)["error"]["kind"] == "busy"


def test_the_demo_leaves_standard_output_to_machines(
    home: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(*, fresh: bool) -> tuple[list[object], Settings]:
        click.echo("night 1")
        return [report_of("plain")], Settings()

    monkeypatch.setattr("flows.cli.demo._watch", watch)
    printed = uniroute("demo")
    assert printed.out.startswith("night 1\n")
    assert "The answers were recorded answers of real LLMs." in printed.out
    machines = uniroute("demo", "--json")
    assert machines.err == "night 1\n"
    assert set(machines.data) == {"home", "duration_s", "nights"}
    assert machines.data["nights"][0]["run_key"] == "night:x"


def test_a_night_stops_when_the_ledger_says_so_wherever_that_was_written(tmp_path: Path, template: Path) -> None:
    """The night sends a heartbeat every third of its lease, and then reads whether it was asked to stop."""
    asked: list[str] = []

    def ask_once(_request: object) -> None:
        if not asked:
            asked.append("")
            # As from another host: nothing but the ledger is touched.
            code = (
                "import flows.night.cancel as r; r._signal = lambda run: False\n"
                "from flows.cli import main\n"
                "main(['night', 'cancel', '--reason', 'too dear', '--config', 'uniroute.toml'])"
            )
            done = subprocess.run([sys.executable, "-c", code], cwd=night.folder, capture_output=True, text=True)
            asked[0] = done.stdout + done.stderr

    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok"), choose=ask_once, latency_s=0.5) as endpoint:
        night = TinyNight.prepare(tmp_path / "night", endpoint, template, concurrency=1, night="lease_s = 10")
        assert night.run(FIRST) == 143, asked
    assert "It will notice within 3 s." in asked[0]
    assert "The night was stopped by uniroute night cancel." in night.output()
    assert night.rows("SELECT status FROM run") == [("interrupted",)]
    assert night.rows("SELECT CAST(reason AS TEXT) FROM ledger WHERE event = 'run:night:cancel_requested'") == [
        ("too dear",)
    ]
