"""The files that `uniroute init` writes: every setting, or every key of a price file, commented out and explained.

A line that begins with ``# `` is a setting, one with ``## `` an explanation: without the first ``# `` of its lines, the
whole file is valid TOML.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.catalogs.toml_file import KEYS
from flows.config.refusal import section_class
from flows.config.settings import Settings

_WIDTH = 118
_MEANING_AT = 32
_SETTINGS_HEAD = """\
## Settings of uniroute. Each line with one # is a setting with its default, or with an example where it has none;
## lines with ## explain. To change a setting, remove the # in front of it and in front of the [section] above it.
## Environment variables win over this file: UNIROUTE_BUDGET__NIGHT_USD=5 sets [budget] night_usd.
## With no [[catalog]] the night runs on the sandbox: recorded answers of real LLMs, no key, no server.
## Paths are relative to this file.
"""
_PRICE_FILE_HEAD = """\
## LLMs and prices for a [[catalog]] of kind = "toml": one [[llm]] table for each LLM.
## Remove the # in front of what you fill in; in the settings, location of the [[catalog]] names this file.
## A start for your own hardware: USD per hour of the machine, divided by the tokens it handles in an hour, times 10^6.
"""
_PRICED = {
    "id": '"qwen3-32b"',
    "name": '"Qwen3 32B, rack 4"',
    "canonical_id": '"qwen/qwen3-32b"',
    "released": "2025-04-28",
    "deprecated": "2099-12-31",
    "context_tokens": "32768",
    "input_usd_per_mtok": "0.10",
    "output_usd_per_mtok": "0.30",
}
_FREE = {"id": '"gemma-3-4b"', "free": "true"}


def settings_template() -> str:
    """Return a settings file in which every key stands as a comment, with its default and its description."""
    blocks = [_SETTINGS_HEAD]
    for name, field in Settings.model_fields.items():
        section = section_class(field.annotation)
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            blocks.append(_lines(*_setting(name, field)))
            continue
        is_list = section is not field.annotation
        blocks.append("".join(_section(f"[[{name}]]" if is_list else f"[{name}]", section)))
        if name == "catalog":
            price_file = "".join([_PRICE_FILE_NOTE, _table(_PRICED), "\n", _table(_FREE)])
            blocks.append(textwrap.indent(price_file, "#", lambda line: line.startswith("# ")))
    return "\n".join(blocks)


_PRICE_FILE_NOTE = """\
## A price file for kind = "toml", which stands in a file of its own; uniroute init --catalog prices.toml writes one:
##
"""


def price_file_template() -> str:
    """Return a price file in which every key stands as a comment, with an example and its description."""
    return "\n".join([_PRICE_FILE_HEAD, _table(_PRICED), _table(_FREE)])


def _table(examples: Mapping[str, str]) -> str:
    return "# [[llm]]\n" + "".join(_lines(f"{key} = {value}", KEYS[key]) for key, value in examples.items())


def _section(title: str, section: type[BaseModel]) -> Iterator[str]:
    yield _lines(title, inspect.cleandoc(section.__doc__ or "").split("\n\n")[0])
    for name, field in section.model_fields.items():
        below = section_class(field.annotation)
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from ("#\n", *_section(f"[{title.strip('[]')}.{name}]", below))
        else:
            yield _lines(*_setting(name, field))


def _setting(name: str, field: FieldInfo) -> tuple[str, str]:
    """Return a key with its default or its example, and its description."""
    meaning = " ".join((field.description or "").split())
    if not field.examples:
        return f"{name} = {_as_toml(field.get_default())}", meaning
    default = field.default_factory or field.get_default()
    is_without = field.is_required() or default is None or default == ""
    note = " (required)" if field.is_required() else " (an example)" if is_without else ""
    return f"{name} = {_as_toml(field.examples[0])}", f"{meaning}{note}"


def _lines(setting: str, meaning: str) -> str:
    """Lay out a setting as a comment, with its description behind it or, where that is too long, below it as well."""
    head = f"# {setting}".ljust(_MEANING_AT)
    first, *others = textwrap.wrap(meaning, _WIDTH - max(_MEANING_AT, len(head)) - 4, break_long_words=False)
    rest = textwrap.wrap(" ".join(others), _WIDTH - _MEANING_AT - 4, break_long_words=False)
    return "".join([f"{head}  # {first}\n", *(f"#{'':<{_MEANING_AT - 1}}  # {line}\n" for line in rest)])


def _as_toml(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)
