"""Commands run in this process, on a home folder as two nights leave it."""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from registry.store import Registry
from tests.fakes.served import served_home
from tests.registry.samples import fetch, listing, start_night


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)["data"]


Uniroute = Callable[..., Ended]


@pytest.fixture(scope="session")
def served_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the home folder once: two routers, published to MLflow and promoted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is imported.
        import mlflow
    folder = tmp_path_factory.mktemp("served")
    Registry.open(f"sqlite:///{folder / 'registry.db'}").close()
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_registered_models()
    with served_home(folder / "home", folder / "registry.db", folder / "mlflow.db"):
        pass
    return folder / "home"


@pytest.fixture
def home(tmp_path: Path, served_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of that home folder, and make it the one that commands use."""
    for name in [name for name in os.environ if name.startswith("UNIROUTE_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    shutil.copytree(served_template, folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIROUTE_HOME", str(folder))
    monkeypatch.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")
    return folder


@pytest.fixture
def registry(home: Path) -> Iterator[Registry]:
    with Registry.open(f"sqlite:///{home / 'registry.db'}") as opened:
        yield opened


@pytest.fixture
def eventful(home: Path, registry: Registry, tmp_path: Path) -> Path:
    """Give a home in which every list has something: a night under way elsewhere, new, dear and excluded LLMs."""
    now = datetime.now(UTC)
    run = start_night(registry, "night:now", host="elsewhere", now=now, as_of=date(2024, 9, 2))
    rows = [listing("frugal", "1.5", endpoint="sandbox"), listing("middle", "90", endpoint="sandbox")]
    rows += [listing("strong", endpoint="sandbox"), listing("fresh", endpoint="sandbox")]
    registry.llms.record_fetch(run, fetch(rows, "second"), run.as_of)
    registry.llms.set_status("sandbox:strong", "excluded", "too slow", actor="me", now=now)
    numbered = [{"prompt_id": f"p{n}", "text": f"question {n}", "reference": "ABCD"[n % 4]} for n in range(200)]
    lines = [json.dumps(row | {"grader": "choice", "category": "numbers"}) for row in numbered]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    (tmp_path / "uniroute.toml").write_text('[prompts]\nfile = "prompts.jsonl"\n')
    return home


@pytest.fixture
def uniroute(capsys: pytest.CaptureFixture[str]) -> Uniroute:
    """Run a command line in this process and say how it ended."""

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        said = capsys.readouterr()
        return Ended(int(stopped.value.code), said.out, said.err)

    return run
