"""One number per method and source: the field's ways to summarise frames and tracks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd

from stemfuse.separators import SOURCES
from stemfuse.separators.source_names import REST
from stemfuse.separators.sources import without_sums

from .errors import ScoreError
from .scores import WHOLE_SONG, check_scores

OverFrames = Literal["median", "mean", "song"]
OverTracks = Literal["median", "mean", "pooled"]

MEAN = "mean"
"""Source name of the rows that hold the mean over sources."""

SUMS = (REST, "linear_mixture")
"""musdb's targets that are sums of sources: scored, but left out of the mean over sources beside their parts."""


def track_scores(scores: pd.DataFrame, over_frames: OverFrames = "median") -> pd.DataFrame:
    """One value per track, fusion, source and metric: the unit of paired comparisons.

    Parameters
    ----------
    scores : DataFrame
        A score table, see `check_scores`.
    over_frames : {"median", "mean", "song"}
        Median or mean of a track's frames, or its whole-song value (frame -1). Frames that are not finite are
        left out, as in museval, whose files have only NaN; a track without any finite frame is NaN.

    Returns
    -------
    DataFrame
        Columns track, fusion, source, metric, value; frames (that the value is computed from), dropped (left out).

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
    finite = _finite_values(check_scores(scores), over_frames)
    values = finite.groupby(["track", "fusion", "source", "metric"], sort=False)["value"]
    statistic = "mean" if over_frames == "song" else over_frames
    table = values.agg(value=statistic, frames="count", rows="size").reset_index()
    return table.assign(dropped=table["rows"] - table["frames"]).drop(columns="rows")


def _finite_values(scores: pd.DataFrame, over_frames: str) -> pd.DataFrame:
    """Rows of frames or of whole songs, NaN where not finite."""
    if over_frames not in ("median", "mean", "song"):
        raise ScoreError(f"got over_frames={over_frames!r}, expected 'median', 'mean' or 'song'")
    whole = scores["frame"] == WHOLE_SONG
    rows = scores[whole if over_frames == "song" else ~whole]
    if rows.empty:
        wanted, other = ("whole-song", "frame") if over_frames == "song" else ("frame", "whole-song")
        raise ScoreError(
            f"the table has no {wanted} values, which over_frames={over_frames!r} needs; "
            f"its {other} metrics are {', '.join(scores['metric'].unique()) or 'none'}"
        )
    return rows.assign(value=rows["value"].where(np.isfinite(rows["value"])))


def aggregate(
    scores: pd.DataFrame, over_frames: OverFrames = "median", over_tracks: OverTracks = "median"
) -> pd.DataFrame:
    """Score of every method, per source and in the mean over sources.

    =========== =========== ======================================================================================
    over_frames over_tracks convention
    =========== =========== ======================================================================================
    median      median      museval's and SiSEC 2018's; the papers' default
    mean        mean        museval's other one; median and mean may be mixed
    median      pooled      median over all frames of all tracks (numbers with a dagger in papers)
    song        mean        whole-song SDR of the Music Demixing Challenge 2021
    =========== =========== ======================================================================================

    Methods are scored on the frames that the table has: apply `common_mask` first when they are to be compared.

    Parameters
    ----------
    scores : DataFrame
        A score table, see `check_scores`.
    over_frames : {"median", "mean", "song"}
        How the frames of a track become one value, see `track_scores`.
    over_tracks : {"median", "mean", "pooled"}
        How tracks become one value; ``"pooled"`` applies ``over_frames`` to all frames of all tracks at once. Tracks
        that are NaN are left out, as in museval's ``MethodStore``.

    Returns
    -------
    DataFrame
        Columns fusion, source, metric, value; tracks and frames (that the value is computed from), dropped (frames
        that were left out). One more row per fusion and metric, source `MEAN`, has the mean of the values of the
        `common_sources`, which all fusions have; its counts are the worst of its sources.

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
    if over_tracks not in ("median", "mean", "pooled"):
        raise ScoreError(f"got over_tracks={over_tracks!r}, expected 'median', 'mean' or 'pooled'")
    if over_tracks == "pooled":
        if over_frames == "song":
            raise ScoreError("over_frames='song' has no frames to pool; expected over_tracks='mean' or 'median'")
        rows = _finite_values(check_scores(scores), over_frames)
        known = rows["value"].notna()
        units, statistic = rows.assign(frames=known.astype(int), dropped=(~known).astype(int)), over_frames
    else:
        units, statistic = track_scores(scores, over_frames), over_tracks
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
    """Add the rows of the mean over sources, and sort by method, metric and source."""
    common = {metric: common_sources(rows) for metric, rows in table.groupby("metric", sort=False)}
    counted = [source in common[metric] for source, metric in zip(table["source"], table["metric"], strict=True)]
    parts = table[counted]
    means = (
        parts.groupby(["fusion", "metric"], sort=False)
        .agg(
            value=("value", lambda values: values.mean(skipna=False)),
            tracks=("tracks", "min"),
            frames=("frames", "min"),
            dropped=("dropped", "max"),
        )
        .reset_index()
        .assign(source=MEAN)
    )
    both = pd.concat([table, means], ignore_index=True)
    ranks = {name: {value: rank for rank, value in enumerate(both[name].unique())} for name in ("fusion", "metric")}
    ranks["source"] = {value: rank for rank, value in enumerate(source_order(both["source"]))}
    both = both.sort_values(list(ranks), key=lambda column: column.map(ranks[str(column.name)]), ignore_index=True)
    return both[["fusion", "source", "metric", "value", "tracks", "frames", "dropped"]]


def common_sources(values: pd.DataFrame) -> tuple[str, ...]:
    """Sources that the mean is over: those of which all methods have a value, without sums of others.

    Methods without any value do not count.

    Parameters
    ----------
    values : DataFrame
        Of one metric, with columns fusion, source and value; rows of `MEAN` do not count.

    Examples
    --------
    >>> rows = [("a", "bass", 5.0), ("a", "vocals", 8.0), ("b", "vocals", 6.0), ("c", "bass", float("nan"))]
    >>> common_sources(pd.DataFrame(rows, columns=["fusion", "source", "value"]))
    ('vocals',)
    """
    known = values[np.isfinite(values["value"]) & (values["source"] != MEAN)]
    having = [set(rows["source"]) for _, rows in known.groupby("fusion", sort=False)]
    named = [source for source in source_order(values["source"]) if source not in (MEAN, "linear_mixture")]
    every = without_sums(named)
    return tuple(source for source in every if having and all(source in sources for sources in having))


def source_order(sources: Iterable[str]) -> list[str]:
    """Sources in the papers' order, others after them, their mean at the end.

    Examples
    --------
    >>> source_order(["mean", "vocals", "accompaniment", "drums"])
    ['drums', 'vocals', 'accompaniment', 'mean']
    """
    given = list(dict.fromkeys(sources))
    first = [source for source in SOURCES if source in given]
    last = [source for source in (MEAN,) if source in given]
    return first + [source for source in given if source not in (*first, *last)] + last


def by_source(table: pd.DataFrame, metric: str = "SDR", value: str = "value") -> pd.DataFrame:
    """Grid of one row per fusion and one column per source, from `aggregate`'s or `compare`'s table.

    Parameters
    ----------
    table : DataFrame
        With columns fusion, source, metric and the one to show.
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
        raise ScoreError(f"got metric {metric!r}, expected one of {', '.join(table['metric'].unique())}")
    grid = rows.pivot(index="fusion", columns="source", values=value)
    return grid.loc[rows["fusion"].unique(), source_order(rows["source"])]
