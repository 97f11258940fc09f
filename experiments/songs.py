"""Separating and adopting stems of songs and data sets, one store entry after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from stemfuse.separators import SOURCES, StemStore, Track
from stemfuse.separators import convert as convert_track

from .config import SeparatorConfig
from .datasets import open_data
from .pipeline import run_all, separate_one
from .plan import stored_separator
from .workers import Progress, cores, silent

Entry = dict[str, str]
"""subset, track and path of one entry of a store."""


def all_tracks(path: Path) -> list[Track]:
    """Every track of a data set, of one folder, or of one song."""
    found = open_data(path)
    return [track for subset in found.subsets for track in found.tracks(subset)]


def separate_paths(
    paths: Sequence[Path],
    name: str,
    options: Mapping[str, Any],
    store: Path,
    convert: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Entry]:
    """Separate songs and data sets into a store.

    Parameters
    ----------
    paths : sequence of Path
        Data sets, folders of one track, or audio files.
    name : str
        The separator, one of `stemfuse.separators.list_separators`.
    options : mapping
        Its arguments.
    store : Path
        Stem store; what it has already is left alone.
    convert : bool
        Whether tracks of another rate are resampled and mono ones made stereo; without it they are errors.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    list of dict
        ``subset``, ``track`` and ``path`` of every entry.
    """
    target = StemStore(store)
    separator = stored_separator(SeparatorConfig(name=name, options=dict(options)), target)
    tracks = [track for path in paths for track in all_tracks(path)]
    if convert:
        tracks = [convert_track(track) for track in tracks]
    lacking = target.missing(tracks, separator.key)
    tasks = [(target.root, separator, track) for track in lacking]
    run_all(separate_one, tasks, workers or cores(), "separate", progress, lambda task: task[2].name)
    return [_entry(target, track, separator.key) for track in tracks]


def adopt_folder(
    folder: Path,
    name: str,
    data: Path,
    store: Path,
    how: Literal["refuse", "shift", "as-is"] = "refuse",
    model: str | None = None,
    sources: Sequence[str] = SOURCES,
    replace: bool = False,
    say: Callable[[str], object] = print,
) -> list[Entry]:
    """Take stems of another tool into a store, and say what was found; see `StemStore.adopt`."""
    target = StemStore(store)
    adoption, alignments = target.adopt(folder, name, all_tracks(data), how, model, sources, replace)
    say(str(adoption))
    for alignment in alignments:
        say(str(alignment))
    key = target.find(name)
    return [_entry(target, found.track, key) for found in adoption.found]


def _entry(store: StemStore, track: Track, key: str) -> Entry:
    return {"subset": track.subset, "track": track.name, "path": str(store.path(track, key))}
