"""Matplotlib figures as SVG inside a page: with its colours and fonts, without scripts, the same bytes every time.

Figures are drawn in placeholder colours, which become CSS variables: the page chooses light or dark. Texts stay
texts. Tooltips and the words for screen readers are added as ``<title>`` and ``<desc>``.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from flows.text import sanitize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
CHALLENGER, CHAMPION, NEW, BAND, WORSE = "#050505", "#060606", "#070707", "#080808", "#090909"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--rule)",
    PAPER: "var(--paper)",
    CHALLENGER: "var(--accent)",
    CHAMPION: "var(--champion)",
    NEW: "var(--new)",
    BAND: "var(--band)",
    WORSE: "var(--bad)",
}
_WIDTH_IN = 10.0
_MARGINS_IN = (0.7, 0.1, 0.1, 0.62)
_FONT_PT = 11
# Width of a character in the page's font, as a share of its size; labels are placed before a browser measures them.
_CHARACTER = 0.56

_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", re.DOTALL)
_SIZE = re.compile(r'(<svg[^>]*?) width="[^"]*"| height="[\d.]+pt"|( version="1.1")')
_IDS = re.compile(r' id="(?!tip-|[mp][0-9a-f]{10}|[A-Z]\w*_\d+_[0-9a-f]{10})[^"]*"')
_FONTS = re.compile(r"font: (?:\d+ )?([\d.]+)px [^;\"]*")
_NUMBERS = re.compile(r"(?<=[\d\s.\-])(\d+\.\d{2})\d+")
_SPACE = re.compile(r">\s*\n\s*<")


@dataclass(frozen=True)
class Figure:
    """A figure with everything that goes with it.

    Attributes
    ----------
    name, title
        Identifier in the page, and heading.
    svg
        The drawing, safe to put into a page as it is.
    reading, basis, caution
        How to read it, what it rests on, and what not to conclude.
    headers, rows
        The same numbers as a table.
    """

    name: str
    title: str
    svg: str
    reading: str
    basis: str
    caution: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass
class Drawing:
    """A drawing in progress: the canvas, and the tooltips of its parts."""

    canvas: Canvas
    tips: dict[str, str] = field(default_factory=dict)

    def tip(self, text: str) -> str:
        """Return the identifier for a part that shows a text as its tooltip."""
        name = f"tip-{len(self.tips)}"
        self.tips[name] = sanitize(text, width=200)
        return name


@contextmanager
def drawing(name: str, height_in: float) -> Iterator[Drawing]:
    """Open a canvas in the style of the reports; it is discarded afterwards.

    Parameters
    ----------
    name
        Identifier of the figure; keeps the identifiers inside it unique on the page.
    height_in
        Height, at a width of ten inches.
    """
    import matplotlib

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"uniroute-{name}",
        "text.parse_math": False,
        "font.size": _FONT_PT,
        "text.color": INK,
        "axes.edgecolor": GRID,
        "axes.labelcolor": MUTED,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "figure.facecolor": "none",
        "legend.frameon": False,
        "path.simplify": True,
    }
    with matplotlib.rc_context(style):
        from matplotlib.figure import Figure as Canvas

        # Not pyplot: it would keep the figure, and choose a backend for a screen.
        canvas = Canvas(figsize=(_WIDTH_IN, height_in))
        left, right, top, bottom = _MARGINS_IN
        canvas.subplots_adjust(
            left / _WIDTH_IN, bottom / height_in, 1 - right / _WIDTH_IN, 1 - top / height_in, hspace=0.08
        )
        yield Drawing(canvas)


def as_svg(drawn: Drawing, name: str, title: str, description: str) -> str:
    """Write a drawing as SVG for a page."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Texts stay texts: the browser's fonts have glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        drawn.canvas.savefig(buffer, format="svg", metadata=nothing)
    text = _DROPPED.sub("", _HEAD.sub("", buffer.getvalue(), count=1))
    text = _SIZE.sub(lambda match: match.group(1) or "", text, count=3)
    text = _FONTS.sub(r"font-size: \1px", _IDS.sub("", text))
    text = _NUMBERS.sub(r"\1", _SPACE.sub("><", text))
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    for part, tip in drawn.tips.items():
        text = text.replace(f'<g id="{part}">', f"<g><title>{escape(tip)}</title>")
    words = escape(sanitize(description, width=1000))
    names = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{words}</desc>'
    opening = f'<svg role="img" aria-labelledby="{name}-title {name}-desc"'
    head, _, rest = text.partition(">")
    return f"{head.replace('<svg', opening, 1)}>{names}{rest}".strip()


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move ascending places apart until neighbours are at least a gap apart, within limits where that is possible."""
    moved = list(places)
    for at in range(1, len(moved)):
        moved[at] = max(moved[at], moved[at - 1] + gap)
    ceiling = high
    for at in reversed(range(len(moved))):
        moved[at] = min(moved[at], ceiling)
        ceiling = moved[at] - gap
    if moved and moved[0] < low:
        shift = low - moved[0]
        moved = [place + shift for place in moved]
    return moved


def cost_axis(axes: Axes, *, is_free: bool) -> None:
    """Make the cost axis logarithmic, with plain numbers; where nothing costs anything, leave it empty."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if is_free:
        axes.set_xticks([])
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def label_points(
    axes: Axes, labels: Mapping[tuple[float, float], tuple[str, str]], obstacles: Sequence[tuple[float, float]]
) -> None:
    """Write names beside points where they overlap neither each other nor anything else, as far as that is possible.

    Parameters
    ----------
    axes
        Axes with their limits set.
    labels
        Text and colour by place, in data coordinates; earlier ones are placed first.
    obstacles
        Places that no name should cover.
    """
    canvas = axes.get_figure()
    assert canvas is not None
    to_pixels, frame = axes.transData.transform, axes.bbox
    size = _FONT_PT * canvas.dpi / 72
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in map(to_pixels, [*labels, *obstacles])]
    for place, (text, colour) in labels.items():
        x, y = to_pixels(place)
        width = len(text) * size * _CHARACTER
        candidates = [
            (left, y + dy * size, side)
            for dy in (-1.5, 0.5, -0.5, -2.6, 1.6, 2.7, -3.7)
            for left, side in ((x + 9, "left"), (x - 9 - width, "right"))
        ]

        def clashes(box: tuple[float, float, str], width: float = width) -> float:
            left, bottom, right, top = box[0], box[1], box[0] + width, box[1] + size
            outside = left < frame.x0 or right > frame.x1 or bottom < frame.y0 or top > frame.y1
            return 10.0 * outside + sum(
                left < other[2] and other[0] < right and bottom < other[3] and other[1] < top for other in taken
            )

        best = min(candidates, key=clashes)
        taken.append((best[0], best[1], best[0] + width, best[1] + size))
        offset = ((9 if best[2] == "left" else -9) * 72 / canvas.dpi, (best[1] + size / 2 - y) * 72 / canvas.dpi)
        axes.annotate(
            text,
            place,
            xytext=offset,
            textcoords="offset points",
            ha=best[2],
            va="center",
            color=colour,
            parse_math=False,
        )


def along(points: Sequence[tuple[float, float]], n: int = 24) -> list[tuple[float, float]]:
    """Return `n` places along a line through points, as obstacles for names."""
    if len(points) < 2:
        return list(points)
    at = np.linspace(0, len(points) - 1, n)
    xs, ys = (np.interp(at, range(len(points)), values) for values in zip(*points, strict=True))
    return list(zip(xs.tolist(), ys.tolist(), strict=True))
