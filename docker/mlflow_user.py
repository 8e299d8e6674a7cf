"""Makes the MLflow user that nights publish as, or gives it the password that its secret holds now.

This runs once, as MLflow's admin, so that nothing that calls LLMs ever knows the admin's password. The user owns what
it makes, which is all that a night needs, and may neither make users nor touch what is others'.
"""

import os
from pathlib import Path

import requests

SECRETS = Path(os.environ.get("SECRETS", "/run/secrets"))
USERS = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/users"
USER = "uniroute"
TIMEOUT_S = 60


def secret(name: str) -> str:
    """Read a secret without the line end that editors leave."""
    return (SECRETS / name).read_text(encoding="utf-8").rstrip("\n")


def main() -> None:
    """Make the user, or set its password."""
    with requests.Session() as admin:
        admin.auth = ("admin", secret("mlflow_admin_password"))
        wanted = {"username": USER, "password": secret("mlflow_user_password")}
        found = admin.get(f"{USERS}/get", params={"username": USER}, timeout=TIMEOUT_S)
        if found.status_code == requests.codes.not_found:
            done = admin.post(f"{USERS}/create", json=wanted, timeout=TIMEOUT_S)
        else:
            found.raise_for_status()
            done = admin.patch(f"{USERS}/update-password", json=wanted, timeout=TIMEOUT_S)
        done.raise_for_status()


if __name__ == "__main__":
    main()
