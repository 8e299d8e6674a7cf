"""Commands run in this process, on a home folder as two nights leave it."""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from flows.workspace import Workspace
from registry.store import Registry
from tests.fakes.nights import FIRST, SECOND, Clock, answered_home, run_night
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


@pytest.fixture(scope="session")
def answered_template(tmp_path_factory: pytest.TempPathFactory, served_template: Path) -> Path:
    """Make another home once: of two nights with real evidence, whose second router waits for a decision."""
    folder = tmp_path_factory.mktemp("answered")
    databases = (served_template.parent / "registry.db", served_template.parent / "mlflow.db")
    clock = Clock(datetime(2024, 9, 1, 2, tzinfo=UTC))
    with answered_home(folder / "home", *databases) as workspace:
        run_night(workspace, FIRST, ("weak", "fair"), clock)
        settings = workspace.settings
    clock.now += timedelta(days=30)
    waiting = settings.model_copy(update={"gate": settings.gate.model_copy(update={"policy": "review"})})
    with Workspace(waiting) as workspace:
        run_night(workspace, SECOND, ("weak", "fair", "good"), clock)
    return folder / "home"


@pytest.fixture
def eventful(home: Path, answered_template: Path, tmp_path: Path) -> Path:
    """Give a home in which every list has something: a decision that waits, a night elsewhere, a dear LLM."""
    shutil.rmtree(home)
    shutil.copytree(answered_template, home)
    (tmp_path / "uniroute.toml").write_text(_ANSWERED_SETTINGS)
    now = datetime.now(UTC)
    with Registry.open(f"sqlite:///{home / 'registry.db'}") as registry:
        run = start_night(registry, "night:now", host="elsewhere", now=now, as_of=date(2024, 10, 2))
        prices = {"weak": "1.5", "fair": "90", "good": "3", "fresh": "1"}
        rows = [listing(name, price, endpoint="fake") for name, price in prices.items()]
        registry.llms.record_fetch(run, fetch(rows, "third"), run.as_of)
        registry.llms.set_status("fake:fresh", "excluded", "too slow", actor="me", now=now)
        registry.backups.write(tmp_path / "all.backup", now)
    return home


_ANSWERED_SETTINGS = """
[prompts]
file = "home/prompts.jsonl"
map = 0.4
representative = 0.3
gate = 0.2
hidden = 0.1
[routing]
n_clusters = 2
[gate]
policy = "review"
resamples = 200
epsilon = 1.0
max_cost_increase = 100.0
max_share = 1.0
[night]
canary_prompts = 0
[[catalog]]
name = "ours"
kind = "toml"
location = "llms.toml"
endpoint = "fake"
[[endpoint]]
name = "fake"
base_url = "http://127.0.0.1:9"
"""


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
