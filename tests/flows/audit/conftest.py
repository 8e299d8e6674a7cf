"""One home after two real nights, made once and copied for each process: tests that damage it repair it again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.config.sources import CONFIG_NAME
from flows.workspace import Workspace
from tests.fakes.nights import FIRST, SECOND, SETTINGS, Clock, answered_home, run_night, settings_of
from tests.homes import Once, copied_home


@pytest.fixture(scope="session")
def two_nights(once: Once, migrated: Path, template: Path) -> Path:
    """The home after the nights, which nobody opens: copying an open one would drop the locks of this process."""

    def make(folder: Path) -> None:
        clock = Clock()
        with answered_home(folder / "home", migrated, template) as workspace:
            run_night(workspace, FIRST, ("weak", "fair"), clock)
            run_night(workspace, SECOND, ("weak", "fair", "good"), clock)

    return once("audited", make) / "home"


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory, two_nights: Path) -> Iterator[Workspace]:
    """A home whose champion is version 2 of LLMs fair, good, weak, and whose previous router did without good."""
    home = copied_home(two_nights, tmp_path_factory.mktemp("audited") / "home")
    home.with_name(CONFIG_NAME).write_text(SETTINGS.format(policy="automatic"))
    with Workspace(settings_of(home)) as workspace:
        yield workspace
