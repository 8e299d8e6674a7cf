"""Fixtures that every room shares."""

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.mlflow_server import mlflow_server
from tests.postgres import empty_database, migrated_database, postgres

# One definition for all folders: each import elsewhere would be a server's fixture of its own.
__all__ = ["empty_database", "migrated_database", "mlflow_server", "postgres"]

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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of recorded outcomes and catalogs, which is too large or too restricted to bundle."""
    folder = Path(os.environ.get("UNIROUTE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the large recorded data is not beside the project; set UNIROUTE_DATA to its folder")
    return folder
