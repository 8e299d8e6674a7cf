"""Shapes of JSON: which keys there are and of what type, as `tests/data/json-shapes.json` pins them.

``"string"``, ``"number"``, ``"integer"``, ``"boolean"`` and ``"null"`` are types, joined by ``|``; ``"any"`` is
anything; ``[shape]`` is a list; ``{"*": shape}`` has any keys; ``{"?": shape}`` has the shape or is null; any
other object has exactly its keys. Of a command that writes lines, ``lines`` has the shape of each by its event.
What ``needs`` a server is looked at where the server is.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PINNED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[2] / "data" / "json-shapes.json").read_text(encoding="utf-8")
)


def misfits(value: Any, shape: Any, place: str = "data") -> Iterator[str]:
    """Yield, in words, where a value has not the shape."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{place} is no list"
            return
        for number, entry in enumerate(value):
            yield from misfits(entry, shape[0], f"{place}[{number}]")
    elif isinstance(shape, dict) and "?" in shape:
        yield from () if value is None else misfits(value, shape["?"], place)
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"{place} is no object"
        elif "*" in shape:
            for name, entry in value.items():
                yield from misfits(entry, shape["*"], f"{place}.{name}")
        else:
            yield from (f"{place}.{name} is missing" for name in shape if name not in value)
            for name, entry in value.items():
                if name not in shape:
                    yield f"{place}.{name} is not pinned"
                else:
                    yield from misfits(entry, shape[name], f"{place}.{name}")
    elif shape != "any" and not {type_of(value), "number" if type_of(value) == "integer" else ""} & {*shape.split("|")}:
        yield f"{place} is {type_of(value)}, not {shape}"


def type_of(value: Any) -> str:
    """Name the type of a JSON value."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null", list: "list"}
    return names.get(type(value), "object")


def shape_of(value: Any) -> Any:
    """Return the shape of a value, as a first draft of what to pin."""
    if isinstance(value, dict):
        return {name: shape_of(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [shape_of(value[0]) if value else "any"]
    return type_of(value)
