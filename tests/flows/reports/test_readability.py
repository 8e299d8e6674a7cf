"""The share of unreadable answers in words: unknown is no number, and a verdict ends the doubt."""

import pytest

from flows.reports.readability import readability_attention, readability_cell, readability_sentence
from registry.outcomes import Readability


@pytest.mark.parametrize(
    ("read", "cell", "sentence"),
    [
        (None, "", None),
        (Readability(), "", "unknown"),
        (Readability(40), "unknown", "unknown"),
        (Readability(40, 40), "0.0%", "0 of 40 answers (0.0%)"),
        (Readability(40, 30, 3), "10.0%", "3 of 30 answers (10.0%); of 10 earlier answers it is unknown"),
        (Readability(40, 40, 4, 1), "10.0%, 1 judged", "4 of 40 answers (10.0%); a judge decided 1 of them"),
    ],
)
def test_a_share_is_said_of_what_is_known(read: Readability | None, cell: str, sentence: str | None) -> None:
    assert readability_cell(read) == cell
    assert sentence is None or readability_sentence(read) == sentence


@pytest.mark.parametrize(
    ("read", "needs_attention"),
    [
        (Readability(100), False),
        (Readability(100, 100, 5), False),
        (Readability(100, 100, 6), True),
        (Readability(100, 100, 6, 1), False),
        (Readability(100, 10, 1), True),
    ],
)
def test_more_than_five_percent_in_doubt_need_attention(read: Readability, needs_attention: bool) -> None:
    found = readability_attention({"e:a": read}, is_judged=True)
    assert bool(found) == needs_attention
    assert all("uniroute llm show e:a --unreadable" in line and "[judge]" not in line for line in found)
