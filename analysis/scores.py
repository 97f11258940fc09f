"""Scores as one tidy table: its columns, one frame mask for all methods, and its Parquet files."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from stemfuse.separators import write_whole
from stemfuse.separators.foreign.tables import read_table

from .errors import ScoreError

log = logging.getLogger(__name__)

METRICS = ("SDR", "ISR", "SIR", "SAR")
"""BSS Eval's metrics in dB, one value per frame."""

SONG_SDR = "song_SDR"
"""Name of the 2021 challenge's whole-song SDR, in dB."""

WHOLE_SONG = -1
"""The frame number of values that belong to a whole song."""

COLUMNS = {"track": str, "fusion": str, "source": str, "frame": np.int32, "metric": str, "value": np.float64}
"""Columns and types of a score table; `check_scores` explains why text is not categorical."""

KEYS = ["track", "fusion", "source", "frame", "metric"]
"""The columns that identify a score."""

Series = tuple[str, str, str, str, int, NDArray[np.float64]]
"""Track, fusion, source, metric, first frame, one value per frame."""


def scores_table(
    track: str,
    fusion: str,
    sources: Sequence[str],
    values: Mapping[str, ArrayLike],
    song: Mapping[str, ArrayLike] | None = None,
) -> pd.DataFrame:
    """Tidy table of the scores of one track by one method.

    Parameters
    ----------
    track : str
        The track's name.
    fusion : str
        The method's name: a fusion or a single separator.
    sources : sequence of str
        One name per entry of the arrays' first axis.
    values : mapping of str to array_like, shape (source, frame)
        Metric by name, in dB; NaN in frames that the metric dropped.
    song : mapping of str to array_like, shape (source,), optional
        Metrics of the whole song by name, such as `SONG_SDR` in dB; they become rows of frame `WHOLE_SONG`.

    Returns
    -------
    DataFrame
        Columns track, fusion, source, frame, metric, value; see `check_scores`.

    Raises
    ------
    ScoreError
        An array's shape does not fit the sources or the other arrays.

    Examples
    --------
    >>> sdr, song = [[5.0, 6.0], [7.0, 8.0]], [5.5, 7.5]
    >>> table = scores_table("song", "mean", ["bass", "vocals"], {"SDR": sdr}, {SONG_SDR: song})
    >>> print(table.to_string(index=False))
    track fusion source  frame   metric  value
     song   mean   bass      0      SDR    5.0
     song   mean   bass      1      SDR    6.0
     song   mean vocals      0      SDR    7.0
     song   mean vocals      1      SDR    8.0
     song   mean   bass     -1 song_SDR    5.5
     song   mean vocals     -1 song_SDR    7.5
    """
    arrays = {metric: np.asarray(array, dtype=np.float64) for metric, array in values.items()}
    shapes = {metric: array.shape for metric, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 or shape[0] != len(sources) for shape in shapes.values()):
        raise ScoreError(f"track {track!r}: got scores of shapes {shapes}, expected ({len(sources)}, frame) for each")
    starts = dict.fromkeys(arrays, 0)
    for metric, given in (song or {}).items():
        whole = np.asarray(given, dtype=np.float64)
        if whole.shape != (len(sources),):
            raise ScoreError(f"track {track!r}: got {metric} of shape {whole.shape}, expected ({len(sources)},)")
        arrays[metric], starts[metric] = whole[:, None], WHOLE_SONG
    return tidy(
        (track, fusion, source, metric, starts[metric], row)
        for metric, array in arrays.items()
        for source, row in zip(sources, array, strict=True)
    )


def tidy(series: Iterable[Series]) -> pd.DataFrame:
    """A table of series, which has the columns of a score table but is not checked."""
    parts = list(series)
    lengths = [len(row) for *_, row in parts]
    columns = {
        name: np.repeat(np.array([part[place] for part in parts], dtype=object), lengths)
        for place, name in enumerate(("track", "fusion", "source", "metric"))
    }
    nothing = np.zeros(0)
    columns["frame"] = np.concatenate([nothing, *(np.arange(first, first + len(row)) for *_, first, row in parts)])
    columns["value"] = np.concatenate([nothing, *(row for *_, row in parts)])
    return pd.DataFrame(columns, columns=list(COLUMNS)).astype(COLUMNS)


def check_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Bring a table into the form of a score table.

    Track, fusion, source and metric are plain text (``str`` in pandas 3, ``object`` before): unlike categoricals, text
    keeps its type when tables are joined or filtered, and Parquet stores it as a dictionary anyway. Frame is int32,
    `WHOLE_SONG` for a value of the whole song. Value is float64 in dB, NaN where the frame was dropped. Tables of
    several tracks or methods are joined by ``check_scores(pd.concat(tables, ignore_index=True))``.

    Raises
    ------
    ScoreError
        A column is missing or unknown, a name is missing, a frame is below -1, a value is not a number, or a
        score occurs twice.

    Examples
    --------
    >>> one = scores_table("song", "mean", ["bass"], {"SDR": [[5.0]]})
    >>> check_scores(pd.concat([one, one]))
    Traceback (most recent call last):
    ...
    stemfuse.analysis.errors.ScoreError: track 'song', fusion 'mean', source 'bass', frame 0, metric...
    """
    if set(scores.columns) != set(COLUMNS):
        raise ScoreError(f"got a table with columns {list(scores.columns)}, expected {list(COLUMNS)}")
    missing = scores[KEYS].isna().any()
    if missing.any():
        raise ScoreError(f"column {missing.idxmax()!r} has missing values; expected a name or number in every row")
    try:
        table = scores[list(COLUMNS)].astype(COLUMNS)
    except (TypeError, ValueError) as error:
        raise ScoreError(f"expected numbers in the columns frame and value ({error})") from error
    if (table["frame"] < WHOLE_SONG).any():
        raise ScoreError(f"got frame {table['frame'].min()}, expected 0 and up, or {WHOLE_SONG} for a whole song")
    twice = table.duplicated(KEYS)
    if twice.any():
        row = table[twice].iloc[0]
        where = ", ".join(f"{key} {row[key] if key == 'frame' else repr(row[key])}" for key in KEYS)
        raise ScoreError(f"{where}: this score occurs twice; join tables of different tracks or methods, or rename one")
    return table


def common_mask(scores: pd.DataFrame, common_tracks: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score all methods on the same frames.

    museval leaves a frame out, for all sources, when any reference or estimate is silent in it. So a method that emits
    digital zeros is scored on other (mostly easier) frames than one that does not. Here a value counts only where
    every method has a finite one for that track, source, metric and frame. The rule applies per source, since not every
    separator has every source and since museval scores vocals separately when there is an accompaniment. It applies per
    metric, since SIR alone may be infinite, which museval's files write as NaN. A track that is missing for one method
    is dropped for all methods, and a warning names it. A method that has no finite value of a source at all is not
    counted there: it would leave nothing to compare. Whole-song values follow the same rule.

    Parameters
    ----------
    scores : DataFrame
        A score table of all methods to compare.
    common_tracks : bool
        Whether a track, or a source of it, that one method does not have is left out for all; else each method keeps
        those that it has, and frames are common to the methods that have the track.

    Returns
    -------
    masked : DataFrame
        The same rows; the value is NaN where it does not count.
    dropped : DataFrame
        Columns track, fusion, source, metric; frames (that any method has), own (without a finite value in this
        method), common (dropped since another method has no finite value), kept. frames = own + common + kept.

    Examples
    --------
    >>> one = scores_table("song", "one", ["bass"], {"SDR": [[5.0, 6.0, float("nan"), 9.0]]})
    >>> two = scores_table("song", "two", ["bass"], {"SDR": [[5.5, float("nan"), 7.0, 9.5]]})
    >>> masked, dropped = common_mask(pd.concat([one, two]))
    >>> masked["value"].to_list()
    [5.0, nan, nan, 9.0, 5.5, nan, nan, 9.5]
    >>> print(dropped.to_string(index=False))
    track fusion source metric  frames  own  common  kept
     song    one   bass    SDR       4    1       1     2
     song    two   bass    SDR       4    1       1     2
    """
    scores = check_scores(scores)
    valid = pd.Series(np.isfinite(scores["value"]), index=scores.index)
    # a method without any value of a source would leave none to the others
    cells = [scores[name] for name in ("source", "metric", *(() if common_tracks else ("track",)))]
    methods = scores["fusion"].where(valid).groupby(cells).transform("nunique")
    agreeing = valid.groupby([scores[key] for key in KEYS if key != "fusion"]).transform("sum")
    kept = valid & (agreeing == methods)
    masked = scores.assign(value=scores["value"].where(kept))

    cell = ["track", "fusion", "source", "metric"]
    counts = scores.assign(valid=valid, kept=kept).groupby(cell, as_index=False)[["valid", "kept"]].sum()
    frames = scores.groupby(["track", "source", "metric"], sort=False, as_index=False).agg(frames=("frame", "nunique"))
    expected = frames.merge(scores[["fusion", "source", "metric"]].drop_duplicates(), on=["source", "metric"])
    dropped = expected.merge(counts, on=cell, how="left")
    if not common_tracks:
        dropped = dropped.dropna(subset=["kept"])
    absent = dropped[dropped["kept"].isna()].groupby("fusion")["track"].unique()
    for fusion, tracks in absent.items():
        log.warning("%s has no scores of %s: left out for all methods", fusion, ", ".join(map(repr, tracks)))
    dropped = dropped.fillna({"valid": 0, "kept": 0}).astype({"valid": int, "kept": int})
    dropped = dropped.assign(own=dropped["frames"] - dropped["valid"], common=dropped["valid"] - dropped["kept"])
    return masked, dropped[[*cell, "frames", "own", "common", "kept"]]


def write_scores(scores: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a score table as a Parquet file, whole or not at all; its folder is made when missing.

    Raises
    ------
    ScoreError
        It is not a score table, or the file cannot be written.
    """
    content = pack_scores(scores)
    write_whole(path, lambda file: file.write(content), ScoreError)


def pack_scores(scores: pd.DataFrame) -> bytes:
    """The bytes of a score table's Parquet file; a ScoreError when it is not a score table."""
    buffer = io.BytesIO()
    check_scores(scores).to_parquet(buffer, index=False)
    return buffer.getvalue()


def read_scores(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a score table from a Parquet file, with the types of `check_scores`, whichever version of pandas wrote it.

    Raises
    ------
    ScoreError
        The file is missing, is not Parquet, or is not a score table.
    """
    try:
        table = read_table(path)
    except (OSError, ValueError) as error:
        raise ScoreError(f"{os.fspath(path)}: no readable score table ({error}); score the estimates again") from error
    return check_scores(table)
