"""Figures of what changes: weights over the time of a song, and losses over the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import ChannelLabel, StemfuseError, WeightsLike

from .style import INK, MUTED, new_figure, quiet_axes, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
"""Of Okabe and Ito's palette, which colour-blind readers can distinguish."""

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
    figure = new_figure(9.0, 1.5 * len(sources) + (1.3 if levels_db else 0.3))
    rows = len(sources) + bool(levels_db)
    panels: list[Axes] = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    # segments that overlap are faded into each other: their weights hold in their middles
    times, duration = np.asarray(weights.starts_s), weights.duration_s
    for axes, source in zip(panels, sources, strict=False):
        _label_axes(axes, source, "weight")
        for colour, (name, values) in zip(COLOURS, _strongest(weights, source), strict=False):
            line: dict[str, Any] = {"color": colour, "linewidth": 1.1, "label": shorten(name, 28)}
            if duration is None:
                axes.step([*times, 2 * times[-1] - times[-2]], [*values, values[-1]], where="post", **line)
            else:
                axes.plot(times + duration / 2, values, **line)
        axes.axhline(0, color=MUTED, linewidth=0.6)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)
    if levels_db:
        _draw_levels(panels[-1], levels_db)
    panels[-1].set_xlabel("seconds", fontsize=8, color=INK)
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _draw_levels(axes: Axes, levels_db: Mapping[str, Sequence[float]]) -> None:
    _label_axes(axes, "levels", "dB")
    for colour, (source, levels) in zip(COLOURS, levels_db.items(), strict=False):
        axes.plot(np.arange(len(levels)) + 0.5, np.maximum(levels, -60), color=colour, linewidth=1.1, label=source)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)


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
    """Losses of a training, epoch by epoch.

    Parameters
    ----------
    history : sequence of mapping
        Rows with epoch, train_loss and, where there were validation tracks, valid_loss.
    title : str
        Name of the fusion.

    Raises
    ------
    StemfuseError
        No row has an epoch.

    Examples
    --------
    >>> figure = plot_training([{"epoch": 0, "valid_loss": 0.3}, {"epoch": 1, "train_loss": 0.2, "valid_loss": 0.1}])
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['train', 'valid']
    """
    rows = [row for row in history if "epoch" in row]
    if not rows:
        raise StemfuseError("got no epochs, expected the history of a training")
    figure = new_figure(5.5, 2.6)
    axes = figure.subplots()
    _label_axes(axes, title or "training", "loss")
    for colour, name in zip(COLOURS, ("train", "valid"), strict=False):
        values = np.array([float(row.get(f"{name}_loss", np.nan)) for row in rows])
        if np.isfinite(values).any():
            axes.plot([row["epoch"] for row in rows], values, color=colour, linewidth=1.3, label=name)
            if name == "valid":
                best = int(np.nanargmin(values))
                axes.plot(rows[best]["epoch"], values[best], "o", color=colour, markersize=5)
    if axes.get_legend_handles_labels()[0]:  # every loss may be NaN
        axes.legend(fontsize=7, frameon=False)
    axes.set_xlabel("epoch", fontsize=8, color=INK)
    return figure


def _label_axes(axes: Axes, title: str, unit: str) -> None:
    quiet_axes(axes)
    axes.set_title(title, fontsize=8, loc="left", color=INK)
    axes.set_ylabel(unit, fontsize=7, color=INK)
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, color="#dddddd", linewidth=0.5)
