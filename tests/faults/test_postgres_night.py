"""A night on PostgreSQL has the same result as on SQLite, killed or not (claims C1, C2)."""

import shutil
from pathlib import Path

import pytest

from registry.store import Registry
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.tiny_night import FIRST, LLMS, SECOND, TinyNight, answer
from tests.postgres import break_in
from tests.registry.samples import NOW

KILLED = -9


@pytest.mark.slow
def test_two_nights_on_postgresql_one_of_them_killed_equal_two_on_sqlite(tmp_path: Path, template, empty_database):
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as endpoint:
        folder = tmp_path / "night"
        night = TinyNight.prepare(folder, endpoint, template, night="batch_size = 4")
        for day in (FIRST, SECOND):
            assert night.run(day) == 0, night.output()
        expected = night.dump()
        calls = dict(endpoint.calls)
        shutil.rmtree(folder)

        # The very same paths: a run remembers its settings, and they name files.
        night = TinyNight.prepare(folder, endpoint, template, night="batch_size = 4")
        on_server = {"UNIROUTE_REGISTRY__URL": empty_database}
        assert night.run(FIRST, **on_server) == 0, night.output()
        assert night.run(SECOND, UNIROUTE_TEST_KILL_AT="committed", **on_server) == KILLED
        assert night.run(SECOND, **on_server) == 0, night.output()
        assert sum(endpoint.calls.values()) - 2 * sum(calls.values()) <= 4, "only what was under way is asked again"

    assert break_in(empty_database, "SELECT count(*) FROM outcome") == [(len(expected["outcome"]),)]
    assert not night.registry.exists(), "nothing went past the server"
    with Registry.open(empty_database) as there, Registry.unmade(f"sqlite:///{night.registry}") as here:
        copied = there.backups.copy_to(here.backups, NOW)
        assert copied.digest == there.backups.contents().digest
        assert there.ledger.verify().is_intact
    dump = night.dump()
    assert dump.keys() == expected.keys()
    for part, rows in expected.items():
        assert dump[part] == rows, part
