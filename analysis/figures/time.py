"""Figures of what changes: weights over the time of a song, and losses over the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import ChannelLabel, StemfuseError, WeightsLike

from .style import COLOURS, GRID, INK, MUTED, add_title, is_narrow, new_figure, points, quiet_axes, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = len(COLOURS)


def plot_weights_over_time(
    weights: WeightsLike, levels_db: Mapping[str, Sequence[float]] | None = None, title: str = ""
) -> Figure:
    """Weights of a song over time: one panel per source, and the sources' levels below.

    Parameters
    ----------
    weights : WeightsLike
        Of several segments. A line is the mean over the source's output channels of the weight on the same channel
        of one input signal; the five signals whose weights are largest or vary most are drawn.
    levels_db : mapping of str to sequence of float, optional
        Level of each source in every second, in dB below full scale.
    title : str
        Name of the fusion and the song.

    Returns
    -------
    matplotlib.figure.Figure
        With a canvas, so that ``savefig`` works.

    Raises
    ------
    StemfuseError
        The weights do not vary.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> weights = SimpleNamespace(
    ...     matrix=np.array([[[0.1, 0.9]], [[0.6, 0.4]]]),
    ...     inputs=("mixture.left", "mdx.drums.left"),
    ...     outputs=("drums.left",),
    ...     starts_s=np.array([0.0, 1.0]),
    ...     duration_s=None,
    ... )
    >>> [text.get_text() for text in plot_weights_over_time(weights).axes[0].get_legend().get_texts()]
    ['mdx.drums', 'mixture']
    """
    if len(weights.matrix) < 2:
        raise StemfuseError("got weights of one segment, expected several; plot_weights shows constant ones")
    sources = list(dict.fromkeys(ChannelLabel.parse(label).signal for label in weights.outputs))
    figure = new_figure(7.4, 1.5 * len(sources) + (1.3 if levels_db else 0.3) + 0.3 * bool(title))
    rows = len(sources) + bool(levels_db)
    panels: list[Axes] = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    # segments that overlap are faded into each other: their weights hold in their middles
    times, duration = np.asarray(weights.starts_s), weights.duration_s
    for axes, source in zip(panels, sources, strict=False):
        _label_axes(axes, source, "weight")
        for colour, (name, values) in zip(COLOURS, _strongest(weights, source), strict=False):
            line: dict[str, Any] = {
                "color": colour,
                "linewidth": 1.1,
                "label": shorten(name, 16 if is_narrow() else 28),
            }
            if duration is None:
                axes.step([*times, 2 * times[-1] - times[-2]], [*values, values[-1]], where="post", **line)
            else:
                axes.plot(times + duration / 2, values, **line)
        axes.axhline(0, color=MUTED, linewidth=0.6)
        _legend_beside(axes)
    if levels_db:
        _draw_levels(panels[-1], levels_db)
    panels[-1].set_xlabel("seconds", fontsize=points(8.5), color=INK)
    add_title(figure, title)
    return figure


def _legend_beside(axes: Axes) -> None:
    """Right of the panel, or above it where that would take the room of the lines."""
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    if is_narrow():
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": 3, "columnspacing": 0.8, "borderpad": 0}
    legend = axes.legend(fontsize=points(7.5), frameon=False, handlelength=1.4, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_levels(axes: Axes, levels_db: Mapping[str, Sequence[float]]) -> None:
    _label_axes(axes, "levels", "dB")
    for colour, (source, levels) in zip(COLOURS, levels_db.items(), strict=False):
        axes.plot(np.arange(len(levels)) + 0.5, np.maximum(levels, -60), color=colour, linewidth=1.1, label=source)
    _legend_beside(axes)


def _strongest(weights: WeightsLike, source: str) -> list[tuple[str, NDArray[np.floating]]]:
    """Input signals with their weights over time, the strongest first."""
    signals: dict[str, list[NDArray[np.floating]]] = {}
    inputs, outputs = (tuple(map(ChannelLabel.parse, labels)) for labels in (weights.inputs, weights.outputs))
    for row, output in enumerate(outputs):
        for column, label in enumerate(inputs):
            if output.signal == source and label.channel == output.channel:
                signals.setdefault(label.signal, []).append(np.asarray(weights.matrix)[:, row, column])
    lines = [(name, np.mean(values, axis=0)) for name, values in signals.items()]
    lines.sort(key=lambda line: -float(np.abs(line[1]).max() + np.ptp(line[1])))
    return lines[:MOST_LINES]


def plot_training(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Curves of a training, epoch by epoch; the dot is the epoch that was kept.

    Parameters
    ----------
    history : sequence of mapping
        Rows with ``epoch``, ``train_loss`` and, where there were validation tracks, ``valid_loss`` on the same scale,
        or ``valid_sdr_db``, which has a panel of its own.
    title : str
        Name of what was trained.

    Returns
    -------
    matplotlib.figure.Figure
        With a canvas, so that ``savefig`` works.

    Raises
    ------
    StemfuseError
        No row has an epoch, or no value is finite.

    Examples
    --------
    >>> figure = plot_training([{"epoch": 0, "valid_loss": 0.3}, {"epoch": 1, "train_loss": 0.2, "valid_loss": 0.1}])
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['train', 'valid', 'kept: epoch 1']
    """
    rows = [row for row in history if "epoch" in row]
    if not rows:
        raise StemfuseError("got no epochs, expected the history of a training")
    columns = {
        name: np.array([float(row.get(name, np.nan)) for row in rows])
        for name in ("train_loss", "valid_loss", "valid_sdr_db")
    }
    finite = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    losses = {name: values for name, values in finite.items() if name != "valid_sdr_db"}
    panels = [
        (unit, curves) for unit, curves in (("loss", losses), ("SDR in dB", _of(finite, "valid_sdr_db"))) if curves
    ]
    if not panels:
        raise StemfuseError(f"got {len(rows)} epochs without a loss, expected the history of a training")
    height = 2.4 if len(panels) == 1 or not is_narrow() else 4.0
    figure = new_figure(5.5 if len(panels) == 1 else 7.4, height + 0.3 * bool(title))
    shape = (len(panels), 1) if is_narrow() else (1, len(panels))
    epochs = np.array([float(row["epoch"]) for row in rows])
    for axes, (unit, curves) in zip(figure.subplots(*shape, squeeze=False).flat, panels, strict=True):
        _draw_curves(axes, epochs, curves, unit)
    add_title(figure, title)
    return figure


def _of(columns: Mapping[str, NDArray[np.floating]], name: str) -> dict[str, NDArray[np.floating]]:
    return {name: columns[name]} if name in columns else {}


def _draw_curves(
    axes: Axes, epochs: NDArray[np.floating], curves: Mapping[str, NDArray[np.floating]], unit: str
) -> None:
    """Lines of one scale; a dot on the best epoch of validation."""
    from matplotlib.ticker import MaxNLocator

    _label_axes(axes, "training" if "train_loss" in curves else "validation", unit)
    for name, values in curves.items():
        is_valid = name != "train_loss"
        colour = COLOURS[is_valid]
        known = np.isfinite(values)
        axes.plot(
            epochs[known], values[known], ".-", color=colour, linewidth=1.3, markersize=3, label=name.split("_")[0]
        )
        if is_valid:
            better = np.where(known, values if unit != "loss" else -values, -np.inf)
            best = int(better.argmax())
            kept = f"kept: epoch {epochs[best]:g}"
            axes.plot(epochs[best], values[best], "o", color=colour, markersize=7, zorder=4, label=kept)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(0.05, 0.1)
    axes.legend(fontsize=points(7.5), frameon=False)
    axes.set_xlabel("epoch", fontsize=points(8.5), color=INK)


def _label_axes(axes: Axes, title: str, unit: str) -> None:
    quiet_axes(axes)
    axes.set_title(shorten(title), fontsize=points(8.5), loc="left", color=INK, parse_math=False)
    axes.set_ylabel(unit, fontsize=points(7.5), color=INK)
    axes.tick_params(labelsize=points(7.5))
    axes.grid(visible=True, color=GRID, linewidth=0.5)
