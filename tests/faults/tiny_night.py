"""A night of a second, in a process that may be killed: three LLMs, two dozen prompts, all parts real except Prefect.

Processes come from a fork server that has imported everything, because imports take longer than the night.
"""

import asyncio
import atexit
import json
import multiprocessing
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.commands import Ended
from tests.fakes.endpoint import FakeEndpoint
from tests.postgres import look_into

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.uncollected", "tests.faults.preloaded"])

LLMS = ("weak", "fair", "good")
FIRST, SECOND = "2024-09-01", "2024-10-01"

# What differs from one run to the next, however little happened: times, processes, attempts, and MLflow's own numbers.
_PASSING = {
    "run": {"attempt", "lease_number", "host", "pid", "verdict", "summary_json"},
    "outcome": {"latency_s", "lease_number"},
    "charge": {"reserved_picousd"},
    "ledger": {"number", "previous_hash", "hash"},
    "outbox": {"ledger_number", "attempts"},
    "router": {"mlflow_run_id", "folder_digest"},
    "promotion": {"report_digest"},
}
# The report says when routers were made and how fast LLMs answered, so its digest differs too; and a process of its own
# may multiply on another number of threads.
_PASSING_TEXT = re.compile(r'"(report_digest|threads)":"[^"]*"')
_NO_CONTENT = {"lease", "ledger_head", "retired_rows", "schema_file", "uniroute_alembic_version"}
# Digests of rows and of version folders, into which MLflow writes the time, cover what differs, too; a folder that was
# built again has two. `Registry.check_facts` and `Routers.known_folder` compare them.
_PASSING_EVENTS = {"run:lease:taken_over", "run:facts:sealed", "router:folder:built"}

_SETTINGS = """
home = "home"
[prompts]
file = "prompts.jsonl"
map = 0.4
representative = 0.3
gate = 0.2
hidden = 0.1
[embedder]
name = "hashing-256"
[routing]
n_clusters = 2
[night]
canary_prompts = 0
{night}
[gate]
resamples = 200
epsilon = 1.0
max_cost_increase = 100.0
max_share = 1.0
[[catalog]]
name = "ours"
kind = "toml"
location = "llms.toml"
endpoint = "fake"
[[endpoint]]
name = "fake"
base_url = "{base_url}"
concurrency = {concurrency}
max_tokens = 64
{more}
"""


def answer(llm_id: str, prompt: str) -> str:
    """Answer wrongly every second prompt (`weak`), every third (`fair`) or every sixth (`good`)."""
    number = int(prompt.split()[1])
    is_right = number % {"weak": 2, "fair": 3, "good": 6}[llm_id] != 0
    return f"The answer is ({'ABCD'[number % 4] if is_right else 'ABCD'[(number + 1) % 4]})."


@dataclass(frozen=True)
class TinyNight:
    """A folder with everything a night needs, and the night as it is run there."""

    folder: Path

    @classmethod
    def prepare(
        cls,
        folder: Path,
        endpoint: FakeEndpoint,
        mlflow_template: Path | None,
        *,
        concurrency: int = 4,
        night: str = "",
        more: str = "",
    ) -> "TinyNight":
        """Write settings, prompts, a catalog whose LLM ``good`` comes out between the nights, and an empty MLflow.

        Without a template of MLflow's database there is no home folder, and the first night makes everything itself.
        """
        folder.mkdir(parents=True)
        settings = _SETTINGS.format(base_url=endpoint.base_url, concurrency=concurrency, night=night, more=more)
        (folder / "uniroute.toml").write_text(settings)
        with (folder / "prompts.jsonl").open("w") as file:
            for number in range(24):
                text = f"Question {number} about {'rivers' if number % 3 else 'numbers'}: A, B, C or D?"
                row = {"prompt_id": f"p{number}", "text": text, "reference": "ABCD"[number % 4], "grader": "choice"}
                file.write(json.dumps(row) + "\n")
        listed = [("weak", "2024-08-01", 0.1), ("fair", "2024-08-02", 0.2), ("good", "2024-09-10", 0.2)]
        rows = [
            f'[[llm]]\nid = "{name}"\nreleased = {released}\ninput_usd_per_mtok = {usd}\noutput_usd_per_mtok = {usd}\n'
            for name, released, usd in listed
        ]
        (folder / "llms.toml").write_text("\n".join(rows))
        if mlflow_template is not None:
            (folder / "home").mkdir()
            shutil.copyfile(mlflow_template, folder / "home" / "mlflow.db")
        return cls(folder)

    @property
    def registry(self) -> Path:
        return self.folder / "home" / "registry.db"

    def start(self, as_of: str, **variables: str) -> "multiprocessing.process.BaseProcess":
        """Start the night in a process of its own."""
        process = CONTEXT.Process(target=_run, args=(str(self.folder), as_of, variables))
        process.start()
        return process

    def run(self, as_of: str, **variables: str) -> int:
        """Run the night in a process of its own; return its exit code, negative for a signal."""
        process = self.start(as_of, **variables)
        process.join(120)
        assert process.exitcode is not None, "the night hangs"
        return process.exitcode

    def output(self) -> str:
        """Return what the last night printed."""
        return (self.folder / "output.txt").read_text()

    def reached(self) -> dict[str, int]:
        """Return how often the last finished night reached each crash point, in the order of their first time.

        Points are counted when `UNIROUTE_TEST_KILL_AT` is set, whatever it says.
        """
        return json.loads((self.folder / "reached.json").read_text())

    def planned_calls(self) -> int:
        """Return how many calls the last night said it would make."""
        return int(re.search(r"Plan: .* LLMs, (\d+) calls", self.output())[1])

    def rows(self, query: str) -> list[tuple]:
        """Read the registry's database."""
        with sqlite3.connect(self.registry) as connection:
            found = connection.execute(query).fetchall()
        connection.close()
        return found

    def dump(self) -> dict[str, list[tuple]]:
        """Return what the registry and MLflow hold, without what differs between runs: equal nights are equal."""
        home = self.folder / "home"
        return lasting(self.registry, home, f"sqlite:///{home / 'mlflow.db'}")


def lasting(registry: Path, home: Path, mlflow: str) -> dict[str, list[tuple]]:
    """Return what nights leave behind: the rows of a registry's file, the folders of routers, and MLflow's database."""
    with sqlite3.connect(registry) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: _rows_of(connection, name) for name in tables if name not in _NO_CONTENT}
    connection.close()
    found["router folders"] = sorted((path.name,) for path in (home / "routers").iterdir())
    return found | {"MLflow": mlflow_state(mlflow)}


def _rows_of(connection: sqlite3.Connection, table: str) -> list[tuple]:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    kept = [name for name in columns if not name.endswith("_at") and name not in ("at", "seal")]
    kept = [name for name in kept if name not in _PASSING.get(table, ())]
    rows = connection.execute(f"SELECT {', '.join(kept)} FROM {table}").fetchall()
    lasting_rows = (row for row in rows if not _PASSING_EVENTS.intersection(row))
    return sorted((tuple(_without_passing(cell) for cell in row) for row in lasting_rows), key=repr)


def _without_passing(cell: object) -> object:
    return _PASSING_TEXT.sub(r'"\1":"..."', cell) if isinstance(cell, str) else cell


def mlflow_state(url: str) -> list[tuple]:
    """Return versions with their keys and states, aliases and the number of runs, from MLflow's database."""
    queries = (
        "SELECT v.name, v.version, v.status, t.value FROM model_versions v JOIN model_version_tags t"
        " ON t.name = v.name AND t.version = v.version WHERE t.key = 'publish_key' ORDER BY v.version",
        "SELECT name, alias, version FROM registered_model_aliases ORDER BY alias",
        "SELECT status, count(*) FROM runs WHERE lifecycle_stage = 'active' GROUP BY status ORDER BY status",
    )
    return [row for query in queries for row in look_into(url, query)]


@dataclass(frozen=True)
class ForkedCommand:
    """A command of ``uniroute`` in a process and session of its own, which had nothing to import.

    Under Prefect it needs PREFECT_HOME: the folder ``prefect`` in the home folder, as for any command.
    """

    process: "multiprocessing.process.BaseProcess"
    streams: tuple[Path, Path]

    @classmethod
    def start(cls, folder: Path, *arguments: str, **variables: str) -> "ForkedCommand":
        streams = (Path(tempfile.mkstemp(dir=folder)[1]), Path(tempfile.mkstemp(dir=folder)[1]))
        process = CONTEXT.Process(target=_command, args=(folder, arguments, variables, streams))
        process.start()
        return cls(process, streams)

    def end(self) -> Ended:
        """Wait for its end; the code is negative for a signal."""
        self.process.join(240)
        assert self.process.exitcode is not None, "the command hangs"
        return Ended(self.process.exitcode, *(stream.read_text() for stream in self.streams))


def _command(
    folder: Path, arguments: tuple[str, ...], variables: Mapping[str, str], streams: tuple[Path, Path]
) -> None:
    from prefect.context import refresh_global_settings_context

    from flows.cli import main

    os.setsid()
    os.chdir(folder)
    os.environ |= variables
    refresh_global_settings_context()  # Prefect was imported where these variables were not
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - until the process ends
    sys.stdout, sys.stderr = (stream.open("w") for stream in streams)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        os.dup2(stream.fileno(), number)  # for what it starts
    try:
        main([*arguments])
    finally:
        atexit._run_exitfuncs()  # left out by multiprocessing; Prefect stops its server there


def _run(folder: str, as_of: str, variables: Mapping[str, str]) -> None:
    """Run one night in this process, its tasks as plain functions, and end with the exit code of the command line."""
    os.chdir(folder)
    os.environ |= {"UNIROUTE_HOME": str(Path(folder) / "home")} | variables
    sys.stdout = sys.stderr = Path("output.txt").open("w", buffering=1)  # noqa: SIM115 - until the process ends
    from flows import crash_points, nightly
    from flows.cli.endings import report_bug, report_error
    from routing.errors import UnirouteError
    from tests.fakes.plain import without_prefect

    if os.environ.get("UNIROUTE_TEST_SIDE_EFFECTS"):
        _count_side_effects()
    if os.environ.get("UNIROUTE_TEST_GRADER"):
        from flows.graders.choice import ChoiceGrader

        ChoiceGrader.version = os.environ["UNIROUTE_TEST_GRADER"]
    without_prefect()
    try:
        report = asyncio.run(nightly.night(as_of=as_of, config="uniroute.toml"))
        code = 3 if report.attention else 0
        print("\n".join(report.attention))
    except UnirouteError as error:
        code = report_error(error, as_json=False)
    except Exception as error:
        code = report_bug(error)
    sys.stdout.flush()
    Path("reached.json").write_text(json.dumps(crash_points.reached()))
    os._exit(code)


def _count_side_effects() -> None:
    """Make a crash point of every commit that writes, every change of MLflow's schema and every rename, before it."""
    from sqlalchemy import Engine, event

    from flows import crash_points

    def note_write(connection, _cursor, statement, _parameters, _context, _many) -> None:
        if statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE")):
            connection.info["writes"] = True
        elif statement.lstrip().startswith(("CREATE", "ALTER", "DROP")) and "mlflow" in str(connection.engine.url):
            crash_points.reach("MLflow schema")

    def commit(connection) -> None:
        if connection.info.pop("writes", False):
            crash_points.reach("MLflow commit" if "mlflow" in str(connection.engine.url) else "effect")

    event.listen(Engine, "before_cursor_execute", note_write)
    event.listen(Engine, "commit", commit)
    sys.addaudithook(lambda name, _arguments: crash_points.reach("effect") if name == "os.rename" else None)
