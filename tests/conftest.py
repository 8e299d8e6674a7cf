"""Fixtures that every room shares."""

import os
from pathlib import Path

import pytest

from tests.mlflow_server import mlflow_server
from tests.postgres import empty_database, migrated_database, postgres

# One definition for all folders: each import elsewhere would be a server's fixture of its own.
__all__ = ["empty_database", "migrated_database", "mlflow_server", "postgres"]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of recorded outcomes and catalogs, which is too large or too restricted to bundle."""
    folder = Path(os.environ.get("UNIROUTE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the large recorded data is not beside the project; set UNIROUTE_DATA to its folder")
    return folder
