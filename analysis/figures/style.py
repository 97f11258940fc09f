"""Colours, sizes and labels that all figures share, and the style of papers; no global state is touched."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from stemfuse.separators import StemfuseError
from stemfuse.separators.names import did_you_mean, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b1d22", "#6d7280", "#d5d8df", "#ffffff"
"""Text, quiet text, guide lines, ground: these and no other greys, so that a page can replace them by its own."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
"""Of Okabe and Ito's palette, which colour-blind readers can distinguish."""

SMALLEST = 6.0
"""Points; no text is smaller where a figure is printed at its own size."""


LETTERS = 9
"""Of a title, in an inch of the screen's style."""


class _Style(NamedTuple):
    width: float
    """Inches that a figure should fit in; wider ones wrap their panels."""
    scale: float
    """Of text, and of cells and rows, in which text stands."""
    sheet: str = ""
    """matplotlib's style sheet, by the name that ``matplotlib.style.use`` takes."""


STYLES = {"screen": _Style(7.4, 1.0), "paper": _Style(3.5, 0.8, "stemfuse.analysis.figures.paper")}

_style: ContextVar[_Style] = ContextVar("style of figures", default=STYLES["screen"])


@contextmanager
def figure_style(name: str) -> Iterator[None]:
    """Draw and save figures in another style until the context ends.

    Parameters
    ----------
    name : {"screen", "paper"}
        ``"paper"`` is for one column of a paper, 3.5 inches wide: smaller text (never below 6 points), panels below
        each other, a serif font that is embedded in PDF. Its style sheet also stands alone, for figures of your own:
        ``matplotlib.style.use("stemfuse.analysis.figures.paper")``.

    Raises
    ------
    StemfuseError
        There is no such style.

    Examples
    --------
    >>> with figure_style("paper"):
    ...     float(new_figure(9, 2).get_figwidth())
    3.5
    """
    if name not in STYLES:
        raise StemfuseError(f"got style {name!r}, expected one of {', '.join(STYLES)}{did_you_mean(name, STYLES)}")
    from matplotlib import style

    token = _style.set(STYLES[name])
    try:
        with style.context(STYLES[name].sheet or []):
            yield
    finally:
        _style.reset(token)


def points(size: float) -> float:
    """Size of text in the style that is in use."""
    return max(SMALLEST, size * _style.get().scale)


def scaled(inches: float) -> float:
    """Size of a row or cell that holds text, in the style that is in use."""
    return inches * _style.get().scale


def page_width() -> float:
    """Inches that a figure should fit in."""
    return _style.get().width


def is_narrow() -> bool:
    """Whether figures are for one column of a paper."""
    return _style.get().width < STYLES["screen"].width


def new_figure(width: float, height: float, fixed: bool = False) -> Figure:
    """White figure with its own canvas, laid out so that nothing is cut off.

    Parameters
    ----------
    width, height : float
        Inches; a figure for a paper is made no wider than its column.
    fixed : bool
        Whether it has to be as wide as said, because text would not fit otherwise.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if is_narrow() and not fixed:
        width = min(width, page_width())
    figure: Figure = _shown_figure()(figsize=(width, height), dpi=100, layout="constrained", facecolor=PAPER)
    pad = 0.03 if is_narrow() else 0.09
    figure.get_layout_engine().set(w_pad=pad, h_pad=min(pad, 0.07))  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    return figure


@cache
def _shown_figure() -> type[Figure]:
    """Figures that a notebook shows, also where pyplot, which would tell it how, was never imported."""
    from matplotlib import figure

    class Figure(figure.Figure):
        def _repr_png_(self) -> bytes:
            from PIL import Image

            drawn, small = io.BytesIO(), io.BytesIO()
            self.savefig(drawn, format="png", dpi=self.dpi)
            # a notebook keeps its pictures: with a palette they take a third
            Image.open(drawn).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
            return small.getvalue()

    return Figure


def add_title(figure: Figure, title: str) -> None:
    """Write a title above all panels, in which ``$`` is only a letter."""
    if title:
        figure.suptitle(
            shorten(title, int(LETTERS * figure.get_figwidth() / _style.get().scale)),
            fontsize=points(11),
            fontweight="bold",
            color=INK,
            parse_math=False,
        )


def shorten(name: str, length: int = 40) -> str:
    """Leave out the middle of a name that is too long for its place; invisible characters are escaped.

    Examples
    --------
    >>> shorten("vocals"), shorten("a separator with a long name", 12)
    ('vocals', 'a sepa… name')
    """
    name = shown(name)
    return name if len(name) <= length else f"{name[: length // 2]}…{name[1 - length // 2 :]}"


def quiet_axes(axes: Axes) -> None:
    """No frame, no tick marks, small ink labels in which ``$`` is only a letter."""
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=points(8), labelcolor=INK)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
