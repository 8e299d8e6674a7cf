"""What the fork server of `tiny_night` does once for all nights: imports, and what libraries keep of a first use."""

import gc
import io
import os
import tempfile
from pathlib import Path

os.environ.setdefault("PREFECT_HOME", str(Path(tempfile.gettempdir()) / "uniroute-tests-prefect"))

import alembic.command
import anyio._backends._asyncio
import httpcore2
import matplotlib
import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store
import mlflow.utils.search_logged_model_utils
import pandas
import sklearn.cluster
import sklearn.feature_extraction.text
import truststore
from matplotlib import pyplot
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
from flows.reports.pages import _environment
from routing.cluster_maps import one_thread
from tests.homes import read_migrations_once

__all__ = [
    "alembic",
    "anyio",
    "flows",
    "httpcore2",
    "mlflow",
    "pandas",
    "registry",
    "routing",
    "sklearn",
    "tests",
    "truststore",
]

for name in [name for name in os.environ if name.startswith("UNIROUTE_")]:
    del os.environ[name]  # of the test that happened to come first
# MLflow reads the metadata of every package that is installed; a fifth of a night.
requirements_utils._init_packages_to_modules_map()
read_migrations_once()
one_thread()  # looks for the numerical libraries of this process
matplotlib.use("Agg")
for form in ("png", "svg"):
    figure, axes = pyplot.subplots()
    axes.loglog([0.01, 10], [0.01, 10], label="0123456789")
    axes.legend()
    figure.savefig(io.BytesIO(), format=form)
    pyplot.close(figure)
for template in _environment().list_templates():
    _environment().get_template(template)
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)
gc.enable()
