"""What `uniroute bench` shows while it measures, on a terminal and elsewhere, and what embedding reports for it."""

import io

import numpy as np
import pytest

from flows.bench.embeddings import embeddings_of
from flows.bench.folder import read_folder
from flows.bench.progress import Progress
from flows.config.settings import Settings
from flows.workspace import Workspace
from routing import HashingEmbedder
from tests.flows.bench.synthetic import write_folder


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, seconds: float, *, of: int = 1000, until: int = 1000) -> str:
    """What is shown when each step takes so many seconds."""
    now_s = [0.0]
    with Progress("embed \x1b[31mdata", "prompts", of, stream=stream, clock=lambda: now_s[0]) as progress:
        for done in range(1, until + 1):
            now_s[0] += seconds
            progress.show(done)
    return stream.getvalue()


def test_without_a_terminal_lines_come_from_the_first_second_and_then_ever_more_rarely() -> None:
    lines = shown(io.StringIO(), 0.5).splitlines()
    assert lines[0] == "embed [31mdata  0/1,000 prompts"
    assert lines[1] == "embed [31mdata  2/1,000 prompts  2/s  ETA 08:19"
    done = [int(line.split()[2].partition("/")[0]) for line in lines[1:7]]
    assert done == [2, 6, 14, 30, 62, 126]
    assert lines[-1] == "embed [31mdata  1,000 prompts in 08:20  2/s"
    assert len(lines) < 20


def test_a_terminal_redraws_one_line() -> None:
    written = shown(Terminal(), 0.1, of=50, until=50)
    assert written.count("\n") == 1 and written.endswith("\n")
    assert written.startswith("\rembed [31mdata  0/50 prompts\r") and "ETA 00:0" in written


def test_slow_steps_are_counted_by_the_minute_and_an_interrupted_one_does_not_claim_to_be_done() -> None:
    written = shown(io.StringIO(), 30.0, of=100, until=3)
    assert "1/100 prompts  2.0/min  ETA 49:30" in written
    assert "100 prompts in" not in written


@pytest.fixture
def workspace(tmp_path):
    with Workspace(Settings(home=tmp_path / "home", embedder={"name": "hashing-64"})) as opened:
        yield opened


def test_embedding_reports_from_the_start_to_the_end(workspace: Workspace, tmp_path) -> None:
    folder, seen = read_folder(write_folder(tmp_path / "topics", n=100, of_a_kind=1)), []
    rows = embeddings_of(workspace, folder, on_progress=lambda *state: seen.append(state))
    np.testing.assert_allclose(rows, HashingEmbedder(64).embed([prompt.text for prompt in folder.prompts]), atol=1e-6)
    done, of, shares = zip(*seen, strict=True)
    assert done[:2] == (0, 8) and set(of) == {100} and (done[-1], shares[-1]) == (100, 1.0)
    assert list(shares) == sorted(shares) and shares[0] == 0.0
    embeddings_of(workspace, folder, on_progress=lambda *state: pytest.fail("everything is stored"))
