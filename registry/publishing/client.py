"""Follow a router's alias from within a running service: `RouterClient` serves, polls, checks and swaps.

``uniroute client write DIR`` copies this file and the two that it imports into a package `uniroute_client`, with what
the versions are compared with. They must run where uniroute is not installed: they import MLflow, pandas, the standard
library and, for signatures alone, `model-signing`; and nothing of this repository.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

# Relatively, because a copy has another name.
from .folder_check import NOTE, local_folder, problems_of, refuse_links, remove_compiled
from .trust import TRUST_FILE, Trust

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import PyFuncModel

_DOWNLOAD = "version-"
_LOADER = "mlflow.pyfunc.loaders.code_model"
_PROBE = "Which planet is the largest?"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_LONGEST_REASON = 400


@dataclass(frozen=True)
class ClientStatus:
    """What a `RouterClient` serves, and on what knowledge.

    Attributes
    ----------
    name, alias
        What it follows.
    version
        Number of the version that it serves; None before the first.
    digest
        Digest of that version's router.
    loaded_at
        When that version began to be served.
    last_checked_at
        When MLflow was last asked, with or without an answer.
    last_error
        Why that check did not lead to what the alias points at, in one line; None when it did.
    compared_with
        What the files of that version were compared with: ``pinned digest``, ``signature`` or, when the client was
        given neither, ``MLflow's tag``, which protects against accidents and not against anybody who can write to
        MLflow.
    """

    name: str
    alias: str
    version: int | None = None
    digest: str | None = None
    loaded_at: datetime | None = None
    last_checked_at: datetime | None = None
    last_error: str | None = None
    compared_with: str | None = None


@dataclass(frozen=True)
class _Served:
    """A version that was checked, loaded and has answered; never changed, so that no request needs a lock."""

    version: int
    digest: str
    tags: tuple[str | None, ...]
    compared_with: str
    folder: Path
    loaded: PyFuncModel


def _utc_now() -> datetime:
    return datetime.now(UTC)


class RouterClient:
    """Serve the version that an alias points at, and follow the alias without a restart.

    A thread asks MLflow where the alias points. Another version is downloaded into a folder of its own, compared with
    the digest that is trusted, loaded, and asked one prompt; only then does it replace the former one, in a single
    assignment. Nothing of a version is imported before it was compared. Requests under way end on the router that they
    began with. Whatever goes wrong, the last good version continues to serve, and `status` says why. Nothing pickled is
    ever loaded.

    Use it as a context manager, or call `start` and `stop`; start it after the process has forked, not before.

    Parameters
    ----------
    name
        Name of the registered router.
    alias
        The alias to follow.
    tracking_url, registry_url
        Where MLflow is; taken from MLflow's own settings when None.
    folder
        Where versions are kept while they serve, for this client alone; what a killed process left there is removed. A
        temporary folder when None.
    every_s
        Seconds between two checks of the alias.
    trust
        The digests and public keys to compare versions with; those written beside this file when None. Without any,
        versions are compared with MLflow's own tags.
    jitter
        Share of `every_s` by which the pause varies either way, in [0, 1], so that a fleet does not ask all at once.
    wait
        Waits for an event or so many seconds, whichever comes first.
    clock
        Returns the time in UTC.
    draw
        Returns a number in [0, 1), for the jitter.
    """

    def __init__(
        self,
        name: str = "uniroute",
        *,
        alias: str = "champion",
        tracking_url: str | None = None,
        registry_url: str | None = None,
        folder: Path | str | None = None,
        every_s: float = 60.0,
        trust: Trust | None = None,
        jitter: float = 0.2,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        clock: Callable[[], datetime] = _utc_now,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not every_s > 0 or not 0 <= jitter <= 1:
            raise ValueError(f"every_s must be above 0 and jitter in [0, 1], got {every_s} and {jitter}")
        self._urls = (tracking_url, registry_url or tracking_url)
        self._given_folder = None if folder is None else Path(folder)
        self._every_s, self._jitter = every_s, jitter
        self._trust = trust or Trust.read(Path(__file__).with_name(TRUST_FILE))
        self._wait, self._clock, self._draw = wait, clock, draw
        self._mlflow: MlflowClient | None = None
        self._served: _Served | None = None
        self._status = ClientStatus(name, alias)
        self._checking = threading.Lock()
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Load the version that the alias points at, and begin to follow it.

        Raises
        ------
        MlflowException
            If no version can be served: there is no earlier one to fall back on.
        """
        if self._thread is not None:
            return self
        self._stopping.clear()
        with ExitStack() as opened:
            self._folder = _own_folder(self._given_folder, opened)
            self._mlflow = self._open_mlflow()
            if self.check().version is None:
                raise _refusal(f"no router can be served: {self._status.last_error}")
            self._opened = opened.pop_all()
        self._thread = threading.Thread(target=self._follow, name="uniroute-router-client", daemon=True)
        self._thread.start()
        return self

    def stop(self, *, patience_s: float = 5.0) -> None:
        """Stop following the alias, and remove what was downloaded; what was loaded can still answer.

        Parameters
        ----------
        patience_s
            How long to wait for a check under way, in seconds; it is left alone afterwards.
        """
        if self._thread is None:
            return
        self._stopping.set()
        self._woken.set()
        self._thread.join(patience_s)
        self._thread = None
        self._opened.close()

    def wake(self) -> None:
        """Check the alias now instead of at the end of the pause; returns at once, from any thread.

        This is what the handler of an MLflow webhook calls. The webhook is only a hint: what is served is what MLflow
        answers when it is asked, so a forged call changes nothing.
        """
        self._woken.set()

    def status(self) -> ClientStatus:
        """Return what is served and how the last check ended."""
        return self._status

    def predict(self, prompts: Sequence[str] | pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Choose one LLM for each prompt, all with the version that is served now: no batch is split by a swap.

        Parameters
        ----------
        prompts
            Texts, or a table with the column `prompt`.
        params
            As for the version itself: one of `cost_weight`, `max_cost_usd_per_1k` and `min_score`; `candidates`, not
            empty; `exclude`. Unlike MLflow's own `predict`, which only warns, this refuses a name that the version does
            not know.

        Returns
        -------
        pandas.DataFrame
            One row per prompt, as the version itself returns it; `router_digest` says which router decided.

        Raises
        ------
        MlflowException
            If nothing is served yet, or a prompt or a parameter cannot be used.
        """
        import pandas as pd

        served = self._served
        if served is None:
            raise _refusal("no router is served yet: call start() first")
        frame = prompts if isinstance(prompts, pd.DataFrame) else pd.DataFrame({"prompt": list(prompts)}, dtype=object)
        _check_params(params or {}, served)
        return served.loaded.predict(frame, params=None if params is None else dict(params))

    def check(self) -> ClientStatus:
        """Check the alias once, and swap when it points at another version that is good.

        Returns
        -------
        ClientStatus
            What is served afterwards; errors of MLflow or of the version are never raised.
        """
        with self._checking:
            checked_at, reason = self._clock(), None
            try:
                self._swap_if_moved()
            except Exception as error:  # a network, a database, an artifact or foreign code may raise anything
                reason = _one_line(f"{type(error).__name__}: {error}")
            self._status = replace(self._status, last_checked_at=checked_at, last_error=reason)
            return self._status

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self._wait(self._woken, self._every_s * (1 + self._jitter * (2 * self._draw() - 1)))
            self._woken.clear()
            if not self._stopping.is_set():
                self.check()

    def _open_mlflow(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self._urls[0], registry_uri=self._urls[1])

    def _swap_if_moved(self) -> None:
        if self._mlflow is None:
            raise _refusal("call start() first")
        version = self._mlflow.get_model_version_by_alias(self._status.name, self._status.alias)
        former = self._served
        if former is not None and (former.version, former.tags) == (int(version.version), _identity(version)):
            return
        served = self._fetched(self._mlflow, version)
        if self._stopping.is_set():
            shutil.rmtree(served.folder, ignore_errors=True)
            return
        self._served = served
        self._status = replace(
            self._status,
            version=served.version,
            digest=served.digest,
            loaded_at=self._clock(),
            last_error=None,
            compared_with=served.compared_with,
        )
        if former is not None:
            # Code and router were read whole when they were loaded: requests under way need no file of it.
            shutil.rmtree(former.folder, ignore_errors=True)

    def _fetched(self, client: MlflowClient, version: ModelVersion) -> _Served:
        """Download, check, load and try a version; what is not good leaves nothing behind."""
        from mlflow.artifacts import download_artifacts

        subject = f"{version.name} version {version.version}"
        kept = Path(tempfile.mkdtemp(prefix=_DOWNLOAD, dir=self._folder))
        try:
            digest, of_folder, compared_with = self._expected(version, subject)
            uri = client.get_model_version_download_uri(version.name, version.version)
            refuse_links(local_folder(uri))
            folder = Path(download_artifacts(artifact_uri=uri, dst_path=str(kept), tracking_uri=client.tracking_uri))
            problems = problems_of(folder, of_folder, published_as=(version.name, str(version.version)))
            if problems:
                raise _refusal(f"{subject} is not what was published, by {compared_with}: {'; '.join(problems)}")
            remove_compiled(folder)
            note = f"model_name: {json.dumps(version.name)}\nmodel_version: '{int(version.version)}'\n"
            (folder / NOTE).write_text(note, encoding="utf-8")
            loaded = _loaded(folder, digest, subject)
            return _Served(int(version.version), digest, _identity(version), compared_with, kept, loaded)
        except BaseException:
            shutil.rmtree(kept, ignore_errors=True)
            raise

    def _expected(self, version: ModelVersion, subject: str) -> tuple[str, str, str]:
        """Return digest of the router, digest of the folder, and where the latter is from."""
        digest, tagged = (_tag(version, kind, subject) for kind in ("digest", "version_digest"))
        if self._trust is None:
            return digest, tagged, "MLflow's tag"
        if tagged in self._trust.digests:
            return digest, tagged, "pinned digest"
        return digest, self._trust.signed_folder(version.tags.get("signature"), digest), "signature"


def _identity(version: ModelVersion) -> tuple[str | None, ...]:
    """Return the tags of a version that are compared: it is loaded again when one of them changes."""
    return tuple(version.tags.get(kind) for kind in ("digest", "version_digest", "signature"))


def _check_params(params: Mapping[str, Any], served: _Served) -> None:
    """Refuse what MLflow would drop with a warning, and an empty choice, which versions take for all LLMs."""
    signature = served.loaded.metadata.signature
    known = [one.name for one in signature.params.params] if signature is not None and signature.params else []
    unknown = sorted(str(name) for name in params if name not in known)
    if unknown == ["exclude"]:
        raise _refusal(
            f"version {served.version} was published before there was exclude: name the others in candidates"
        )
    if unknown:
        raise _refusal(f"version {served.version} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
    candidates = params.get("candidates")
    # What is no list is refused by MLflow, which knows the types of the signature.
    if hasattr(candidates, "__len__") and not len(candidates):
        raise _refusal("candidates is empty, so no LLM is left to choose; leave it out to choose among all")


def _own_folder(given: Path | None, opened: ExitStack) -> Path:
    """Open the folder of downloads: a temporary one, or the given one, locked and swept."""
    if given is None:
        return Path(
            opened.enter_context(tempfile.TemporaryDirectory(prefix="uniroute-client-", ignore_cleanup_errors=True))
        )
    given.mkdir(parents=True, exist_ok=True)
    lock = opened.enter_context((given / "in-use").open("w"))
    with suppress(ImportError):  # where there is no fcntl, two clients in one folder are not noticed
        import fcntl

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _refusal(f"another client uses the folder {given}: give each one its own") from None
    _sweep(given)
    opened.callback(_sweep, given)
    return given


def _sweep(folder: Path) -> None:
    for left in folder.glob(f"{_DOWNLOAD}*"):
        shutil.rmtree(left, ignore_errors=True)


def _tag(version: ModelVersion, kind: str, subject: str) -> str:
    value = version.tags.get(kind)
    if not value:
        raise _refusal(f"{subject} has no tag {kind}: it was not published by uniroute, or its tags were removed")
    return value


def _loaded(folder: Path, digest: str, subject: str) -> PyFuncModel:
    """Load a folder whose digest was checked, and check that it routes with the router that was published."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model

    flavour = Model.load(str(folder)).flavors.get("python_function", {})
    if flavour.get("loader_module") != _LOADER or not flavour.get("model_code_path"):
        raise _refusal(f"{subject} would be loaded from a pickle or by other code than a router's")
    loaded = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
    # The first answer is the slowest: what is built on first use is built before anyone waits for it.
    answered = loaded.predict(pd.DataFrame({"prompt": [_PROBE]}))["router_digest"].tolist()
    if answered != [digest]:
        raise _refusal(f"{subject} holds the router {answered[0]}, its tag says {digest}")
    return loaded


def _one_line(text: str) -> str:
    line = "".join(character if character.isprintable() else " " for character in _CREDENTIALS.sub("", text))
    return " ".join(line.split())[:_LONGEST_REASON]


def _refusal(reason: str) -> MlflowException:
    from mlflow.exceptions import MlflowException

    return MlflowException.invalid_parameter_value(f"uniroute: {_one_line(reason)}")
