"""The files of `uniroute init`: every key stands in them, explained; what they show as defaults are the defaults."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from flows.catalogs.toml_file import KEYS, TomlFormat
from flows.config.loading import load_settings
from flows.config.refusal import section_class
from flows.config.settings import Settings
from flows.config.template import price_file_template, settings_template


def uncommented(text: str) -> str:
    """Return a file in which each line with one # is in force; what explains stays a comment."""
    return re.sub(r"^# ?", "", text, flags=re.MULTILINE)


def sections() -> dict[str, type[BaseModel]]:
    found = {name: section_class(field.annotation) for name, field in Settings.model_fields.items()}
    return {name: section for name, section in found.items() if hasattr(section, "model_fields")}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIROUTE_HOME", raising=False)


def test_everything_in_the_settings_file_is_a_comment() -> None:
    assert tomllib.loads(settings_template()) == {}
    assert all(len(line) <= 120 for line in settings_template().splitlines())


def test_the_settings_file_holds_every_key_once_and_no_other() -> None:
    content = tomllib.loads(uncommented(settings_template()))
    assert list(content) == list(Settings.model_fields)
    for name, section in sections().items():
        table = content[name][0] if isinstance(content[name], list) else content[name]
        assert list(table) == list(section.model_fields), name


def test_what_it_shows_are_the_defaults_but_for_the_examples(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(uncommented(settings_template()))
    shown, defaults = load_settings("all.toml"), Settings()
    assert shown.home == defaults.home
    for name, section in sections().items():
        for key, field in section.model_fields.items():
            found = getattr(shown, name)
            value = getattr(found[0] if isinstance(found, tuple) else found, key)
            if field.examples:
                assert field.is_required() or field.get_default() in (None, ""), (name, key)
            else:
                assert value == field.get_default(call_default_factory=True), (name, key)


def test_every_example_is_a_value_that_the_key_takes(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(uncommented(settings_template()))
    settings = load_settings("all.toml")
    assert settings.catalog[0].endpoint == settings.endpoint[0].name
    assert settings.endpoint[0].api_key_file == tmp_path / "openrouter.key"
    assert settings.endpoint[0].requests_per_second == 5


@pytest.mark.parametrize("name", sections())
def test_every_key_is_described_and_every_choice_is_named(name: str) -> None:
    for key, field in sections()[name].model_fields.items():
        assert field.description, key
        for choice in (one for one in get_args(field.annotation) if isinstance(one, str)):
            shown = f"{field.description} {field.get_default()}"
            assert re.search(rf"\b{choice}\b", shown), (key, choice)


def test_the_price_file_is_valid_once_its_lines_are_in_force() -> None:
    assert tomllib.loads(price_file_template()) == {}
    catalog = TomlFormat()
    rows = list(catalog.rows(uncommented(price_file_template())))
    assert [catalog.read(row, lambda _: False).price.refusal for row in rows] == [None, None]
    assert {key for row in rows for key in row.value} == set(KEYS)


def test_the_settings_file_shows_the_price_file_s_format() -> None:
    stripped = settings_template().replace("\n## ", "\n# ")
    tables = price_file_template().split("\n\n", maxsplit=1)[1].split("\n\n")
    assert len(tables) == 2
    assert all(table.strip() in stripped for table in tables)


def test_the_schema_carries_the_descriptions() -> None:
    schema = Settings.model_json_schema()
    assert schema["properties"]["home"]["description"]
    lacking = [
        (name, key)
        for name, section in schema["$defs"].items()
        for key, facts in section["properties"].items()
        if not facts.get("description")
    ]
    assert not lacking
    assert {"GateSettings", "EndpointSettings"} <= set(schema["$defs"])
