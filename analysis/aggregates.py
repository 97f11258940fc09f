"""One number per method and source: the field's ways to summarise frames and tracks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd

from stemfuse.separators import SOURCES

from .errors import ScoreError
from .scores import WHOLE_SONG, check_scores

Frames = Literal["median", "mean", "song"]
Tracks = Literal["median", "mean", "pooled"]

MEAN = "mean"
"""Source name of the rows that hold the mean over sources."""

SUMS = ("accompaniment", "linear_mixture")
"""musdb's targets that are sums of sources: scored, but left out of the mean over sources."""


def track_scores(scores: pd.DataFrame, frames: Frames = "median") -> pd.DataFrame:
    """One value per track, fusion, source and metric: the unit of paired comparisons.

    Parameters
    ----------
    scores : DataFrame
        A score table, see `check_scores`.
    frames : {"median", "mean", "song"}
        Median or mean of a track's frames, or its whole-song value (frame -1). Frames that are not finite are
        left out, as in museval, whose files know NaN alone; a track without any is NaN.

    Returns
    -------
    DataFrame
        Columns track, fusion, source, metric, value; frames (that the value rests on), dropped (left out).

    Raises
    ------
    ScoreError
        Unknown convention, or the table has no such values.

    Examples
    --------
    >>> from stemfuse.analysis.scores import scores_table
    >>> table = scores_table("song", "mean", ["bass"], {"SDR": [[5.0, float("nan"), 6.0, 9.0]]})
    >>> print(track_scores(table).to_string(index=False))
    track fusion source metric  value  frames  dropped
     song   mean   bass    SDR    6.0       3        1
    """
    finite = _finite_values(check_scores(scores), frames)
    values = finite.groupby(["track", "fusion", "source", "metric"], sort=False)["value"]
    table = values.agg(value="mean" if frames == "song" else frames, frames="count", rows="size").reset_index()
    return table.assign(dropped=table["rows"] - table["frames"]).drop(columns="rows")


def _finite_values(scores: pd.DataFrame, frames: str) -> pd.DataFrame:
    """Rows of frames or of whole songs, NaN where not finite."""
    if frames not in ("median", "mean", "song"):
        raise ScoreError(f"frames={frames!r} came, expected 'median', 'mean' or 'song'")
    whole = scores["frame"] == WHOLE_SONG
    rows = scores[whole if frames == "song" else ~whole]
    if rows.empty:
        wanted, other = ("whole-song", "frame") if frames == "song" else ("frame", "whole-song")
        raise ScoreError(
            f"the table has no {wanted} values, which frames={frames!r} needs; "
            f"its {other} metrics are {', '.join(scores['metric'].unique()) or 'none'}"
        )
    return rows.assign(value=rows["value"].where(np.isfinite(rows["value"])))


def aggregate(scores: pd.DataFrame, frames: Frames = "median", tracks: Tracks = "median") -> pd.DataFrame:
    """Score of every method, per source and in the mean over sources.

    ======== ========== ==========================================================================================
    frames   tracks     convention
    ======== ========== ==========================================================================================
    median   median     museval's and SiSEC 2018's; the papers' default
    mean     mean       museval's other one; median and mean may be mixed
    median   pooled     median over all frames of all tracks (papers' figures with a dagger)
    song     mean       whole-song SDR of the Music Demixing Challenge 2021
    ======== ========== ==========================================================================================

    Methods are scored on the frames that the table has: apply `common_mask` first when they are to be compared.

    Parameters
    ----------
    scores : DataFrame
        A score table, see `check_scores`.
    frames : {"median", "mean", "song"}
        How the frames of a track become one value, see `track_scores`.
    tracks : {"median", "mean", "pooled"}
        How tracks become one value; ``"pooled"`` applies ``frames`` to all frames of all tracks at once. Tracks
        that are NaN are left out, as in museval's ``MethodStore``.

    Returns
    -------
    DataFrame
        Columns fusion, source, metric, value; tracks and frames (that the value rests on), dropped (frames that were
        left out). One more row per fusion and metric, source `MEAN`, has the mean of the sources' values without
        `SUMS`: NaN when the fusion lacks a source that another has; its counts are the worst of its sources.

    Raises
    ------
    ScoreError
        Unknown convention, or the table has no such values.

    See Also
    --------
    by_source : the same as a grid with one column per source.

    Examples
    --------
    >>> from stemfuse.analysis.scores import scores_table
    >>> table = scores_table("song", "mean", ["bass", "vocals"], {"SDR": [[5.0, 6.0, 9.0], [7.0, 7.5, 8.0]]})
    >>> print(aggregate(table).to_string(index=False))
    fusion source metric  value  tracks  frames  dropped
      mean   bass    SDR   6.00       1       3        0
      mean vocals    SDR   7.50       1       3        0
      mean   mean    SDR   6.75       1       3        0
    """
    if tracks not in ("median", "mean", "pooled"):
        raise ScoreError(f"tracks={tracks!r} came, expected 'median', 'mean' or 'pooled'")
    if tracks == "pooled":
        if frames == "song":
            raise ScoreError("frames='song' has no frames to pool; expected tracks='mean' or 'median'")
        rows = _finite_values(check_scores(scores), frames)
        known = rows["value"].notna()
        units, statistic = rows.assign(frames=known.astype(int), dropped=(~known).astype(int)), frames
    else:
        units, statistic = track_scores(scores, frames), tracks
    units = units.assign(track=units["track"].where(units["value"].notna()))
    table = (
        units.groupby(["fusion", "metric", "source"], sort=False)
        .agg(
            value=("value", statistic),
            tracks=("track", "nunique"),
            frames=("frames", "sum"),
            dropped=("dropped", "sum"),
        )
        .reset_index()
    )
    return _with_mean(table)


def _with_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Add the rows of the mean over sources and put all in the order that people read."""
    parts = table[~table["source"].isin(SUMS)]
    expected = parts.groupby("metric")["source"].nunique()
    means = (
        parts.groupby(["fusion", "metric"], sort=False)
        .agg(
            value=("value", lambda values: values.mean(skipna=False)),
            tracks=("tracks", "min"),
            frames=("frames", "min"),
            dropped=("dropped", "max"),
            sources=("source", "nunique"),
        )
        .reset_index()
    )
    complete = means["sources"] == means["metric"].map(expected)
    means = means.assign(source=MEAN, value=means["value"].where(complete)).drop(columns="sources")
    both = pd.concat([table, means], ignore_index=True)
    ranks = {name: {value: rank for rank, value in enumerate(both[name].unique())} for name in ("fusion", "metric")}
    ranks["source"] = {value: rank for rank, value in enumerate(source_order(both["source"]))}
    both = both.sort_values(list(ranks), key=lambda column: column.map(ranks[str(column.name)]), ignore_index=True)
    return both[["fusion", "source", "metric", "value", "tracks", "frames", "dropped"]]


def source_order(sources: Iterable[str]) -> list[str]:
    """Sources in the papers' order, others after them, their mean at the end.

    Examples
    --------
    >>> source_order(["mean", "vocals", "accompaniment", "drums"])
    ['drums', 'vocals', 'accompaniment', 'mean']
    """
    came = list(dict.fromkeys(sources))
    first = [source for source in SOURCES if source in came]
    last = [source for source in (MEAN,) if source in came]
    return first + [source for source in came if source not in (*first, *last)] + last


def by_source(table: pd.DataFrame, metric: str = "SDR", value: str = "value") -> pd.DataFrame:
    """Grid of one row per fusion and one column per source, from `aggregate`'s or `compare`'s table.

    Parameters
    ----------
    table : DataFrame
        With columns fusion, source, metric and the one asked for.
    metric : str
        The metric to show.
    value : str
        The column to show, for instance ``"value"``, ``"dropped"`` or ``"difference"``.

    Examples
    --------
    >>> from stemfuse.analysis.scores import scores_table
    >>> table = scores_table("song", "mean", ["bass", "vocals"], {"SDR": [[5.0, 6.0, 9.0], [7.0, 7.5, 8.0]]})
    >>> print(by_source(aggregate(table)))
    source  bass  vocals  mean
    fusion
    mean     6.0     7.5  6.75
    """
    rows = table[table["metric"] == metric]
    if rows.empty:
        raise ScoreError(f"metric {metric!r} was asked for, there are {', '.join(table['metric'].unique())}")
    grid = rows.pivot(index="fusion", columns="source", values=value)
    return grid.loc[rows["fusion"].unique(), source_order(rows["source"])]
