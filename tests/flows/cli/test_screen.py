import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cli.screen import envelope
from flows.reports.plain import inert, table


@given(st.text(), st.integers(min_value=1, max_value=60))
def test_foreign_text_keeps_no_control_characters_and_one_line(text: str, width: int) -> None:
    shown = inert(text, width=width)
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


def test_the_envelope_names_its_schema_and_refuses_nan() -> None:
    assert json.loads(envelope("llm.list", [1]))["schema"] == "uniroute.llm.list/1"
    with pytest.raises(ValueError, match="JSON"):
        envelope("llm.list", [float("nan")])
