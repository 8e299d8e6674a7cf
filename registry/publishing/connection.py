"""How MLflow is reached: settings, a client that gives up in bounded time, and one error for every kind of failure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from registry.errors import MlflowUnsuitable
from registry.publishing.embedded import make_if_missing, require_whole
from registry.publishing.markdown import one_line
from registry.publishing.mlflow_errors import MlflowFailure, publishing_error

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    # MLflow's own defaults wait 120 s per request and try 8 times: a night would hang for a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # "true" is the only value that MLflow accepts.
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Otherwise a uv.lock in the current folder, which need not be ours, would be copied into every version.
    "MLFLOW_UV_AUTO_DETECT": "false",
}
_SQLITE_MAGIC = b"SQLite format 3\x00"
# The address of one request, with its query, would crowd the reason out of the message.
_REQUEST = re.compile(r"(?:https?://[^\s'\"/]+)?/(?:ajax-)?api/[^\s'\"]*")
_CONNECT_TIMEOUT_S = 5.0
SQL_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def open_client(tracking_url: str, registry_url: str | None = None) -> MlflowClient:
    """Open a client of the tracking store and of the registry of versions.

    Parameters
    ----------
    tracking_url
        ``sqlite:///FILE``, another SQLAlchemy URL, or the ``http(s)`` URL of an MLflow server.
    registry_url
        Where versions are registered when that is another place.

    Raises
    ------
    PublishIncomplete
        If the store cannot be reached or is not one of MLflow's.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for url in {tracking_url, registry_url or tracking_url}:
        server_version(url)
    with asking(tracking_url, "MLflow could not be opened"):
        from mlflow import MlflowClient

        for file in {sqlite_file(tracking_url), sqlite_file(registry_url or tracking_url)} - {None}:
            make_if_missing(file)

        return MlflowClient(tracking_uri=tracking_url, registry_uri=registry_url or tracking_url)


def server_version(url: str) -> str:
    """Find out in seconds whether a store can be used at all; return the version of an MLflow server.

    Parameters
    ----------
    url
        As for `open_client`.

    Returns
    -------
    str
        The version; empty for a database, and for a server that does not state it.

    Raises
    ------
    PublishIncomplete
        If the store cannot be reached, is not one of MLflow's, or is a server that cannot be published to.
    """
    with asking(url, "MLflow could not be opened"):
        if urlsplit(url).scheme in ("http", "https"):
            from registry.db.url_masking import mask_url

            return require_suitable(url, mask_url(url))
        _require_reachable(url)
        return ""


@contextmanager
def asking(url: str, failure: str) -> Iterator[None]:
    """Translate any error of MLflow, its database or its artifact store into a `PublishIncomplete`.

    Parameters
    ----------
    url
        The store that is asked; its password never reaches the message.
    failure
        What did not happen, as the beginning of the message.
    """
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from registry.db.url_masking import mask_secrets, mask_url

    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
        reason = one_line(_REQUEST.sub("...", mask_secrets(str(error), url)), 300)
        raise publishing_error(MlflowFailure(error, failure, mask_url(url), reason, _has_user(url))) from error


def _has_user(url: str) -> bool:
    """Whether MLflow has any user to use, from the URL or from its own settings."""
    from mlflow.utils.credentials import get_default_host_creds

    found = get_default_host_creds(url)
    return bool(urlsplit(url).username or found.username or found.token or found.auth)


def sqlite_file(url: str) -> Path | None:
    """Return the database file of an SQLite URL, or None for any other store."""
    from sqlalchemy import make_url

    if urlsplit(url).scheme.partition("+")[0] != "sqlite":
        return None
    path = make_url(url).database
    return Path(path) if path and path != ":memory:" else None


def _require_reachable(url: str) -> None:
    """Find out in seconds what MLflow would find out in minutes of retries."""
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            with file.open("rb") as stream:
                head = stream.read(len(_SQLITE_MAGIC))
            if head not in (b"", _SQLITE_MAGIC):
                raise OSError(f"{file} is not an SQLite database")
            require_whole(file)
        return
    import socket

    address = urlsplit(url)
    dialect = address.scheme.partition("+")[0]
    if dialect in SQL_PORTS and address.hostname:
        port = address.port or SQL_PORTS[dialect]
        socket.create_connection((address.hostname, port), timeout=_CONNECT_TIMEOUT_S).close()


OLDEST_SERVER = "3.16.1"
"""Older servers have known holes, the latest of them CVE-2026-2635: an administrator with a default password."""

_UNCHANGED = "Nothing was published; what is served and the registry are as they were."


def require_suitable(url: str, where: str) -> str:
    """Ask a server for its version, and refuse what cannot be published to.

    Versions of the same major number are compatible; other pairs are untested.

    Parameters
    ----------
    url
        The ``http(s)`` URL of an MLflow server.
    where
        The same as it may be shown.

    Returns
    -------
    str
        The version; empty for an MLflow that does not state it, like some hosted ones.

    Raises
    ------
    MlflowUnsuitable
        When something else answers, or the version is too old or of another major number.
    Exception
        Whatever MLflow's client raises when there is no answer or access is refused.
    """
    import mlflow
    from mlflow.utils.rest_utils import augmented_raise_for_status
    from packaging.version import InvalidVersion, Version

    answer = _get(url, "/version")
    if answer.status_code in (401, 403) or answer.status_code >= 500:
        augmented_raise_for_status(answer)
    try:
        found = Version(answer.text) if answer.status_code == 200 else None
    except InvalidVersion:
        found = None
    if found is None:
        _require_mlflow(url, where)
        return ""
    ours, oldest = Version(mlflow.__version__), Version(OLDEST_SERVER)
    if found.major != ours.major:
        raise MlflowUnsuitable(
            f"MLflow at {where} is version {found}, its client here is {ours}: their major numbers must be the same",
            unchanged=_UNCHANGED,
            hint=f"run an MLflow server of version {ours.major}, or name another one in [mlflow] tracking_url",
        )
    if found < oldest:
        raise MlflowUnsuitable(
            f"MLflow at {where} is version {found}, which has known security holes; uniroute needs {oldest} or newer",
            unchanged=_UNCHANGED,
            hint="upgrade the MLflow server, or name another one in [mlflow] tracking_url",
        )
    return str(found)


def _get(url: str, path: str) -> Any:
    """Ask as MLflow's client does: with its credentials, certificates and time-outs."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    return http_request(get_default_host_creds(url), path, "GET", raise_on_status=False)


def _require_mlflow(url: str, where: str) -> None:
    """Check that the address speaks MLflow's API, whatever it states as its version."""
    from mlflow.utils.rest_utils import augmented_raise_for_status

    answer = _get(url, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default")
    if "www-authenticate" in answer.headers or answer.status_code >= 500:
        augmented_raise_for_status(answer)
    try:
        found = json.loads(answer.text)
    except ValueError:
        found = None
    if not (isinstance(found, dict) and found.keys() & {"experiment", "error_code"}):
        raise MlflowUnsuitable(
            f"what answers at {where} is not an MLflow server",
            unchanged=_UNCHANGED,
            hint="fix [mlflow] tracking_url, for example http://HOST:5000",
        )
