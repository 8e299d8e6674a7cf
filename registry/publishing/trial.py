"""Trying MLflow out before a night needs it: whether it can be published to, down to the disk of its artifacts."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from registry.publishing.connection import asking, open_client, server_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PROXIED = "mlflow-artifacts:"


def try_out(tracking_url: str, experiment: str) -> str:
    """Open MLflow, and let a server that keeps artifacts itself keep a small file, which is removed again.

    Parameters
    ----------
    tracking_url
        As `RouterPublisher` takes it.
    experiment
        The experiment that runs are logged to; it need not exist yet.

    Returns
    -------
    str
        The version of an MLflow server; empty for a database, and for a server that does not tell.

    Raises
    ------
    PublishIncomplete
        If a router could not be published there.
    """
    version, client = server_version(tracking_url), open_client(tracking_url)
    with asking(tracking_url, "MLflow cannot be published to"):
        _keep_a_file(client, tracking_url, experiment)
    return version


def _keep_a_file(client: MlflowClient, tracking_url: str, experiment: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    ours = client.get_experiment_by_name(experiment)
    any_other = ours or next(iter(client.search_experiments(max_results=1)), None)
    if any_other is None or not any_other.artifact_location.startswith(_PROXIED):
        return
    # Beside the experiments before there is ours: in another one this user may have no right to write.
    place = ours.artifact_location if ours is not None else f"{_PROXIED}/uniroute-trials"
    files = get_artifact_repository(f"{place}/trial-{uuid.uuid4().hex}", tracking_uri=tracking_url)
    with tempfile.TemporaryDirectory(prefix="uniroute-trial-") as scratch:
        trial = Path(scratch) / "trial"
        trial.write_text("Written and removed by uniroute config validate --connect.\n" * 100, encoding="utf-8")
        files.log_artifact(str(trial))
    files.delete_artifacts()
