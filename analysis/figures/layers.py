"""Figures of what is inside networks: layers over frequency as heat maps, sizes and costs of blocks, which is best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import StemfuseError

from .matrices import weight_colours
from .style import (
    COLOURS,
    GRID,
    INK,
    MUTED,
    add_title,
    is_narrow,
    new_figure,
    points,
    quiet_axes,
    scaled,
    shorten,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, ACROSS = 1.9, 4
"""Width of a heat map in inches, and how many are side by side."""
CLIPPED = 99.5
"""Percentile of the absolute weights of a layer that has the full colour: few are far larger than the rest."""
BAR = 0.24  # inches


def plot_frequency_maps(
    matrices: Mapping[str, NDArray[np.floating]], highest_hz: float | None = None, title: str = ""
) -> Figure:
    """Fully connected layers over frequency (TDF) as heat maps, as the ISMIR 2020 paper draws them [1]_.

    Each panel has the frequency that a layer hears across, and the one that it writes upwards. What is on the diagonal
    is passed on, lines beside it are harmonics, and blocks are bands of the target.

    Parameters
    ----------
    matrices : mapping of str to ndarray, shape (bin, bin)
        By the layer's name, outputs and inputs; layers with fewer bins cover the same band.
    highest_hz : float, optional
        Frequency of the last bin; axes are in bins when not given.
    title : str
        Name of the network and its target.

    Returns
    -------
    matplotlib.figure.Figure
        With a canvas, so that ``savefig`` works. Every panel has a scale of its own.

    Raises
    ------
    StemfuseError
        There are no matrices.

    References
    ----------
    .. [1] Choi et al., "Investigating U-Nets with various intermediate blocks for spectrogram-based singing voice
       separation", ISMIR 2020.

    Examples
    --------
    >>> figure = plot_frequency_maps({"encoders.0": np.eye(8), "mid": np.eye(4)}, highest_hz=8000)
    >>> [axes.get_title() for axes in figure.axes]
    ['encoders.0', 'mid']
    >>> figure.axes[0].images[0].get_extent()
    [0.0, 8.0, 0.0, 8.0]
    """
    if not matrices:
        raise StemfuseError("got no matrices, expected at least one fully connected layer over frequency")
    across = min(2 if is_narrow() else ACROSS, len(matrices))
    down = -(-len(matrices) // across)
    panel = scaled(PANEL)
    figure = new_figure(across * (panel + 0.35) + 0.3, down * (panel + 0.5) + 0.3 + 0.3 * bool(title))
    grid = figure.subplots(down, across, squeeze=False)
    for unused in grid.flat[len(matrices) :]:
        unused.set_axis_off()
    for axes, (name, matrix) in zip(grid.flat, matrices.items(), strict=False):
        _draw_map(axes, np.asarray(matrix), None if highest_hz is None else highest_hz / 1000)
        axes.set_title(shorten(name, 22 if is_narrow() else 26), fontsize=points(8.5), color=INK, parse_math=False)
    unit = "bin" if highest_hz is None else "kHz"
    figure.supxlabel(f"input, {unit}", fontsize=points(8.5), color=INK)
    figure.supylabel(f"output, {unit}", fontsize=points(8.5), color=INK)
    add_title(figure, title)
    return figure


def _draw_map(axes: Axes, matrix: NDArray[np.floating], highest: float | None) -> None:
    limit = float(np.percentile(np.abs(matrix), CLIPPED)) or float(np.abs(matrix).max(initial=0.0)) or 1.0
    top = [highest or size for size in matrix.shape]
    image = weight_colours(False, limit).to_rgba(matrix)
    axes.imshow(image, origin="lower", extent=(0.0, float(top[1]), 0.0, float(top[0])), aspect="auto", zorder=1)
    axes.set_xlim(0, top[1])
    axes.set_ylim(0, top[0])
    axes.locator_params(nbins=4)
    quiet_axes(axes)
    axes.set_frame_on(True)
    axes.spines[:].set(visible=True, color=GRID)


def plot_layers(table: pd.DataFrame, title: str = "") -> Figure:
    """Where the size and the cost of a network lie: its blocks in their order, with parameters and operations.

    Parameters
    ----------
    table : DataFrame
        One row per block: ``block``, ``parameters``, and ``operations`` for a second of music.
    title : str
        Name of the network.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels beside each other, of parameters and of operations.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"block": ["down", "up"], "parameters": [10_000, 20_000], "operations": [3e9, 1e9]})
    >>> [text.get_text() for text in plot_layers(rows).axes[0].texts]
    ['10.0 k', '20.0 k']
    """
    figure = new_figure(7.4, len(table) * scaled(BAR) + 0.8 + 0.3 * bool(title))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(table))
    for axes, column, unit, colour in (
        (left, "parameters", "parameters", COLOURS[0]),
        (right, "operations", "operations a second of music", COLOURS[1]),
    ):
        values = table[column].to_numpy(float)
        axes.barh(places, values, height=0.7, color=colour)
        largest = max(float(values.max(initial=0.0)), 1e-9)
        for place, value in zip(places, values, strict=True):
            axes.text(
                value + 0.015 * largest, place, short_number(value), va="center", fontsize=points(7.5), color=MUTED
            )
        axes.set_xlim(0, (1.55 if is_narrow() else 1.25) * largest)
        axes.set_xticks([])
        axes.set_xlabel(unit, fontsize=points(8.5), color=INK)
        quiet_axes(axes)
    left.set_yticks(places, [shorten(str(name), 22 if is_narrow() else 30) for name in table["block"]])
    left.set_ylim(len(table) - 0.4, -0.6)
    quiet_axes(left)
    add_title(figure, title)
    return figure


def plot_blocks(table: pd.DataFrame, title: str = "") -> Figure:
    """Which block? SDR against size and against cost, one mark per kind of block, with its spread over seeds.

    Parameters
    ----------
    table : DataFrame
        One row per network that was trained: ``block``, ``sdr_db``, ``parameters``, and ``operations`` for a second of
        music. Rows of one block are seeds.
    title : str
        What was trained on, and what was scored.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels. A mark is the mean over seeds, its line goes from the smallest to the largest.

    Raises
    ------
    StemfuseError
        A column is missing, or there are no rows.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"block": ["tdc", "tdc", "tfc"], "sdr_db": [4.0, 5.0, 6.0], "parameters": [5e5, 5e5, 1e6]}
    >>> figure = plot_blocks(pd.DataFrame({**rows, "operations": [1e10, 1e10, 4e10]}))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['tdc', 'tfc']
    """
    missing = [name for name in ("block", "sdr_db", "parameters", "operations") if name not in table.columns]
    if missing or not len(table):
        raise StemfuseError(
            f"got {len(table)} rows without {', '.join(missing) or 'anything'}, expected block, sdr_db, parameters and "
            "operations of each network"
        )
    figure = new_figure(7.4, 3.2 + 0.3 * bool(title))
    panels = figure.subplots(1, 2, sharey=True)
    blocks = list(dict.fromkeys(table["block"]))
    for axes, column, unit in zip(
        panels, ("parameters", "operations"), ("parameters", "operations a second of music"), strict=True
    ):
        for index, block in enumerate(blocks):
            rows = table[table["block"] == block]
            x, sdr = float(rows[column].mean()), rows["sdr_db"].to_numpy(float)
            colour = COLOURS[index % len(COLOURS)]
            axes.vlines(x, sdr.min(), sdr.max(), color=colour, linewidth=2)
            axes.plot(x, sdr.mean(), "o", color=colour, markersize=6)
            axes.annotate(
                shorten(str(block), 18),
                (x, sdr.mean()),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=points(8),
                color=INK,
                parse_math=False,
            )
        axes.set_xscale("log")
        axes.margins(x=0.3, y=0.15)
        axes.set_xlabel(unit, fontsize=points(8.5), color=INK)
        _label_numbers(axes)
        axes.grid(color=GRID, linewidth=0.6)
        quiet_axes(axes)
    panels[0].set_ylabel("SDR, dB", fontsize=points(8.5), color=INK)
    add_title(figure, title)
    return figure


def short_number(value: float) -> str:
    """A large number with three digits and a letter.

    Examples
    --------
    >>> short_number(535_924), short_number(1.26e10), short_number(0), short_number(41)
    ('536 k', '12.6 G', '0', '41')
    """
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            scaled = value / unit
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {letter}".replace(".00 ", ".0 ")
    return f"{value:g}"


def _label_numbers(axes: Axes) -> None:
    """Few round numbers along a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
