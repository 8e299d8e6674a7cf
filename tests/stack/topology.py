"""The topology of docker/compose.yaml without Docker: PostgreSQL, MLflow, Prefect and an endpoint, all on loopback.

Four databases on one PostgreSQL; MLflow with names and passwords and with its own store of artifacts; Prefect with a
password. What talks to them learns of them by its environment, as containers do.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.sandbox import Sandbox
from tests.conftest import ROOT
from tests.postgres import PostgresServer
from tests.stack.processes import Memory, Server, answers, free_port, running, wait_until

BIN = Path(sys.executable).parent
ADMIN = "admin"
LATENCY_S = 0.15
_OURS = ("UNIROUTE_", "PREFECT_", "MLFLOW_")


@dataclass
class Stack:
    """Everything up and running.

    Attributes
    ----------
    folder
        Where settings, logs and homes are.
    postgres
        The database server.
    registry_url, mlflow_database
        Two of its databases.
    environment
        In which a client or a worker finds everything.
    started_s
        How long each server took until it answered, in seconds.
    """

    folder: Path
    postgres: PostgresServer
    registry_url: str
    mlflow_database: str
    environment: Mapping[str, str]
    servers: list[Server] = field(default_factory=list)
    started_s: dict[str, float] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "uniroute.toml"

    def memory(self) -> dict[str, Memory]:
        """Measure what each server takes."""
        servers = {server.name: server.pid for server in self.servers}
        return {name: Memory.of(pid) for name, pid in ({"PostgreSQL": self.postgres.pid()} | servers).items() if pid}

    def uniroute(self, *arguments: str, expect: int = 0, **variables: str) -> str:
        """Run a command as a client of all servers, and give what it printed."""
        done = subprocess.run(
            [BIN / "uniroute", *arguments],
            env={**self.environment, **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout or done.stderr

    @contextmanager
    def worker(self, name: str, **variables: str) -> Iterator[Server]:
        """Keep a worker running; `variables` are added to its environment."""
        command = [str(BIN / "prefect"), "worker", "start", "--pool", "nights", "--type", "process", "--name", name]
        with running(name, command, {**self.environment, **variables}, self.folder) as server:
            yield server

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """Ask Prefect's server something through Prefect's own client."""
        from prefect.client.orchestration import PrefectClient

        async def asked() -> Any:
            url, password = self.environment["PREFECT_API_URL"], self.environment["PREFECT_API_AUTH_STRING"]
            async with PrefectClient(url, auth_string=password) as client:
                return await question(client)

        return asyncio.run(asked())


def surroundings() -> dict[str, str]:
    """Return the environment without what a developer has set; children import this very code."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    path = os.pathsep.join(filter(None, [str(ROOT), clean.get("PYTHONPATH", "")]))
    return clean | {"PYTHONPATH": path, "DO_NOT_TRACK": "true"}


@contextmanager
def a_stack(postgres: PostgresServer, folder: Path) -> Iterator[Stack]:
    """Start everything, and stop it again."""
    with ExitStack() as entered:
        urls = [entered.enter_context(postgres.database()) for _ in range(4)]
        registry, mlflow, mlflow_auth, prefect = urls
        password, mlflow_port, prefect_port = secrets.token_urlsafe(18), free_port(), free_port()
        sandbox = entered.enter_context(Sandbox(latency_s=LATENCY_S))
        write_settings(folder, sandbox)
        api_url = f"http://127.0.0.1:{prefect_port}/api"
        environment = surroundings() | {
            "PREFECT_HOME": str(folder / "prefect-client"),
            "PREFECT_API_URL": api_url,
            "PREFECT_API_AUTH_STRING": f"{ADMIN}:{password}",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": password,
            "UNIROUTE_CONFIG": str(folder / "uniroute.toml"),
            "UNIROUTE_REGISTRY__URL": registry,
            "UNIROUTE_MLFLOW__TRACKING_URL": f"http://127.0.0.1:{mlflow_port}",
        }
        stack = Stack(folder, postgres, registry, mlflow, environment)
        since_s = time.monotonic()
        commands = {
            "prefect server": _prefect_server(folder, prefect, prefect_port, password),
            "mlflow server": _mlflow_server(folder, mlflow, mlflow_auth, mlflow_port, password),
        }
        stack.servers += [entered.enter_context(running(name, *how, folder)) for name, how in commands.items()]
        waiting = {"prefect server": f"{api_url}/health", "mlflow server": f"http://127.0.0.1:{mlflow_port}/health"}

        def all_answer() -> bool:
            for name in [name for name, url in waiting.items() if answers(url)]:
                stack.started_s[name] = time.monotonic() - since_s
                del waiting[name]
            return not waiting

        wait_until(all_answer, "the start", *stack.servers)
        yield stack


def write_prompts(file: Path, n: int) -> None:
    """Write every so many of the sandbox's prompts to a file, `n` in all."""
    keys = ("prompt_id", "text", "reference", "grader")
    prompts = Sandbox.prompts()
    chosen = [prompts[place * len(prompts) // n] for place in range(n)]
    file.write_text("\n".join(json.dumps({key: getattr(prompt, key) for key in keys}) for prompt in chosen))


def write_settings(folder: Path, sandbox: Sandbox) -> None:
    """Write settings of a night over two recorded LLMs and few prompts, in small batches."""
    write_prompts(folder / "prompts.jsonl", 120)
    (folder / "uniroute.toml").write_text(
        'home = "home"\n[embedder]\nname = "hashing-256"\n[prompts]\nfile = "prompts.jsonl"\n'
        "map = 0.4\nrepresentative = 0.2\ngate = 0.3\nhidden = 0.1\n[routing]\nn_clusters = 3\n"
        "[night]\nbatch_size = 10\ncanary_prompts = 0\n"
        f'[[catalog]]\nname = "sandbox"\nkind = "openrouter"\nlocation = "{sandbox.catalog_url}"\n'
        'endpoint = "here"\ninclude = ["yi-6b-chat", "gpt-4o-2024-05-13"]\n'
        f'[[endpoint]]\nname = "here"\nbase_url = "{sandbox.base_url}"\nconcurrency = 8\n'
    )


def _prefect_server(folder: Path, url: str, port: int, password: str) -> tuple[list[str], dict[str, str]]:
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    return command, surroundings() | {
        "PREFECT_HOME": str(folder / "prefect-server"),
        "PREFECT_API_DATABASE_CONNECTION_URL": _with_driver(url, "asyncpg"),
        "PREFECT_SERVER_API_AUTH_STRING": f"{ADMIN}:{password}",
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Its default looks for schedules once a minute.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "1",
    }


def _mlflow_server(folder: Path, url: str, auth_url: str, port: int, password: str) -> tuple[list[str], dict[str, str]]:
    settings = folder / "mlflow-auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\nadmin_username = {ADMIN}\n"
        f"database_uri = {_with_driver(auth_url, 'psycopg').replace('%', '%%')}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # Checking a password takes as long as serving the request.
        "auth_cache_ttl_seconds = 3600\n"
    )
    command = [str(BIN / "mlflow"), "server", "--backend-store-uri", _with_driver(url, "psycopg")]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts", "--app-name", "basic-auth"]
    command += ["--workers", "1", "--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", f"127.0.0.1:{port}"]
    return command, surroundings() | {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _with_driver(url: str, driver: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)
