"""Fitting a fusion and fusing songs with it, outside a run: stems from the store, else by the separators themselves."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.blending import leaks, load_fusion, make_fusion, write_whole
from stemfuse.separators import StemfuseError, StemStore, StoreError, Track, digest, file_stamp, list_separators

from .config import ConfigError, SeparatorConfig
from .datasets import open_data
from .pipeline import measure, run_all, separate_one
from .plan import StoredSeparator, stored_separator
from .run import RunError
from .workers import Progress, cores, few_threads, silent

if TYPE_CHECKING:
    import pandas as pd

RECORD = ".fused.json"
"""File of an output folder that says what each track was fused from, by which an interrupted command goes on."""


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


def fit_fusion(
    name: str,
    options: Mapping[str, Any],
    data: Path,
    store: Path,
    separators: Sequence[str],
    out: Path,
    train: Sequence[str] = ("train",),
    valid: Sequence[str] = ("valid",),
    folds: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Fit a fusion on a data set and save it.

    Parameters
    ----------
    name : str
        One of `stemfuse.blending.list_fusions`.
    options : mapping
        Its arguments.
    data : Path
        A data set with references.
    store : Path
        Stem store; what lacks in it is separated.
    separators : sequence of str
        See `find_separator`; labels of the weights' inputs.
    out : Path
        The new file: ``.npz`` for a linear fusion, ``.json`` for one without weights.
    train, valid : sequence of str
        Subsets to fit and to validate on. A subset that the data set lacks counts as empty.
    folds : int
        From two on: groups of training tracks that are left out in turn, to see what the fusion gains on tracks that it
        has not seen where there are too few for a validation set; see `stemfuse.blending.cross_validate`.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    DataFrame
        SDR of every separator, of their mean and of the fusion, per source, on the validation tracks if there are any,
        else on the tracks that it was fitted on; see `judge`. With folds two more rows, of left-out training tracks.

    Raises
    ------
    StemfuseError
        No tracks to fit on, stems that cannot be made, or what the fusion itself says.
    """
    target = StemStore(store)
    fusion: Any = make_fusion(name, **options)
    found = open_data(data)
    if not separators:
        raise ConfigError("no separators came, expected at least one: --separators A,B,C")
    chosen = [find_separator(text, target) for text in separators]
    parts = [
        [t for subset in subsets if subset in found.subsets for t in found.tracks(subset)] for subsets in (train, valid)
    ]
    if not parts[0]:
        raise RunError(
            f"{data}: no tracks in {', '.join(train)}, the subsets are {', '.join(found.subsets)}; choose with --train"
        )
    fitted, judges = (complete(part, chosen, target, workers, progress) for part in parts)
    if getattr(fusion, "learns", True):
        measure([*fitted, *judges], workers or cores(), progress)
        leaks(fitted, judges)
    if hasattr(fusion, "progress"):
        fusion.progress = progress
    fusion.fit(fitted, judges or None)
    fusion.separators_ = {separator.label: target.record(fitted[0], separator.key)["separator"] for separator in chosen}
    fusion.save(out)
    table = judge(fusion, judges or fitted)
    return table if folds < 2 else _with_cross_validation(table, make_fusion(name, **options), fitted, folds)


def _with_cross_validation(table: pd.DataFrame, fusion: Any, tracks: Sequence[Track], folds: int) -> pd.DataFrame:
    """Two more rows: the mean and the fusion on training tracks that were left out in turn."""
    import pandas as pd

    from stemfuse.analysis import aggregate, by_source, common_mask
    from stemfuse.blending import cross_validate

    grid = by_source(aggregate(common_mask(cross_validate(fusion, tracks, folds))[0]), "SDR")
    grid.index = [f"{name}, left out in turn" for name in grid.index]
    return pd.concat([table, grid.rename_axis(table.columns[0]).reset_index()], ignore_index=True)


def judge(fusion: Any, tracks: Sequence[Track]) -> pd.DataFrame:
    """Median SDR (of frames, then of tracks) of single separators, their mean and a linear fusion, from statistics.

    Parameters
    ----------
    fusion : Fusion
        Fitted; one without weights leaves only the others in the table.
    tracks : sequence of Track
        With stems; those without references are left out.

    Returns
    -------
    DataFrame
        One row per method: method, one column per source, and their mean, in dB.
    """
    import pandas as pd

    from stemfuse.analysis import GramStatistics, aggregate, by_source, common_mask, scores_table
    from stemfuse.blending import Fixed, Mean

    tables = []
    for track in tracks:
        if track.references is None:
            continue
        gram = GramStatistics.of(track)
        singles = {
            name: Fixed({source: {name: 1.0} for source in stems.sources}).fit([track])
            for name, stems in track.stems.items()
            if set(stems.sources) >= set(gram.sources)
        }
        for label, method in {**singles, "mean": Mean().fit([track]), fusion.kind: fusion}.items():
            if hasattr(method, "weights"):
                values = gram.sdr(method.weights(track))
                tables.append(scores_table(track.name, label, gram.sources, {"SDR": values}))
    if not tables:
        return pd.DataFrame()
    grid = by_source(aggregate(common_mask(pd.concat(tables, ignore_index=True))[0]), "SDR")
    return grid.rename_axis("SDR, dB").reset_index()


@dataclass(frozen=True)
class FuseTask:
    """One song to be fused; travels to another process."""

    fusion: Path
    store: Path
    keys: Mapping[str, str]
    track: Track
    folder: Path
    subtype: str
    save_weights: bool


def fuse_one(task: FuseTask) -> None:
    """Fuse one song into its folder, file by file whole."""
    fusion: Any = load_fusion(task.fusion)
    track = StemStore(task.store).attach(task.track, task.keys)
    with few_threads(1):
        fusion.fuse(track).write(task.folder, task.subtype)
        if task.save_weights:
            fusion.weights(track).save(task.folder / "weights.npz")


def fuse_paths(
    file: Path,
    paths: Sequence[Path],
    out: Path,
    store: Path | None = None,
    separators: Sequence[str] = (),
    save_weights: bool = False,
    subtype: str = "FLOAT",
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Fuse songs and data sets with a saved fusion.

    Parameters
    ----------
    file : Path
        What a fusion's ``save`` wrote.
    paths : sequence of Path
        Data sets or songs.
    out : Path
        ``OUT/<subset>/<track>/<source>.wav`` for data sets, ``OUT/<song>/<source>.wav`` for songs.
    store : Path, optional
        Stems are taken from there, and those that were missing are kept there; a temporary one when not given.
    separators : sequence of str
        See `find_separator`; needed only where the file does not name them.
    save_weights : bool
        Whether ``weights.npz`` is written beside each song's stems.
    subtype : str
        Sample format of the files, as soundfile names it.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    list of Path
        Folder of every track.

    Raises
    ------
    StemfuseError
        The file is no fusion, stems cannot be made, or two songs have one name.
    """
    fusion: Any = load_fusion(file)
    if save_weights and not hasattr(fusion, "weights"):
        raise ConfigError(f"{file}: a {fusion.kind} fusion has no weights to save; leave out --save-weights")
    with ExitStack() as stack:
        if store is None:
            out.mkdir(parents=True, exist_ok=True)
            store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".stems-", dir=out)))
        target = StemStore(store)
        chosen = _separators_of(fusion, file, separators, target)
        tracks = {}
        for path in paths:
            for track in _tracks(path):
                folder = out / track.name if track.subset == "songs" else out / track.subset / track.name
                if folder in tracks:
                    raise RunError(f"two tracks would be written to {folder}; rename one, or fuse them apart")
                tracks[folder] = track
        done = _read_record(out)
        keys = {separator.label: separator.key for separator in chosen}
        identity = hashlib.sha256(file.read_bytes()).hexdigest()
        wanted = {
            str(folder.relative_to(out)): digest(
                {"fusion": identity, "keys": keys, "song": file_stamp(track.mixture), "as": [subtype, save_weights]}
            )
            for folder, track in tracks.items()
        }
        lacking = [
            folder
            for folder in tracks
            if done.get(str(folder.relative_to(out))) != wanted[str(folder.relative_to(out))] or not folder.is_dir()
        ]
        complete([tracks[folder] for folder in lacking], chosen, target, workers, progress)
        tasks = [FuseTask(file, store, keys, tracks[folder], folder, subtype, save_weights) for folder in lacking]
        for batch in _batches(tasks, workers or cores()):
            run_all(fuse_one, batch, workers or cores(), "fuse", progress, lambda task: task.track.name)
            done |= {name: wanted[name] for name in (str(task.folder.relative_to(out)) for task in batch)}
            _write_record(out, done)
    return list(tracks)


def _tracks(path: Path) -> Iterable[Track]:
    found = open_data(path)
    return (track for subset in found.subsets for track in found.tracks(subset))


def _separators_of(fusion: Any, file: Path, given: Sequence[str], store: StemStore) -> list[StoredSeparator]:
    """Separators that a fusion needs, by the labels of its inputs."""
    described = getattr(fusion, "separators_", {})
    weights = getattr(fusion, "weights_", None)
    labels = list(weights.separators) if weights is not None else list(described)
    named = {text.partition("=")[0]: text for text in given}
    if not labels:
        labels = list(named)
    if not labels:
        raise ConfigError(f"{file}: does not say which separators it mixes; name them with --separators A,B,C")
    return [
        find_separator(named[label], store) if label in named else find_separator(label, store, described.get(label))
        for label in labels
    ]


def _batches(tasks: Sequence[FuseTask], workers: int) -> Iterable[Sequence[FuseTask]]:
    """So many songs at a time that a killed command loses little."""
    size = 4 * workers
    return [tasks[start : start + size] for start in range(0, len(tasks), size)]


def _read_record(out: Path) -> dict[str, str]:
    try:
        record: dict[str, str] = json.loads((out / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record


def _write_record(out: Path, done: Mapping[str, str]) -> None:
    write_whole(out / RECORD, lambda file: file.write(json.dumps(done, ensure_ascii=False, indent=1).encode()))
