"""What MLflow says about a version: tags, parameters and metrics, and the heads of the ledger that were noted there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.publishing.downloads import described_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

HEAD_TAG = "ledger_head"
"""Number and hash of the ledger's last event, joined by a colon."""


@dataclass(frozen=True)
class VersionDescription:
    """What MLflow says about a version.

    Attributes
    ----------
    tags, description
        Of the version.
    run_id, run_tags, params, metrics
        Of the run that published it; empty when that run was deleted.
    """

    tags: Mapping[str, str]
    description: str
    run_id: str
    run_tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def describe_version(client: MlflowClient, name: str, version: int) -> VersionDescription:
    """Read what MLflow says about a version.

    Parameters
    ----------
    client
        Opened client of tracking store and registry.
    name
        Name of the registered router.
    version
        Number of the version.

    Raises
    ------
    NotFound
        If there is no such version.
    """
    from mlflow.exceptions import MlflowException

    found = described_version(client, name, version)
    try:
        run = client.get_run(found.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return VersionDescription(dict(found.tags), found.description or "", found.run_id, {}, {}, {})
    data = run.data
    return VersionDescription(
        tags=dict(found.tags),
        description=found.description or "",
        run_id=found.run_id,
        run_tags=dict(data.tags),
        params=dict(data.params),
        metrics=dict(data.metrics),
    )


def note_head(client: MlflowClient, name: str, number: int, digest: str) -> None:
    """Note the ledger's last event at the registered router.

    Parameters
    ----------
    client
        Opened client of tracking store and registry.
    name
        Name of the registered router, which exists.
    number, digest
        The event's number and hash.
    """
    client.set_registered_model_tag(name, HEAD_TAG, f"{number}:{digest}")


def noted_heads(client: MlflowClient, name: str) -> Mapping[str, str]:
    """Give every head of the ledger that was noted in MLflow, by hash, with the place where it was noted.

    Parameters
    ----------
    client
        Opened client of tracking store and registry.
    name
        Name of the registered router; one that does not exist has noted nothing.
    """
    from mlflow.exceptions import MlflowException

    try:
        registered = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    noted = [(registered.tags.get(HEAD_TAG), f"MLflow's tags of {name}")]
    for version in client.search_model_versions(f"name = '{name}'"):
        noted.append((version.tags.get(HEAD_TAG), f"MLflow's tags of {name} version {version.version}"))
    return {text.partition(":")[2]: place for text, place in reversed(noted) if text is not None}
