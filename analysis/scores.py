"""Scores as one tidy table: its schema, one frame mask for all methods, Parquet files and museval's JSON trees."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .errors import ScoreError

log = logging.getLogger(__name__)

METRICS = ("SDR", "ISR", "SIR", "SAR")
"""BSS Eval's metrics in dB, one value per frame."""

SONG_SDR = "song_SDR"
"""Name of the 2021 challenge's whole-song SDR, in dB."""

WHOLE_SONG = -1
"""The frame number of values that belong to a whole song."""

SCHEMA = {"track": str, "fusion": str, "source": str, "frame": np.int32, "metric": str, "value": np.float64}
"""Columns and types of a score table; `check_scores` tells why text is text and not categorical."""

KEYS = ["track", "fusion", "source", "frame", "metric"]
"""The columns that tell one score from another."""

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
        raise ScoreError(f"track {track!r}: scores of shapes {shapes} came, expected ({len(sources)}, frame) for each")
    starts = dict.fromkeys(arrays, 0)
    for metric, given in (song or {}).items():
        whole = np.asarray(given, dtype=np.float64)
        if whole.shape != (len(sources),):
            raise ScoreError(f"track {track!r}: {metric} has shape {whole.shape}, expected ({len(sources)},)")
        arrays[metric], starts[metric] = whole[:, None], WHOLE_SONG
    return _tidy(
        (track, fusion, source, metric, starts[metric], row)
        for metric, array in arrays.items()
        for source, row in zip(sources, array, strict=True)
    )


def _tidy(series: Iterable[Series]) -> pd.DataFrame:
    parts = list(series)
    lengths = [len(row) for *_, row in parts]
    columns = {
        name: np.repeat(np.array([part[place] for part in parts], dtype=object), lengths)
        for place, name in enumerate(("track", "fusion", "source", "metric"))
    }
    nothing = np.zeros(0)
    columns["frame"] = np.concatenate([nothing, *(np.arange(first, first + len(row)) for *_, first, row in parts)])
    columns["value"] = np.concatenate([nothing, *(row for *_, row in parts)])
    return pd.DataFrame(columns, columns=list(SCHEMA)).astype(SCHEMA)


def check_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Bring a table into the score table's form, or say why it is none.

    Track, fusion, source and metric are plain text (pandas 3's ``str``, ``object`` before): unlike categoricals it
    keeps its type when tables are joined or filtered, and Parquet stores it as a dictionary all the same.
    Frame is int32, `WHOLE_SONG` for a value of the whole song; value is float64 in dB, NaN where
    the frame was dropped. Tables of several tracks or methods are joined by
    ``check_scores(pd.concat(tables, ignore_index=True))``.

    Raises
    ------
    ScoreError
        A column is missing or unknown, a name is missing, a frame is below -1, a value is no number, or a
        score is there twice.

    Examples
    --------
    >>> one = scores_table("song", "mean", ["bass"], {"SDR": [[5.0]]})
    >>> check_scores(pd.concat([one, one]))
    Traceback (most recent call last):
    ...
    stemfuse.analysis.errors.ScoreError: track 'song', fusion 'mean', source 'bass', frame 0, metric...
    """
    if set(scores.columns) != set(SCHEMA):
        raise ScoreError(f"a table with columns {list(scores.columns)} came, expected {list(SCHEMA)}")
    missing = scores[KEYS].isna().any()
    if missing.any():
        raise ScoreError(f"column {missing.idxmax()!r} has missing values; expected a name or number in every row")
    try:
        table = scores[list(SCHEMA)].astype(SCHEMA)
    except (TypeError, ValueError) as error:
        raise ScoreError(f"the table does not hold numbers in frame and value: {error}") from error
    if (table["frame"] < WHOLE_SONG).any():
        raise ScoreError(f"frame {table['frame'].min()} came; expected 0 and up, or {WHOLE_SONG} for a whole song")
    twice = table.duplicated(KEYS)
    if twice.any():
        row = table[twice].iloc[0]
        where = ", ".join(f"{key} {row[key] if key == 'frame' else repr(row[key])}" for key in KEYS)
        raise ScoreError(f"{where}: there twice; join tables of different tracks or methods, or rename one")
    return table


def common_mask(scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score all methods on the same frames.

    museval leaves a frame out, for all sources, when any reference or estimate is silent in it, so a method that emits
    digital zeros is scored on other (mostly easier) frames than one that does not. Here a value counts only where
    every method has a finite one for that track, source, metric and frame. The rule works per source since a
    separator may lack a source, and since museval scores vocals apart when there is an accompaniment; it works per
    metric since SIR alone may be infinite, which museval's files write as NaN. A track that a method lacks counts as
    dropped whole, and a warning names it. Whole-song values follow the same rule.

    Parameters
    ----------
    scores : DataFrame
        A score table of all methods to compare.

    Returns
    -------
    masked : DataFrame
        The same rows; the value is NaN where it does not count.
    dropped : DataFrame
        Columns track, fusion, source, metric; frames (that any method has), own (without a finite value in this
        method), common (lost since another method lacks them), kept. frames = own + common + kept.

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
    methods = scores.groupby(["source", "metric"])["fusion"].transform("nunique")
    agreeing = valid.groupby([scores[key] for key in KEYS if key != "fusion"]).transform("sum")
    kept = valid & (agreeing == methods)
    masked = scores.assign(value=scores["value"].where(kept))

    cell = ["track", "fusion", "source", "metric"]
    counts = scores.assign(valid=valid, kept=kept).groupby(cell, as_index=False)[["valid", "kept"]].sum()
    frames = scores.groupby(["track", "source", "metric"], sort=False, as_index=False).agg(frames=("frame", "nunique"))
    expected = frames.merge(scores[["fusion", "source", "metric"]].drop_duplicates(), on=["source", "metric"])
    dropped = expected.merge(counts, on=cell, how="left")
    absent = dropped[dropped["kept"].isna()].groupby("fusion")["track"].unique()
    for fusion, tracks in absent.items():
        log.warning("%s has no scores of %s: left out for all methods", fusion, ", ".join(map(repr, tracks)))
    dropped = dropped.fillna({"valid": 0, "kept": 0}).astype({"valid": int, "kept": int})
    dropped = dropped.assign(own=dropped["frames"] - dropped["valid"], common=dropped["valid"] - dropped["kept"])
    return masked, dropped[[*cell, "frames", "own", "common", "kept"]]


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """Lend a temporary file that takes the path's place at the end: a killed process leaves no half file."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ScoreError(f"{path}: cannot be written ({reason}); free some space or choose another folder") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_scores(scores: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a score table as a Parquet file, whole or not at all; its folder is made when it lacks."""
    table = check_scores(scores)
    with _written_whole(Path(path)) as temporary:
        table.to_parquet(temporary, index=False)


def read_scores(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a score table from a Parquet file, with the types of `check_scores` whatever pandas wrote it.

    Raises
    ------
    ScoreError
        No such file, no Parquet, or no score table.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ScoreError(f"{os.fspath(path)}: no readable Parquet file ({error}); score the estimates again") from error
    return check_scores(table)


def write_museval_json(
    scores: pd.DataFrame,
    folder: str | os.PathLike[str],
    subset: str = "test",
    window_s: float = 1.0,
    hop_s: float = 1.0,
) -> list[Path]:
    """Write ``<folder>/<fusion>/<subset>/<track>.json`` in museval's schema, as museval itself would.

    Values are rounded to five decimals; NaN and infinite ones become NaN; metrics that the table lacks are NaN too,
    since museval's reader wants all four. Whole-song values have no place in the schema and stay out.

    Parameters
    ----------
    scores : DataFrame
        A score table.
    folder : path-like
        Made when it lacks; each file appears whole or not at all.
    subset : str
        The folder between method and track; museval's reader looks into ``test``.
    window_s, hop_s : float
        Length and distance of the frames in seconds.

    Returns
    -------
    list of Path
        The files, in the table's order.

    Raises
    ------
    ScoreError
        A name does not fit a file, or the disk is full.
    """
    scores = check_scores(scores)
    framed = scores[scores["frame"] != WHOLE_SONG]
    paths = []
    for (fusion, track), rows in framed.groupby(["fusion", "track"], sort=False):
        for name in (str(fusion), str(track)):
            if Path(name).name != name or name in ("", ".."):
                raise ScoreError(f"{name!r} cannot name a file; rename the track or method")
        frames = range(rows["frame"].max() + 1)
        targets = [
            {"name": source, "frames": _museval_frames(values, frames, window_s, hop_s)}
            for source, values in rows.groupby("source", sort=False)
        ]
        paths.append(Path(folder) / str(fusion) / subset / f"{track}.json")
        with _written_whole(paths[-1]) as temporary:
            text = json.dumps({"targets": targets, "museval_version": version("museval")}, indent=2)
            temporary.write_text(text, encoding="utf-8")
    return paths


def _museval_frames(rows: pd.DataFrame, frames: range, window_s: float, hop_s: float) -> list[dict[str, Any]]:
    grid = rows.pivot(index="frame", columns="metric", values="value").reindex(index=frames, columns=METRICS)
    return [
        {
            "time": frame * hop_s,
            "duration": window_s,
            "metrics": {metric: round(value, 5) for metric, value in values.items()},
        }
        for frame, values in zip(frames, grid.where(np.isfinite(grid)).to_dict("records"), strict=True)
    ]


def read_museval_json(path: str | os.PathLike[str], subset: str = "test") -> pd.DataFrame:
    """Read museval's scores: one file, one method's folder, or a folder of methods such as the SiSEC 2018 submissions.

    The method's name is the folder above the subset, the track's name is the file's without ``.json``.

    Parameters
    ----------
    path : path-like
        ``<method>/<subset>/<track>.json``, ``<method>``, or the folder that holds the methods.
    subset : str
        The folder between method and tracks.

    Returns
    -------
    DataFrame
        A score table; every target is a source, ``accompaniment`` too.

    Raises
    ------
    ScoreError
        There is no such file, or one does not follow museval's schema.
    """
    files = _museval_files(Path(path).absolute(), subset)
    return check_scores(_tidy(series for fusion, file in files for series in _museval_series(fusion, file)))


def _museval_files(path: Path, subset: str) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.parent.parent.name, path)]
    children = sorted(path.iterdir()) if path.is_dir() else []
    methods = [path] if (path / subset).is_dir() else [child for child in children if (child / subset).is_dir()]
    files = [(method.name, file) for method in methods for file in sorted((method / subset).rglob("*.json"))]
    if not files:
        raise ScoreError(f"{path}: no museval scores; expected <method>/{subset}/<track>.json, or one such method")
    return files


def _museval_series(fusion: str, file: Path) -> Iterator[Series]:
    try:
        for target in json.loads(file.read_text(encoding="utf-8"))["targets"]:
            for metric in METRICS:
                values = np.array([frame["metrics"][metric] for frame in target["frames"]], dtype=np.float64)
                yield file.stem, fusion, str(target["name"]), metric, 0, values
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ScoreError(f"{file}: not in museval's schema ({reason}); score the track again") from error
