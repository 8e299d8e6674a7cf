"""The rules of the house that no linter states: who imports what, which words are banned, how long a module is."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("routing", "registry", "flows", "sql")
PREFECT_FILES = {
    f"flows/{name}.py"
    for name in (
        "nightly",
        "promote",
        "profile_llm",
        "stages",
        "profiling/batches",
        "profiling/dask",
        "profiling/fan_out",
        "fitting/refit",
        "promotion/publish",
        "deploy/deployables",
        "deploy/deploy",
        "deploy/serve",
        "config/prefect_server",
    )
}
BANNED_MODULE_NAMES = {"utils", "util", "helpers", "common", "misc", "manager"}
LIBRARY_NAMES_WITH_MODEL = {
    "model_config",
    "model_copy",
    "model_dump",
    "model_fields",
    "model_fields_set",
    "model_validator",
    "BaseModel",
    "model_construct",
    "model_selection",
    "model_dump_json",
    "model_json_schema",
    "model_kwargs",
}
LONGEST_MODULE = 450
MOST_ENTRIES = {"flows": 36, "registry": 30, "routing": 30}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def importers_of(library: str) -> set[str]:
    found = set()
    for path in modules():
        if any(name == library or name.startswith(f"{library}.") for name in imported(path)):
            found.add(path.relative_to(ROOT).as_posix())
    return found


def test_only_flow_files_import_prefect() -> None:
    assert importers_of("prefect") == PREFECT_FILES


def test_only_publishing_imports_mlflow() -> None:
    found = importers_of("mlflow")
    assert found
    assert all(path.startswith("registry/publishing/") for path in found)


def test_only_the_registry_and_its_migrations_import_sqlalchemy() -> None:
    found = importers_of("sqlalchemy")
    assert found
    assert all(path.startswith(("registry/", "sql/")) for path in found)


def test_only_the_embedder_imports_sentence_transformers() -> None:
    assert importers_of("sentence_transformers") == {"routing/embedders/sentence_transformer.py"}


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    assert all(path.startswith("flows/cli/") for path in importers_of("flows.cli"))


def test_the_routing_package_imports_itself_relatively() -> None:
    found = [path for path in importers_of("routing") if path.startswith("routing/")]
    assert found == [], "a published version carries the package under another name"


def edited_modules() -> list[Path]:
    """Return the modules that people change: an applied migration is a record that nobody edits."""
    return [path for path in modules() if "migrations/versions" not in path.as_posix()]


def test_every_module_is_readable_in_one_sitting() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in edited_modules()
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_no_module_is_named_after_nothing() -> None:
    assert {path.stem for path in modules()} & BANNED_MODULE_NAMES == set()


@pytest.mark.parametrize(("package", "most"), MOST_ENTRIES.items())
def test_the_top_of_a_package_can_be_taken_in_at_a_glance(package: str, most: int) -> None:
    entries = sorted(path.name for path in (ROOT / package).iterdir() if path.name != "__pycache__")
    assert len(entries) <= most, entries


def test_every_room_says_what_it_is_for() -> None:
    silent = [path for path in modules() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_the_bare_word_model_stays_at_the_mlflow_boundary() -> None:
    offenders = []
    for path in modules():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("registry/publishing/"):
            continue
        for node in nodes_of(path):
            found = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None)
            found = found or getattr(node, "arg", None)
            if isinstance(found, str) and "model" in found.lower() and found not in LIBRARY_NAMES_WITH_MODEL:
                offenders.append(f"{name}: {found}")
    assert offenders == []
