"""The Prefect server that `PREFECT_API_URL` names: whether it can be used, found out in seconds.

Prefect itself retries a silent server for a minute and then ends with a traceback.
"""

from __future__ import annotations

import os
import socket
import ssl

from flows.errors import CredentialsMissing, FlowError, PrerequisiteError, ServerUnavailable
from flows.masking import mask_urls
from flows.urls import http_url

API_URL = "PREFECT_API_URL"
_TIMEOUT_S = 5.0
_UNCHANGED = "Nothing was started or changed."
_EXPECTED_URL = f"export {API_URL}=http://HOST:4200/api"


def require_prefect() -> str:
    """Ask the configured server for its version, as Prefect's client does, but without retries.

    Returns
    -------
    str
        The server's version; empty for Prefect Cloud, and when no server is configured, because then one is started.

    Raises
    ------
    CredentialsMissing
        It refuses our credentials.
    ServerUnavailable
        It does not answer, or fails.
    PrerequisiteError
        It is not a Prefect server, or its version does not understand this client.
    """
    url = os.environ.get(API_URL, "")
    if not url:
        return ""
    where = mask_urls(url)
    if http_url(url) is None:
        raise _not_prefect(where)
    answered = _ask_version(where)
    if answered is None:
        return ""
    import prefect
    from packaging.version import InvalidVersion, Version

    try:
        found, ours = Version(answered), Version(prefect.__version__)
    except (InvalidVersion, TypeError):
        raise _not_prefect(where) from None
    # Prefect itself only warns of an older server, and the night would fail at the first call it does not know.
    if found.major != ours.major or found.release[:2] < ours.release[:2]:
        raise PrerequisiteError(
            f"Prefect's server at {where} is version {found}, which does not understand its client here, {ours}.",
            unchanged=_UNCHANGED,
            hint=f"Bring the server to {ours.major}.{ours.minor} or a newer {ours.major}, or name another one: "
            f"{_EXPECTED_URL}",
        )
    return str(found)


def _ask_version(where: str) -> str | None:
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: _TIMEOUT_S}):
        try:
            with get_client(sync_client=True) as client:
                return None if client.server_type == ServerType.CLOUD else client.api_version()
        except PrefectHTTPStatusError as error:
            raise _refused(error.response.status_code, where) from error
        except ValueError as error:
            raise _not_prefect(where) from error
        except Exception as error:
            raise _silent(error, where) from error


def _refused(status: int, where: str) -> FlowError:
    if status in (401, 403):
        has_credentials = bool(os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_API_KEY"))
        cause = "does not accept PREFECT_API_AUTH_STRING" if has_credentials else "wants a user and a password"
        return CredentialsMissing(
            f"Prefect's server at {where} {cause}.",
            unchanged=_UNCHANGED,
            hint="export PREFECT_API_AUTH_STRING=USER:PASSWORD",
        )
    if status >= 500 or status == 429:
        return ServerUnavailable(
            f"Prefect's server at {where} fails with status {status}.", unchanged=_UNCHANGED, hint="Try again later."
        )
    return _not_prefect(where)


def _silent(error: Exception, where: str) -> FlowError:
    """Return why there was no answer; the transport library hides the system's reason behind its own errors."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, ssl.SSLError):
            return PrerequisiteError(
                f"Prefect's server at {where} does not speak https, or its certificate is not trusted.",
                unchanged=_UNCHANGED,
                hint=f"{_EXPECTED_URL}, or set PREFECT_API_SSL_CERT_FILE",
            )
        if isinstance(behind, socket.gaierror):
            return PrerequisiteError(
                f"The host of {where} in {API_URL} is not known.", unchanged=_UNCHANGED, hint=_EXPECTED_URL
            )
        behind = behind.__cause__ or behind.__context__
    return ServerUnavailable(
        f"Prefect's server at {where} does not answer ({type(error).__name__}).",
        unchanged=_UNCHANGED,
        hint=f"Start it, or correct the address: {_EXPECTED_URL}",
    )


def _not_prefect(where: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"What answers at {where} is not the API of a Prefect server.", unchanged=_UNCHANGED, hint=_EXPECTED_URL
    )
