"""The verdict on a run: how much better the best fusion is than the best separator, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stemfuse.separators.labels import BEST_PER_SOURCE

from .run import Run

ERROR = 0.05
"""The chance of a false proof that is accepted: that of a 95 % interval."""

if TYPE_CHECKING:
    import pandas as pd

    from .report.data_sets import DataSetScores
    from .report.tables import ScoreTable


@dataclass(frozen=True)
class Verdict:
    """What the scores of one data set say.

    Attributes
    ----------
    data : str
        Label of the data set.
    songs : int
        On which both have scores.
    best_single, best : str
        The separator and the fusion with the highest mean over sources; separators are compared on the songs that they
        have. `BEST_PER_SOURCE` where no separator has all of these sources.
    best_single_db, best_db : float
        Their scores.
    low_db, high_db : float
        The 95 % interval of the gain, paired by song; NaN with too few songs.
    p : float
        Wilcoxon's, corrected by Holm's method for all fusions that were compared; NaN where it is not known.
    fusions : int
        How many were compared, and the best of them taken.
    picked_db : float
        The gain of the fusion that the other songs would pick, song by song; NaN where nothing is picked.
    won : float
        Songs in which the fusion is better, ties count half.
    out_of : int, optional
        All songs, where a separator has no stems of some.
    sources : tuple of str
        That the means are over, for the choice as for the gain; empty where that is not known.
    others : tuple of str
        Sources that are left out of them, as not all fusions have them or no separator has.
    picks : mapping of str to str
        By source, the best separator, where the gain is over the best of each.
    perfect : tuple of str
        Separators with stems that equal the references: their SDR is infinite, and counts in no mean.
    """

    data: str
    songs: int
    best_single: str
    best: str
    best_single_db: float
    best_db: float
    low_db: float = math.nan
    high_db: float = math.nan
    won: float = math.nan
    p: float = math.nan
    fusions: int = 1
    picked_db: float = math.nan
    out_of: int | None = None
    sources: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    picks: Mapping[str, str] = field(default_factory=dict)
    perfect: tuple[str, ...] = ()

    @property
    def gain_db(self) -> float:
        """How far the fusion is above the separator."""
        return self.best_db - self.best_single_db

    @property
    def is_sure(self) -> bool:
        """Whether the interval of the gain excludes 0, and p is below 0.05."""
        return (self.low_db > 0 or self.high_db < 0) and self.p < ERROR

    @property
    def songs_needed(self) -> int | None:
        """About how many songs prove a gain, if it stays: the width of its interval falls as their root grows."""
        from stemfuse.analysis import fewest_tracks_to_prove

        if self.is_sure or not self.gain_db > 0:
            return None
        least = max(self.songs + 1, fewest_tracks_to_prove(self.fusions))
        if not math.isfinite(self.low_db):
            return least
        half = (self.high_db - self.low_db) / 2
        return max(least, math.ceil(self.songs * (half / self.gain_db) ** 2))

    @property
    def doubt(self) -> str:
        """In words, why the gain is not proven; empty where it is."""
        from stemfuse.analysis import FEWEST_TRACKS, fewest_tracks_to_prove

        if self.is_sure:
            return ""
        songs = f"{self.songs} song{'s' if self.songs != 1 else ''}"
        if not math.isfinite(self.low_db):
            return f"{songs} {'is' if self.songs == 1 else 'are'} too few for an interval, which takes {FEWEST_TRACKS}"
        if not (self.low_db > 0 or self.high_db < 0):
            return "the interval includes 0"
        if self.songs < fewest_tracks_to_prove(self.fusions):
            of = f" for the best of {self.fusions} fusions" if self.fusions > 1 else ""
            return f"{songs} cannot reach p < {ERROR:g}{of}"
        return f"p = {self.p:.2g}"

    def lines(self) -> list[str]:
        """The verdict in words.

        Examples
        --------
        >>> verdict = Verdict("songs", 9, "mdx", "blend", 6.0, 6.2, -0.1, 0.5, 6.0, p=0.2)
        >>> for line in verdict.lines():
        ...     print(line)
        best separator: mdx, 6.00 dB; best fusion: blend, 6.20 dB
        gain: +0.20 dB, 95 % interval -0.10 to +0.50 dB, 6 of 9 songs won
        enough songs? no: the interval includes 0; about 21 songs would tell, if the gain stays
        """
        return [*self._who(), *self._how_sure(), *perfect_lines(self.perfect)]

    def _who(self) -> Iterator[str]:
        """Which two are compared, by which mean and on which songs."""
        if self.picks:
            picks = "; ".join(f"{source}: {name}" for source, name in self.picks.items())
            yield f"no separator has all of {', '.join(self.sources)}; the best of each source: {picks}"
        of = "best of each source" if self.picks else f"best separator: {self.best_single}"
        line = f"{of}, {self.best_single_db:.2f} dB; best fusion: {self.best}, {self.best_db:.2f} dB"
        if self.out_of not in (None, self.songs):
            line += f", on the {self.songs} of {self.out_of} songs in which both have scores"
        yield line
        if self.others:
            yield (
                f"mean over {', '.join(self.sources)}; left out, as not all fusions or no separator gives them or "
                f"as they are sums of others: {', '.join(self.others)}"
            )

    def _how_sure(self) -> list[str]:
        """The gain, its interval, and whether there are enough songs."""
        gain = f"gain: {self.gain_db:+.2f} dB"
        if math.isfinite(self.low_db):
            gain += (
                f", 95 % interval {self.low_db:+.2f} to {self.high_db:+.2f} dB, {self.won:g} of {self.songs} songs won"
            )
        lines = [gain]
        if self.is_sure:
            lines.append(f"enough songs? yes: the interval excludes 0, p = {self.p:.2g}")
        else:
            needed = f"; about {self.songs_needed} songs would tell, if the gain stays" if self.songs_needed else ""
            lines.append(f"enough songs? no: {self.doubt}{needed}")
        if math.isfinite(self.picked_db):
            lines.append(
                f"the best of {self.fusions} fusions, picked on these very songs; "
                f"with the one that the other songs would pick, song by song: {self.picked_db:+.2f} dB"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; what is not known is None."""
        fields = {**vars(self), "gain_db": self.gain_db, "is_sure": self.is_sure, "songs_needed": self.songs_needed}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in fields.items()
        }


def perfect_lines(perfect: Sequence[str]) -> list[str]:
    """What is said of separators whose stems equal the references; nothing without any."""
    if not perfect:
        return []
    return [
        f"{', '.join(perfect)}: stems equal the references, no fusion can be better; are they copies of the references?"
    ]


def verdicts(finished: Run) -> list[Verdict]:
    """What a run's scores say, for each data set in which a fusion can be compared with separators.

    Parameters
    ----------
    finished : Run
        Of any recipe.
    """
    return [found for found in _judged(finished) if isinstance(found, Verdict)]


def without_verdict(finished: Run) -> list[str]:
    """For each data set without a verdict, why there is none."""
    return [found for found in _judged(finished) if isinstance(found, str)]


def best_fusion(finished: Run) -> str:
    """The fusion that comes first by the mean over sources on the first data set; empty where none has scores."""
    from .report.data_sets import scored_data
    from .report.tables import ScoreTable

    found = (ScoreTable.of(data, data.metrics[0]).best_fusion for data in scored_data(finished))
    return next(filter(None, found), "")


def _judged(finished: Run) -> Iterator[Verdict | str]:
    from .report.data_sets import scored_data

    for data in scored_data(finished):
        found = judge(data)
        yield f"no verdict on {data.label or 'the data'}: {found}" if isinstance(found, str) else found


def judge(data: DataSetScores) -> Verdict | str:
    """What the scores of one data set say; or why they say nothing."""
    from stemfuse.analysis import compare
    from stemfuse.analysis.aggregates import MEAN

    from .report.tables import ScoreTable

    table = ScoreTable.of(data, data.metrics[0])
    singles = [method for method in data.methods if method not in data.fusions]
    perfect = _perfect(data, singles)
    best = table.best_fusion
    if not best or not singles:
        lacking = "no fusion has scores" if singles else "no separator has scores"
        return "; ".join(perfect_lines(perfect) or [f"{lacking} of the same sources in all songs"])
    rows = data.masked[(data.masked["metric"] == table.metric) & data.masked["source"].isin(table.sources)]
    rows, single, picks = _baseline(rows, best, singles, table, data)
    if not single:
        reason = f"no separator has a finite score of {', '.join(table.sources)} on songs that {best} has"
        return "; ".join(perfect_lines(perfect) or [reason])
    means = table.grid[MEAN].astype(float)
    fused = [name for name in data.fusions if name in means.index and math.isfinite(means[name])]
    tried = compare(rows[rows["fusion"].isin([single, *fused])], single, table.metric)
    pair = tried[(tried["source"] == MEAN) & (tried["fusion"] == best)].iloc[0]
    others = tuple(source for source in map(str, table.grid) if source not in (MEAN, *table.sources))
    return Verdict(
        data.label,
        int(pair["tracks"]),
        single,
        best,
        best_single_db=float(pair["baseline_value"]),
        best_db=float(pair["value"]),
        low_db=float(pair["low"]),
        high_db=float(pair["high"]),
        won=float(pair["win_rate"] * pair["tracks"]),
        p=float(pair["p_holm"]),
        fusions=len(fused),
        picked_db=_picked_db(rows, fused, single, table.metric),
        out_of=len(data.tracks),
        sources=table.sources,
        others=others,
        picks=picks,
        perfect=perfect,
    )


def _picked_db(rows: pd.DataFrame, fusions: Sequence[str], single: str, metric: str) -> float:
    """The gain of what the other songs would pick; NaN with one fusion, or too few songs to pick by."""
    from stemfuse.analysis import FEWEST_TRACKS, LEFT_OUT_PICK, compare, with_left_out_pick
    from stemfuse.analysis.aggregates import MEAN

    if len(fusions) < 2 or rows["track"].nunique() < FEWEST_TRACKS:
        return math.nan
    picked = with_left_out_pick(rows, fusions, metric)
    if LEFT_OUT_PICK not in set(picked["fusion"]):
        return math.nan
    pair = compare(picked[picked["fusion"].isin([single, LEFT_OUT_PICK])], single, metric, resamples=1)
    return float(pair.loc[pair["source"] == MEAN, "difference"].iloc[0])


def _baseline(
    rows: pd.DataFrame, best: str, singles: Sequence[str], table: ScoreTable, data: DataSetScores
) -> tuple[pd.DataFrame, str, dict[str, str]]:
    """What the best fusion is compared with: scores with it, its name, and by source the best separator if it is that.

    That is the best separator with all sources of the mean, or the best of each source where none has all.
    """
    from stemfuse.analysis import best_single, compare, with_best_per_source
    from stemfuse.analysis.aggregates import MEAN

    means = table.grid[MEAN]
    whole = [name for name in singles if math.isfinite(float(means[name]))]
    if whole:
        # separators may have other songs each: the best is the one that is nearest to the fusion on the songs of both
        against = compare(rows[rows["fusion"].isin([best, *whole])], best, table.metric).query("source == @MEAN")
        known = against.dropna(subset="difference").set_index("fusion")["difference"]
        return rows, str(known.idxmax()) if len(known) else "", {}
    # of each source the best on all songs, where there is one
    complete = [name for name in singles if name in data.complete]
    given = set(rows.loc[rows["fusion"].isin(complete) & np.isfinite(rows["value"]), "source"])
    chosen = complete if set(table.sources) <= given else list(singles)
    known = rows[np.isfinite(rows["value"])]
    if not known["fusion"].isin(list(chosen)).any():
        return rows, "", {}
    picks = best_single(rows, chosen, table.metric).set_index("source")["fusion"].drop(MEAN, errors="ignore")
    return (
        with_best_per_source(rows, chosen, table.metric),
        BEST_PER_SOURCE,
        {str(source): str(name) for source, name in picks.items()},
    )


def _perfect(data: DataSetScores, singles: Sequence[str]) -> tuple[str, ...]:
    """Separators of which a source's SDR is infinite wherever it has a value, beside other sources."""
    rows = data.scores[(data.scores["metric"] == data.metrics[0]) & data.scores["value"].notna()]
    found = []
    for name in singles:
        own = rows[rows["fusion"] == name]
        infinite = (own["value"] == math.inf).groupby(own["source"]).all()
        if len(infinite) > 1 and infinite.any():
            sources = ", ".join(map(str, infinite.index[infinite]))
            found.append(name if infinite.all() else f"{name} ({sources})")
    return tuple(found)
