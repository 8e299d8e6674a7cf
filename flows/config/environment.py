"""Environment variables that Prefect, MLflow and the embedder need before they are imported.

All are defaults: what the user has set stays. They avoid known traps of those libraries: their servers report usage,
and Prefect's embedded one gives up after 20 s on a busy machine and loses task runs on SQLite when
it writes them in small batches.
"""

from __future__ import annotations

import os
from pathlib import Path

COMPLETE_VARIABLE = "_UNIROUTE_COMPLETE"
"""The variable in which a shell says what to complete; the completion scripts set it."""

DEFAULTS = {
    # MLflow accepts only the string "true" here.
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    # Never below 1: the server rounds it down to 0 and spins.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


def home_folder() -> Path:
    """Return the folder of all state: ``UNIROUTE_HOME``, else ``./.uniroute``."""
    return Path(os.environ.get("UNIROUTE_HOME", ".uniroute")).resolve()


def prepare(home: Path | None = None, *, quiet: bool = True) -> None:
    """Set the defaults above, and keep Prefect's own state inside the home folder.

    Parameters
    ----------
    home
        The home folder; read from the environment when omitted.
    quiet
        Whether Prefect's own log lines are kept off the terminal.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str((home or home_folder()) / "prefect"))
    if quiet:
        # The flow run's log in Prefect keeps everything; the terminal gets one clear line from the command instead.
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
