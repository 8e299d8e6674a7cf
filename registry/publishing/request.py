"""Requests to publish and their results; what cannot be published is refused before MLflow is touched."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from registry.publishing.folder_check import FolderContent
from registry.publishing.markdown import PARAM_LIMIT, TAG_LIMIT, one_line
from registry.publishing.version_folder import ROUTER_FOLDER
from routing.errors import InvalidInput

ALIASES = ("challenger", "champion", "previous")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
PUBLISH_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9:@/._-]{0,249}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(?:svg|png|jpg|html|md|json)")


@dataclass(frozen=True)
class PublishRequest:
    """What to publish.

    Attributes
    ----------
    router_folder
        The router as written by `routing.artifact.save_router`.
    publish_key
        Makes publishing idempotent: one key, one version.
    name
        Name of the registered router in MLflow.
    description
        Plain text, several lines; foreign text in it is escaped.
    tags
        Tags of run and version; the digests, the key and the embedder are added.
    params
        Parameters of the run.
    metrics
        Finite metrics of the run, logged in one call.
    figures
        Picture files by the name they get in the run's `figures` folder.
    documents
        Pages and texts by the name they get next to it.
    run_name
        Name of the run; the publish key when empty.
    experiment
        Experiment of the run; the publisher's own when empty.
    on_built
        Called with the content of the version's folder before it is uploaded; returns the signed statement on it, or
        None.
    """

    router_folder: Path
    publish_key: str
    name: str = "uniroute"
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str | float | int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Path] = field(default_factory=dict)
    documents: Mapping[str, Path] = field(default_factory=dict)
    run_name: str = ""
    experiment: str = ""
    on_built: Callable[[FolderContent], str | None] | None = None


@dataclass(frozen=True)
class PublishedVersion:
    """One version in MLflow's registry.

    Attributes
    ----------
    name
        Name of the registered router.
    version
        Number of the version, from 1.
    run_id
        The MLflow run that holds parameters, metrics and figures.
    created
        Whether this call created it; False when an earlier one had.
    artifact_uri
        Where the version's folder lies.
    digest
        Digest of the router, as tagged.
    publish_key
        The key it was published under.
    folder_digest
        Digest of the whole folder, as tagged: to be compared with what was built.
    """

    name: str
    version: int
    run_id: str
    created: bool
    artifact_uri: str
    digest: str
    publish_key: str
    folder_digest: str = ""


@dataclass(frozen=True)
class DownloadedVersion:
    """A version's folder on this machine, checked.

    Attributes
    ----------
    folder
        The whole version as MLflow keeps it.
    router_folder
        The router inside it.
    digest
        Digest of the router, equal to the version's tag.
    content
        What the folder holds.
    """

    folder: Path
    router_folder: Path
    digest: str
    content: FolderContent


def refuse_unusable(request: PublishRequest, digest: str) -> None:
    """Refuse a request that MLflow would accept but store wrongly, or reject half-way.

    Parameters
    ----------
    request
        What is to be published.
    digest
        Digest of the router in the request's folder.

    Raises
    ------
    InvalidInput
        Naming the part that cannot be published.
    """
    refuse_malformed(request.name, NAME, "name")
    refuse_malformed(request.publish_key, PUBLISH_KEY, "publish key")
    for name, metric in request.metrics.items():
        # MLflow would store infinity as 1.8e308.
        if not math.isfinite(metric):
            raise InvalidInput(f"The metric {name!r} is {metric}; only finite metrics can be published.")
    for kind, files in (("figure", request.figures), ("document", request.documents)):
        for name, path in files.items():
            refuse_malformed(name, _FILE, f"{kind} name")
            if not path.is_file():
                raise InvalidInput(f"The {kind} {name} is missing: there is no file {path}.")
    for name, known in (("digest", digest), ("publish_key", request.publish_key)):
        if request.tags.get(name, known) != known:
            raise InvalidInput(f"The tag {name} is {request.tags[name]!r} but the router's is {known!r}.")


def refuse_malformed(text: str, pattern: re.Pattern[str], what: str) -> None:
    """Refuse a name that does not fit into a search, a URL or a path.

    Parameters
    ----------
    text
        The name.
    pattern
        What it must match as a whole.
    what
        What it names, for the message.
    """
    if not pattern.fullmatch(text):
        raise InvalidInput(
            f"{text!r} cannot be the {what}.", hint="Use letters, digits and . _ - (a publish key may also have : @ /)."
        )


def is_lookalike(alias: str) -> bool:
    """Whether an alias differs from one of ours only in case.

    Parameters
    ----------
    alias
        The alias.
    """
    return alias not in ALIASES and alias.casefold() in ALIASES


def refuse_alias(alias: str) -> None:
    """Refuse an alias that is not one of ours: MLflow would keep `Champion` beside `champion`.

    Parameters
    ----------
    alias
        The alias.
    """
    if alias not in ALIASES:
        raise InvalidInput(f"{alias!r} is not an alias of a router.", hint=f"Use one of {', '.join(ALIASES)}.")


def clean_tags(tags: Mapping[str, object]) -> dict[str, str]:
    """Return the tags as MLflow can store them: text on one line, without control characters, none of them empty.

    Parameters
    ----------
    tags
        Cells by name.
    """
    texts = {name: one_line(str(cell), TAG_LIMIT) for name, cell in tags.items() if cell is not None}
    return {name: text for name, text in texts.items() if text}


def clean_params(params: Mapping[str, object]) -> dict[str, str]:
    """Return the parameters as MLflow can store them.

    Parameters
    ----------
    params
        Cells by name.
    """
    return {name: one_line(str(cell), PARAM_LIMIT) for name, cell in params.items()}


def write_run_folder(folder: Path, request: PublishRequest) -> Path:
    """Lay out what the run keeps: the router folder, the figures and the documents.

    Parameters
    ----------
    folder
        Where to write; must not exist.
    request
        What is published.
    """
    shutil.copytree(request.router_folder, folder / ROUTER_FOLDER)
    if request.figures:
        (folder / "figures").mkdir()
        for name, path in request.figures.items():
            shutil.copyfile(path, folder / "figures" / name)
    for name, path in request.documents.items():
        shutil.copyfile(path, folder / name)
    return folder
