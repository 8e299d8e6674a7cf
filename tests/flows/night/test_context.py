"""How long a night may ask."""

import shutil
from datetime import UTC, date, datetime, timedelta

from flows.config.settings import Settings
from flows.night.context import Night
from flows.workspace import Workspace


def test_a_night_is_over_after_its_hours_and_a_part_of_it_when_the_night_is(tmp_path, migrated):
    shutil.copy(migrated, tmp_path / "registry.db")
    start = datetime(2024, 9, 1, 2, tzinfo=UTC)
    times = [start]
    with Workspace(Settings(home=tmp_path, night={"max_hours": 2})) as workspace:
        whole = Night(workspace, date(2024, 9, 1), lambda: times[-1])
        times.append(start + timedelta(hours=1))
        part = Night(workspace, date(2024, 9, 1), lambda: times[-1], ends_at=whole.ends_at)
        assert not whole.is_over and not part.is_over
        times.append(start + timedelta(hours=2))
        assert whole.is_over and part.is_over
