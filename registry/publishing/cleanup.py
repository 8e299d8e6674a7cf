"""Remove what killed attempts and lost races left in MLflow, once their publish key has its version."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# What MLflow answers when another process has removed the thing in the meantime.
_ALREADY_GONE = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"})


def clean_up(
    client: MlflowClient, version: ModelVersion, all_of_key: Sequence[ModelVersion], *, served: Collection[int]
) -> None:
    """Finish the run of a version; remove every other version, run and logged folder of its publish key.

    Parameters
    ----------
    client
        Opened client of tracking store and registry.
    version
        The version that stays.
    all_of_key
        Every version of the same publish key.
    served
        Numbers of versions that aliases point at: deleting one would delete its alias too, so they stay.
    """
    kept_runs = {version.run_id}
    for settings_conflict in all_of_key:
        if int(settings_conflict.version) in {int(version.version), *served}:
            kept_runs.add(settings_conflict.run_id)
        else:
            _remove(client.delete_model_version, settings_conflict.name, settings_conflict.version)
    run = client.get_run(version.run_id)
    if run.info.lifecycle_stage == "active" and run.info.status != "FINISHED":
        client.set_terminated(version.run_id, "FINISHED")
    experiments = [run.info.experiment_id]
    of_this_key = f"tags.publish_key = '{version.tags['publish_key']}'"
    for logged in client.search_logged_models(experiments, filter_string=of_this_key):
        if logged.source_run_id not in kept_runs:
            _remove(client.delete_logged_model, logged.model_id)
    for other in client.search_runs(experiments, filter_string=of_this_key):
        if other.info.run_id not in kept_runs:
            _remove(client.set_terminated, other.info.run_id, "KILLED")
            _remove(client.delete_run, other.info.run_id)


def _remove(removal: Callable[..., object], *arguments: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        removal(*arguments)
    except MlflowException as error:
        if error.error_code not in _ALREADY_GONE:
            raise
