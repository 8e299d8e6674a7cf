"""What tests of promotions share: a home folder in which a challenger waits for its reviewer."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.config.loading import load_settings
from flows.workspace import Workspace
from tests.fakes.contest import prepare_contest
from tests.registry.conftest import migrated
from tests.registry.publishing.conftest import template

__all__ = ["migrated", "template"]


@pytest.fixture(scope="session")
def contest_template(tmp_path_factory: pytest.TempPathFactory, migrated: Path, template: Path) -> Path:
    """Make it once; router version 1 serves, version 2 waits as promotion 2."""
    folder = tmp_path_factory.mktemp("contest") / "made"
    prepare_contest(folder, migrated, template)
    return folder


@pytest.fixture
def contest_folder(tmp_path: Path, contest_template: Path) -> Path:
    """Give a copy of it."""
    return Path(shutil.copytree(contest_template, tmp_path / "contest"))


@pytest.fixture
def contest(contest_folder: Path) -> Iterator[Workspace]:
    """Give a copy of it, opened."""
    with Workspace(load_settings(contest_folder / "uniroute.toml")) as workspace:
        yield workspace
