"""Probes of MLflow: whether it answers, found out without importing it, and whether it can be published to."""

from __future__ import annotations

import socket
import tempfile
import uuid
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen  # the registry may not import an HTTP client such as httpx2

from registry.publishing.connection import SQL_PORTS, asking, open_client, server_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PATIENCE_S = 2.0
_SERVER_ERROR = 500


def probe(url: str, *, patience_s: float = _PATIENCE_S) -> str:
    """Return why a store of MLflow does not answer; empty when it does, or when only opening it would show.

    Parameters
    ----------
    url
        ``sqlite:///FILE``, another SQLAlchemy URL, or the ``http(s)`` URL of an MLflow server.
    patience_s
        How long to wait, in seconds.
    """
    from registry.db.url_masking import mask_url

    try:
        address = urlsplit(url)
        where = mask_url(url)
    except ValueError as error:
        return f"MLflow does not answer, because its address is malformed: {error}"
    dialect = address.scheme.partition("+")[0]
    try:
        if dialect in ("http", "https"):
            plain = address._replace(netloc=address.netloc.rpartition("@")[2])
            _ask(urlunsplit(plain._replace(path=f"{plain.path.rstrip('/')}/health", query="", fragment="")), patience_s)
        elif dialect in SQL_PORTS and address.hostname:
            port = address.port or SQL_PORTS[dialect]
            socket.create_connection((address.hostname, port), timeout=patience_s).close()
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if type(error) is URLError else error
        return f"MLflow does not answer at {where}: {reason}"
    return ""


def _ask(health_url: str, patience_s: float) -> None:
    """Ask a server for a sign of life; one that refuses access is alive."""
    try:
        urlopen(Request(health_url), timeout=patience_s).close()  # noqa: S310 - the scheme was looked at
    except HTTPError as error:
        error.close()
        if error.code >= _SERVER_ERROR:
            raise


_PROXIED = "mlflow-artifacts:"


def probe_publishing(tracking_url: str, experiment: str) -> str:
    """Open MLflow, and have a server that keeps artifacts itself keep a small file, which is removed again.

    Parameters
    ----------
    tracking_url
        As `RouterPublisher` takes it.
    experiment
        The experiment that runs are logged to; it need not exist yet.

    Returns
    -------
    str
        The version of an MLflow server; empty for a database, and for a server that does not state it.

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
    # Outside all experiments until ours exists: in another one this user may have no right to write.
    place = ours.artifact_location if ours is not None else f"{_PROXIED}/uniroute-trials"
    files = get_artifact_repository(f"{place}/trial-{uuid.uuid4().hex}", tracking_uri=tracking_url)
    with tempfile.TemporaryDirectory(prefix="uniroute-trial-") as scratch:
        file = Path(scratch) / "trial"
        file.write_text("Written and removed by uniroute config validate --connect.\n" * 100, encoding="utf-8")
        files.log_artifact(str(file))
    files.delete_artifacts()
