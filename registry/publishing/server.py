"""What is asked of an MLflow server before it is used: that it is one, of a version that can be published to."""

from __future__ import annotations

import json
from typing import Any

from registry.errors import MlflowUnsuitable

OLDEST_SERVER = "3.16.1"
"""Older servers have known holes, the latest of them CVE-2026-2635: an administrator with a default password."""

_UNCHANGED = "Nothing was published; what is served and the registry are as they were."


def require_suitable(url: str, where: str) -> str:
    """Ask a server for its version, and refuse what cannot be published to.

    Versions of one major number understand each other; of two, nobody has tried.

    Parameters
    ----------
    url
        The ``http(s)`` URL of an MLflow server.
    where
        The same as it may be shown.

    Returns
    -------
    str
        The version; empty when it is an MLflow that does not tell, as some hosted ones do.

    Raises
    ------
    MlflowUnsuitable
        When something else answers, or the version is too old or of another major number.
    Exception
        Whatever MLflow's client raises when nobody answers or access is refused.
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
    """Ask as MLflow's client does: with its credentials, certificates and patience."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    return http_request(get_default_host_creds(url), path, "GET", raise_on_status=False)


def _require_mlflow(url: str, where: str) -> None:
    """Look whether the address speaks MLflow's API, whatever it says of its version."""
    from mlflow.utils.rest_utils import augmented_raise_for_status

    answer = _get(url, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default")
    if "www-authenticate" in answer.headers or answer.status_code >= 500:
        augmented_raise_for_status(answer)
    try:
        said = json.loads(answer.text)
    except ValueError:
        said = None
    if not (isinstance(said, dict) and said.keys() & {"experiment", "error_code"}):
        raise MlflowUnsuitable(
            f"what answers at {where} is not an MLflow server",
            unchanged=_UNCHANGED,
            hint="mend [mlflow] tracking_url, for example http://HOST:5000",
        )
