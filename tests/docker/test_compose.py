"""compose.yaml is valid and keeps its promises: pinned, confined, healthy, secrets as files, nothing published."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli import cli as uniroute
from flows.config.environment import prepare
from flows.config.loading import load_settings
from tests.docker.topology import COMPOSE, DOCKER, ONE_SHOT, ROOT, SERVICES_USER, UI, command_of, environment_of, read

SERVICES = read(COMPOSE)["services"]
SECRETS = read(COMPOSE)["secrets"]
OURS = sorted(set(SERVICES) - {"postgres"})
WORKER_SCRIPT = "docker/worker.sh"

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def compose() -> list[str] | None:
    """Find Docker Compose 2 or later, as docker's plugin or on its own."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
            if asked.returncode == 0 and int(asked.stdout.strip().removeprefix("v").split(".")[0]) >= 2:
                return command
    return None


def in_megabytes(size: str) -> int:
    return int(size[:-1]) * {"m": 1, "g": 1024}[size[-1]]


@pytest.mark.parametrize("path", [COMPOSE, UI], ids=lambda path: path.name)
def test_a_compose_file_follows_the_specification(path: Path) -> None:
    check = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec", path]
    checked = subprocess.run(check, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("files", [[COMPOSE], [COMPOSE, UI]], ids=["compose.yaml", "with compose.ui.yaml"])
def test_docker_compose_accepts_the_files(files: list[Path]) -> None:
    found = compose()
    if found is None:
        pytest.skip("there is no Docker Compose 2 on this machine; the schema and the rules below were checked")
    named = [part for path in files for part in ("--file", str(path))]
    checked = subprocess.run([*found, *named, "config", "--quiet"], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@each_service
def test_an_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)?(@sha256:[0-9a-f]{64})?", SERVICES[name]["image"])


def test_our_image_has_the_version_of_the_project_and_comes_from_no_registry() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"uniroute:{version}"}
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"never"}
    assert {SERVICES[name]["user"] for name in OURS} == {SERVICES_USER}
    assert [name for name in OURS if "build" in SERVICES[name]] == ["setup"]


@each_service
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"} & set(service)
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))


@each_service
def test_a_service_has_limits(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    in_memory = [re.search(r"size=(\d+m)", mount).group(1) for mount in service["tmpfs"]]
    assert sum(map(in_megabytes, in_memory)) < in_megabytes(limits["memory"]), "what is in memory counts too"


@each_service
def test_a_service_is_watched_while_it_lasts_and_ends_when_it_is_done(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert set(service["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period"}
        assert service["healthcheck"]["test"][0] == "CMD"
        assert "stop_grace_period" in service


@each_service
def test_a_service_waits_until_what_it_needs_is_ready(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        condition = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        assert how == {"condition": condition}


def test_the_worker_starts_after_the_set_up_and_both_after_the_servers() -> None:
    def before(name: str) -> set[str]:
        direct = set(SERVICES[name].get("depends_on", {}))
        return direct.union(*map(before, direct))

    assert before("setup") == {"postgres", "mlflow", "prefect", "mlflow-user"}
    assert before("worker") == before("setup") | {"setup"}


@each_service
def test_no_secret_is_in_the_environment_or_the_command(name: str) -> None:
    service = SERVICES[name]
    assert "env_file" not in service
    for variable, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|KEY|TOKEN|AUTH_STRING|CREDENTIAL", variable):
            assert variable.endswith("_FILE")
            assert value.startswith("/run/secrets/")
        assert not re.search(r"://[^/@]*:[^/@]*@", value), "a password in a URL"
    assert not re.search(r"://[^/@ ]*:[^/@ ]*@|password|secret", " ".join(service.get("command", [])))


def test_every_secret_is_a_file_that_git_and_the_image_leave_out() -> None:
    assert {name: {"file": f"./secrets/{name}"} for name in SECRETS} == SECRETS
    ignored = subprocess.run(["git", "check-ignore", "docker/secrets/x"], cwd=ROOT, capture_output=True)
    assert ignored.returncode == 0
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert next(line for line in ignore if not line.startswith("#")) == "*"
    assert not any("secrets" in line for line in ignore)


def test_every_service_gets_the_secrets_it_needs_and_no_others() -> None:
    assert {name: set(service["secrets"]) for name, service in SERVICES.items()} == {
        "postgres": {"postgres_password", "uniroute_db_password", "mlflow_db_password", "prefect_db_password"},
        "mlflow": {"mlflow_db_password", "mlflow_admin_password", "mlflow_secret_key"},
        "prefect": {"prefect_db_password", "prefect_auth_string"},
        "mlflow-user": {"mlflow_admin_password", "mlflow_user_password"},
        "setup": {"uniroute_db_password", "mlflow_user_password", "prefect_auth_string"},
        "worker": {"uniroute_db_password", "mlflow_user_password", "prefect_auth_string", "endpoint_api_key"},
        "metrics": {"uniroute_db_password", "prefect_auth_string"},
    }


def test_nothing_is_published_and_only_the_worker_may_call_out() -> None:
    networks = read(COMPOSE)["networks"]
    assert networks["backend"] == {"internal": True}
    assert {name for name, network in networks.items() if not (network or {}).get("internal")} == {"egress"}
    assert not any({"ports", "expose"} & set(service) for service in SERVICES.values())
    assert {name: service["networks"] for name, service in SERVICES.items()} == {
        name: ["backend", "egress"] if name == "worker" else ["backend"] for name in SERVICES
    }


def test_the_uis_are_published_on_loopback_over_a_network_that_does_not_masquerade() -> None:
    """Docker silently publishes nothing of a container that has only internal networks."""
    overlay = read(UI)
    assert set(overlay["services"]) == {"mlflow", "prefect"}
    for service in overlay["services"].values():
        assert service["networks"] == ["backend", "front"]
        assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in service["ports"])
        assert not set(service) - {"networks", "ports", "environment"}
    assert overlay["networks"] == {
        "front": {"driver_opts": {"com.docker.network.bridge.enable_ip_masquerade": "false"}}
    }
    port = overlay["services"]["prefect"]["ports"][0].split(":")[1]
    assert overlay["services"]["prefect"]["environment"] == {"PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api"}
    allowed = next(part for part in command_of("mlflow") if part.startswith("--allowed-hosts="))
    assert f"127.0.0.1:{overlay['services']['mlflow']['ports'][0].split(':')[1]}" in allowed


def test_what_keeps_the_servers_quiet_is_what_keeps_the_night_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    expected: dict[str, str] = {}
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", expected)
        prepare(Path("/data"))
    for name in OURS:
        given = {variable: value for variable, value in environment_of(name).items() if variable in expected}
        assert {"DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED"} <= set(given)
        given.pop("PREFECT_HOME", None)
        assert given.items() <= expected.items()


@pytest.mark.parametrize("name", ["setup", "worker", "metrics"])
def test_a_night_finds_its_servers_and_the_settings_beside_compose(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment_of(name)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings(DOCKER / "settings" / Path(given["UNIROUTE_CONFIG"]).name)
    assert settings.is_sandbox, "a fresh checkout runs nights that cost nothing"
    assert settings.registry_url == "postgresql://uniroute@postgres:5432/uniroute"
    assert settings.mlflow_url == "http://mlflow:5000"
    assert settings.home == Path("/data")
    assert f"./settings:{Path(given['UNIROUTE_CONFIG']).parent}:ro" in SERVICES[name]["volumes"]
    assert f"uniroute:{settings.home}" in SERVICES[name]["volumes"]


def test_the_commented_settings_are_settings(tmp_path: Path) -> None:
    lines = (DOCKER / "settings" / "uniroute.toml").read_text(encoding="utf-8").splitlines()
    file = tmp_path / "uniroute.toml"
    file.write_text("\n".join(line.removeprefix("# ") for line in lines[lines.index("# [prompts]") :]), "utf-8")
    (endpoint,) = load_settings(file).endpoint
    assert endpoint.api_key_file == Path("/run/secrets/endpoint_api_key")


def test_a_night_that_is_stopped_has_the_time_that_its_settings_promise() -> None:
    grace = load_settings(DOCKER / "settings" / "uniroute.toml").night.stop_grace_s
    assert int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) >= 2 * grace


def prefect_takes(arguments: list[str]) -> dict[str, Any]:
    from prefect.cli._app import _app

    return _app.parse_args(arguments, exit_on_error=False, print_error=False)[1].arguments


def uniroute_takes(arguments: list[str]) -> dict[str, Any]:
    command = uniroute.get_command(None, arguments[0])
    assert command is not None, f"there is no uniroute {arguments[0]}"
    return command.make_context(arguments[0], arguments[1:]).params


@pytest.mark.parametrize(
    ("name", "program", "takes", "expected"),
    [
        ("prefect", "prefect", prefect_takes, {"host": "0.0.0.0", "port": 4200}),
        ("worker", "prefect", prefect_takes, {"work_pool_name": "nights", "worker_type": "process"}),
        ("setup", "uniroute", uniroute_takes, {"pool": "nights"}),
        ("metrics", "uniroute", uniroute_takes, {"port": 9464, "host": "0.0.0.0"}),
    ],
)
def test_a_program_takes_its_command(
    name: str, program: str, takes: Callable[[list[str]], dict[str, Any]], expected: dict[str, Any]
) -> None:
    """MLflow's is started for real, in test_mlflow_server.py."""
    named, *arguments = [part for part in command_of(name) if part != WORKER_SCRIPT]
    assert named == program
    with warnings.catch_warnings():
        # Prefect warns of its own dependencies when it is imported.
        warnings.simplefilter("ignore")
        assert expected.items() <= takes(arguments).items()


def test_scripts_that_run_in_a_container_are_in_the_image() -> None:
    let_in = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert command_of("mlflow-user")[0] == "python"
    for script in (command_of("mlflow-user")[1], command_of("worker")[0]):
        assert (ROOT / script).is_file()
        assert f"!{script}" in let_in
