"""The Dockerfile: linted, pinned, without root, and complete."""

import re
import subprocess
import sys
from pathlib import Path

from tests.docker.topology import DOCKER, ROOT, SERVICES_USER

LINES = (DOCKER / "Dockerfile").read_text(encoding="utf-8").splitlines()


def instructions(name: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{name} ")]


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    checked = subprocess.run([hadolint, str(DOCKER / "Dockerfile")], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_base_is_pinned_for_every_stage() -> None:
    assert instructions("ARG")[0] == "BASE=python:3.11.15-slim-bookworm"
    assert {line.split(" AS ")[0] for line in instructions("FROM")} == {"${BASE}"}


def test_the_image_runs_as_the_user_that_compose_names() -> None:
    assert instructions("USER") == [SERVICES_USER]
    last = LINES.index(f"USER {SERVICES_USER}")
    assert not [line for line in LINES[last:] if re.match(r"RUN|COPY|ADD", line)], "root made everything before"


def test_what_is_copied_is_there_and_let_in() -> None:
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for line in instructions("COPY"):
        if line.startswith("--from="):
            continue
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            parts = Path(source).parts
            assert any(f"!{'/'.join(parts[: n + 1])}" in allowed for n in range(len(parts))) or source == "docker"


def test_what_the_image_needs_of_this_folder_is_let_in_and_can_be_run() -> None:
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert 'ENTRYPOINT ["/srv/uniroute/docker/entrypoint.sh"]' in LINES
    assert "!docker/entrypoint.sh" in allowed
    assert (DOCKER / "entrypoint.sh").stat().st_mode & 0o111 == 0o111
