"""Runs beside each other: what one gains over the other on the songs that both have scored, and what differs in how."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stemfuse.analysis import common_mask, compare
from stemfuse.analysis.aggregates import MEAN
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.record import TrackRecord
from stemfuse.experiments.run import Run
from stemfuse.separators import StemfuseError, whole_file

from .charts import interval_bars
from .data_sets import DataSetScores, scored_data
from .page import rendered
from .tables import ScoreTable

GENERATOR = "stemfuse comparison of runs"
"""In the page's head: such a page may be written again, any other file is somebody's."""

UNSHARED = ("out", "store", "workers", "players")
"""Settings that change no score."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """A data set of the first run beside that of another.

    Attributes
    ----------
    name : str
        Of the other run.
    label : str
        Of the data set.
    songs : int
        That both have scored.
    best : Row
        The row of `compare` of the other's best fusion over the first's; empty where one has none.
    methods : tuple of Row
        Of each method that both have, the other's over the first's, with the places of its interval.
    by_song : tuple of (str, float, float)
        Song, and the value of the best fusion of the first and of the other.
    note : str
        Why there is nothing to compare; else empty.
    """

    name: str
    label: str
    songs: int
    best: Row
    methods: tuple[Row, ...]
    by_song: tuple[tuple[str, float, float], ...]
    note: str = ""


def write_comparison(folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Write a page that compares runs: the first one with each other.

    Songs are the same where their mixtures are; all methods of both runs are compared on frames that all of them have.

    Parameters
    ----------
    folders : sequence of path-like
        Of two or more runs.
    out : path-like
        The page; one that this function has written is written again.

    Returns
    -------
    Path
        The page; it needs nothing beside it.

    Raises
    ------
    RunError
        There are fewer than two runs, one is no run, or the file is somebody else's.
    """
    if len(folders) < 2:
        raise RunError(f"got {len(folders)} run, expected two or more to compare")
    page = Path(out)
    if page.exists() and GENERATOR not in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise RunError(f"{page}: is there, and is no comparison; choose another file with --out")
    runs = [Run.open(folder) for folder in folders]
    names = _names(runs)
    scored = [list(scored_data(run)) for run in runs]
    compared = [
        found
        for name, other in zip(names[1:], scored[1:], strict=True)
        for found in _compared(names[0], scored[0], name, other)
    ]
    view = {
        "generator": GENERATOR,
        "names": names,
        "folders": [str(run.path) for run in runs],
        "compared": compared,
        "settings": list(_differences(runs)),
    }
    with whole_file(page, "choose another file with --out", RunError) as temporary:
        temporary.write_text(rendered("comparison.html.j2", view), encoding="utf-8")
    return page


def _names(runs: Sequence[Run]) -> list[str]:
    """Short names that differ: the ends of their paths."""
    paths = [run.path.resolve().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(parts)} ({number})" for number, parts in enumerate(paths, start=1)]


def _who(track: TrackRecord) -> str:
    """What makes two songs the same: their mixtures; where these are not on record, subset and name."""
    return track.mixture_sha256 or f"{track.subset}/{track.name}"


def _compared(
    first_name: str, first: Sequence[DataSetScores], name: str, other: Sequence[DataSetScores]
) -> Iterator[Compared]:
    """Every pair of data sets with songs in common; one with a note where there is none."""
    found = False
    for ours in first:
        for theirs in other:
            shared = {_who(track) for track in ours.tracks} & {_who(track) for track in theirs.tracks}
            if shared:
                found = True
                yield _pair(ours, theirs, name, shared)
    if not found:
        yield Compared(name, "", 0, {}, (), (), f"{first_name} and {name} have no scored song in common")


def _pair(ours: DataSetScores, theirs: DataSetScores, name: str, shared: set[str]) -> Compared:
    """Two data sets on the songs and frames that both have."""
    metric = ours.metrics[0]
    if metric != theirs.metrics[0]:
        note = f"scored by {metric} and by {theirs.metrics[0]}: nothing to compare"
        return Compared(name, ours.label, len(shared), {}, (), (), note)
    bests = [ScoreTable.of(data, metric).best_fusion for data in (ours, theirs)]
    both = [method for method in theirs.methods if method in ours.methods]
    wanted = [{*both, best} for best in bests]
    named = {_who(track): track.shown for track in ours.tracks}
    table = pd.concat(
        [
            _renamed(data, metric, side, methods, named, shared)
            for side, data, methods in zip("AB", (ours, theirs), wanted, strict=True)
        ],
        ignore_index=True,
    )
    masked, _ = common_mask(table)
    best = _row(masked, f"A:{bests[0]}", f"B:{bests[1]}", metric) if all(bests) else {}
    rows = [_row(masked, f"A:{method}", f"B:{method}", metric) for method in both]
    pieces = {**best, "first": bests[0], "other": bests[1]} if best else {}
    by_song = tuple(_by_song(masked, f"A:{bests[0]}", f"B:{bests[1]}")) if best else ()
    return Compared(
        name, ours.label, masked["track"].nunique(), pieces, tuple(interval_bars([row for row in rows if row])), by_song
    )


def _renamed(
    data: DataSetScores, metric: str, side: str, methods: set[str], named: Mapping[str, str], shared: set[str]
) -> pd.DataFrame:
    """Scores of some methods, of shared songs by the names of the first run, with the run before the method's name."""
    songs = {track.shown: named[_who(track)] for track in data.tracks if _who(track) in shared}
    rows = data.scores[
        (data.scores["metric"] == metric) & data.scores["fusion"].isin(methods) & data.scores["track"].isin(songs)
    ]
    return rows.assign(track=rows["track"].map(songs), fusion=f"{side}:" + rows["fusion"].astype(str))


def _row(scores: pd.DataFrame, baseline: str, method: str, metric: str) -> Row:
    """What `compare` says of the mean over sources; empty where one has no score."""
    own = scores[scores["fusion"].isin([baseline, method])]
    if own["fusion"].nunique() < 2:
        return {}
    rows = compare(own, baseline, metric)
    means = rows[rows["source"] == MEAN]
    if means.empty:
        return {}
    row = {str(name): value for name, value in means.iloc[0].to_dict().items()}
    return row | {"method": method.partition(":")[2]}


def _by_song(scores: pd.DataFrame, first: str, other: str) -> Iterator[tuple[str, float, float]]:
    """Median over frames and mean over sources, by song."""
    own = scores[scores["fusion"].isin([first, other])]
    values = own.groupby(["track", "fusion", "source"], sort=False)["value"].median().unstack("source").mean(axis=1)
    wide = values.unstack("fusion")
    for track, row in wide.iterrows():
        yield str(track), float(row[first]), float(row[other])


def _differences(runs: Sequence[Run]) -> Iterator[tuple[str, list[str]]]:
    """Settings, separators and versions that are not the same in all runs: name, and what each run has."""
    described = [dict(_described(run)) for run in runs]
    for name in dict.fromkeys(name for one in described for name in one):
        values = [one.get(name, "–") for one in described]
        if len(set(values)) > 1:
            yield name, values


def _described(run: Run) -> Iterator[tuple[str, str]]:
    record = run.record()
    try:
        yield from _flat(run.config.model_dump(mode="json", exclude=set(UNSHARED)), "")
    except (StemfuseError, OSError) as error:
        yield "config.yaml", f"cannot be read: {error}"
    for label, separator in record.separators.items():
        yield f"separator {label}, fingerprint", separator.fingerprint[:12]
    for name, version in record.versions.items():
        yield f"version of {name}", version
    yield "commit", (record.commit or "")[:10]


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """A nested setting as dotted names; entries of lists by their label where they have one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        for place, entry in enumerate(value):
            known = entry if isinstance(entry, Mapping) else {}
            yield from _flat(entry, f"{name}[{known.get('label') or known.get('name') or place}]")
    else:
        yield name, str(value)
