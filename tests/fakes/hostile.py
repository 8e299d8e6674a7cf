"""The corpus of hostile strings, and checks that none of them has an effect."""

import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt

HOSTILE: dict[str, str] = json.loads((Path(__file__).parents[1] / "data" / "hostile.json").read_text(encoding="utf-8"))
_ACTIVE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def active_signs(text: str) -> set[str]:
    """Return the characters that control a terminal or reorder the others: sanitised text holds none."""
    return {sign for sign in text if unicodedata.category(sign) in _ACTIVE} - {"\n"}


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.found |= {name for name, _ in attrs if name.startswith("on") or name in ("href", "src")}


def elements_of(markdown: str) -> set[str]:
    """Render Markdown as generously as any page does; return the elements and dangerous attributes that result."""
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser = _Elements()
    parser.feed(renderer.render(markdown))
    return parser.found


def bare_links(markdown: str) -> list[str]:
    """Return the addresses that renderers turn into links although nothing marks them as such."""
    return re.findall(r"(?<!\\)://|(?<![\w\\])www\.|\w@\w", markdown)
