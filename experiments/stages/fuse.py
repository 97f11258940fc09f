"""Fusing songs with a saved fusion: stems from the store, else by the separators that the fusion's file names."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemfuse.blending import load_fusion
from stemfuse.experiments.errors import ConfigError, RunError
from stemfuse.experiments.plan import StoredSeparator
from stemfuse.experiments.workers import Progress, cores, few_threads, run_all, silent
from stemfuse.separators import StemStore, Track, digest, file_stamp, write_whole

from .separate import all_tracks, complete, find_separator

RECORD = ".fused.json"
"""File of an output folder that says what each track was fused from, by which an interrupted command goes on."""


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
            for track in all_tracks(path):
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
