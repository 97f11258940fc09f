"""Colours, sizes and labels that all figures share; nothing here touches matplotlib's global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemfuse.separators.names import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b1d22", "#6d7280", "#d5d8df", "#ffffff"
"""Text, quiet text, guide lines, ground: these and no other greys, so that a page can replace them by its own."""


def new_figure(width: float, height: float) -> Figure:
    """White figure of ``width`` times ``height`` inches with its own canvas, laid out so that nothing is cut off."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor=PAPER)
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.07)  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    return figure


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
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
