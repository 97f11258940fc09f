"""The stage that separates: stems that are missing in the store are made, or taken from another tool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stemfuse.blending.fused_separator import FusedSeparator
from stemfuse.experiments.config import SeparatorConfig
from stemfuse.experiments.contents import in_threads
from stemfuse.experiments.conversion import check_format, fuse_track
from stemfuse.experiments.data import MixtureRule, open_data
from stemfuse.experiments.errors import ConfigError, RunError
from stemfuse.experiments.outputs import check_store
from stemfuse.experiments.plan import Plan
from stemfuse.experiments.record import SeparatorRecord
from stemfuse.experiments.run import Run
from stemfuse.experiments.stored_separators import StoredSeparator, check_label, stored_separator
from stemfuse.experiments.workers import Progress, cores, few_threads, run_all, silent
from stemfuse.separators import StemStore, Sums, Track, listed, matched, separate_converted
from stemfuse.separators.optional import require_packages
from stemfuse.separators.separator import needed_packages, separate_signal
from stemfuse.separators.store.entry import content_of

from .estimates import stems_to_find

log = logging.getLogger(__name__)

Entry = dict[str, str]
"""subset, track and path of one entry of a store."""


def separate(plan: Plan, run: Run, progress: Progress) -> None:
    """Make the stems that are missing, and keep on record who made all of them."""
    tracks = plan.needed()
    known = {track.shown: track.stems for track in run.record().tracks}
    for track, key in plan.entries():
        # stems that another run or command has left here are read and compared once
        if known.get(plan.labels[track], {}).get(key) != plan.store.content_of(track, key):
            plan.store.forget(track, key)
    used = make_missing(tracks, plan.separators, plan.store, plan.workers, progress, plan.config.convert, plan.keys_of)
    record = run.record()
    record.use_devices(device for separator in used for device in separator.devices)
    first = {key: track for track, key in reversed(list(plan.entries()))}
    record.separators = {
        separator.label: SeparatorRecord(
            key=separator.key,
            fingerprint=plan.store.record(first[separator.key], separator.key)["fingerprint"],
            describe=separator.description(first[separator.key], plan.store),
        )
        for separator in plan.separators
        if separator.key in first
    }
    by_name = {plan.labels[track]: track for track in reversed(tracks)}
    for kept in record.tracks:
        if kept.shown in by_name:
            track = by_name[kept.shown]
            entries = {key: plan.store.record(track, key) for key in plan.keys_of(track).values()}
            kept.mixture_sha256 = next(iter(entries.values()))["mixture"]["sha256"]
            kept.stems = {key: content_of(entry) for key, entry in entries.items()}
    run.write_record(record)


def make_missing(
    tracks: Sequence[Track],
    separators: Sequence[StoredSeparator],
    store: StemStore,
    workers: int,
    progress: Progress = silent,
    convert: bool = False,
    keys_of: Callable[[Track], Mapping[str, str]] | None = None,
) -> list[StoredSeparator]:
    """Separate the tracks of which the store has no usable stems.

    Parameters
    ----------
    tracks : sequence of Track
        All that need stems.
    separators : sequence of StoredSeparator
        By which ones.
    store : StemStore
        Where stems are and will be.
    workers : int
        Processes.
    progress : callable
        Called as ``progress("separate", done, total)``.
    convert : bool
        Whether tracks are resampled, and mono ones made stereo, for separators that need it, and their stems back.
    keys_of : callable, optional
        The separators, label to store folder, that a track needs stems of; all when not given.

    Returns
    -------
    list of StoredSeparator
        Those that separated something.

    Raises
    ------
    RunError
        Stems are missing that no separator here can make, tracks would have to be converted and may not be, or some
        tracks cannot be separated.
    """
    store.clear_remains()
    needed = {
        separator: [track for track in tracks if keys_of is None or separator.label in keys_of(track)]
        for separator in separators
    }
    missing = _all_missing(needed, store, workers, progress)
    _check_possible(missing, store, convert)
    # stems that others are fused of come first
    for depth in sorted({separator.depth for separator in missing}):
        tasks = [
            SeparateTask(store.root, separator, track, convert)
            for separator, lacking in missing.items()
            if separator.depth == depth
            for track in lacking
        ]
        run_all(separate_one, tasks, workers, "fuse stems" if depth else "separate", progress, str)
    if any(missing.values()):  # workers of a killed process may have outlived it for a moment
        store.clear_remains()
    return [separator for separator, lacking in missing.items() if lacking]


def _all_missing(
    needed: Mapping[StoredSeparator, Sequence[Track]], store: StemStore, workers: int, progress: Progress
) -> dict[StoredSeparator, list[Track]]:
    """By separator, the tracks of which it has no usable stems; where they are to be fused, those of its parts too."""
    known = set(store.keys())
    for separator, needing in needed.items():
        # without a single stem it is sure to separate: what it lacks is said before songs are read
        if needing and not separator.stored and separator.key not in known:
            require_packages(needed_packages(separator.name), f"separator {separator.label}")
            separator.check_trust()
    found: dict[StoredSeparator, list[Track]] = {}
    seen: set[tuple[Track, str]] = set()
    while needed:
        pairs = {
            (track, separator.key): separator
            for separator, needing in needed.items()
            for track in needing
            if (track, separator.key) not in seen
        }
        seen |= pairs.keys()
        checked = in_threads(lambda pair: _is_usable(*pair, store), list(pairs.items()), workers, "verify", progress)
        deeper: dict[StoredSeparator, list[Track]] = {}
        for ((track, _), separator), is_usable in zip(pairs.items(), checked, strict=True):
            found.setdefault(separator, [])
            if not is_usable:
                found[separator].append(track)
                for part in separator.parts:
                    deeper.setdefault(part, []).append(track)
        needed = deeper
    return found


def _is_usable(pair: tuple[Track, str], separator: StoredSeparator, store: StemStore) -> bool:
    return not store.missing([pair[0]], pair[1]) and separator.is_current(pair[0], store)


def _check_possible(missing: Mapping[StoredSeparator, Sequence[Track]], store: StemStore, convert: bool) -> None:
    """Refuse before anything is made what cannot be: stems of other tools, packages, tracks of another form."""
    absent = []
    for separator, tracks in missing.items():
        if not tracks:
            continue
        if separator.stored:
            names = listed((track.name for track in tracks), most=20)
            absent.append(f"by {separator.label} ({separator.key}) of {names}")
            continue
        require_packages(needed_packages(separator.name), f"separator {separator.label}")
        separator.check_trust()
        # what is fused has the form that its parts have; to convert helps neither one nor two channels of a separator
        # that takes others
        if not separator.parts and (not convert or any(track.channels > 2 for track in tracks)):
            check_format(tracks, separator.load(), convert)
    if absent:
        raise RunError(
            f"{store.root}: no usable stems {'; '.join(absent)}; adopt them, or separate them first; "
            "fit and compare go on without these songs with --missing skip (in a recipe, missing: skip), compare "
            "without these separators there with --missing refit"
        )


@dataclass(frozen=True)
class SeparateTask:
    """One track to be separated by one separator; travels to another process."""

    store: Path
    separator: StoredSeparator
    track: Track
    convert: bool = False

    def __str__(self) -> str:
        return f"{self.separator.label} on {self.track.name}"


def separate_one(task: SeparateTask) -> None:
    """Separate one track into the store, unless another process has done it meanwhile."""
    store = StemStore(task.store)
    if task.separator.parts:
        _fuse_one(task, store)
    elif store.missing([task.track], task.separator.key):
        separator = task.separator.load()
        made = separate_converted if task.convert else separate_signal
        store.put(task.track, separator, made(separator, task.track.mixture))


def _fuse_one(task: SeparateTask, store: StemStore) -> None:
    """Fuse stems that lie in the store, as ``stemfuse fuse`` does, and keep them as a separator's."""
    key, parts = task.separator.key, {part.label: part.key for part in task.separator.parts}
    if not store.missing([task.track], key):
        if task.separator.is_current(task.track, store):
            return
        store.remove(task.track, key)
    separator = task.separator.load()
    assert isinstance(separator, FusedSeparator)
    track = matched(store.attach(task.track, parts), recorded=separator.sums)
    made_of = {label: store.content_of(task.track, part) for label, part in parts.items()}
    with few_threads(1):
        store.put(task.track, separator, fuse_track(separator.fusion, track, task.convert), made_of=made_of)


def with_stems(
    tracks: Sequence[Track],
    separators: Sequence[StoredSeparator],
    store: StemStore,
    workers: int | None,
    progress: Progress = silent,
    convert: bool = False,
    sources: Sums | None = None,
) -> list[Track]:
    """The tracks with stems by all separators, of the sources that their references have, or of ``sources``.

    Missing stems are made first, see `make_missing`; stems that are sums are said.
    """
    make_missing(tracks, separators, store, workers or cores(), progress, convert)
    keys = {separator.label: separator.key for separator in separators}
    given = [store.attach(track, keys) for track in tracks]
    usual = {label: {source for track in given for source in track.stems[label].sources} for label in keys}
    attached = [matched(track, sources, usual=usual) for track in given]
    new = [note for track, found in zip(tracks, attached, strict=True) for note in found.notes[len(track.notes) :]]
    for note in dict.fromkeys(new):
        log.warning("%s", note)
    return attached


def separate_paths(
    paths: Sequence[Any],
    name: str,
    options: Mapping[str, Any],
    store: Path,
    convert: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
    mixture: MixtureRule = "file",
    sources: Sums | None = None,
) -> list[Entry]:
    """Separate songs and data sets into a store.

    Parameters
    ----------
    paths : sequence of path-like, musdb.DB or musdb.MultiTrack
        Data sets, folders of one track, or audio files; see `open_data`.
    name : str
        The separator, one of `stemfuse.separators.list_separators`.
    options : mapping
        Its arguments.
    store : Path
        Stem store.
    convert : bool
        Songs at other rates are resampled and mono ones made stereo for the separator, and their stems are converted
        back: they have the song's own rate and channels. Without it such songs are errors.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.
    mixture : {"file", "sum"}
        See `stemfuse.experiments.data.open_data`.
    sources : mapping, optional
        Names of files that are sources, where nobody knows them.

    Returns
    -------
    list of dict
        ``subset``, ``track`` and ``path`` of every entry.
    """
    check_store(store)
    target = StemStore(store)
    separator = stored_separator(SeparatorConfig(name=name, options=dict(options)), target)
    tracks = [track for path in paths for track in open_data(path, mixture, sources, complete=False)]
    make_missing(tracks, [separator], target, workers or cores(), progress, convert)
    return [_entry(target, track, separator.key) for track in tracks]


def adopt_folder(
    folder: Path,
    name: str,
    data: Path,
    store: Path,
    how: Literal["refuse", "shift", "as-is"] = "refuse",
    model: str | None = None,
    sources: Sums | None = None,
    replace: bool = False,
    show: Callable[[str], object] = print,
    mixture: MixtureRule = "file",
    convert: bool = False,
    apart: bool = False,
) -> list[Entry]:
    """Take stems of another tool into a store, and show what was found; see `StemStore.adopt`.

    What ``sources`` names is a source of the data set too. With ``apart`` the parts of its sums are taken in one by
    one, beside all sources of the data set.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder, expected one with stems that another tool made")
    check_label(name)
    check_store(store)
    target = StemStore(store)
    target.clear_remains()
    tracks = open_data(data, mixture, sources, complete=False).tracks()
    wanted = stems_to_find(tracks, sources) if sources and apart else sources
    adoption, alignments = target.adopt(folder, name, tracks, how, model, wanted, replace, convert)
    show(str(adoption))
    for alignment in alignments:
        show(str(alignment))
    key = target.find(name)
    return [_entry(target, found.track, key) for found in adoption.found]


def _entry(store: StemStore, track: Track, key: str) -> Entry:
    return {"subset": track.subset, "track": track.name, "path": str(store.path(track, key))}
