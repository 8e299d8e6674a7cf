"""What compose.yaml says, for the tests that check it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
UI = DOCKER / "compose.ui.yaml"
ONE_SHOT = {"mlflow-user", "setup"}
SERVICES_USER = "10001:10001"
DATABASES = {"uniroute": ["uniroute"], "mlflow": ["mlflow", "mlflow_auth"], "prefect": ["prefect"]}
"""The databases of each user."""


def read(path: Path) -> dict[str, Any]:
    """Read a compose file with its anchors resolved."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def command_of(service: str) -> list[str]:
    """Return the command of a service."""
    return list(read(COMPOSE)["services"][service]["command"])


def environment_of(service: str) -> dict[str, str]:
    """Return the environment that compose gives a service, on top of the image's."""
    return dict(read(COMPOSE)["services"][service]["environment"])


@dataclass(frozen=True)
class Container:
    """A folder in place of a container: its secrets and what its entrypoint writes."""

    folder: Path

    @property
    def secrets(self) -> Path:
        """The folder in place of /run/secrets."""
        return self.folder / "secrets"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment that image and compose give to every program, with paths moved into the folder."""
        return {
            "PATH": os.environ["PATH"],
            "SECRETS": str(self.secrets),
            "HOME": str(self.folder),
            "PGPASSFILE": str(self.folder / "pgpass"),
            "PREFECT_PROFILES_PATH": str(self.folder / "profiles.toml"),
        }

    def give(self, **secrets: str) -> None:
        """Mount secrets."""
        self.secrets.mkdir(exist_ok=True)
        for name, value in secrets.items():
            (self.secrets / name).write_text(value, encoding="utf-8")
