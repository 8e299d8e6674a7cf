"""Plain text for terminals: untrusted text without control characters, counted nouns, aligned tables."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from registry.db.characters import is_active
from registry.errors import counted as counted  # offered here beside what else makes texts


def without_controls(text: str, *, keep: str = "") -> str:
    """Replace every active character of a text by a space.

    Parameters
    ----------
    text
        Any text, trusted or not.
    keep
        Active characters that stay, such as the line break.
    """
    return "".join(" " if is_active(sign) and sign not in keep else sign for sign in text)


def sanitize(text: object, *, width: int = 80) -> str:
    """Make text from outside safe to print: no control characters, one line, cut to a width.

    Parameters
    ----------
    text
        Anything: a name, a prompt, a completion, an error text.
    width
        Maximum number of characters; a cut is shown by an ellipsis.
    """
    clean = " ".join(without_controls(str(text)).split())
    return clean if len(clean) <= width else clean[: width - 1] + "…"


def llm_name(key: str, width: int = 30) -> str:
    """Return an LLM's name without its endpoint, safe to print, cut to a width."""
    return sanitize(key.partition(":")[2] or key, width=width)


def shell_argument(text: object, *, width: int = 400) -> str:
    """Return text from outside as one argument of a command that a person may copy into a shell.

    Catalogs choose the names of LLMs, and a name such as ``x;reboot`` is one: it must not become a second command.

    Parameters
    ----------
    text, width
        As for `sanitize`.
    """
    return quote(sanitize(text, width=width))


def sanitize_lines(text: object, *, width: int | None = 600) -> str:
    """Make text of several lines from outside safe to show: as `sanitize`, but its line breaks and tabs stay.

    Parameters
    ----------
    text
        Anything: a prompt, a completion.
    width
        Maximum number of characters, unlimited when None; a cut is shown by an ellipsis.
    """
    clean = without_controls(str(text).replace("\r\n", "\n").expandtabs(4), keep="\n")
    return clean if width is None or len(clean) <= width else clean[: width - 1] + "…"


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Lay out rows under headers in aligned columns; the columns numbered in `right` are aligned to the right."""
    cells = [[sanitize(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(widths[column]) if column in right else value.ljust(widths[column])
            for column, value in enumerate(values)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(list(headers)), *(line(row) for row in cells)])
