"""What is compared in a part: one score per song and method, paired, in two conventions; and against whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from stemfuse.analysis import compare, track_scores, with_best_per_source
from stemfuse.analysis.aggregates import MEAN
from stemfuse.analysis.scores import SONG_SDR, check_scores
from stemfuse.separators.labels import BEST_PER_SOURCE

Convention = Literal["median", "mean", "song"]

CONVENTIONS: Mapping[Convention, str] = {
    "median": "median of frames, median of songs",
    "mean": "mean of frames, mean of songs",
    "song": "whole-song SDR, mean of songs",
}
"""How frames and songs become one figure: museval's and the papers', museval's other one, the 2021 challenge's."""

ALL = "all"
"""Name of what a song's score is of, where sources are averaged song by song."""


class Gain(NamedTuple):
    """How far one method is above another, paired by song; NaN where there are too few songs."""

    gain_db: float
    low_db: float
    high_db: float
    songs: int

    @property
    def verdict(self) -> int:
        """1 where the 95 % interval lies above 0, -1 where it lies below, else 0.

        Examples
        --------
        >>> Gain(0.2, 0.1, 0.3, 7).verdict, Gain(0.2, -0.1, 0.5, 7).verdict, Gain(-0.2, -0.3, -0.1, 7).verdict
        (1, 0, -1)
        """
        return int(self.low_db > 0) - int(self.high_db < 0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it.

        Examples
        --------
        >>> Gain(0.2, float("nan"), float("nan"), 2).to_dict()
        {'gain_db': 0.2, 'low_db': None, 'high_db': None, 'songs': 2}
        """
        figures = {"gain_db": self.gain_db, "low_db": self.low_db, "high_db": self.high_db}
        return {**{name: rounded(value) for name, value in figures.items()}, "songs": self.songs}


NO_GAIN = Gain(float("nan"), float("nan"), float("nan"), 0)
"""Where the two have no song in common."""


def rounded(value: float) -> float | None:
    """A figure as it is kept: four digits after the point, None for what is not known.

    Examples
    --------
    >>> rounded(1.23456), rounded(float("nan"))
    (1.2346, None)
    """
    return round(float(value), 4) + 0.0 if np.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class Units:
    """One score per song, method and source of a part, in one convention.

    Where every song has every source, the mean over sources is that of the sources' figures, as in the papers. Where
    songs differ in their sources, it is taken song by song, and then over songs.
    """

    table: pd.DataFrame
    """Columns fusion, track, source, value."""
    singles: tuple[str, ...]
    over: Literal["median", "mean"]

    @classmethod
    def of(cls, masked: pd.DataFrame, singles: Sequence[str], convention: Convention) -> Units:
        """From a score table after `common_mask`.

        Parameters
        ----------
        masked : DataFrame
            A score table.
        singles : sequence of str
            Which methods are single separators.
        convention : str
            One of `CONVENTIONS`.
        """
        metric = SONG_SDR if convention == "song" else "SDR"
        rows = track_scores(masked[masked["metric"] == metric], convention)
        over: Literal["median", "mean"] = "median" if convention == "median" else "mean"
        return cls(rows[["fusion", "track", "source", "value"]].dropna(), tuple(singles), over)

    @cached_property
    def is_complete(self) -> bool:
        """Whether every song has every source."""
        pairs = self.table[["track", "source"]].drop_duplicates()
        return len(pairs) == pairs["track"].nunique() * pairs["source"].nunique()

    @cached_property
    def wide(self) -> pd.DataFrame:
        """Score of every method (columns) on every song and source (rows)."""
        return self.table.pivot(index=["track", "source"], columns="fusion", values="value")

    def values(self) -> pd.DataFrame:
        """Figure of every method (rows) per source, and in the column `MEAN` of all; NaN where a source is missing."""
        grid = self.table.groupby(["fusion", "source"], sort=False)["value"].agg(self.over).unstack("source")
        mean = grid.mean(axis=1, skipna=False) if self.is_complete else _by_song(self.wide).agg(self.over)
        return grid.assign(**{MEAN: mean})

    @property
    def best_single(self) -> str:
        """The separator with the best mean."""
        return str(self.values()[MEAN].reindex(self.singles).idxmax())

    @cached_property
    def with_pick(self) -> Units:
        """The same, with the best separator of each source as a method, `BEST_PER_SOURCE`."""
        picked = with_best_per_source(as_scores(self.table), self.singles, over_frames="mean", over_tracks=self.over)
        return Units(picked[["fusion", "track", "source", "value"]], self.singles, self.over)

    def gain(self, method: str, baseline: str, source: str = ALL) -> Gain:
        """How far a method is above another, with its interval.

        Parameters
        ----------
        method, baseline : str
            Labels; or `BEST_PER_SOURCE`.
        source : str
            One source alone; `ALL` for the mean of all.
        """
        wide = (self.with_pick if BEST_PER_SOURCE in (method, baseline) else self).wide
        if method not in wide or baseline not in wide:
            return NO_GAIN
        return self.paired(wide[method], wide[baseline], source)

    def paired(self, method: pd.Series[float], baseline: pd.Series[float], source: str = ALL) -> Gain:
        """Gain of one score per song and source over another, by the bootstrap of `compare`."""
        both = pd.DataFrame({"method": method, "baseline": baseline})
        if source != ALL:
            both = both[both.index.get_level_values("source") == source]
        elif not self.is_complete:
            both = _by_song(both)
            both.index = pd.MultiIndex.from_product([both.index, [ALL]], names=["track", "source"])
        both = both.dropna()
        if both.empty:
            return NO_GAIN
        long = both.reset_index().melt(["track", "source"], var_name="fusion")
        row = compare(as_scores(long), "baseline", over_frames="mean", over_tracks=self.over).iloc[-1]
        return Gain(float(row["difference"]), float(row["low"]), float(row["high"]), int(row["tracks"]))


def _by_song(wide: pd.DataFrame) -> pd.DataFrame:
    """Mean of each song's sources, by method; NaN where a method lacks one that others have of the song."""
    counts = wide.notna().groupby(level="track").sum()
    songs: pd.DataFrame = wide.groupby(level="track").mean().where(counts.eq(counts.max(axis=1), axis=0))
    return songs


def as_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Scores of songs as a score table of one frame each."""
    rows = table.assign(track=table["track"].astype(str), frame=0, metric="SDR")
    return check_scores(rows[["track", "fusion", "source", "frame", "metric", "value"]])
