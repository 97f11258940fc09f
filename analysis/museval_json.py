"""Scores in museval's JSON files, ``<method>/<subset>/<track>.json``: read, and written as museval writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stemfuse.separators import whole_file
from stemfuse.separators.foreign.documents import read_object

from .errors import ScoreError
from .scores import METRICS, WHOLE_SONG, Series, check_scores, tidy


def write_museval_json(
    scores: pd.DataFrame,
    folder: str | os.PathLike[str],
    subset: str = "test",
    window_s: float = 1.0,
    hop_s: float = 1.0,
) -> list[Path]:
    """Write ``<folder>/<fusion>/<subset>/<track>.json`` in museval's schema, as museval itself would.

    Values are rounded to five decimals. Infinite values become NaN, and so do metrics that are missing in the table,
    since museval's reader expects all four. Whole-song values have no place in the schema and are left out.

    Parameters
    ----------
    scores : DataFrame
        A score table.
    folder : path-like
        Made when missing; each file appears whole or not at all.
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
        A name cannot be a file's name, or a file cannot be written.
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
        with whole_file(paths[-1], error=ScoreError) as temporary:
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
        There is no such file, or a file does not follow museval's schema.
    """
    files = _museval_files(Path(path).absolute(), subset)
    return check_scores(tidy(series for fusion, file in files for series in _museval_series(fusion, file)))


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
        for target in read_object(file)["targets"]:
            for metric in METRICS:
                values = np.array([frame["metrics"][metric] for frame in target["frames"]], dtype=np.float64)
                yield file.stem, fusion, str(target["name"]), metric, 0, values
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ScoreError(f"{file}: not in museval's schema ({reason}); score the track again") from error
