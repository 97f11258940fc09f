"""The report's tables: scores, gains over the best separator and the best of each source, dropped frames.

Two baselines, one name each: the *best separator* has the best mean over sources, one for all of them; the *best of
each source* takes for every source the separator that is best at it. Both are chosen on the very scores that they are
compared on, so that gains over them are rather too small.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stemfuse.analysis.aggregates import MEAN
from stemfuse.analysis.picks import with_best_per_source
from stemfuse.analysis.reasons import method_notes
from stemfuse.analysis.scores import SONG_SDR
from stemfuse.analysis.significance import FEWEST_TRACKS, compare
from stemfuse.experiments.run import Run
from stemfuse.separators.labels import BEST_PER_SOURCE

from .data_sets import DataSetScores, score_grid, scored_data

OVER_BEST, OVER_PICK = "over best separator", "over best of each source"
"""Columns of gains of the mean over sources."""


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """All methods of a data set by one metric.

    The four metrics are the median of a track's frames and the median of tracks, the whole-song SDR is the mean over
    songs, as in the 2021 challenge.
    """

    metric: str
    grid: pd.DataFrame
    """One row per method, one column per source and one for their mean, in dB."""
    best: pd.Series[float]
    """Of the separators that have all songs, per column."""
    partial: Mapping[str, tuple[pd.DataFrame, pd.Series[float]]]
    """By method that lacks songs, the grid and the best of the songs that it has."""
    fusions: tuple[str, ...]
    dropped: pd.Series[int]
    """Frames without a finite value, by the method they come from."""
    frames: int
    kept: int
    sources: tuple[str, ...]
    """That the mean is over; see `DataSetScores.averaged`."""
    notes: Mapping[str, str]
    """By method, why a value is missing, and what the mean is over where it is not over all sources."""

    @classmethod
    def of(cls, data: DataSetScores, metric: str) -> ScoreTable:
        """The table of one metric; it is made once."""
        made: dict[str, ScoreTable] = data.tables
        if metric not in made:
            made[metric] = cls._made(data, metric)
        return made[metric]

    @classmethod
    def _made(cls, data: DataSetScores, metric: str) -> ScoreTable:
        rows = data.masked[data.masked["metric"] == metric]
        averaged = data.averaged(metric)
        grid = score_grid(rows, data.methods, metric, averaged)
        singles = [method for method in data.complete if method not in data.fusions]
        partial = {}
        for method in (name for name in grid.index if name not in data.complete):
            own = rows[rows["track"].isin(rows.loc[rows["fusion"] == method, "track"])]
            part = score_grid(own[own["fusion"].isin([method, *singles])], data.methods, metric, averaged)
            partial[str(method)] = part, part[part.index.isin(singles)].max()
        dropped = data.dropped[data.dropped["metric"] == metric]
        notes = method_notes(data.scores, data.masked, metric, averaged)
        notes = {method: "; ".join(filter(None, (note, data.said.get(method)))) for method, note in notes.items()}
        best = grid[grid.index.isin(singles)].max()
        for method, reason in _without_gain(grid, best, partial, bool(singles), data):
            notes[method] = "; ".join(filter(None, (notes.get(method), reason)))
        counts = dropped.groupby(["fusion", "source"])[["frames", "own", "kept"]].sum()
        return cls(
            metric,
            grid,
            best,
            partial,
            data.fusions,
            counts["own"].groupby("fusion").max(),
            int(counts["frames"].to_numpy().max()),
            int(counts["kept"].to_numpy().max()),
            averaged,
            notes,
        )

    @property
    def said(self) -> dict[str, list[str]]:
        """By note, the methods that it is about: what several share is said once."""
        found: dict[str, list[str]] = {}
        for method, note in self.notes.items():
            if note:
                found.setdefault(note, []).append(method)
        return found

    @property
    def name(self) -> str:
        """The metric's name in words."""
        return "whole-song SDR" if self.metric == SONG_SDR else self.metric

    @property
    def best_fusion(self) -> str:
        """The fusion with the best mean; empty when none has one."""
        means = self.grid.loc[self.grid.index.isin(self.fusions), MEAN].dropna()
        return str(means.idxmax()) if len(means) else ""

    @property
    def best_two(self) -> tuple[str, str]:
        """The two fusions with the best means; empty where there are fewer."""
        means = (
            self.grid.loc[self.grid.index.isin(self.fusions), MEAN].dropna().sort_values(ascending=False, kind="stable")
        )
        first, second = [*map(str, means.index), "", ""][:2]
        return first, second

    @property
    def best_single(self) -> str:
        """The separator with the best mean; empty when none has all of `sources` and all songs."""
        means = self.grid[MEAN].drop(labels=[*self.fusions, *self.partial], errors="ignore").dropna()
        return str(means.idxmax()) if len(means) else ""

    @property
    def winner(self) -> str:
        """The method with the best mean; empty when none has all of `sources` and all songs."""
        means = self.grid[MEAN].drop(labels=list(self.partial)).dropna()
        return str(means.idxmax()) if len(means) else ""

    @property
    def averaged_in_words(self) -> str:
        """What the mean is over: the sources by name where there are others."""
        others = {*map(str, self.grid)} - {MEAN, *self.sources}
        return ", ".join(self.sources) if others else "sources"

    def has_gain(self, method: str) -> bool:
        """Whether there are separators to compare a method with in the mean over sources."""
        return bool(np.isfinite(self.gain_over_pick(method)))

    def gain(self, method: str, column: str) -> float:
        """How far a method is above the best separator of a column, on the songs that the method has."""
        grid, best = self.partial.get(method, (self.grid, self.best))
        return float(grid.loc[method, column] - best[column])  # type: ignore[operator, arg-type]

    def gain_over_pick(self, method: str) -> float:
        """How far a method's mean is above that of the best separator of each source, on the method's songs."""
        grid, best = self.partial.get(method, (self.grid, self.best))
        pick = float(best[list(self.sources)].mean(skipna=False))
        return float(grid.loc[method, MEAN]) - pick  # type: ignore[arg-type]

    def to_frame(self) -> pd.DataFrame:
        """The table as it is printed: method, the scores, both gains, dropped frames."""
        table = self.grid.rename_axis(index="method", columns=None)
        methods = list(map(str, table.index))
        table[OVER_BEST] = [self.gain(method, MEAN) for method in methods]
        table[OVER_PICK] = [self.gain_over_pick(method) for method in methods]
        for source in (column for column in map(str, self.grid) if column != MEAN):
            table[f"{source} gain"] = [self.gain(method, source) for method in methods]
        table["dropped"] = self.dropped.reindex(methods)
        table["note"] = [self.notes.get(method, "") for method in methods]
        return table.reset_index()


def _without_gain(
    grid: pd.DataFrame,
    best: pd.Series[float],
    partial: Mapping[str, tuple[pd.DataFrame, pd.Series[float]]],
    has_singles: bool,
    data: DataSetScores,
) -> Iterator[tuple[str, str]]:
    """By method, why it has scores but no gains: nothing to compare with."""
    if not has_singles:
        if len(data.fusions) < len(data.methods):
            yield from ((method, "no gain: no separator has all songs") for method in map(str, grid.index))
        return
    for method in map(str, grid.index):
        own, others = partial.get(method, (grid, best))
        values = own.loc[method].drop(MEAN)
        lost = [str(source) for source, value in values.items() if np.isfinite(value) and np.isnan(others[str(source)])]
        if lost:
            songs = "" if len(data.complete) == len(data.methods) else " in all songs"
            yield method, f"no gain of {', '.join(lost)}: no separator has it{songs}"


def score_tables(
    run_folder: str | os.PathLike[str], scored: Iterable[DataSetScores] | None = None
) -> list[tuple[str, pd.DataFrame]]:
    """The tables that the report begins with: title and table of every data set, by the median SDR.

    Parameters
    ----------
    run_folder : path-like
        A run's folder.
    scored : iterable of DataSetScores, optional
        Its scores, where they have been read already.

    Returns
    -------
    list of (str, DataFrame)
        Columns method, the sources, mean, over best separator, over best of each source, the gain over the best
        separator of each source (all dB), dropped (frames), note; ``attrs["songs"]`` names the tracks,
        ``<subset>/<track>``.

    Raises
    ------
    StemfuseError
        The folder is no run, or its scores cannot be read.
    """
    tables = []
    for data in scored_data(Run.open(run_folder)) if scored is None else scored:
        table = ScoreTable.of(data, data.metrics[0])
        kind = f" ({data.kind})" if data.kind else ""
        extent = f"{counted(len(data.tracks), 'track')}, {table.kept} of {counted(table.frames, 'frame')}"
        tables.append((f"{data.label or 'scores'}{kind}: {table.metric} in dB, {extent}", _with_songs(table, data)))
    return tables


def _with_songs(table: ScoreTable, data: DataSetScores) -> pd.DataFrame:
    frame = table.to_frame()
    frame.attrs["songs"] = ["/".join(filter(None, (track.subset, track.name))) for track in data.tracks]
    return frame


class Comparison(NamedTuple):
    """Fusions against one baseline, paired by track."""

    baseline: str
    rows: pd.DataFrame
    """What `compare` gave."""

    @property
    def means(self) -> list[Any]:
        """Rows of the mean over sources."""
        return self.rows[self.rows["source"] == MEAN].to_dict("records")

    @property
    def sources(self) -> list[Any]:
        """Rows of the sources."""
        return self.rows[self.rows["source"] != MEAN].to_dict("records")


def comparisons(data: DataSetScores) -> list[Comparison]:
    """Every fusion against the best separator and against the best of each source.

    Empty when there are fewer than `FEWEST_TRACKS` tracks, no fusion, or no separator with a score.
    """
    table = ScoreTable.of(data, data.metrics[0])
    rows = data.masked[(data.masked["metric"] == table.metric) & data.masked["value"].notna()]
    singles = [method for method in data.complete if method not in data.fusions and method in set(rows["fusion"])]
    if not singles or not set(data.fusions) & set(rows["fusion"]) or rows["track"].nunique() < FEWEST_TRACKS:
        return []
    picked = with_best_per_source(rows, singles, table.metric)
    return [
        Comparison(baseline, compare(picked[picked["fusion"].isin([baseline, *data.fusions])], baseline, table.metric))
        for baseline in (table.best_single, BEST_PER_SOURCE)
        # of perfect separators no value counts
        if baseline in set(picked["fusion"])
    ]


def dropped_frames(data: DataSetScores) -> Iterator[tuple[str, int, int, str]]:
    """Track, its frames, how many count, and which methods dropped how many; tracks without a loss are left out."""
    rows = data.dropped[data.dropped["metric"] == data.metrics[0]]
    for track, group in rows.groupby("track", sort=False):
        own = group.groupby("fusion", sort=False)["own"].max()
        kept, frames = int(group["kept"].min()), int(group["frames"].max())
        if kept < frames:
            yield str(track), frames, kept, ", ".join(f"{method} {count}" for method, count in own.items() if count)


def decibels(value: float, signed: bool = False) -> str:
    """A number as the page prints it: two decimals, a true minus, a dash for NaN.

    Examples
    --------
    >>> decibels(-0.426), decibels(0.12, signed=True), decibels(-0.001), decibels(float("nan"))
    ('−0.43', '+0.12', '0.00', '–')
    >>> decibels(float("inf"), signed=True), decibels(float("-inf"))
    ('+∞', '−∞')
    """
    if np.isnan(value):
        return "–"
    return format(value, "+z.2f" if signed else "z.2f").replace("-", "−").replace("inf", "∞")


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    Examples
    --------
    >>> counted(1, "track"), counted(3, "track")
    ('1 track', '3 tracks')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
