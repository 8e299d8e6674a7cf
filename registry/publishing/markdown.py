"""Foreign text made harmless: names of LLMs, catalogs and people end up in MLflow's pages, which render Markdown."""

from __future__ import annotations

import re

from registry.db.characters import is_active
from registry.db.redaction import KEY, REDACTION

DESCRIPTION_LIMIT = 4000
TAG_LIMIT = 5000
PARAM_LIMIT = 6000

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#|!~&$^])")
# Renderers turn bare addresses into links: a backslash in them reads the same and links nowhere.
_BARE_LINK = re.compile(r"(?i)(:)(?=//)|(?<=www)(\.)|(@)")
# At the beginning of a line these make lists, headings, rules and quotations; "- " may stay a list.
_LINE_START = re.compile(r"^(\d*)(\+|\.|[-=](?! ))")


def without_controls(text: str) -> str:
    """Drop control, format and surrogate characters (ANSI escapes, direction overrides) and keys, keep line breaks.

    Parameters
    ----------
    text
        Any text, trusted or not.
    """
    unified = REDACTION.mask_own(text, KEY).replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    return "".join(c for c in unified if c == "\n" or not is_active(c))


def one_line(text: str, limit: int) -> str:
    """Return the text on one line, without control characters, of at most `limit` characters.

    Parameters
    ----------
    text
        Any text, trusted or not.
    limit
        The most characters to keep; what is cut ends in an ellipsis.
    """
    return _cut(" ".join(without_controls(text).split()), limit)


def markdown(text: str, limit: int = DESCRIPTION_LIMIT) -> str:
    """Return Markdown that shows the text as it is: no link, image, heading or markup of its own.

    Lines stay lines, and a line that begins with ``- `` stays an item of a list.

    Parameters
    ----------
    text
        Plain text, trusted or not.
    limit
        The most characters to keep, counted after escaping.
    """
    lines = [_escaped(line.rstrip()) for line in without_controls(text).strip().split("\n")]
    kept: list[str] = []
    room = limit - 2
    for line in lines:
        # Two spaces before the line break keep it a line break when it is rendered.
        rendered = f"{line}  " if line and not line.lstrip().startswith("- ") else line
        if len(rendered) + 1 > room:
            kept.append("…")
            break
        kept.append(rendered)
        room -= len(rendered) + 1
    return "\n".join(kept).rstrip()


def _escaped(line: str) -> str:
    escaped = _BARE_LINK.sub(lambda match: "\\" + match.group(0), _MARKDOWN.sub(r"\\\1", line.strip()))
    return _LINE_START.sub(r"\1\\\2", escaped)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
