"""The night is killed anywhere and started again, and leaves no sign of it (claims C1, C2, C5 to C7, C9)."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from registry.store import Registry
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.tiny_night import FIRST, LLMS, SECOND, TinyNight, answer, mlflow_state

KILLED = -9
NEWER = {"UNIROUTE_TEST_GRADER": "99"}
"""The second night has a newer grader, so that it is also killed while it grades stored answers again."""
COUNTED = {"UNIROUTE_TEST_KILL_AT": "nowhere", "UNIROUTE_TEST_SIDE_EFFECTS": "1"}
"""Kills nothing, and counts what there is to be killed at."""
CONCURRENCY = 4
FLOWS = Path(__file__).resolve().parents[2] / "flows"
# Reached when a person decides, and by no night; tests of promotions kill there.
DECISIONS = "decisions.py"
POINTS = sorted(
    {
        point
        for module in FLOWS.rglob("*.py")
        if module.name != DECISIONS
        for point in re.findall(r'\b_?reach\((?:night, )?"([^"]+)"\)', module.read_text())
    }
)

assert {"refitted", "answered", "grades stored", "version made"} <= {*POINTS}, (
    "kill points are found by their name in the source"
)


class Evening:
    """The state before a night, to be restored as often as needed, and what an uninterrupted night makes of it."""

    def __init__(self, night: TinyNight, endpoint: FakeEndpoint) -> None:
        self.night = night
        self.endpoint = endpoint
        self._before = night.folder.parent / "before"
        shutil.copytree(night.folder, self._before)
        self.old_champion = self.champion()
        calls = dict(endpoint.calls)
        assert night.run(SECOND, **COUNTED, **NEWER) == 0, night.output()
        self.reached = night.reached()
        asked = {name for name in LLMS if endpoint.calls[name] > calls.get(name, 0)}
        assert asked == {"good"}, "the others are graded again"
        self.new_champion = self.champion()
        ((self.refreshed,),) = night.rows("SELECT subject FROM ledger WHERE event = 'router:refreshed'")
        self.expected = night.dump()
        self.answers = self._answers()

    def champion(self) -> str:
        ((digest,),) = self.night.rows("SELECT router_digest FROM alias WHERE name = 'champion'")
        return digest

    def _answers(self) -> int:
        """Return how many outcomes were asked for, and not only graded again."""
        return self.night.rows("SELECT count(*) FROM outcome WHERE regraded_at IS NULL")[0][0]

    def _calls(self) -> int:
        return sum(self.endpoint.calls.values())

    def come_back(self) -> None:
        """Restore the state at the very same paths, because MLflow stores them."""
        shutil.rmtree(self.night.folder)
        shutil.copytree(self._before, self.night.folder)

    def killed_at(self, *points: str) -> None:
        """Kill the night at a point, what continues it at the next one, and so on; the last start is left alone.

        What serves is intact after each death, and in the end all is as if nothing had happened.
        """
        self.come_back()
        for point in points:
            kept, calls_before = self._answers(), self._calls()
            code = self.night.run(SECOND, **COUNTED | {"UNIROUTE_TEST_KILL_AT": point}, **NEWER)
            assert code == KILLED, f"not killed at {point}: {self.night.output()}"
            assert self.champion() in (self.old_champion, self.refreshed, self.new_champion)
            self._check_served()
            self._check_paid_once(kept, calls_before)
        kept, calls_before = self._answers(), self._calls()
        assert self.night.run(SECOND, **NEWER) == 0, self.night.output()
        self._check_paid_once(kept, calls_before)
        where = f"killed at {', then '.join(points)}"
        dump = self.night.dump()
        assert dump.keys() == self.expected.keys()
        for part, rows in self.expected.items():
            assert dump[part] == rows, f"{where}: {part} differs"
        with Registry.open(f"sqlite:///{self.night.registry}", migrate=False) as registry:
            facts = registry.check_facts(registry.ledger.events())
            published = [one for one in registry.routers.list() if one.mlflow_version is not None]
            assert published and all(registry.routers.known_folder(one) is not None for one in published)
        assert (facts.problems, facts.n_open, facts.n_nights) == ((), 0, 2), where
        assert self.champion() == self.new_champion != self.old_champion

    def _check_paid_once(self, kept: int, calls_before: int) -> None:
        """Check that a start asked for what was missing, and for calls of the one before that were in flight."""
        asked_again = self._calls() - calls_before - (self.answers - kept)
        assert asked_again <= CONCURRENCY, "a call of the dying night may arrive late, but no kept answer is paid twice"

    def _check_served(self) -> None:
        """Check that what consumers follow is a complete version, whatever the night was doing."""
        state = mlflow_state(f"sqlite:///{self.night.folder / 'home' / 'mlflow.db'}")
        ready = {version for _, version, status, _ in (row for row in state if len(row) == 4) if status == "READY"}
        aliases = {alias: version for _, alias, version in (row for row in state if len(row) == 3)}
        assert aliases["champion"] in ready


# A night is killed at every third step: neighbours, often a line apart, get nights of their own.
TURNS = 3
# Every effect takes some minutes: set UNIROUTE_TEST_KILL_STRIDE=1 after changing what a night writes.
STRIDE = int(os.environ.get("UNIROUTE_TEST_KILL_STRIDE", "17"))


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Evening]:
    """Return a state with a champion to refresh and then to beat, and one new LLM to ask."""
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as endpoint:
        folder = tmp_path_factory.mktemp("killed") / "night"
        # Small batches make several commits: a night is also killed between two of them.
        night = TinyNight.prepare(folder, endpoint, template, concurrency=CONCURRENCY, night="batch_size = 4")
        assert night.run(FIRST) == 0, night.output()
        # A price in force moves, so that the second night refreshes the champion before it makes another.
        catalog = folder / "llms.toml"
        catalog.write_text(catalog.read_text().replace("usd_per_mtok = 0.2", "usd_per_mtok = 0.3"))
        yield Evening(night, endpoint)


def numbers_of(reached: Mapping[str, int], name: str, stride: int, at_least: int) -> range:
    """Return at which of its side effects a night is killed: the first one, and then every so many."""
    assert reached[name] > at_least, f"there are few of {name} to be killed at"
    return range(1, reached[name] + 1, stride)


def test_a_night_reaches_every_named_step(evening: Evening) -> None:
    assert {*evening.reached} == {*POINTS, "effect", "MLflow commit"}


@pytest.mark.parametrize("turn", range(TURNS))
def test_f01_a_night_killed_at_named_steps_ends_as_if_it_had_not_been_killed(evening: Evening, turn: int) -> None:
    evening.killed_at(*[point for point in evening.reached if point in POINTS][turn::TURNS])


@pytest.mark.slow
def test_f01_a_night_killed_before_its_nth_side_effect_ends_as_if_it_had_not_been_killed(
    evening: Evening,
) -> None:
    for n in numbers_of(evening.reached, "effect", STRIDE, at_least=16):
        evening.killed_at(f"effect#{n}")


@pytest.mark.slow
def test_f82_a_night_killed_before_the_nth_commit_of_mlflow_makes_one_version_and_the_right_aliases(
    evening: Evening,
) -> None:
    # Run, artifacts, version, tags and aliases are commits of their own.
    for n in numbers_of(evening.reached, "MLflow commit", STRIDE, at_least=8):
        evening.killed_at(f"MLflow commit#{n}")


class FirstEvening:
    """A home folder that does not exist yet, and what the first night makes of it when nothing stops it."""

    def __init__(self, night: TinyNight, endpoint: FakeEndpoint) -> None:
        self._folder = night.folder
        self._endpoint = endpoint
        self._expected = night.dump()
        self.reached = night.reached()

    def killed_at(self, *points: str) -> None:
        """Kill the first night at a point, the next start at the next one; the last one makes all, MLflow included."""
        shutil.rmtree(self._folder)
        night = TinyNight.prepare(self._folder, self._endpoint, None, concurrency=CONCURRENCY, night="batch_size = 4")
        for point in points:
            assert night.run(FIRST, **COUNTED | {"UNIROUTE_TEST_KILL_AT": point}) == KILLED, night.output()
        assert night.run(FIRST) == 0, night.output()
        dump = night.dump()
        for part, rows in self._expected.items():
            assert dump[part] == rows, f"killed at {', then '.join(points)}: {part} differs"
        left = {path.name for path in (self._folder / "home").glob("mlflow.db*")}
        assert left == {"mlflow.db", "mlflow.db.lock"}


@pytest.fixture(scope="module")
def first_evening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstEvening]:
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as endpoint:
        # MLflow stores paths: the night that is compared with runs in the same folder.
        folder = tmp_path_factory.mktemp("first") / "night"
        # MLflow's database is made by this night, so that the changes of its schema are counted.
        night = TinyNight.prepare(folder, endpoint, None, concurrency=CONCURRENCY, night="batch_size = 4")
        assert night.run(FIRST, **COUNTED) == 0, night.output()
        yield FirstEvening(night, endpoint)


@pytest.mark.slow
def test_f82_a_first_night_killed_before_the_nth_change_of_mlflows_schema_makes_it_at_the_next_start(
    first_evening: FirstEvening,
) -> None:
    # Tables, columns and indexes are made one by one, and all of them again by the next start.
    numbers = numbers_of(first_evening.reached, "MLflow schema", 5 * STRIDE, at_least=200)
    first_evening.killed_at(*(f"MLflow schema#{n}" for n in numbers))


@pytest.mark.slow
def test_f01_a_first_night_killed_before_its_nth_side_effect_ends_as_if_it_had_not_been_killed(
    first_evening: FirstEvening,
) -> None:
    # The registry and MLflow's database are made, and then filled.
    for n in numbers_of(first_evening.reached, "effect", STRIDE, at_least=16):
        first_evening.killed_at(f"effect#{n}")
