"""Fixtures that every room shares."""

import gc
import os
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from tests import properties
from tests.commands import uniroute
from tests.homes import (
    answered_template,
    contest,
    contest_folder,
    contest_template,
    migrated,
    once,
    prefect_template,
    served,
    served_template,
    template,
)
from tests.mlflow_server import mlflow_server
from tests.postgres import empty_database, migrated_database, postgres
from tests.statements import share_statements
from tests.temporary import in_memory

# One definition for all folders: each import elsewhere would be a fixture of its own, made once more.
__all__ = [
    "answered_template",
    "contest",
    "contest_folder",
    "contest_template",
    "empty_database",
    "migrated",
    "migrated_database",
    "mlflow_server",
    "once",
    "postgres",
    "prefect_template",
    "served",
    "served_template",
    "template",
    "uniroute",
]

ROOT = Path(__file__).resolve().parents[1]
SHOWN_FILES = 10


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which files took longest, fixtures included, when more files ran than are printed."""
    seconds: Counter[str] = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            seconds[report.location[0]] += report.duration
    if len(seconds) > SHOWN_FILES:
        terminalreporter.section(f"slowest {SHOWN_FILES} files of {len(seconds)}, in seconds of one process")
        for file, duration in seconds.most_common(SHOWN_FILES):
            terminalreporter.write_line(f"{duration:7.1f} s  {file}")


# Six thousand tests are collected, and what is imported meanwhile stays.
gc.set_threshold(50_000, 20, 20)

in_memory()

# The first import of Prefect, or of a numerical library, reads it, whatever test that is. Four processes keep the cores
# busy: threads of matrix products only wait for each other.
for _name, _value in {
    "PREFECT_HOME": str(Path(tempfile.gettempdir()) / "uniroute-tests-prefect"),
    "DO_NOT_TRACK": "true",
    "OMP_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}.items():
    os.environ.setdefault(_name, _value)

hypothesis.settings.load_profile(properties.PROFILE)
share_statements()

# A file stays on one process, so the last one must not run alone for long: these come first.
LONGEST_FIRST = (
    "faults/test_kill_points.py",
    "e2e/test_stack.py",
    "e2e/test_two_nights.py",
    "faults/test_signals.py",
    "faults/test_secrets.py",
    "faults/test_promotions.py",
    "faults/test_postgres_night.py",
    "faults/test_withdrawal.py",
    "faults/test_mlflow_outage.py",
    "flows/cli/test_servers.py",
    "flows/reports/promotion/test_nights.py",
    "e2e/test_refusals.py",
    "registry/publishing/test_client.py",
    "registry/publishing/test_mlflow_server.py",
    "flows/promotion/test_refresh.py",
    "flows/promotion/test_undecided.py",
    "registry/publishing/test_processes.py",
    "registry/publishing/test_spark.py",
    "faults/test_endpoints.py",
    "e2e/test_automations.py",
    "flows/profiling/test_fan_out.py",
    "registry/publishing/test_publisher.py",
    "flows/reports/test_in_chromium.py",
    "test_installation.py",
    "routing/test_embedding.py",
    "routing/test_determinism.py",
    "flows/batch/test_routing.py",
    "flows/checks/test_doctor.py",
    "flows/cli/test_contract.py",
    "test_architecture.py",
)

# These share what a process makes once: a fork server that has imported everything, or an MLflow server.
TOGETHER = {
    "faults/test_signals.py": "nights",
    "faults/test_secrets.py": "nights",
    "faults/test_promotions.py": "nights",
    "faults/test_postgres_night.py": "nights",
    "faults/test_withdrawal.py": "nights",
    "faults/test_mlflow_outage.py": "nights",
    "flows/cli/test_servers.py": "nights",
    "flows/reports/promotion/test_nights.py": "nights",
    "e2e/test_refusals.py": "nights",
    "registry/publishing/test_client.py": "MLflow server",
    "registry/publishing/test_mlflow_server.py": "MLflow server",
}


class FilesTogether(LoadFileScheduling):
    """Tests of a file on one process, and some files on the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return TOGETHER.get(file.removeprefix("tests/"), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FilesTogether:
    """Distribute tests over processes."""
    return FilesTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files come first."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what was imported: looking through it again and again is slow."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of recorded outcomes and catalogs, which is too large or too restricted to bundle."""
    folder = Path(os.environ.get("UNIROUTE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the large recorded data is not beside the project; set UNIROUTE_DATA to its folder")
    return folder
