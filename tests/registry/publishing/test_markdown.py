"""Foreign text in MLflow's pages: its words stay, its markup has no effect."""

import re

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from registry.publishing.markdown import markdown, one_line, without_controls

HOSTILE = (
    "[click](https://evil.example) ![x](javascript:alert(1)) <img src=x onerror=alert(1)> https://evil.example",
    "# heading\n> quote\n```\ncode\n```\n| a | b |\n|---|---|\n1. one\n+ two\n===\n---",
    "\x1b]8;;https://evil.example\x07link\x1b]8;;\x07 \x1b[31mred \u202eesrever *bold* _it_ ~~no~~ $x_{1}$ &lt;",
    "[ref]: https://evil.example\n[ref]\n<https://evil.example> www.evil.example mail@evil.example",
    "    indented code\n\ttab",
)
PLAIN_TAGS = {"p", "br", "ul", "li"}


@given(st.text(max_size=300))
@example(HOSTILE[0])
@example(HOSTILE[1])
@example(HOSTILE[2])
@example(HOSTILE[3])
@example(HOSTILE[4])
def test_rendered_markdown_of_foreign_text_has_no_element_but_lines_and_lists(text):
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown(text))
    assert {tag.lower() for tag in re.findall(r"<\s*/?\s*([A-Za-z0-9]+)", rendered)} <= PLAIN_TAGS


@given(st.text(max_size=300))
def test_markdown_has_no_control_characters_and_keeps_to_its_limit(text):
    shown = markdown(text, limit=80)
    assert len(shown) <= 80
    assert without_controls(shown) == shown


def test_lines_and_lists_are_kept_readable():
    assert markdown("Router over 3 LLMs.\n- score 0.7123 (+0.01)\n- a_b") == (
        "Router over 3 LLMs.  \n- score 0.7123 \\(+0.01\\)\n- a\\_b"
    )


def test_bare_addresses_do_not_become_links():
    shown = markdown("https://evil.example www.evil.example mail@evil.example")
    assert not re.search(r"(?<!\\)://|www\.|\w@", shown)


def test_one_line_is_one_line_without_escapes_and_cut():
    assert one_line("a\n\x1b[31mb\u202e\tc", 100) == "a [31mb c"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"
