"""Track by track: how far the best fusion is above the best separator, and the seconds that differ most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stemfuse.analysis.aggregates import MEAN
from stemfuse.analysis.scores import SONG_SDR
from stemfuse.separators.labels import BEST_PER_SOURCE

from .data_sets import DataSetScores

SECONDS = 3
"""So many are named of each track."""

APART_DB = 0.5
"""Seconds that differ by less are not worth listening to."""


def song_rows(
    data: DataSetScores, sources: Sequence[str], best: str, others: Sequence[str], hop_s: float
) -> list[dict[str, Any]]:
    """One row per track: its values, and where two methods differ.

    Parameters
    ----------
    data : DataSetScores
        Of a run.
    sources : sequence of str
        That the means are over.
    best : str
        The method that is compared with the others.
    others : sequence of str
        What it is compared with, the best separator first; pseudo-methods are left out.
    hop_s : float
        Time between frames.

    Returns
    -------
    list of dict
        ``track`` (TrackRecord), ``values`` (mean over sources by method), ``gain`` (of the best over the first other),
        ``seconds``: by other, dicts of `_seconds_of`.
    """
    metric = data.metrics[0]
    values = {
        (track, method): float(np.mean(list(group.values())))
        for (track, method), group in _by_source(data.by_track(), sources).items()
        if set(group) == set(sources)
    }
    rivals = [other for other in others if other and other not in (best, BEST_PER_SOURCE)]
    frames = data.masked[
        (data.masked["metric"] == metric)
        & data.masked["fusion"].isin([best, *rivals])
        & data.masked["source"].isin(list(sources))
        & (data.masked["frame"] >= 0)
    ]
    wide = (
        frames.pivot(index=["track", "source", "frame"], columns="fusion", values="value")
        if metric != SONG_SDR
        else pd.DataFrame()
    )
    rows = []
    for track in data.tracks:
        own = {method: values[track.shown, method] for method in data.methods if (track.shown, method) in values}
        first = rivals[0] if rivals else ""
        gain = own[best] - own[first] if best in own and first in own else float("nan")
        seconds = {rival: list(_seconds_of(wide, track.shown, best, rival, hop_s)) for rival in rivals}
        rows.append({"track": track, "values": own, "gain": gain, "seconds": seconds})
    return rows


def _by_source(
    by_track: Mapping[tuple[str, str, str], float], sources: Sequence[str]
) -> dict[tuple[str, str], dict[str, float]]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for (track, method, source), value in by_track.items():
        if source in sources and source != MEAN and np.isfinite(value):
            found.setdefault((track, method), {})[source] = value
    return found


def _seconds_of(wide: pd.DataFrame, track: str, best: str, rival: str, hop_s: float) -> Iterator[dict[str, Any]]:
    """Seconds of a track in which a source differs most: start_s, source and how far the best is above, in dB."""
    if not {best, rival} <= set(wide) or track not in wide.index.get_level_values("track"):
        return
    own = wide.loc[track]
    apart = (own[best] - own[rival]).replace([np.inf, -np.inf], np.nan).dropna()
    heard: set[int] = set()
    for source, frame in apart.abs().sort_values(ascending=False, kind="stable").index:
        if len(heard) == SECONDS or abs(apart[source, frame]) < APART_DB:
            return
        if frame in heard:
            continue
        heard.add(frame)
        yield {"start_s": frame * hop_s, "source": source, "apart_db": float(apart[source, frame])}
