"""Commands run in this process, on a home folder as two nights leave it."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from registry.store import Registry
from tests.fakes.nights import SETTINGS
from tests.homes import copied_home
from tests.registry.samples import fetch, listing, record_fetch, start_night


@pytest.fixture
def home(tmp_path: Path, served_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that home folder, which commands use."""
    for name in [name for name in os.environ if name.startswith("UNIROUTE_")]:
        monkeypatch.delenv(name)
    folder = copied_home(served_template, tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIROUTE_HOME", str(folder))
    monkeypatch.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")
    return folder


@pytest.fixture
def registry(home: Path) -> Iterator[Registry]:
    with Registry.open(f"sqlite:///{home / 'registry.db'}") as opened:
        yield opened


@pytest.fixture
def eventful(home: Path, answered_template: Path, tmp_path: Path) -> Path:
    """A home in which no list is empty: a waiting promotion, a night on another host, an expensive LLM."""
    shutil.rmtree(home)
    copied_home(answered_template, home)
    (tmp_path / "uniroute.toml").write_text(SETTINGS.format(policy="review"))
    now = datetime.now(UTC)
    with Registry.open(f"sqlite:///{home / 'registry.db'}") as registry:
        run = start_night(registry, "night:now", host="elsewhere", now=now, as_of=date(2024, 10, 2))
        prices = {"weak": "1.5", "fair": "90", "good": "3", "fresh": "1"}
        rows = [listing(name, price, endpoint="fake") for name, price in prices.items()]
        record_fetch(registry, run, fetch(rows, "third"), run.as_of)
        registry.llms.set_status("fake:fresh", "excluded", "too slow", actor="me", now=now)
        registry.backups.write(tmp_path / "all.backup", now)
    return home
