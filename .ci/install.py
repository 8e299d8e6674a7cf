"""Install this tree, at the versions of constraints.txt, into the environment whose Python runs this file.

By uv, in about a minute; by pip where uv cannot. torch comes first and alone, as the build without CUDA: once it is
there, nothing asks for the gigabytes of CUDA libraries that PyPI's build for Linux requires. uv reads none of pip's
settings, so those that say where packages come from are passed on, from pip's environment variables and files alike.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UV = str(Path(sys.executable).with_name("uv"))
TREE = ["--constraint", "constraints.txt", "--editable", ".[test]"]
# An index that cannot be reached is given up within seconds: the CPU build is a saving, not a condition.
IMPATIENT = {"UV_HTTP_CONNECT_TIMEOUT": "5", "UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "0"}


def pip_settings() -> dict[str, str]:
    """Return pip's settings on this machine, as `pip install` sees them: variables over [install] over [global]."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections:
            sections[section][key] = ast.literal_eval(value)
    return sections["global"] | sections["install"] | sections[":env:"]


def uv_environment(own: dict[str, str], pip: dict[str, str]) -> dict[str, str]:
    """Return the variables with which uv finds packages where pip does; what is set for uv itself stays."""
    found = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
    }
    if found["UV_INDEX"]:
        # pip takes the best version of all indexes; uv by itself looks no further than the first that has the name.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    passed_on = {name: value for name, value in found.items() if value}
    # pip's certificate is meant for packages, SSL_CERT_FILE for everything.
    certificate = {"SSL_CERT_FILE": pip["cert"]} if pip.get("cert") else {}
    return passed_on | own | certificate


def succeeds(command: list[str], settings: dict[str, str], *, quiet: bool = False) -> bool:
    """Whether a command, run at the root of this tree, reports success; `quiet` drops what it says of an error."""
    errors = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(command, cwd=ROOT, env=settings, stderr=errors, check=False).returncode == 0
    except FileNotFoundError:
        return False


def main() -> int:
    """Install by the first way that works, and return the exit code."""
    own = dict(os.environ)
    uv = uv_environment(own, pip_settings())
    install = [UV, "pip", "install", "--quiet", "--python", sys.executable]

    print("Installing uv, which installs everything else.", flush=True)
    if succeeds([*PIP, "install", "-qq", "--constraint", "constraints.txt", "uv"], own):
        print("Installing torch without CUDA from PyTorch's own index (about 200 MB).", flush=True)
        cpu_build = [*install, "--torch-backend", "cpu", "--no-deps", "--constraint", "constraints.txt", "torch"]
        if not succeeds(cpu_build, uv | IMPATIENT, quiet=True):
            print(
                "That index cannot be used from here: torch comes from yours, for Linux mostly with CUDA (3 GB).",
                flush=True,
            )
        print("Installing everything else (about a minute).", flush=True)
        if succeeds([*install, *TREE], uv):
            return 0
    print("uv cannot install it: pip tries (some minutes).", flush=True)
    return 0 if succeeds([*PIP, "install", "-qq", *TREE], own) else 1


if __name__ == "__main__":
    sys.exit(main())
