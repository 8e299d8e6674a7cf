"""The faults that this suite promises to survive, each with a test that is named after it."""

import ast
from pathlib import Path

STARRED = {1, 4, 15, 17, 30, 33, 34, 35, 51, 53, 64, 65, 70, 72, 74, 82, 83, 87, 96, 100}
OTHERS = {
    *(2, 5, 6, 9, 10, 12, 16, 18, 19, 21, 23, 24, 28, 29, 31, 32, 36, 37, 38, 39, 41, 42, 44, 46, 47, 48, 50, 52, 55),
    *(56, 57, 60, 61, 67, 68, 71, 76, 77, 78, 79, 81, 84, 88, 89, 90, 91, 97, 98, 99, 102, 106),
}


def behaviours_by_fault() -> dict[int, list[str]]:
    """Return the names of the tests of each fault."""
    found: dict[int, list[str]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_f"):
                number, _, behaviour = node.name.removeprefix("test_f").partition("_")
                found.setdefault(int(number), []).append(behaviour)
    return found


def test_every_fault_of_the_catalogue_has_a_test_named_after_it_and_what_is_expected():
    found = behaviours_by_fault()
    assert sorted((STARRED | OTHERS) - set(found)) == []
    assert all(len(behaviour.split("_")) >= 4 for names in found.values() for behaviour in names)
