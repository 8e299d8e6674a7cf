"""The documents: short where promised, whole where promised, and without a dead link or a name that is no more."""

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import sql
from flows.catalogs.toml_file import TomlFormat
from flows.endpoints.kinds import FAILURE_RULES
from flows.metrics.listed import METRICS, PREFIX
from flows.metrics.registry_figures import KINDS
from registry.db.tables import metadata

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FLOWS = ROOT / "flows" / "README.md"
FIGURES = ROOT / "flows" / "reports" / "README.md"
MOST_LINES = 160
# What prints tables for people: commands, reports, the benchmark.
PRINTING = ("cli", "reports", "promotion", "bench", "audit", "checks", "deploy", "gate")
TEMPLATES = ROOT / "flows" / "reports" / "templates"
MARKDOWN_HEADS = re.compile(r"\|(?: [A-Za-z0-9][^|{}]* \|)+")
OUTSIDE = re.compile(r"^(?:[a-z]+:|//)")


def documents() -> list[Path]:
    """Return every Markdown file of the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split() or [path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/README.md")]
    return sorted(ROOT / name for name in names)


DOCUMENTS = documents()


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def prose_of(path: Path) -> str:
    """Return a document without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


@cache
def anchors_of(path: Path) -> set[str]:
    """Return what a link may name in a document: explicit anchors, and headings as GitHub turns them into anchors."""
    headings = re.findall(r"^#{1,6} +(.*?) *$", prose_of(path), re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return {*slugs, *re.findall(r'<a id="([^"]+)">', prose_of(path))}


def section(path: Path, title: str) -> str:
    """Return what stands under a heading, down to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$(.*?)(?=^#{{1,6}} |\Z)", prose_of(path), re.DOTALL | re.MULTILINE)
    assert found is not None, f"{path} has no section {title}"
    depth = len(found[1])
    rest = prose_of(path)[found.end(1) + len(title) + 1 :]
    return re.split(rf"^#{{1,{depth}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> Iterator[str]:
    """Yield what is set as code in the first cells of tables."""
    for row in re.findall(r"^\|(.*?)\|", text, re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", row)


# --- links, names, length -------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(path)):
        if OUTSIDE.match(target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        if not found.exists() or (anchor and anchor not in anchors_of(found)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_folder_module_and_target_that_is_named_exists(path: Path) -> None:
    """The changelog tells of what was; everything else of what is."""
    if path.name == "CHANGELOG.md":
        pytest.skip("it names what once was")
    rooms = "flows|registry|routing|sql|tests|docker"
    text = text_of(path)
    missing = [name for name in re.findall(rf"`((?:{rooms})/[\w./-]*)`", text) if not (ROOT / name).exists()]
    for module in re.findall(rf"(?:python -m |`)((?:{rooms})(?:\.\w+)+)", text):
        parts = module.split(".")
        # What follows a module is a name in it.
        depths = [ROOT.joinpath(*parts[:depth]) for depth in (len(parts), len(parts) - 1)]
        if not any(place.with_suffix(".py").exists() or place.is_dir() for place in depths):
            missing.append(module)
    targets = re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE)
    missing += [f"make {name}" for name in re.findall(r"`make ([a-z-]+)", text) if name not in targets]
    assert not missing


def test_the_picture_of_the_method_shows_the_figures_of_the_readme() -> None:
    picture = text_of(ROOT / "routing" / "deferral_curve.svg")
    (row,) = re.findall(
        r"^challenger +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", text_of(README), re.MULTILINE
    )
    for name, figure in zip(("SCORE", "USD/1000", "AREA", "QNC", "PEAK"), row, strict=True):
        assert f"{name} {figure}" in picture


def test_the_picture_of_the_demo_shows_what_the_headline_of_the_readme_says() -> None:
    picture, readme = (
        text_of(path).replace("\N{NO-BREAK SPACE}", " ") for path in (ROOT / "routing" / "worth.svg", README)
    )
    headline = r"^Against always using the best single LLM \(([\w.-]+).*?\): (cost \S+ %, score \S+ points) "
    ((llm, worth),) = re.findall(headline, readme, re.MULTILINE)
    assert worth in picture and f"always using {llm}" in picture


def test_every_benchmark_of_the_makefile_is_described() -> None:
    targets = set(re.findall(r"^(bench-[a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    described = section(ROOT / "tests" / "README.md", "Benchmarks")
    assert targets == {name.removeprefix("make ") for name in first_cells(described) if "bench-" in name}


# --- figures --------------------------------------------------------------------------------------------------------


def heads_printed() -> Iterator[tuple[str, str]]:
    """Yield every head of a column that commands and reports print, with the file that prints it.

    The changing part of a head, such as a number of prompts, is an asterisk.
    """
    for folder in PRINTING:
        for path in sorted((ROOT / "flows" / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(text_of(path))):
                yield from ((head, path.name) for head in _heads_of(node))
    for path in sorted(TEMPLATES.glob("*.j2")):
        # A head that is a row's name, or is computed, is no figure.
        for head in re.findall(r'<th scope="col"[^>{]*>([^<{]+)</th>', text_of(path)):
            yield head, path.name


def _heads_of(node: ast.AST) -> Iterator[str]:
    """Yield the heads of a table, a list called headers, a figure or Markdown, and the names of the gate's checks."""
    lists: list[ast.expr] = []
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and MARKDOWN_HEADS.fullmatch(node.value):
        yield from (cell for cell in node.value.strip("| ").split(" | ") if cell)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "GateCheck":
        yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("table", "_table") and node.args:
        lists = [node.args[0]]
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Figure":
        lists = [argument for argument in node.args if isinstance(argument, ast.Tuple)]
    elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "headers":
        lists = [node.value]
    for found in lists:
        for element in getattr(found, "elts", ()):
            if isinstance(element, ast.Constant) and isinstance(element.value, str) and element.value.strip():
                yield element.value
            if isinstance(element, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "*" for part in element.values)
                yield "".join(map(str, parts))


def explained() -> set[str]:
    return {name.lower() for name in first_cells(section(FIGURES, "Figures"))}


def test_every_head_of_a_column_is_explained_in_the_one_place() -> None:
    names = explained()
    lacking = {head: file for head, file in heads_printed() if head.lower() not in names}
    assert not lacking
    printed = {head.lower() for head, _ in heads_printed()}
    assert {"area", "qnc", "peak", "coverage", "score", "largest share of the gate prompts"} <= printed
    assert len(printed) > 100, "tables are made in another way now: look for their heads there"


def test_every_metric_is_explained_and_no_other() -> None:
    names = {name for name in explained() if name.startswith(PREFIX)}
    assert names == {f"{PREFIX}{name}{'_total' * metric.is_counter}" for name, metric in METRICS.items()}


def test_every_kind_of_failure_is_explained() -> None:
    assert set(first_cells(section(FIGURES, "Kinds of failures"))) == {*FAILURE_RULES, *KINDS}


@pytest.mark.parametrize("path", [README, FLOWS, *(ROOT / name / "README.md" for name in ("registry", "routing"))])
def test_the_one_place_is_linked(path: Path) -> None:
    assert re.search(r"reports/README\.md#", prose_of(path))


# --- settings, catalogs, tables -------------------------------------------------------------------------------------


def test_every_setting_stands_in_the_table_of_its_section_with_its_default() -> None:
    from flows.config.sections import RefitSettings
    from flows.config.settings import CatalogSettings, EndpointSettings, Settings

    problems = []
    sections = {
        f"[{name}]": field.annotation
        for name, field in Settings.model_fields.items()
        if hasattr(field.annotation, "model_fields")
    }
    sections |= {"[[catalog]]": CatalogSettings, "[[endpoint]]": EndpointSettings, "[routing.refit]": RefitSettings}
    for title, fields in sections.items():
        rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section(FLOWS, f"`{title}`"), re.MULTILINE))
        for name, field in fields.model_fields.items():
            is_table = hasattr(field.annotation, "model_fields")
            wanted = (
                "required" if field.is_required() else "see below" if is_table else f"`{_as_toml(field.get_default())}`"
            )
            if field.get_default() is None:
                wanted = "none"
            if rows.pop(name, None) != wanted:
                problems.append(f"{title} {name}: {wanted}")
        problems += [f"{title} has no {name}" for name in rows]
    assert not problems


def _as_toml(value: object) -> str:
    plain = str(value) if value is not None and type(value).__name__ == "Decimal" else None
    return plain or json.dumps(list(value) if isinstance(value, tuple) else value)


def toml_blocks(path: Path, first_line: str) -> list[str]:
    blocks = re.findall(r"^( *)```toml\n(.*?)^\1```$", text_of(path), re.DOTALL | re.MULTILINE)
    return [block for _, block in blocks if block.strip().startswith(first_line)]


def test_the_readme_s_settings_and_prices_are_read_as_they_stand(tmp_path: Path, monkeypatch) -> None:
    from flows.config.loading import load_settings

    (settings,), (prices,) = toml_blocks(README, "# uniroute.toml"), toml_blocks(README, "# prices.toml")
    (tmp_path / "uniroute.toml").write_text(settings, encoding="utf-8")
    loaded = load_settings(tmp_path / "uniroute.toml")
    assert Path(loaded.catalog[0].location).name == "prices.toml"
    catalog = TomlFormat()
    facts = [catalog.read(row, lambda _: False) for row in catalog.rows(prices)]
    assert facts and all(one.price.refusal is None for one in facts)


def test_every_example_of_settings_is_read_as_it_stands(tmp_path: Path) -> None:
    from flows.config.loading import load_settings

    examples = toml_blocks(FLOWS, "[prompts]")
    assert examples
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.toml"
        path.write_text(example, encoding="utf-8")
        load_settings(path)


def test_every_key_of_a_toml_catalog_is_described() -> None:
    from flows.catalogs.toml_file import KEYS

    text = section(FLOWS, "A price file of your own")
    (example,) = toml_blocks(FLOWS, "[[llm]]")
    assert set(KEYS) == set(first_cells(text))
    catalog = TomlFormat()
    assert all(catalog.read(row, lambda _: False).price.refusal is None for row in catalog.rows(example))
    assert set(KEYS) - {"free"} <= {key for table in tomllib.loads(example)["llm"] for key in table}


def test_every_table_of_the_registry_and_every_column_of_a_view_is_described() -> None:
    tables = section(ROOT / "registry" / "README.md", "Tables")
    assert set(metadata.tables) == set(first_cells(tables))
    views = section(ROOT / "sql" / "README.md", "Views")
    described = set(first_cells(views))
    for view in sql.views():
        outermost = view.text[view.text.rindex("\nSELECT" if view.text.count("\nSELECT") == 1 else "SELECT\n") :]
        columns = set(re.findall(r"\bAS (\w+)(?=,|\nFROM)", outermost))
        assert f"**`{view.name}`**" in views and columns and columns <= described, (view.name, columns - described)


def test_every_folder_of_a_package_stands_in_a_table_of_rooms() -> None:
    """A newcomer finds the room for a change from the names of the folders."""
    for package, title in (("flows", "Rooms"), ("registry", "The registry: what must survive the night")):
        named = set(first_cells(section(ROOT / package / "README.md", title)))
        rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert rooms, package
        assert not {f"{package}/{room}/" for room in rooms} - named
