"""How MLflow is reached: settings, a client that gives up in bounded time, one error for all the ways it can fail."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from registry.publishing.refusals import Failure, refusal
from registry.publishing.server import require_suitable
from registry.publishing.text import one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    # MLflow's own defaults wait 120 s per request and try 8 times: a night would hang for a quarter of an hour.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # "true" is the only value MLflow takes.
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Otherwise a uv.lock in the current folder, which need not be ours, would be copied into every version.
    "MLFLOW_UV_AUTO_DETECT": "false",
}
_SQLITE_MAGIC = b"SQLite format 3\x00"
# The address of one request, with its query, would push the reason out of the message.
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

        return MlflowClient(tracking_uri=tracking_url, registry_uri=registry_url or tracking_url)


def server_version(url: str) -> str:
    """Find out in seconds whether a store can be used at all; give the version of an MLflow server.

    Parameters
    ----------
    url
        As for `open_client`.

    Returns
    -------
    str
        The version; empty for a database, and for a server that does not tell.

    Raises
    ------
    PublishIncomplete
        If the store cannot be reached, is not one of MLflow's, or is a server that cannot be published to.
    """
    with asking(url, "MLflow could not be opened"):
        if urlsplit(url).scheme in ("http", "https"):
            return require_suitable(url, shown(url))
        _refuse_hopeless(url)
        return ""


@contextmanager
def asking(url: str, failure: str) -> Iterator[None]:
    """Turn whatever MLflow, its database or its artifact store raises into one `PublishIncomplete`.

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

    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
        reason = one_line(_REQUEST.sub("...", _without_credentials(str(error), url)), 300)
        raise refusal(Failure(error, failure, shown(url), reason, _has_user(url))) from error


def _has_user(url: str) -> bool:
    """Say whether MLflow was told any user, in the URL or in its own settings."""
    from mlflow.utils.credentials import get_default_host_creds

    told = get_default_host_creds(url)
    return bool(urlsplit(url).username or told.username or told.token or told.auth)


def shown(url: str) -> str:
    """Give the URL without its user name and password."""
    return _without_credentials(url, url)


def sqlite_file(url: str) -> Path | None:
    """Give the database file of a SQLite URL, or None for any other store."""
    scheme, _, path = url.partition(":///")
    return Path(unquote(path)) if scheme.partition("+")[0] == "sqlite" and path else None


def _without_credentials(text: str, url: str) -> str:
    credentials, at, _ = urlsplit(url).netloc.rpartition("@")
    return text.replace(credentials + at, "") if at else text


def _refuse_hopeless(url: str) -> None:
    """Find out in seconds what MLflow's retries of a database would find out in minutes."""
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            with file.open("rb") as stream:
                head = stream.read(len(_SQLITE_MAGIC))
            if head not in (b"", _SQLITE_MAGIC):
                raise OSError(f"{file} is not an SQLite database")
        return
    import socket

    address = urlsplit(url)
    dialect = address.scheme.partition("+")[0]
    if dialect in SQL_PORTS and address.hostname:
        port = address.port or SQL_PORTS[dialect]
        socket.create_connection((address.hostname, port), timeout=_CONNECT_TIMEOUT_S).close()
