"""Errors of MLflow's client, translated into errors of the registry: who has to do what before the next attempt.

MLflow itself distinguishes little: a closed port, a wrong password and a full disk are all one class with a text.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import BadStatusLine, IncompleteRead
from urllib.parse import urlsplit

from registry.errors import MlflowDenied, MlflowUnavailable, MlflowUnsuitable, PublishIncomplete

_UNCHANGED = "What is served and the registry are as they were."
_AGAIN = "then publish again: it resumes and makes one version."
_FOREIGN_HOST = "Invalid Host header"
_ARTIFACT_PATH = "/mlflow-artifacts/"
_SERVER_ERROR = 500
# How a server ends a connection that it had taken: at once or in the middle, before its answer or within it, with TLS
# or without. One that is down refuses connections instead, or nothing comes back.
_HANG_UPS = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    BadStatusLine,
    IncompleteRead,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


@dataclass(frozen=True)
class MlflowFailure:
    """What MLflow's client raised, and at what.

    Attributes
    ----------
    error
        The exception.
    did_not
        What did not happen, as the beginning of a message.
    where
        The store as it may be shown.
    reason
        What the exception says, on one line and without a password.
    has_user
        Whether MLflow has any user, password or token to use.
    """

    error: BaseException
    did_not: str
    where: str
    reason: str
    has_user: bool

    @property
    def status(self) -> int:
        """HTTP status of the response behind the exception; 0 when there was none."""
        response = getattr(self.error, "response", None)
        if response is not None:
            return response.status_code
        status_code = getattr(self.error, "get_http_status_code", None)
        return status_code() if status_code is not None else 0

    @property
    def is_of_server(self) -> bool:
        """Whether a server reported its own failure; MLflow's exceptions have status 500 for everything else, too."""
        was_answered = getattr(self.error, "response", None) is not None
        return self.status > _SERVER_ERROR or (was_answered and self.status == _SERVER_ERROR)

    @property
    def only_read(self) -> bool:
        """Whether the request is known to have sent no file."""
        requests = (getattr(one, "request", None) for one in _chain(self.error))
        return any(request is not None and request.method == "GET" for request in requests)

    def is_caused_by(self, kinds: type | tuple[type, ...]) -> bool:
        """Whether an exception of some kind is in its chain of causes."""
        return any(isinstance(one, kinds) for one in _chain(self.error))

    def as_error(self, kind: type[PublishIncomplete], cause: str, hint: str) -> PublishIncomplete:
        """Make the error of the registry."""
        is_for_a_person = kind in (MlflowDenied, MlflowUnsuitable)
        next_step = f"{hint}." if is_for_a_person else f"{hint}, {_AGAIN}"
        return kind(f"{self.did_not}: {cause}", unchanged=_UNCHANGED, hint=next_step)


def publishing_error(failure: MlflowFailure) -> PublishIncomplete:
    """Return the registry's own error for what MLflow's client raised."""
    for diagnose in (_of_access, _of_artifacts, _of_connecting):
        error = diagnose(failure)
        if error is not None:
            return error
    return failure.as_error(PublishIncomplete, failure.reason, f"Check that MLflow answers at {failure.where}")


def _of_access(failure: MlflowFailure) -> PublishIncomplete | None:
    if failure.status == 401:
        cause = "does not accept its user and password" if failure.has_user else "wants a user and a password"
        return failure.as_error(
            MlflowDenied,
            f"MLflow at {failure.where} {cause}",
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write them into ~/.mlflow/credentials",
        )
    if failure.status != 403:
        return None
    if _FOREIGN_HOST in str(failure.error):
        name = urlsplit(failure.where).netloc.rpartition("@")[2]
        return failure.as_error(
            MlflowUnsuitable,
            f"MLflow may not be called {name} ({_FOREIGN_HOST})",
            f"Start mlflow server with {name} in --allowed-hosts, or name it in [mlflow] tracking_url as it allows",
        )
    return failure.as_error(
        MlflowDenied,
        f"MLflow at {failure.where} denies this to its user ({failure.reason})",
        "Let its administrator grant the user EDIT on the experiment and on the registered router",
    )


def _of_artifacts(failure: MlflowFailure) -> PublishIncomplete | None:
    """Recognise a server that keeps rows but no files: it fails, or hangs up before the whole file was sent."""
    from requests.exceptions import RetryError

    failed = failure.is_caused_by((RetryError, *_HANG_UPS)) or failure.is_of_server
    if _ARTIFACT_PATH not in str(failure.error) or failure.only_read or not failed:
        return None
    return failure.as_error(
        MlflowUnavailable,
        f"MLflow at {failure.where} did not keep a file: the disk of its artifacts may be full, or not writable",
        "See its log, and make room where --artifacts-destination points to",
    )


def _of_connecting(failure: MlflowFailure) -> PublishIncomplete | None:
    from requests import exceptions

    check = f"Check that MLflow answers at {failure.where}"
    has_hung_up = failure.is_caused_by(_HANG_UPS)
    if failure.is_caused_by(exceptions.SSLError) and not has_hung_up:
        is_plain = "WRONG_VERSION_NUMBER" in failure.reason or "record layer" in failure.reason
        cause = "does not speak https" if is_plain else f"is not trusted ({failure.reason})"
        hint = "Write http:// in [mlflow] tracking_url" if is_plain else "Set MLFLOW_TRACKING_SERVER_CERT_PATH"
        return failure.as_error(MlflowUnsuitable, f"{failure.where} {cause}", hint)
    if failure.is_caused_by((exceptions.InvalidURL, exceptions.InvalidSchema)):
        return failure.as_error(MlflowUnsuitable, failure.reason, "Fix [mlflow] tracking_url")
    if "NameResolutionError" in str(failure.error):
        cause = f"the host of {failure.where} is not known"
        return failure.as_error(MlflowUnsuitable, cause, "Fix [mlflow] tracking_url")
    is_silent = failure.is_caused_by((exceptions.ConnectionError, exceptions.Timeout, exceptions.RetryError))
    if is_silent or has_hung_up or failure.is_of_server:
        cause = f"MLflow at {failure.where} does not answer ({_of_system(failure.error) or failure.reason})"
        return failure.as_error(MlflowUnavailable, cause, check)
    return None


def _of_system(error: BaseException) -> str:
    """Return the message of the operating system; empty without one."""
    return next((one.strerror for one in _chain(error) if isinstance(one, OSError) and one.strerror), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk from an exception to its causes; MLflow often raises a new one without naming its cause.

    The transport library keeps the error of the system among its arguments.
    """
    behind: BaseException | None = error
    while behind is not None:
        yield behind
        yield from (one for one in behind.args if isinstance(one, BaseException))
        behind = behind.__cause__ or behind.__context__
