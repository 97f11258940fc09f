"""Stems of songs and data sets: separated, adopted, and whose they are, by the names that users give."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stemfuse.experiments.config import SeparatorConfig
from stemfuse.experiments.data.datasets import open_data
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.plan import (
    Plan,
    StoredSeparator,
    stored_separator,
)
from stemfuse.experiments.run import Run
from stemfuse.experiments.workers import Progress, cores, run_all, silent
from stemfuse.separators import (
    SOURCES,
    StemfuseError,
    StemStore,
    StoreError,
    Track,
    list_separators,
)
from stemfuse.separators import convert as convert_track

if TYPE_CHECKING:
    pass

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


def find_separator(text: str, store: StemStore, description: Mapping[str, Any] | None = None) -> StoredSeparator:
    """The separator that a name means: one whose stems the store has, else a registered one.

    Parameters
    ----------
    text : str
        A separator's name, its folder in the store, or ``label=`` and one of these.
    store : StemStore
        Where stems are, or will be.
    description : mapping, optional
        How the separator described itself when the fusion was fitted.

    Raises
    ------
    StemfuseError
        Neither the store nor the registry knows the name; or the store has several of that name.
    """
    label, equals, name = text.rpartition("=")
    folders = store.keys()
    if not equals:
        label = name.rpartition("-")[0] if name in folders else name
    if description is None:
        key = _known_key(name, store)
        if key is None:
            return stored_separator(SeparatorConfig(name=name, label=label), store)
        stored_as = store.tracks_of(key)
        described = json.loads((store.root / key / "/".join(stored_as[0]) / "stems.json").read_text("utf-8"))[
            "separator"
        ]
        return _described(label, key, described, store)
    try:
        key = store.find(name)
    except StoreError:
        key = None
    return _described(label, key, description, store)


def _known_key(name: str, store: StemStore) -> str | None:
    """The store's folder of this name; None when a registered separator has to make it."""
    try:
        key = store.find(name)
    except StoreError:
        folders = store.keys()
        if name in list_separators() and not any(key.rpartition("-")[0] == name for key in folders):
            return None
        raise
    return key if store.tracks_of(key) else None


def _described(label: str, key: str | None, description: Mapping[str, Any], store: StemStore) -> StoredSeparator:
    """A separator made anew from its description; only stored stems when it is not registered, or differs now."""
    name, options = str(description.get("name")), dict(description.get("options", {}))
    if name in list_separators() and "adopted" not in description:
        try:
            made = stored_separator(SeparatorConfig(name=name, label=label, options=options), store)
        except StemfuseError:
            made = None
        if made is not None and key in (None, made.key):
            return made
    if key is None:
        raise StoreError(
            f"{store.root}: no stems by {label}, which was {name!r} when the fusion was fitted and cannot be made "
            "here; adopt them with stemfuse adopt"
        )
    return StoredSeparator(label, key, name, json.dumps(options), True)


def complete(
    tracks: Sequence[Track],
    separators: Sequence[StoredSeparator],
    store: StemStore,
    workers: int | None,
    progress: Progress,
) -> list[Track]:
    """The tracks with all stems, those that were missing made first.

    Raises
    ------
    RunError
        Stems are missing that no separator here can make.
    """
    tasks = []
    for separator in separators:
        lacking = store.missing(tracks, separator.key)
        if lacking and separator.stored:
            names = ", ".join(track.name for track in lacking[:5])
            raise RunError(f"{store.root}: no stems by {separator.label} of {names}; adopt or separate them first")
        tasks += [(store.root, separator, track) for track in lacking]
    run_all(
        separate_one, tasks, workers or cores(), "separate", progress, lambda task: f"{task[1].label} on {task[2].name}"
    )
    keys = {separator.label: separator.key for separator in separators}
    return [store.attach(track, keys) for track in tracks]


def separate(plan: Plan, result: Run, record: dict[str, Any], progress: Progress) -> None:
    """Fill the store with what is missing."""
    tracks = plan.needed()
    tasks = []
    for separator in plan.separators:
        lacking = plan.store.missing(tracks, separator.key)
        if lacking and separator.stored:
            raise RunError(
                f"{plan.store.root}: no usable stems by {separator.key} of {_listed(track.name for track in lacking)}; "
                "adopt them, or leave out stored: true"
            )
        tasks += [(plan.store.root, separator, track) for track in lacking]
    run_all(separate_one, tasks, plan.workers, "separate", progress, lambda task: f"{task[1].label} on {task[2].name}")
    for separator in plan.separators:
        stored = plan.store.record(tracks[0], separator.key)
        record["separators"][separator.label] = {
            "key": separator.key,
            "fingerprint": stored["fingerprint"],
            "describe": stored["separator"],
        }
    for entry in record["tracks"]:
        planned = next((track for track in tracks if track.name == entry["name"]), None)
        if planned is not None:
            entry["mixture_sha256"] = plan.store.record(planned, plan.separators[0].key)["mixture"]["sha256"]


def separate_one(task: tuple[Path, StoredSeparator, Track]) -> None:
    """Separate one track into the store, unless another process has done it meanwhile."""
    root, stored, track = task
    store = StemStore(root)
    if store.missing([track], stored.key):
        separator = stored.load()
        store.put(track, separator, separator.separate(track.mixture.read(), track.rate))


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
