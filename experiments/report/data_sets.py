"""The scores of a run's data sets: which methods there are, on which songs and frames, and their grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from stemfuse.analysis.aggregates import MEAN, aggregate, by_source, common_sources, source_order, track_scores
from stemfuse.analysis.scores import METRICS, SONG_SDR, common_mask
from stemfuse.experiments.record import FusionRecord, TrackRecord
from stemfuse.experiments.run import Run


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
    tables: dict[str, Any] = field(default_factory=dict, repr=False)
    """By metric, the tables that were made of it: `ScoreTable.of`."""

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

    def sources(self, metric: str) -> tuple[str, ...]:
        """Sources with a score, in their usual order."""
        return tuple(source_order(self.masked.loc[self.masked["metric"] == metric, "source"]))

    def averaged(self, metric: str) -> tuple[str, ...]:
        """Sources that the mean is over: those of all fusions that any separator has; without fusions, of all methods.

        A separator of some sources only does not shrink them: it has no mean where it lacks one.
        """
        values = score_values(self.masked[self.masked["metric"] == metric], metric)
        is_fused = values["fusion"].isin(self.fusions)
        own, others = values[is_fused], values[~is_fused]
        given = set(others.loc[np.isfinite(others["value"]), "source"])
        shared = common_sources(own if np.isfinite(own["value"]).any() else values)
        # where no separator has any of them, there is nothing to compare but the fusions
        return tuple(source for source in shared if source in given) or shared

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
    means = score_grid(rows[rows["metric"] == metric], list(cells), metric)[MEAN].dropna()
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


def shown_fusions(run: Run, scored: Iterable[DataSetScores] | None = None) -> tuple[str, ...]:
    """Labels of the fusions that are drawn and played: all, but of a study only the best of its cells."""
    fusions = run.record().fusions
    if not any(fusion.study for fusion in fusions.values()):
        return tuple(fusions)
    shown = {name for data in (scored_data(run) if scored is None else scored) for name in data.fusions}
    return tuple(name for name, fusion in fusions.items() if not fusion.study or name in shown)


def score_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Scores of some rows in the convention of the metric: whole songs by their mean, the others by medians."""
    return aggregate(rows, "song", "mean") if metric == SONG_SDR else aggregate(rows)


def score_grid(
    rows: pd.DataFrame, methods: Sequence[str], metric: str, averaged: Sequence[str] | None = None
) -> pd.DataFrame:
    """Scores of some rows as a grid, in methods' order, with a column of means over some sources.

    Parameters
    ----------
    averaged : sequence of str, optional
        Sources that the mean is over, NaN for a method that lacks one; those that all methods have when not given.
    """
    grid = by_source(score_values(rows, metric), metric)
    grid = grid.loc[[method for method in methods if method in grid.index]]
    if averaged is not None:
        grid[MEAN] = grid.reindex(columns=list(averaged)).mean(axis=1, skipna=False)
    elif MEAN not in grid:  # no source that all methods have
        grid[MEAN] = np.nan
    return grid
