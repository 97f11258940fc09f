"""The stage that fuses: songs by a saved fusion, with stems from the store, else by the separators of its file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemfuse.blending import BaseFusion, LinearFusion, load_fusion
from stemfuse.experiments.data import SONGS, open_data
from stemfuse.experiments.errors import ConfigError, RunError
from stemfuse.experiments.stored_separators import StoredSeparator, check_labels, find_separator
from stemfuse.experiments.workers import Progress, cores, few_threads, run_all, silent
from stemfuse.separators import StemStore, Track, digest, write_whole
from stemfuse.separators.audio.whole_files import clear_remains, temporary_in

from .separate import make_missing

RECORD = ".fused.json"
"""File of an output folder with a digest of what each track was fused from: an interrupted command goes on there."""


@dataclass(frozen=True)
class FuseTask:
    """One song to be fused; travels to another process."""

    fusion: Path
    store: Path
    keys: Mapping[str, str]
    track: Track
    out: Path
    name: str
    """Of its folder, below ``out``."""
    subtype: str
    save_weights: bool

    @property
    def folder(self) -> Path:
        """Folder of the fused stems."""
        return self.out / self.name

    def digest(self, fusion_sha256: str) -> str:
        """Digest of all that the fused stems depend on, but for the inputs, which may not be there any more."""
        mixture = StemStore(self.store).contents.sha256(self.track.mixture)
        written = [self.subtype, self.save_weights]
        return digest({"fusion": fusion_sha256, "keys": self.keys, "song": mixture, "as": written})

    def inputs(self) -> dict[str, str]:
        """Digests of the stems that are in the store, by separator."""
        store = StemStore(self.store)
        present = {label: store.content_of(self.track, key) for label, key in self.keys.items()}
        return {label: content for label, content in present.items() if content is not None}


def fuse_one(task: FuseTask) -> None:
    """Fuse one song into its folder; every file appears whole or not at all."""
    fusion = load_fusion(task.fusion)
    track = StemStore(task.store).attach(task.track, task.keys)
    with few_threads(1):
        fusion.fuse(track).write(task.folder, task.subtype)
        if task.save_weights and isinstance(fusion, LinearFusion):
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
        Stems are taken from there; those that are missing are made and kept there. A temporary one when not given.
    separators : sequence of str
        See `find_separator`; needed only where the file of the fusion does not name them.
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
        The file holds no fusion, stems cannot be made, or two songs have one name.
    """
    fusion = load_fusion(file)
    if save_weights and not fusion.is_linear:
        raise ConfigError(f"{file}: a {fusion.kind} fusion has no weights to save; leave out --save-weights")
    workers = workers or cores()
    with ExitStack() as stack:
        if store is None:
            out.mkdir(parents=True, exist_ok=True)
            clear_remains(out)
            store = stack.enter_context(_temporary_store(out))
        target = StemStore(store)
        check_labels([find_separator(text, target) for text in separators])
        chosen = _separators_of(fusion, file, separators, target)
        keys = {separator.label: separator.key for separator in chosen}
        tasks = [
            FuseTask(file, store, keys, track, out, name, subtype, save_weights)
            for name, track in _output_folders(paths, out).items()
        ]
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        wanted = {task.name: task.digest(sha256) for task in tasks}
        fused = _read_record(out)
        missing = [task for task in tasks if not _is_fused(task, wanted[task.name], fused.get(task.name))]
        make_missing([task.track for task in missing], chosen, target, workers, progress)
        for batch in _batches(missing, workers):
            run_all(fuse_one, batch, workers, "fuse", progress, lambda task: task.track.name)
            fused |= {task.name: {"digest": wanted[task.name], "inputs": task.inputs()} for task in batch}
            _write_record(out, fused)
    return [task.folder for task in tasks]


def _separators_of(fusion: BaseFusion, file: Path, given: Sequence[str], store: StemStore) -> list[StoredSeparator]:
    """Separators that a fusion needs, by the labels of its inputs."""
    weights, described = fusion.constant_weights, fusion.separators_
    labels = list(described if weights is None else weights.separators)
    named = {text.partition("=")[0]: text for text in given}
    labels = labels or list(named)
    if not labels:
        raise ConfigError(f"{file}: the file does not name its separators; name them with --separators A,B,C")
    return [
        find_separator(named[label], store) if label in named else find_separator(label, store, described.get(label))
        for label in labels
    ]


def _output_folders(paths: Sequence[Path], out: Path) -> dict[str, Track]:
    """Every track by the folder below ``out`` that its stems are written to."""
    tracks: dict[str, Track] = {}
    for path in paths:
        for track in open_data(path):
            name = str(Path(track.name) if track.subset == SONGS else Path(track.subset, track.name))
            if name in tracks:
                raise RunError(f"two tracks would be written to {out / name}; rename one, or fuse them one by one")
            tracks[name] = track
    return tracks


def _batches(tasks: Sequence[FuseTask], workers: int) -> Iterable[Sequence[FuseTask]]:
    """A few songs at a time, so that a command that is killed loses little."""
    size = 4 * workers
    return [tasks[start : start + size] for start in range(0, len(tasks), size)]


@contextmanager
def _temporary_store(out: Path) -> Iterator[Path]:
    """A store that goes when the command ends; the next command in this folder deletes what a killed one leaves."""
    folder = temporary_in(out)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_fused(task: FuseTask, wanted: str, done: Any) -> bool:
    """Whether a song was fused from the same song, fusion and stems before."""
    if not isinstance(done, dict) or done.get("digest") != wanted or not task.folder.is_dir():
        return False
    inputs = done.get("inputs")
    return isinstance(inputs, dict) and all(inputs.get(label) == sha for label, sha in task.inputs().items())


def _read_record(out: Path) -> dict[str, Any]:
    try:
        record = json.loads((out / RECORD).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(out: Path, fused: Mapping[str, Any]) -> None:
    write_whole(out / RECORD, lambda file: file.write(json.dumps(fused, ensure_ascii=False, indent=1).encode()))
