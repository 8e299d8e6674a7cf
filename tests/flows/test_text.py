"""Plain text: numbers agree with their nouns, and foreign text does nothing but to be read."""

import shlex

import pytest

from flows.reports.readability import readability_attention
from flows.text import counted, sanitize, sanitize_lines, shell_argument, without_controls
from registry.outcomes import Readability


@pytest.mark.parametrize(("n", "said"), [(0, "0 prompts"), (1, "1 prompt"), (2, "2 prompts"), (1200, "1,200 prompts")])
def test_only_one_is_singular(n: int, said: str) -> None:
    assert counted(n, "prompt") == said


def test_an_irregular_plural_is_given() -> None:
    assert [counted(n, "thing needs", "things need") for n in (1, 3)] == ["1 thing needs", "3 things need"]


def test_whatever_acts_on_a_terminal_or_a_reader_becomes_a_space() -> None:
    for active in ("\x1b", "\r", "\x07", "\x9b", "\u202e", "\u200b", "\u2028", "\ue000", "\ud800", "\U000e0041"):
        assert without_controls(f"a{active}b") == "a b", repr(active)
    assert without_controls("a\nb\tc\r", keep="\n\t") == "a\nb\tc "
    assert without_controls("é 漢 👍 a\u00a0b") == "é 漢 👍 a\u00a0b"


def test_one_line_and_several_lines_are_cleaned_alike() -> None:
    assert sanitize(" a\x1b[31m\r\n b ") == "a [31m b"
    assert sanitize_lines("a\x1b[31m\r\n\tb") == "a [31m\n    b"
    assert sanitize("abcdef", width=4) == "abc…"


def test_the_name_of_an_llm_is_one_argument_of_the_command_to_type_next() -> None:
    assert shell_argument("openrouter:maker/llm-1.5@2024") == "openrouter:maker/llm-1.5@2024"
    for name in ("e:x;reboot", "e:$(reboot)", "e:`reboot`", "e:x|sh", "e:a'b", "e:a\n\x1bb"):
        assert shlex.split(f"show {shell_argument(name)} --unreadable") == ["show", sanitize(name), "--unreadable"]
    (line,) = readability_attention({"e:x;reboot": Readability(10, 10, 9, 0)}, is_judged=True)
    assert "uniroute llm show 'e:x;reboot' --unreadable" in line
