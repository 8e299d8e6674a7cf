"""Which room of `flows` each file of `flows/cli` leads to: a command parses and prints, and a room does the work."""

import ast
from collections.abc import Iterator
from pathlib import Path

FLOWS = Path(__file__).resolve().parents[3] / "flows"
SHARED = {"cli", "config", "errors", "findings", "logs", "masking", "text", "workspace"}
"""What any command may use: settings and their workspace, errors, findings, logs, masking and plain text."""

ROOMS = {
    "audit": "audit, reports, versions",
    "bench": "bench",
    "client": "versions",
    "config": "checks",
    "demo": "nightly, reports, versions",
    "deploy": "deploy",
    "doctor": "checks",
    "llm": "night, promotion, reports",
    "metrics": "metrics",
    "night": "checks, deploy, night, nightly, reports",
    "promotion": "promotion, reports",
    "outcome": "night, profiling, reports",
    "prompt": "checks, prompt_file, reports, sandbox, versions",
    "report": "reports, versions",
    "route": "batch, versions",
    "router": "audit, gate, reports, versions",
    "sandbox": "sandbox",
}
"""By file: the rooms and files at the top of `flows` that it imports; a new one is added here on purpose."""

ROOMLESS = {"completion", "db", "init"}
"""Commands that need no room: the registry, the settings and the shell are enough."""

MACHINERY = {"__init__", "endings", "options", "screen"}
"""What all commands share: the table of commands, their options, how they end and how they print."""


def rooms_of(file: Path) -> Iterator[str]:
    """Yield the rooms and files at the top of `flows` that a file imports, those inside functions included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "flows":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flows."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("flows."))


def imports_of_cli() -> dict[str, set[str]]:
    return {file.stem: set(rooms_of(file)) for file in sorted((FLOWS / "cli").glob("*.py"))}


def test_each_file_of_the_command_line_leads_to_the_rooms_of_the_table() -> None:
    found = {name: ", ".join(sorted(rooms - SHARED)) for name, rooms in imports_of_cli().items()}
    assert {name: rooms for name, rooms in found.items() if rooms} == ROOMS
    assert {name for name, rooms in found.items() if not rooms} == ROOMLESS | MACHINERY


def test_what_commands_share_leads_to_no_room() -> None:
    found = imports_of_cli()
    assert {room for name in MACHINERY for room in found[name]} <= SHARED


def test_every_command_has_a_file_of_its_name_and_every_file_a_command() -> None:
    from flows.cli import cli

    assert set(cli.list_commands(None)) == set(ROOMS) | ROOMLESS  # type: ignore[arg-type]
