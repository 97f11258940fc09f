"""Why a value is missing in a table of scores, and what its means are over, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from stemfuse.separators import listed

from .aggregates import common_sources, source_order, track_scores
from .scores import SONG_SDR, WHOLE_SONG


def method_notes(
    scores: pd.DataFrame, masked: pd.DataFrame, metric: str = "SDR", averaged: Sequence[str] | None = None
) -> dict[str, str]:
    """By method, why it has no value of a source, and what the mean over sources is over.

    Parameters
    ----------
    scores : DataFrame
        A score table as it was scored. Silence is told by its whole-song SDR: NaN for a reference without a sound,
        0 dB for an estimate without one.
    masked : DataFrame
        The same table after `common_mask`.
    metric : str
        The metric of the table that the notes are for.
    averaged : sequence of str, optional
        Sources that its mean is over, where those that some methods lack are among them; see `common_sources`.

    Returns
    -------
    dict
        Empty text where nothing has to be said.

    Examples
    --------
    >>> from stemfuse.analysis.scores import common_mask, scores_table
    >>> table = pd.concat([
    ...     scores_table("song", "four", ["bass", "vocals"], {"SDR": [[5.0], [8.0]]}),
    ...     scores_table("song", "voice", ["vocals"], {"SDR": [[6.0]]}),
    ... ])
    >>> method_notes(table, common_mask(table)[0])
    {'four': 'mean: of vocals', 'voice': 'mean: of vocals; gives no bass'}
    """
    rows, kept = (table[table["metric"] == metric] for table in (scores, masked))
    if rows.empty:
        return {}
    values = track_scores(kept, "song" if (kept["frame"] == WHOLE_SONG).all() else "median")
    sources = source_order(values["source"])
    common = common_sources(values) if averaged is None else averaged
    said = (
        "" if set(common) == set(sources) else f"mean: of {listed(common, 20)}" if common else "mean: no common source"
    )
    counts = _counts(scores, values, sources, rows["track"].nunique())
    finite = values[values["value"].notna()].groupby("source")["track"].nunique()
    songs, scored = rows["track"].nunique(), rows.groupby("fusion")["track"].nunique()
    notes = {}
    for method in rows["fusion"].unique():
        has = values[(values["fusion"] == method) & values["value"].notna()]
        reasons = list(
            _reasons(scores, rows, str(method), [name for name in sources if name not in set(has["source"])])
        )
        # a method that lacks one of these has no mean
        mean = [said] if said and len(has) and set(common) <= set(has["source"]) else []
        some = [f"on {scored[method]} of {songs} songs"] if scored[method] < songs else []
        # files that this method alone does not have, or that cannot be read
        own = has.groupby("source")["track"].nunique()
        fewer = [name for name in sources if 0 < own.get(name, 0) < min(finite.get(name, 0), scored[method])]
        some += [f"its {name} in {own[name]} of {scored[method]} songs" for name in fewer]
        notes[str(method)] = "; ".join([*some, *mean, *(counts if len(has) else []), *reasons])
    return notes


def _counts(scores: pd.DataFrame, values: pd.DataFrame, sources: list[str], tracks: int) -> list[str]:
    """Which sources have a value in some songs only, and which references are silent in the others."""
    known = values[values["value"].notna()]
    finite = {source: known.loc[known["source"] == source, "track"].nunique() for source in sources}
    by_count: dict[int, list[str]] = {}
    for source, count in finite.items():
        if 0 < count < tracks:
            by_count.setdefault(count, []).append(source)
    if not by_count:
        return []
    said = [f"{listed(names, 20)} in {count} of {tracks} songs" for count, names in by_count.items()]
    song = scores[scores["metric"] == SONG_SDR].assign(sounds=lambda table: table["value"].notna())
    for source in sources:
        heard = song[song["source"] == source].groupby("track")["sounds"].any()
        if silent := int((~heard).sum()):
            said.append(f"the reference of {source} is silent in {silent} of {tracks} songs")
    return said


def _reasons(scores: pd.DataFrame, rows: pd.DataFrame, method: str, missing: list[str]) -> Iterator[str]:
    """Why a method has no value of some sources."""
    own = rows[rows["fusion"] == method]
    given = set(own["source"])
    if absent := [source for source in missing if source not in given]:
        yield f"gives no {', '.join(absent)}"
    finite = np.isfinite(own["value"])
    lost = [source for source in missing if source in given and not finite[own["source"] == source].any()]
    if dropped := [source for source in missing if source in given and source not in lost]:
        yield f"{', '.join(dropped)}: no frame in which all methods have a value"
    values = {source: own.loc[own["source"] == source, "value"] for source in lost}
    perfect = [source for source, found in values.items() if np.isposinf(found).any()]
    if perfect and len(given) > 1:
        yield f"{listed(perfect, 20)} perfect: its {own['metric'].iloc[0]} is infinite, and counts in no mean"
        lost = [source for source in lost if source not in perfect]
    if not lost:
        return
    if np.isposinf(own.loc[own["source"].isin(lost), "value"]).all() and len(given) == 1:
        yield f"{own['metric'].iloc[0]} needs at least two sources"
        return
    song = scores[(scores["metric"] == SONG_SDR) & (scores["fusion"] == method)]
    by_source = {source: song.loc[song["source"] == source, "value"] for source in source_order(song["source"])}
    silent = [source for source, found in by_source.items() if found.isna().all()]
    empty = [source for source, found in by_source.items() if (found == 0).all()]
    named = [
        f"{what} of {', '.join(which)} is silent in all songs"
        for what, which in (("the reference", silent), ("its estimate", empty))
        if which
    ]
    reason = " and ".join(named) or "in every frame a reference or an estimate is silent"
    yield f"no value of {', '.join(lost)}: {reason}, and BSS Eval leaves such frames out for all sources"
