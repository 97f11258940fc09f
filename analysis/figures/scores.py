"""Figures of scores: every track is a dot, so that a median does not hide how few or how different the tracks are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stemfuse.analysis.aggregates import source_order, track_scores
from stemfuse.analysis.errors import ScoreError
from stemfuse.analysis.scores import SONG_SDR

from .style import GRID, INK, MUTED, PAPER, new_figure, quiet_axes, shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEPARATOR_COLOUR, FUSION_COLOUR = "#0072b2", "#d55e00"  # Okabe and Ito's blue and vermilion
ROW_HEIGHT, PANEL_WIDTH = 0.32, 1.9  # inches


def plot_scores(
    scores: pd.DataFrame, metric: str = "SDR", methods: Sequence[str] | None = None, fusions: Collection[str] = ()
) -> Figure:
    """Scores of every track: one panel per source, one row per method.

    A dot is one track (the median of its frames, or its whole-song value), a bar the median of the tracks.

    Parameters
    ----------
    scores : DataFrame
        A score table, see `check_scores`.
    metric : str
        Which of the table's metrics.
    methods : sequence of str, optional
        Names in column ``fusion``, from top to bottom; all of them when not given.
    fusions : collection of str
        Methods that are fusions, drawn in the second colour.

    Returns
    -------
    matplotlib.figure.Figure
        With a canvas, so that ``savefig`` works.

    Raises
    ------
    ScoreError
        The table has no such metric.

    Examples
    --------
    >>> from stemfuse.analysis.scores import scores_table
    >>> table = scores_table("song", "mean", ["bass", "vocals"], {"SDR": [[5.0, 6.0, 9.0], [7.0, 7.5, 8.0]]})
    >>> [axes.get_title() for axes in plot_scores(table).axes]
    ['bass', 'vocals']
    """
    chosen = scores[scores["metric"] == metric]
    if chosen.empty:
        raise ScoreError(f"got metric {metric!r}, expected one of {', '.join(scores['metric'].unique()) or 'none'}")
    units = track_scores(chosen, "song" if metric == SONG_SDR else "median")
    methods = list(dict.fromkeys(units["fusion"])) if methods is None else list(methods)
    values = {key: group["value"].dropna().to_numpy() for key, group in units.groupby(["fusion", "source"])}
    sources = source_order(units["source"])
    figure, panels = _method_rows(methods, sources)
    for axes, source in zip(panels, sources, strict=True):
        for row, method in enumerate(methods):
            tracks = values.get((method, source), np.empty(0))
            if not len(tracks):
                _mark_missing(axes, row)
                continue
            colour = FUSION_COLOUR if method in fusions else SEPARATOR_COLOUR
            aside = 0.2 * np.sin(2.4 * np.arange(len(tracks)))  # spread by rule: the same figure every time
            axes.plot(tracks, row + aside, "o", markersize=3.8, color=colour, alpha=0.5, markeredgewidth=0)
            middle = float(np.median(tracks))
            axes.plot([middle, middle], [row - 0.34, row + 0.34], color=colour, lw=2.6, solid_capstyle="butt")
        _widen(axes)
    _explain(figure, f"{metric.replace('_', ' ')} in dB", methods, fusions)
    return figure


def _method_rows(methods: Sequence[str], sources: Sequence[str], one_scale: bool = False) -> tuple[Figure, list[Axes]]:
    """One panel per source side by side, with a shared row per method."""
    names = [shorten(method, 30) for method in methods]
    width = 0.9 + 0.075 * max(map(len, names), default=0) + PANEL_WIDTH * len(sources)
    figure = new_figure(width, 1.15 + ROW_HEIGHT * len(methods))
    figure.get_layout_engine().set(wspace=0.12)  # type: ignore[union-attr, call-arg]
    panels = list(figure.subplots(1, len(sources), sharex=one_scale, sharey=True, squeeze=False)[0])
    for axes, source in zip(panels, sources, strict=True):
        axes.set_title(shorten(source, 24), fontsize=9.5, fontweight="bold", color=INK, parse_math=False)
        axes.grid(axis="x", color=GRID, lw=0.7)
        axes.set_axisbelow(True)
    panels[0].set(ylim=(len(methods) - 0.4, -0.6))
    panels[0].set_yticks(range(len(methods)), names)
    for axes in panels:
        quiet_axes(axes)
    return figure, panels


def plot_gains(comparison: pd.DataFrame, fusions: Collection[str] = ()) -> Figure:
    """Gain of every method over a baseline with its interval: one panel per source and one for their mean.

    A mark is filled when the gain is proven, see `compare`. It is hollow otherwise, also when there are too few tracks
    for an interval.

    Parameters
    ----------
    comparison : DataFrame
        From `compare`: one metric, one baseline.
    fusions : collection of str
        Methods that are fusions, drawn in the second colour.

    Returns
    -------
    matplotlib.figure.Figure
        With a canvas, so that ``savefig`` works.

    Raises
    ------
    ScoreError
        The table is empty.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"fusion": "mean", "baseline": "one", "source": "bass", "metric": "SDR"}
    >>> table = pd.DataFrame([{**row, "difference": 0.4, "low": 0.1, "high": 0.7}])
    >>> plot_gains(table).axes[0].get_title()
    'bass'
    """
    if comparison.empty:
        raise ScoreError("got an empty comparison, expected at least one method beside the baseline")
    methods = list(dict.fromkeys(comparison["fusion"]))
    sources = source_order(comparison["source"])
    figure, panels = _method_rows(methods, sources, one_scale=True)
    for axes in panels:
        axes.axvline(0, color=MUTED, lw=1, zorder=1)
    for gain in comparison.to_dict("records"):
        axes, row = panels[sources.index(gain["source"])], methods.index(gain["fusion"])
        if np.isnan(gain["difference"]):
            _mark_missing(axes, row)
            continue
        colour = FUSION_COLOUR if gain["fusion"] in fusions else SEPARATOR_COLOUR
        fill = colour if gain.get("proven", gain["low"] > 0 or gain["high"] < 0) else PAPER
        axes.plot([gain["low"], gain["high"]], [row, row], color=colour, lw=1.8, solid_capstyle="butt")
        axes.plot(gain["difference"], row, "o", markersize=7, mec=colour, mew=1.6, mfc=fill, zorder=3)
    for axes in panels:
        _widen(axes)
    metric, baseline = comparison[["metric", "baseline"]].iloc[0]
    _explain(figure, f"{metric.replace('_', ' ')} above {shorten(baseline)} in dB", methods, fusions)
    return figure


def _widen(axes: Axes) -> None:
    """Show at least one dB, so that a hundredth does not look like a difference, with a few ticks."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_xlim()
    added = max(0.0, 1.0 - (high - low)) / 2
    axes.set_xlim(low - added, high + added)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _mark_missing(axes: Axes, row: int) -> None:
    axes.text(
        0.5, row, "no score", transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=7.5, color=MUTED
    )


def _explain(figure: Figure, axis: str, methods: Sequence[str], fusions: Collection[str]) -> None:
    """Axis label below all panels, and a legend when there are methods of both kinds."""
    from matplotlib.lines import Line2D

    figure.supxlabel(axis, fontsize=9, color=INK, parse_math=False)
    kinds = {"single separator": SEPARATOR_COLOUR, "fusion": FUSION_COLOUR}
    if 0 < sum(method in fusions for method in methods) < len(methods):
        figure.legend(
            handles=[Line2D([], [], marker="o", lw=0, color=colour, label=kind) for kind, colour in kinds.items()],
            loc="outside upper right",
            ncols=2,
            fontsize=8.5,
            frameon=False,
            labelcolor=INK,
        )
