"""What the fork server of `tiny_night` imports once for all nights."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("PREFECT_HOME", str(Path(tempfile.gettempdir()) / "uniroute-tests-prefect"))

import alembic.command
import matplotlib.pyplot
import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store
import pandas
import sklearn.cluster

import flows.catalogs
import flows.cli.outcome
import flows.endpoints.wire
import flows.graders
import flows.nightly
import flows.promotion.publication
import flows.prompt_file
import registry.publishing.publisher
import routing.embedding

__all__ = ["alembic", "flows", "matplotlib", "mlflow", "pandas", "registry", "routing", "sklearn"]
