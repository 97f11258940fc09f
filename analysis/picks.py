"""Picks: the best separator, the best of each source, and the fusion that the other songs would pick."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from stemfuse.separators.labels import BEST_PER_SOURCE as BEST_PER_SOURCE

from .aggregates import OverFrames, OverTracks, aggregate, common_sources, source_order, track_scores
from .errors import ScoreError
from .scores import check_scores

LEFT_OUT_PICK = "picked on the other songs"
"""The pseudo-method that scores each song by the method that is best on all others."""


def best_single(
    scores: pd.DataFrame,
    singles: Sequence[str],
    metric: str = "SDR",
    over_frames: OverFrames = "median",
    over_tracks: OverTracks = "median",
) -> pd.DataFrame:
    """The best separator, of each source and in the mean over sources.

    Parameters
    ----------
    scores : DataFrame
        A score table, masked by `common_mask`.
    singles : sequence of str
        The methods that are single separators; the first wins a tie.
    metric, over_frames, over_tracks
        See `aggregate`.

    Returns
    -------
    DataFrame
        Columns source, fusion, value; the row of source `MEAN` is the best separator overall, among those that have
        every source. Sources for which no separator has a value are left out.

    Raises
    ------
    ScoreError
        A separator or the metric is not in the table.

    Examples
    --------
    >>> from stemfuse.analysis.scores import scores_table
    >>> table = pd.concat([
    ...     scores_table("song", "one", ["bass", "vocals"], {"SDR": [[5.0], [8.0]]}),
    ...     scores_table("song", "two", ["bass", "vocals"], {"SDR": [[6.0], [6.0]]}),
    ... ])
    >>> print(best_single(table, ["one", "two"]).to_string(index=False))
    source fusion  value
      bass    two    6.0
    vocals    one    8.0
      mean    one    6.5
    """
    scores = check_scores(scores)
    rows = scores[scores["metric"] == metric]
    absent = [name for name in singles if name not in set(rows["fusion"])]
    if absent or not singles:
        found = ", ".join(rows["fusion"].unique()) or "no method"
        raise ScoreError(f"got single separators {list(singles)}, expected names among those with {metric}: {found}")
    values = aggregate(rows[rows["fusion"].isin(singles)], over_frames, over_tracks).dropna(subset="value")
    values = values.sort_values("fusion", key=lambda names: names.map(list(singles).index), kind="stable")
    best = values.loc[values.groupby("source", sort=False)["value"].idxmax()].set_index("source")
    return best.loc[source_order(best.index), ["fusion", "value"]].reset_index()


def with_best_per_source(
    scores: pd.DataFrame,
    singles: Sequence[str],
    metric: str = "SDR",
    over_frames: OverFrames = "median",
    over_tracks: OverTracks = "median",
) -> pd.DataFrame:
    """Add the pseudo-method `BEST_PER_SOURCE`: the best of each source, the scores of the separator that is best at it.

    It is the strictest baseline: it is chosen by the scores that it is then compared on, so that the gain over it is
    rather too small than too large. Parameters and errors are those of `best_single`.

    Examples
    --------
    >>> from stemfuse.analysis.scores import scores_table
    >>> table = pd.concat([
    ...     scores_table("song", "one", ["bass", "vocals"], {"SDR": [[5.0], [8.0]]}),
    ...     scores_table("song", "two", ["bass", "vocals"], {"SDR": [[6.0], [6.0]]}),
    ... ])
    >>> table = with_best_per_source(table, ["one", "two"])
    >>> table.loc[table["fusion"] == BEST_PER_SOURCE, "value"].to_list()
    [8.0, 6.0]
    """
    best = best_single(scores, singles, metric, over_frames, over_tracks)
    picked = check_scores(scores).merge(best[["source", "fusion"]], on=["source", "fusion"])
    return check_scores(pd.concat([scores, picked.assign(fusion=BEST_PER_SOURCE)], ignore_index=True))


def with_left_out_pick(
    scores: pd.DataFrame,
    methods: Sequence[str],
    metric: str = "SDR",
    over_frames: OverFrames = "median",
    over_tracks: Literal["median", "mean"] = "median",
) -> pd.DataFrame:
    """Add the pseudo-method `LEFT_OUT_PICK`: for each track the scores of the method that is best on all other tracks.

    The best of several methods is picked by the scores that it then has, so that its gain is rather too large than too
    small. Here no track has a say in what it is scored by: the gain is that of picking, not of luck.

    Parameters
    ----------
    scores : DataFrame
        A score table, masked by `common_mask`.
    methods : sequence of str
        The methods that are picked from; the first wins a tie.
    metric, over_frames, over_tracks
        See `aggregate`; what is best is decided by the mean over the sources that all these methods have.

    Returns
    -------
    DataFrame
        The table with the rows of the pick; without them where fewer than two tracks, or no method, have a score.

    Examples
    --------
    >>> from stemfuse.analysis.scores import scores_table
    >>> table = pd.concat(
    ...     scores_table(f"song {number}", name, ["bass"], {"SDR": [[value]]})
    ...     for number, pair in enumerate([(1.0, 9.0), (2.0, 1.0), (3.0, 2.0)])
    ...     for name, value in zip(("a", "b"), pair)
    ... )
    >>> picked = with_left_out_pick(table, ["a", "b"])
    >>> picked.loc[picked["fusion"] == LEFT_OUT_PICK, "value"].to_list()
    [1.0, 1.0, 2.0]
    """
    scores = check_scores(scores)
    own = scores[(scores["metric"] == metric) & scores["fusion"].isin(list(methods))]
    by_track = track_scores(own, over_frames)
    sources = common_sources(by_track)
    wide = by_track[by_track["source"].isin(sources)].pivot(index="track", columns=["fusion", "source"], values="value")
    chosen: dict[str, str] = {}
    center = np.nanmedian if over_tracks == "median" else np.nanmean
    for track in wide.index:
        others = wide.drop(index=track)
        if others.empty:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a method may have no other track
            values = pd.Series(center(others.to_numpy(), axis=0), index=wide.columns)
        means = values.unstack("source").mean(axis=1, skipna=False).reindex(list(methods)).dropna()
        if len(means):
            chosen[str(track)] = str(means.idxmax())
    picked = own[own["fusion"] == own["track"].map(chosen)]
    return check_scores(pd.concat([scores, picked.assign(fusion=LEFT_OUT_PICK)], ignore_index=True))
