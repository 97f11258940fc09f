"""Figures of scores: every track is a dot, so that a median does not hide how few or how different the tracks are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stemfuse.analysis.aggregates import source_order, track_scores
from stemfuse.analysis.errors import ScoreError
from stemfuse.analysis.scores import SONG_SDR

from .style import (
    COLOURS,
    GRID,
    INK,
    MUTED,
    PAPER,
    is_narrow,
    new_figure,
    page_width,
    points,
    quiet_axes,
    scaled,
    shorten,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEPARATOR_COLOUR, FUSION_COLOUR = COLOURS[:2]
ROW_HEIGHT, PANEL_WIDTH, NARROWEST = 0.32, 1.9, 0.95  # inches


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
    """One panel per source side by side, as many in a row as there is room for, with a shared row per method."""
    names = [shorten(method, 16 if is_narrow() else 30) for method in methods]
    aside = 0.9 * (not is_narrow()) + points(8) / 107 * max(map(len, names), default=0)
    across, panel = len(sources), PANEL_WIDTH
    if is_narrow():
        across = max(1, min(across, int((page_width() - aside) / NARROWEST)))
    down = -(-len(sources) // across)
    figure = new_figure(aside + panel * across, 0.55 + down * (0.6 + scaled(ROW_HEIGHT) * len(methods)))
    figure.get_layout_engine().set(wspace=0.12)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(down, across, sharex=one_scale, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for unused in panels[len(sources) :]:
        unused.remove()
    for axes, source in zip(panels, sources, strict=False):
        axes.set_title(shorten(source, 24), fontsize=points(9.5), fontweight="bold", color=INK, parse_math=False)
        axes.grid(axis="x", color=GRID, lw=0.7)
        axes.set_axisbelow(True)
        # a panel above an empty place has the numbers of its own scale
        axes.tick_params(labelbottom=True)
    panels[0].set(ylim=(len(methods) - 0.4, -0.6))
    for row in grid:
        row[0].set_yticks(range(len(methods)), names)
    for axes in panels[: len(sources)]:
        quiet_axes(axes)
    return figure, panels[: len(sources)]


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


def plot_bounds(table: pd.DataFrame) -> Figure:
    """What linear mixes could reach at most: one panel per source, one row per bound.

    Parameters
    ----------
    table : DataFrame
        As `stemfuse.blending.bounds` gives it, or a run's ``bounds.csv`` of one data set: columns ``bound``, ``source``
        and ``sdr_db``.

    Returns
    -------
    matplotlib.figure.Figure
        With a canvas, so that ``savefig`` works.

    Raises
    ------
    ScoreError
        The table is empty, or a column is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"bound": ["best_single", "constant"], "source": "bass", "sdr_db": [4.0, 4.5]}
    >>> [text.get_text() for text in plot_bounds(pd.DataFrame(rows)).axes[0].texts]
    ['4.00', '4.50']
    """
    missing = [name for name in ("bound", "source", "sdr_db") if name not in table]
    if missing or table.empty:
        raise ScoreError(
            f"got bounds without {', '.join(missing) or 'rows'}, expected columns bound, source and sdr_db"
        )
    rows = table[table["bound"].notna() & (table["bound"] != "")]
    named = list(dict.fromkeys(rows["bound"].astype(str)))
    sources = source_order(rows["source"])
    figure, panels = _method_rows([name.replace("_", " ") for name in named], sources)
    for axes, source in zip(panels, sources, strict=True):
        # a bound that is not known is an empty cell of the file
        values = {
            str(row["bound"]): float(row["sdr_db"] or "nan")
            for row in rows[rows["source"] == source].to_dict("records")
        }
        known = [value for value in values.values() if np.isfinite(value)]
        start = min(known, default=0.0)
        for place, name in enumerate(named):
            value = values.get(name, np.nan)
            if not np.isfinite(value):
                _mark_missing(axes, place)
                continue
            axes.plot([start, value], [place, place], color=GRID, lw=1.2, zorder=1)
            axes.plot(value, place, "o", markersize=5, color=SEPARATOR_COLOUR)
            axes.annotate(
                f"{value:.2f}",
                (value, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=points(7.5),
                color=INK,
            )
        axes.margins(x=0.06)
        _widen(axes)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high + (high - low) * (0.55 if is_narrow() else 0.3))
    figure.supxlabel("SDR in dB", fontsize=points(9), color=INK)
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
        0.5,
        row,
        "no score",
        transform=axes.get_yaxis_transform(),
        ha="center",
        va="center",
        fontsize=points(7.5),
        color=MUTED,
    )


def _explain(figure: Figure, axis: str, methods: Sequence[str], fusions: Collection[str]) -> None:
    """Axis label below all panels, and a legend when there are methods of both kinds."""
    from matplotlib.lines import Line2D

    figure.supxlabel(axis, fontsize=points(9), color=INK, parse_math=False)
    kinds = {"single separator": SEPARATOR_COLOUR, "fusion": FUSION_COLOUR}
    if 0 < sum(method in fusions for method in methods) < len(methods):
        figure.legend(
            handles=[Line2D([], [], marker="o", lw=0, color=colour, label=kind) for kind, colour in kinds.items()],
            loc="outside upper right",
            ncols=2,
            fontsize=points(8.5),
            frameon=False,
            labelcolor=INK,
        )
