"""How this tree is installed: by uv from where pip would take packages, and by pip where uv cannot."""

import base64
import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "install.py"
# No other machine is reached: the tests end the same with a network and without.
NOWHERE = dict.fromkeys(("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
# Quicker than pip, to look and to clean up.
UV = (str(Path(sys.executable).with_name("uv")), "pip")
CPU_BUILD, PIP_TRIES = "That index cannot be used from here", "uv cannot install it: pip tries"
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny"
version = "1.0"
dependencies = ["torch"]
optional-dependencies = { test = [] }
"""
BACKEND = """
import shutil
def build_editable(directory, config_settings=None, metadata_directory=None):
    shutil.copy("tiny-1.0-py3-none-any.whl", directory)
    return "tiny-1.0-py3-none-any.whl"
"""


def make_wheel(folder: Path, name: str, version: str, more: str = "") -> Path:
    about = f"{name}-{version}.dist-info"
    files = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in (files | {f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}).items():
            archive.writestr(path, text)
    return made


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds pip and, as of this one, uv."""
    made = tmp_path_factory.mktemp("installation") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
    (packages,) = made.glob("lib/python*/site-packages")
    uv = Path(importlib.util.find_spec("uv").origin).parent
    for name in (uv, *uv.parent.glob("uv-*.dist-info")):
        (packages / name.name).symlink_to(name)
    (made / "bin" / "uv").symlink_to(UV[0])
    return made


@pytest.fixture
def index(tmp_path: Path) -> Callable[[str], str]:
    """Return the URL of a new package index that has torch in one version and nothing else."""

    def make(version: str) -> str:
        folder = tmp_path / f"index of {version}" / "torch"
        folder.mkdir(parents=True)
        name = make_wheel(folder, "torch", version).name
        (folder / "index.html").write_text(f'<a href="{name}">{name}</a>\n')
        return folder.parent.as_uri()

    return make


@pytest.fixture
def install(tmp_path: Path, environment: Path) -> Callable[..., list[str]]:
    """Install a tiny tree that requires torch; return what was said, once torch and the tree are there."""
    tree = tmp_path / "tree"
    (tree / ".ci").mkdir(parents=True)
    (tree / ".ci" / "install.py").write_text(SCRIPT.read_text())
    (tree / "pyproject.toml").write_text(PYPROJECT)
    (tree / "backend.py").write_text(BACKEND)
    (tree / "constraints.txt").write_text("torch==2.0\n")
    make_wheel(tree, "tiny", "1.0", "Requires-Dist: torch\nProvides-Extra: test\n")
    python = str(environment / "bin" / "python")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    own |= NOWHERE | {"HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "cache"), "PIP_RETRIES": "0"}

    def run(config: str = "", **settings: str) -> list[str]:
        subprocess.run([*UV, "uninstall", "-q", "--python", python, "torch", "tiny"], check=True, capture_output=True)
        (environment / "pip.conf").write_text(config)
        made = subprocess.run(
            [python, str(tree / ".ci" / "install.py")], env=own | settings, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stdout + made.stderr
        assert made.stderr == "" or PIP_TRIES in made.stdout, made.stderr
        listing = [*UV, "list", "--python", python, "--format", "freeze"]
        listed = subprocess.run(listing, env=own, capture_output=True, text=True, check=True)
        assert {"torch==2.0", "tiny==1.0"} <= set(listed.stdout.splitlines())
        return made.stdout.splitlines()

    return run


def test_uv_takes_packages_from_where_pip_would(
    install: Callable[..., list[str]], index: Callable[[str], str], tmp_path: Path
) -> None:
    right, other = index("2.0"), index("1.0")
    links = tmp_path / "links"
    links.mkdir()
    make_wheel(links, "torch", "2.0")
    config = f"[global]\nindex-url = {right}\n[install]\nindex-url = {other}\nextra-index-url =\n {other}\n {right}"
    for settings in (
        {"PIP_INDEX_URL": right, "PIP_EXTRA_INDEX_URL": f"{other} {other}"},
        {"PIP_INDEX_URL": other, "PIP_FIND_LINKS": f"{links} {links}"},
        {"config": config},
    ):
        said = install(**settings)
        assert said[2].startswith(CPU_BUILD), (settings, said)
        assert PIP_TRIES not in "".join(said), (settings, said)


def test_pip_installs_what_uv_cannot(install: Callable[..., list[str]], index: Callable[[str], str]) -> None:
    # What is set for uv itself stays, here an index at which nothing answers.
    said = install(PIP_INDEX_URL=index("2.0"), UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_HTTP_RETRIES="0")
    assert said[-1].startswith(PIP_TRIES)
