"""The files that `uniroute init` writes, and those that it leaves alone."""

import json
from pathlib import Path

import pytest

from flows.config.template import price_file_template, settings_template
from tests.commands import Uniroute
from tests.flows.cli.shapes import PINNED, misfits


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_writes_a_settings_file(uniroute: Uniroute, tmp_path: Path) -> None:
    wrote, *steps = uniroute("init").out.splitlines()
    assert wrote.startswith("Wrote uniroute.toml. ")
    assert steps == [
        "next: edit uniroute.toml",
        "next: uniroute config validate --connect --config uniroute.toml",
        "next: uniroute night run --config uniroute.toml --plan",
    ]
    assert (tmp_path / "uniroute.toml").read_text() == settings_template()


def test_it_writes_a_price_file_and_never_touches_one(uniroute: Uniroute, tmp_path: Path) -> None:
    data = uniroute("init", "--catalog", "prices.toml", "--json").data
    assert data["path"] == "prices.toml"
    assert not [*misfits(data, PINNED["uniroute.init/1"]["data"])]
    assert (tmp_path / "prices.toml").read_text() == price_file_template()
    (tmp_path / "prices.toml").write_text("mine")
    refused = uniroute("init", "--catalog", "prices.toml", "--json")
    assert refused.code == 78
    assert "exists already" in json.loads(refused.out)["error"]["message"]
    assert (tmp_path / "prices.toml").read_text() == "mine"
    assert not (tmp_path / "uniroute.toml").exists()


def test_a_dry_run_writes_no_price_file(uniroute: Uniroute, tmp_path: Path) -> None:
    assert "Would write prices.toml" in uniroute("init", "--catalog", "prices.toml", "--dry-run").out
    assert not (tmp_path / "prices.toml").exists()


def test_it_writes_one_file_at_a_time(uniroute: Uniroute, tmp_path: Path) -> None:
    found = uniroute("init", "mine.toml", "--catalog", "prices.toml")
    assert found.code == 2
    assert not list(tmp_path.glob("*.toml"))
