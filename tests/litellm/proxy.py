"""LiteLLM's proxy as a process, from an environment of its own that `make litellm` makes once."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT
from tests.litellm.providers import LLMS, Provided
from tests.stack.processes import answers, free_port, running, wait_until

ENVIRONMENT = ROOT / ".litellm"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
KEY = "sk-a-key-for-one-night-on-loopback"
# Nothing may leave the machine: neither telemetry nor the look-up of prices that LiteLLM makes when it starts.
_VARIABLES = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "NO_PROXY": "127.0.0.1"}
_STARTS_WITHIN_S = 180


def installed() -> Path:
    """Install the pinned proxy unless that is done, and return its command."""
    made, wanted = ENVIRONMENT / "installed.txt", REQUIREMENTS.read_text()
    if not made.exists() or made.read_text() != wanted:
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if uv is None:
            raise SystemExit("uv is missing, which make install puts into the environment; nothing was started")
        python = ENVIRONMENT / "bin" / "python"
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, ENVIRONMENT], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, "--requirement", REQUIREMENTS], check=True)
        made.write_text(wanted)
    return ENVIRONMENT / "bin" / "litellm"


def version() -> str:
    """Return the pinned version of the proxy."""
    lines = REQUIREMENTS.read_text().splitlines()
    return next(line.removeprefix("litellm==") for line in lines if line.startswith("litellm=="))


def write_config(folder: Path, providers_port: int, served: Mapping[str, Provided] = LLMS) -> Path:
    """Write the proxy's own settings, JSON being YAML: one name for each LLM, in front of its provider."""
    host = f"http://127.0.0.1:{providers_port}"
    listed = []
    for llm_id, found in served.items():
        of_provider = {"openai": {"api_base": f"{host}/v1"}, "azure": {"api_base": host, "api_version": "2024-10-21"}}
        parameters = {"model": f"{found.provider}/{found.name or llm_id}", "api_key": "sk-up"}
        parameters |= of_provider.get(found.provider, {"api_base": host})
        listed.append({"model_name": llm_id, "litellm_params": parameters})
    config = folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": listed, "general_settings": {"master_key": KEY}}, indent=1))
    return config


@contextmanager
def a_proxy(
    folder: Path, providers_port: int, served: Mapping[str, Provided] = LLMS, port: int | None = None
) -> Iterator[str]:
    """Run the proxy in front of the providers, and yield its address."""
    port = port or free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    command = [str(installed()), "--config", str(write_config(folder, providers_port, served)), *options]
    with running("litellm", command, os.environ | _VARIABLES, folder) as server:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/health/liveliness"), "a start", server, limit_s=_STARTS_WITHIN_S)
        yield url
