"""Plain text: numbers agree with their nouns."""

import pytest

from flows.text import counted


@pytest.mark.parametrize(("n", "said"), [(0, "0 prompts"), (1, "1 prompt"), (2, "2 prompts"), (1200, "1,200 prompts")])
def test_only_one_is_singular(n: int, said: str) -> None:
    assert counted(n, "prompt") == said


def test_an_irregular_plural_is_given() -> None:
    assert [counted(n, "thing needs", "things need") for n in (1, 3)] == ["1 thing needs", "3 things need"]
