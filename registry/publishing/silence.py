"""Whether MLflow answers at all: found out in seconds and without importing it, which takes longer than that."""

from __future__ import annotations

import socket
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from registry.publishing.connection import SQL_PORTS, shown

_PATIENCE_S = 2.0
_SERVER_ERROR = 500


def silence_of(url: str, *, patience_s: float = _PATIENCE_S) -> str:
    """Say why a store of MLflow does not answer; empty when it does, or when only opening it can tell.

    Parameters
    ----------
    url
        ``sqlite:///FILE``, another SQLAlchemy URL, or the ``http(s)`` URL of an MLflow server.
    patience_s
        How long to wait, in seconds.
    """
    try:
        address = urlsplit(url)
        where = shown(url)
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
    """Ask a server for a sign of life; one that refuses us is alive."""
    try:
        urlopen(Request(health_url), timeout=patience_s).close()  # noqa: S310 - the scheme was looked at
    except HTTPError as error:
        error.close()
        if error.code >= _SERVER_ERROR:
            raise
