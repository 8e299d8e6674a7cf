import json
import unicodedata
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cli.options import arranged
from flows.cli.screen import envelope
from flows.text import sanitize, table


@given(st.text(), st.integers(min_value=1, max_value=60))
def test_foreign_text_keeps_no_control_characters_and_one_line(text: str, width: int) -> None:
    shown = sanitize(text, width=width)
    assert len(shown) <= width
    assert not [sign for sign in shown if unicodedata.category(sign)[0] == "C" and sign.isprintable()]
    assert "\n" not in shown
    assert "\x1b" not in shown


def test_columns_line_up_and_long_cells_are_cut() -> None:
    lines = table(["NAME", "N"], [["a", 5], ["b" * 200, 12]], right=(1,)).splitlines()
    assert lines[1].startswith("a ")
    assert lines[1].endswith(" 5")
    assert len(lines[1]) == len(lines[2]) == 80 + 2 + 2
    assert "…" in lines[2]


def test_the_envelope_names_its_schema_and_knows_numbers_or_null() -> None:
    data = {"cost": Decimal("1.25"), "area": float("nan"), "on": date(2026, 3, 14), "keys": ("a",), "n": 3}
    found = json.loads(envelope("llm.list", data, warnings=["look"]))
    assert found["schema"] == "uniroute.llm.list/1"
    assert found["data"] == {"cost": 1.25, "area": None, "on": "2026-03-14", "keys": ["a"], "n": 3}
    assert found["warnings"] == ["look"]


def test_what_json_cannot_represent_is_a_bug_and_not_a_string() -> None:
    with pytest.raises(TypeError, match="object"):
        envelope("llm.list", [object()])


@pytest.mark.parametrize("sort", ["score", "-score"])
def test_rows_are_sorted_with_the_unknown_last_and_cut(sort: str) -> None:
    rows = [{"score": 2}, {"score": None}, {"score": 1}, {"score": 3}]
    found = [row["score"] for row in arranged(rows, sort, 4)]
    assert found == ([1, 2, 3, None] if sort == "score" else [3, 2, 1, None])
    assert len(arranged(rows, sort, 2)) == 2
