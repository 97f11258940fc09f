"""The report's tables: scores with gains over the best single separator, paired intervals, dropped frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stemfuse.analysis.aggregates import MEAN, aggregate, by_source, common_sources, track_scores
from stemfuse.analysis.reasons import method_notes
from stemfuse.analysis.scores import METRICS, SONG_SDR, common_mask
from stemfuse.analysis.significance import FEWEST_TRACKS, best_single, compare, with_best_per_source
from stemfuse.experiments.record import FusionRecord, TrackRecord
from stemfuse.experiments.run import Run
from stemfuse.separators.labels import BEST_PER_SOURCE


@dataclass(frozen=True, eq=False)
class DataSetScores:
    """Scores of one data set of a run, all methods of a song on the same frames."""

    label: str
    real: bool | None
    """Real music or synthetic; None when that is not on record."""
    tracks: tuple[TrackRecord, ...]
    """Their entries in the record."""
    scores: pd.DataFrame
    """As they were scored."""
    masked: pd.DataFrame
    dropped: pd.DataFrame
    """What `common_mask` gave."""
    methods: tuple[str, ...]
    """Single separators, then fusions; of a study, only the cell with the best mean."""
    fusions: tuple[str, ...]
    said: Mapping[str, str]
    """By fusion, what has to be known of its scores."""
    cells: Mapping[str, FusionRecord] = field(default_factory=dict)
    """All scored fusions of studies, by label."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that were scored; the first is what figures and comparisons show."""
        present = set(self.masked["metric"])
        return tuple(metric for metric in (*METRICS, SONG_SDR) if metric in present)

    @property
    def complete(self) -> tuple[str, ...]:
        """Methods that are scored on all songs; the others are compared with them on the songs that they have."""
        songs = self.masked.groupby("fusion")["track"].nunique()
        return tuple(method for method in self.methods if songs.get(method) == len(self.tracks))

    @property
    def kind(self) -> str:
        """In words, whether this is real music."""
        return {True: "real music", False: "synthetic", None: ""}[self.real]

    def by_track(self) -> dict[tuple[str, str, str], float]:
        """The first metric's value of every track, method and source."""
        rows = self.masked[self.masked["metric"] == self.metrics[0]]
        table = track_scores(rows, "song" if self.metrics[0] == SONG_SDR else "median")
        keys = zip(table["track"], table["fusion"], table["source"], strict=True)
        return dict(zip(keys, table["value"].tolist(), strict=True))


def scored_data(run: Run) -> Iterator[DataSetScores]:
    """Every data set of a run that has scores, real music first."""
    if not run.scores_path.is_file():
        return
    scores, record = run.scores(), run.record()
    scores = scores[scores["metric"].isin((*METRICS, SONG_SDR))]
    described = {track.shown: track for track in record.tracks}
    labels = scores["track"].map(lambda name: described[name].data if name in described else "")
    real = {label: data.real for label, data in record.data.items()}
    for label in sorted(labels.unique(), key=lambda label: real.get(label) is False):
        own = scores[labels == label]
        # with missing=refit no song is left out: each method keeps those that it has
        masked, dropped = common_mask(own, common_tracks=record.missing != "refit")
        scored = list(masked["fusion"].unique())
        fusions = [name for name in record.fusions if name in scored]
        singles = [name for name in record.separators if name in scored]
        singles += [name for name in scored if name not in (*singles, *fusions)]
        tracks = tuple(described.get(name, TrackRecord(name=name)) for name in masked["track"].unique())
        cells = {name: record.fusions[name] for name in fusions if record.fusions[name].study}
        best = _best_cells(masked, cells)
        fusions = [name for name in fusions if name not in cells or name in best]
        said = {name: _said_of(record.fusions[name], best.get(name, 0)) for name in fusions}
        methods = (*singles, *fusions)
        yield DataSetScores(label, real.get(label), tracks, own, masked, dropped, methods, tuple(fusions), said, cells)


def _best_cells(masked: pd.DataFrame, cells: Mapping[str, FusionRecord]) -> dict[str, int]:
    """Of every study the cell with the best mean on the songs that are scored, with the number of the study's cells."""
    rows = masked[masked["fusion"].isin(cells)]
    if rows.empty:
        return {}
    metric = next(metric for metric in (*METRICS, SONG_SDR) if metric in set(rows["metric"]))
    means = score_grid(rows[rows["metric"] == metric], list(cells), metric)[1][MEAN].dropna()
    best = {}
    for study in dict.fromkeys(cell.study for cell in cells.values()):
        own = [label for label in map(str, means.index) if cells[label].study == study]
        if own:
            best[str(means[own].idxmax())] = len(own)
    return best


def _said_of(fusion: FusionRecord, cells: int) -> str:
    """What has to be known of a fusion's scores: of the best of a study, that these songs chose it."""
    chosen = f"the best of {cells} cells on these very songs, see the table of {fusion.study}" if cells > 1 else ""
    return "; ".join(filter(None, (fusion.note, chosen)))


def shown_fusions(run: Run) -> tuple[str, ...]:
    """Labels of the fusions that are drawn and played: all, but of a study only the best of its cells."""
    fusions = run.record().fusions
    shown = {name for data in scored_data(run) for name in data.fusions}
    return tuple(name for name, fusion in fusions.items() if not fusion.study or name in shown)


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
    """Of the single separators that have all songs, per column."""
    partial: Mapping[str, tuple[pd.DataFrame, pd.Series[float]]]
    """By method that lacks songs, the grid and the best of the songs that it has."""
    fusions: tuple[str, ...]
    dropped: pd.Series[int]
    """Frames without a finite value, by the method they come from."""
    frames: int
    kept: int
    sources: tuple[str, ...]
    """That the mean is over: those that all methods have."""
    notes: Mapping[str, str]
    """By method, why a value is missing, and what the mean is over where not all have the same sources."""

    @classmethod
    def of(cls, data: DataSetScores, metric: str) -> ScoreTable:
        """The table of one metric."""
        rows = data.masked[data.masked["metric"] == metric]
        table, grid = score_grid(rows, data.methods, metric)
        singles = [method for method in data.complete if method not in data.fusions]
        partial = {}
        for method in (name for name in grid.index if name not in data.complete):
            own = rows[rows["track"].isin(rows.loc[rows["fusion"] == method, "track"])]
            part = score_grid(own[own["fusion"].isin([method, *singles])], data.methods, metric)[1]
            partial[str(method)] = part, part[part.index.isin(singles)].max()
        dropped = data.dropped[data.dropped["metric"] == metric]
        notes = method_notes(data.scores, data.masked, metric)
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
            common_sources(table),
            notes,
        )

    @property
    def name(self) -> str:
        """The metric's name in words."""
        return "whole-song SDR" if self.metric == SONG_SDR else self.metric

    @property
    def best_single(self) -> str:
        """The single separator with the best mean; empty when none has every source and all songs."""
        means = self.grid[MEAN].drop(labels=[*self.fusions, *self.partial], errors="ignore").dropna()
        return str(means.idxmax()) if len(means) else ""

    @property
    def winner(self) -> str:
        """The method with the best mean; empty when none has every source and all songs."""
        means = self.grid[MEAN].drop(labels=list(self.partial)).dropna()
        return str(means.idxmax()) if len(means) else ""

    def gain(self, method: str, column: str) -> float:
        """How far a method is above the best single separator of a column, on the songs that the method has."""
        grid, best = self.partial.get(method, (self.grid, self.best))
        return float(grid.loc[method, column] - best[column])  # type: ignore[operator, arg-type]

    def gain_over_pick(self, method: str) -> float:
        """How far a method's mean is above that of each source's best single separator, on the method's songs."""
        grid, best = self.partial.get(method, (self.grid, self.best))
        pick = float(best[list(self.sources)].mean(skipna=False))
        return float(grid.loc[method, MEAN]) - pick  # type: ignore[arg-type]

    def to_frame(self) -> pd.DataFrame:
        """The table as it is printed: method, the scores, both gains, dropped frames."""
        table = self.grid.rename_axis(index="method", columns=None)
        methods = list(map(str, table.index))
        table["over best single"] = [self.gain(method, MEAN) for method in methods]
        table["over best pick"] = [self.gain_over_pick(method) for method in methods]
        for source in (column for column in map(str, self.grid) if column != MEAN):
            table[f"{source} gain"] = [self.gain(method, source) for method in methods]
        table["dropped"] = self.dropped.reindex(methods)
        table["note"] = [self.notes.get(method, "") for method in methods]
        return table.reset_index()


def score_grid(rows: pd.DataFrame, methods: Sequence[str], metric: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of some rows in the convention of the metric, and as a grid with a column of means, in methods' order."""
    table = aggregate(rows, "song", "mean") if metric == SONG_SDR else aggregate(rows)
    grid = by_source(table, metric)
    grid = grid.loc[[method for method in methods if method in grid.index]]
    if MEAN not in grid:  # no source that all methods have
        grid[MEAN] = np.nan
    return table, grid


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


def score_tables(run_folder: str | os.PathLike[str]) -> list[tuple[str, pd.DataFrame]]:
    """The tables that the report begins with: title and table of every data set, by the median SDR.

    Parameters
    ----------
    run_folder : path-like
        A run's folder.

    Returns
    -------
    list of (str, DataFrame)
        Columns method, the sources, mean, over best single, over best pick, the gain over the best single separator
        of each source (all dB), dropped (frames), note; ``attrs["songs"]`` names the tracks, ``<subset>/<track>``.

    Raises
    ------
    StemfuseError
        The folder is no run, or its scores cannot be read.
    """
    tables = []
    for data in scored_data(Run.open(run_folder)):
        table = ScoreTable.of(data, data.metrics[0])
        kind = f" ({data.kind})" if data.kind else ""
        scored = f"{counted(len(data.tracks), 'track')}, {table.kept} of {counted(table.frames, 'frame')}"
        tables.append((f"{data.label or 'scores'}{kind}: {table.metric} in dB, {scored}", _with_songs(table, data)))
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
    """Every fusion against the best single separator and against the best pick per source.

    Empty when there are fewer than `FEWEST_TRACKS` tracks, no fusion, or no single separator with a score.
    """
    metric = data.metrics[0]
    rows = data.masked[(data.masked["metric"] == metric) & data.masked["value"].notna()]
    singles = [method for method in data.complete if method not in data.fusions and method in set(rows["fusion"])]
    if not singles or not set(data.fusions) & set(rows["fusion"]) or rows["track"].nunique() < FEWEST_TRACKS:
        return []
    picked = with_best_per_source(rows, singles, metric)
    best = best_single(rows, singles, metric).set_index("source")["fusion"]
    return [
        Comparison(baseline, compare(picked[picked["fusion"].isin([baseline, *data.fusions])], baseline, metric))
        for baseline in (*best[best.index == MEAN], BEST_PER_SOURCE)
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
