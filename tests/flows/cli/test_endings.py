"""How commands end: the code on every path, and what goes to which stream."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from flows.workspace import Workspace
from tests.commands import Uniroute

UNIROUTE = str(Path(sys.executable).with_name("uniroute"))


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(_workspace: Workspace) -> Workspace:
        raise error

    monkeypatch.setattr(Workspace, "__enter__", raise_it)


def test_a_bug_is_one_line_and_a_file_and_json_says_so(
    home: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(KeyError("odd"), monkeypatch)
    ended = uniroute("llm", "list", "--json", "--quiet")
    (file,) = home.glob("crash-*.log")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    error = json.loads(ended.out)["error"]
    assert (error["kind"], error["exit_code"]) == ("bug", 1)
    assert str(file) in error["message"]
    assert "KeyError: 'odd'" in file.read_text()
    assert "Traceback" not in ended.err + ended.out


def test_an_interruption_ends_with_130(home: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    ended = uniroute("llm", "list", "--json")
    assert ended.code == 130
    assert json.loads(ended.out)["error"]["kind"] == "interrupted"


def test_verbose_adds_the_traceback_of_an_error(home: Path, uniroute: Uniroute) -> None:
    plain, verbose = uniroute("llm", "show", "nobody"), uniroute("llm", "show", "nobody", "-v")
    assert (plain.code, verbose.code) == (2, 2)
    assert "Traceback" not in plain.err
    assert verbose.err.startswith(plain.err)
    assert "Traceback" in verbose.err


def test_only_attention_becomes_0_and_only_on_request(
    home: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.errors import BudgetExceeded
    from registry.errors import RegistryBusy

    forgiving = ("llm", "list", "--exit-zero-on", "attention", "--json")
    fail_with(BudgetExceeded("no money", scope="night"), monkeypatch)
    assert uniroute("llm", "list").code == 3
    forgiven = uniroute(*forgiving)
    assert forgiven.code == 0
    assert json.loads(forgiven.out)["error"]["exit_code"] == 3
    fail_with(RegistryBusy("busy"), monkeypatch)
    assert uniroute(*forgiving).code == 75


def test_an_argument_that_is_not_utf8_is_refused(home: Path) -> None:
    done = subprocess.run([UNIROUTE, "llm", "show", b"\xff\xfe"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Argument 3 is not valid UTF-8.\n")


def test_a_reader_that_goes_away_ends_the_command_quietly(home: Path) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([UNIROUTE, "completion", "bash"], **pipes) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert child.returncode == 141


def on_a_terminal(*command: str, **variables: str) -> bytes:
    """Run a command whose standard error is a terminal, and return what it shows there."""
    leader, follower = pty.openpty()
    surroundings = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    child = subprocess.Popen([UNIROUTE, *command], stdout=follower, stderr=follower, env=surroundings | variables)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:
        pass  # The other end is closed: Linux says so with an error.
    finally:
        os.close(leader)
    child.wait(60)
    return shown


def test_colours_are_only_for_terminals_that_allow_them(home: Path, uniroute: Uniroute) -> None:
    assert b"\x1b[31m" in on_a_terminal("llm", "nothing")
    assert b"\x1b" not in on_a_terminal("llm", "nothing", NO_COLOR="1")
    assert b"\x1b" not in on_a_terminal("llm", "nothing", TERM="dumb")
    assert "\x1b" not in uniroute("llm", "nothing").err
