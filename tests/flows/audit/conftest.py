"""One home after two real nights, made once: tests that damage it mend it again."""

from collections.abc import Iterator

import pytest

from flows.workspace import Workspace
from tests.fakes.nights import FIRST, SECOND, Clock, answered_home, run_night


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory, migrated, template) -> Iterator[Workspace]:
    """Give a home whose champion is version 2 of LLMs fair, good, weak, and whose previous router did without good."""
    clock = Clock()
    with answered_home(tmp_path_factory.mktemp("audited") / "home", migrated, template) as workspace:
        run_night(workspace, FIRST, ("weak", "fair"), clock)
        run_night(workspace, SECOND, ("weak", "fair", "good"), clock)
        yield workspace
