"""The shell scripts, run as a shell runs them."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.topology import COMPOSE, DOCKER, Container, read

MAKE = DOCKER / "make-secrets.sh"
ENTRYPOINT = DOCKER / "entrypoint.sh"
SCRIPTS = sorted(DOCKER.rglob("*.sh"))
AWKWARD = """a:b\\c%d"e'f $(g)"""


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"env": environment} if environment else {}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, **given)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.fixture
def container(tmp_path: Path) -> Container:
    made = Container(tmp_path)
    made.give()
    return made


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_linter_has_nothing_to_say(script: Path) -> None:
    checked = run(Path(sys.executable).with_name("shellcheck"), "--shell=sh", script)
    assert (checked.returncode, checked.stdout) == (0, "")
    assert script.stat().st_mode & 0o111 == 0o111


def test_every_secret_of_compose_is_made_random_and_for_this_user(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = run(MAKE, folder)
    assert made.returncode == 0, made.stderr
    found = contents(folder)
    assert set(found) == set(read(COMPOSE)["secrets"])
    assert found.pop("endpoint_api_key") == ""
    user, _, password = found["prefect_auth_string"].partition(":")
    assert user == "admin"
    randoms = [*found.values()]
    randoms[randoms.index(found["prefect_auth_string"])] = password
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in randoms)
    assert len(set(randoms)) == len(randoms)
    assert not any(value in made.stdout + made.stderr for value in randoms)
    assert folder.stat().st_mode & 0o777 == 0o700, "nobody else on the machine gets at them"
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in folder.iterdir()), "the user of a container does"


def test_secrets_are_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    run(MAKE, folder)
    before = contents(folder)
    refused = run(MAKE, folder)
    assert refused.returncode == 1
    assert "nothing was changed" in refused.stderr
    assert "--missing" in refused.stderr
    assert contents(folder) == before


def test_only_secrets_that_are_missing_are_made_when_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    run(MAKE, folder)
    (folder / "endpoint_api_key").write_text("mine", encoding="utf-8")
    before = contents(folder)
    lost = before.pop("mlflow_secret_key")
    (folder / "mlflow_secret_key").unlink()
    made = run(MAKE, "--missing", folder)
    assert (made.returncode, made.stdout) == (0, f"made {folder}/mlflow_secret_key\n")
    after = contents(folder)
    assert after.pop("mlflow_secret_key") != lost
    assert after == before


def test_a_program_gets_its_secrets_in_files_of_its_own(container: Container) -> None:
    container.give(
        uniroute_db_password="p'\"$%\n", mlflow_user_password=AWKWARD, prefect_auth_string=f"admin:{AWKWARD}"
    )
    shown = run(ENTRYPOINT, "env", **container.environment)
    assert shown.returncode == 0, shown.stderr
    assert "a:b" not in shown.stdout
    assert "p'" not in shown.stdout
    written = {path for path in container.folder.rglob("*") if path.is_file()} - set(container.secrets.iterdir())
    assert {path.relative_to(container.folder).as_posix() for path in written} == {
        "pgpass",
        "profiles.toml",
        ".mlflow/credentials",
    }
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    assert (container.folder / "pgpass").read_text("utf-8") == "*:*:*:uniroute:p'\"$%\n"


def test_mlflow_and_prefect_read_what_was_written(container: Container) -> None:
    container.give(mlflow_user_password=AWKWARD, prefect_auth_string=f"admin:{AWKWARD}")
    ask = (
        "import json; from prefect.settings import get_current_settings as settings; given = settings();"
        "print(json.dumps([given.api.auth_string.get_secret_value(), given.server.api.auth_string.get_secret_value()]))"
    )
    ended = run(ENTRYPOINT, sys.executable, "-c", ask, **container.environment)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [f"admin:{AWKWARD}"] * 2
    # MLflow reads the file with this parser and these keys, and takes two seconds to be imported.
    credentials = configparser.ConfigParser()
    credentials.read(container.folder / ".mlflow" / "credentials")
    assert dict(credentials["mlflow"]) == {"mlflow_tracking_username": "uniroute", "mlflow_tracking_password": AWKWARD}


def test_only_the_mlflow_server_has_secrets_in_its_environment(container: Container) -> None:
    container.give(mlflow_admin_password="for the admin", mlflow_user_password="for nights")
    assert "for" not in run(ENTRYPOINT, "env", **container.environment).stdout
    container.give(mlflow_secret_key="for forms")
    shown = run(ENTRYPOINT, "env", **container.environment).stdout.splitlines()
    assert {line for line in shown if "for" in line} == {
        "MLFLOW_AUTH_ADMIN_PASSWORD=for the admin",
        "MLFLOW_FLASK_SERVER_SECRET_KEY=for forms",
    }


def test_a_container_without_secrets_runs_its_command(container: Container) -> None:
    ended = run(ENTRYPOINT, "sh", "-c", "echo $0 $# $1; exit 7", "it self", **container.environment)
    assert (ended.returncode, ended.stdout) == (7, "it self 0\n")


@pytest.mark.parametrize("name", ["uniroute_db_password", "mlflow_user_password", "prefect_auth_string"])
def test_a_secret_that_is_empty_starts_nothing(container: Container, name: str) -> None:
    container.give(**{name: "\n"})
    refused = run(ENTRYPOINT, "echo", "started", **container.environment)
    assert (refused.returncode, refused.stdout) == (78, "")
    assert f"The secret {name} is empty; nothing was started." in refused.stderr


@pytest.mark.parametrize("password", ["a:b", "a\\b", "a b", "a\tb"])
def test_a_password_that_drivers_would_read_differently_starts_nothing(container: Container, password: str) -> None:
    """asyncpg reads the escapes of the file format as part of the password; without them, libpq truncates it."""
    container.give(prefect_db_password=password)
    refused = run(ENTRYPOINT, "echo", "started", **container.environment)
    assert (refused.returncode, refused.stdout) == (78, "")
    assert "The secret prefect_db_password has a colon, a backslash or white space in it" in refused.stderr


_NIGHT = """
import signal, sys, time
def end(*_):
    time.sleep(0.5)
    print("night ended in order", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("night began", flush=True)
time.sleep(60)
"""
_WORKER = """
import signal, subprocess, sys, threading
def stop(*_):
    night.kill()
    print("worker stopped, a night was", night.wait(), flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
thread = threading.Thread(target=lambda: globals().update(night=subprocess.Popen([sys.executable, "-c", sys.argv[1]])))
thread.start()
signal.pause()
"""


def test_a_worker_that_is_stopped_lets_its_nights_end_first() -> None:
    """As Prefect's worker does, this one would kill them."""
    command = [DOCKER / "worker.sh", sys.executable, "-c", _WORKER, _NIGHT]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "night began\n"
        worker.terminate()
        assert worker.stdout.read() == "night ended in order\nworker stopped, a night was 0\n"
        assert worker.wait(30) == 3


def test_a_worker_that_ends_by_itself_is_not_hidden() -> None:
    assert run(DOCKER / "worker.sh", "sh", "-c", "exit 9").returncode == 9
