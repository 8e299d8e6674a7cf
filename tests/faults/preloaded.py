"""What the fork server of `tiny_night` does once for all nights: imports, and what libraries keep of a first use."""

import gc
import io
import os
import tempfile
from pathlib import Path

os.environ.setdefault("PREFECT_HOME", str(Path(tempfile.gettempdir()) / "uniroute-tests-prefect"))

import alembic.command
import matplotlib.figure
import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store
import pandas
import sklearn.cluster
from mlflow.utils import requirements_utils

import flows.catalogs
import flows.cli.endings
import flows.endpoints.wire
import flows.graders
import flows.nightly
import flows.promotion.publication
import flows.prompt_file
import flows.reports.promotion.reviews
import registry.publishing.publisher
import routing.embedding
import tests.fakes.plain
from routing.cluster_maps import one_thread
from tests.homes import read_migrations_once

__all__ = ["alembic", "flows", "matplotlib", "mlflow", "pandas", "registry", "routing", "sklearn", "tests"]

for name in [name for name in os.environ if name.startswith("UNIROUTE_")]:
    del os.environ[name]  # of the test that happened to come first
# MLflow reads the metadata of every package that is installed; a fifth of a night.
requirements_utils._init_packages_to_modules_map()
read_migrations_once()
one_thread()  # looks for the numerical libraries of this process
for form in ("png", "svg"):
    figure = matplotlib.figure.Figure(layout="constrained")
    figure.subplots().plot([0, 1], label="0123456789")
    figure.savefig(io.BytesIO(), format=form)
gc.collect()
gc.freeze()
