"""The stage that fuses: songs by a saved fusion, with stems from the store, else by the separators of its file."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stemfuse.blending import BaseFusion, LinearFusion, load_fusion
from stemfuse.blending.fused_separator import check_acyclic, described_separators
from stemfuse.experiments.checksums import Checksums
from stemfuse.experiments.conversion import fuse_track, save_weights
from stemfuse.experiments.data import SONGS, MixtureRule, is_audio_file, open_data
from stemfuse.experiments.errors import ConfigError, RunError
from stemfuse.experiments.identity import fit_versions, sha256_of
from stemfuse.experiments.outputs import check_store
from stemfuse.experiments.stored_separators import StoredSeparator, check_labels, find_separator
from stemfuse.experiments.workers import Progress, cores, few_threads, run_all, silent
from stemfuse.separators import StemfuseError, StemStore, Sums, Track, digest, matched, parse_sources, write_whole
from stemfuse.separators.audio.levels import check_subtype
from stemfuse.separators.audio.whole_files import clear_remains, temporary_in
from stemfuse.separators.foreign.documents import read_object
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.store import file_stamp
from stemfuse.separators.store.found_stems import How

from .separate import make_missing
from .song_stems import sources_to_take, take_stems

log = logging.getLogger(__name__)

RECORD = ".fused.json"
"""File of an output folder with a digest of what each track was fused from: an interrupted command goes on there."""

CHECKSUMS = ".checksums.json"
"""File of an output folder with checksums of what was written there."""


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
    convert: bool = False
    sums: Mapping[str, Sums] = field(default_factory=dict)
    """By separator, what its stems are summed up to before they are fused."""
    given: Path | None = None
    """Store of the stems that were given for these songs."""
    given_keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Folder of the fused stems."""
        return self.out / self.name

    def digest(self, fusion_sha256: Sequence[str]) -> str:
        """Digest of song and fusion, by the digests of its files; inputs and versions are on record beside it."""
        mixture = StemStore(self.store).contents.sha256(self.track.mixture)
        written = [self.subtype, self.save_weights]
        about = {"fusion": list(fusion_sha256), "keys": self.keys, "song": mixture, "as": written}
        return digest(about | ({"given": sorted(self.given_keys)} if self.given_keys else {}))

    def inputs(self) -> dict[str, str]:
        """Digests of the stems that are in the store, by separator."""
        store = StemStore(self.store)
        present = {label: store.content_of(self.track, key) for label, key in self.keys.items()}
        if self.given is not None:
            given = StemStore(self.given)
            present |= {label: given.content_of(self.track, key) for label, key in self.given_keys.items()}
        return {label: content for label, content in present.items() if content is not None}


def fuse_one(task: FuseTask) -> None:
    """Fuse one song into its folder; every file appears whole or not at all."""
    fusion = load_fusion(task.fusion)
    track = StemStore(task.store).attach(task.track, task.keys)
    if task.given is not None:
        track = StemStore(task.given).attach(track, task.given_keys)
    track = matched(track, recorded=task.sums)
    with few_threads(1):
        fuse_track(fusion, track, task.convert).write(task.folder, task.subtype)
        if task.save_weights and isinstance(fusion, LinearFusion):
            save_weights(fusion, track, task.folder, task.convert)


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
    convert: bool = False,
    mixture: MixtureRule = "file",
    stems: Mapping[str, Path] = MappingProxyType({}),
    replace: bool = False,
    how: How = "refuse",
    models: Mapping[str, str] = MappingProxyType({}),
    sources: Sums | None = None,
) -> list[Path]:
    """Fuse songs and data sets with a saved fusion.

    Parameters
    ----------
    file : Path
        What a fusion's ``save`` wrote.
    paths : sequence of Path
        Data sets or songs.
    out : Path
        ``OUT/<subset>/<track>/<source>.wav`` for data sets, ``OUT/<song>/<source>.wav`` for songs; in
        ``OUT/<data set>`` where several data sets have a song of one name.
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
    convert : bool
        Whether songs are converted to the rate and channels that separators and fusion need, and what is made of them
        back: it has each song's own.
    mixture : {"file", "sum"}
        See `stemfuse.experiments.data.open_data`.
    stems : mapping of str to Path
        Folders with stems of these songs that other tools made, by the separator's label; see `take_stems`.
    replace : bool
        Whether stems in ``out`` that were fused from another song, or by another fusion, are replaced.
    how : {"refuse", "shift", "as-is"}
        What to do with stems in ``stems`` that are offset against their song; see `take_stems`.
    models : mapping of str to str
        By the separator's label, which model's stems are taken from its folder in ``stems``, where it has several.
    sources : mapping, optional
        Names of files that are sources, where nobody knows them.

    Returns
    -------
    list of Path
        Folder of every track.

    Raises
    ------
    StemfuseError
        The file holds no fusion, stems cannot be made, one song is given twice, or other stems lie where they would be
        written.
    """
    fusion, subtype = load_fusion(file), check_subtype(Path("stem.wav"), subtype)
    if save_weights and not fusion.is_linear:
        raise ConfigError(f"{file}: a {fusion.kind} fusion has no weights to save; leave out --save-weights")
    workers = workers or cores()
    with ExitStack() as stack:
        if store is not None:
            check_store(store)
        clear_remains(out)
        folders = _output_folders(paths, out, mixture, sources)
        if store is None:
            store = stack.enter_context(_temporary_store(out))
        target = StemStore(store)
        check_labels([find_separator(text, target) for text in separators])
        check_acyclic(file)
        chosen = _separators_of(fusion, file, separators, target, stems)
        keys = {separator.label: separator.key for separator in chosen}
        described = {label: dict(fusion.separators_.get(label, {})) for label in keys}
        sums = {label: parse_sources(each["sums"]) for label, each in described.items() if each.get("sums")}
        given, given_keys = None, dict[str, str]()
        if stems:
            given = stack.enter_context(_temporary_store(out))
            songs, needed = list(folders.values()), sources_to_take(fusion, sums)
            taken = take_stems(stems, songs, StemStore(given), convert, how, needed, models)
            given_keys = {separator.label: separator.key for separator in taken}
        tasks = [
            FuseTask(file, store, keys, track, out, name, subtype, save_weights, convert, sums, given, given_keys)
            for name, track in folders.items()
        ]
        made_of = {"sha256": sha256_of(_files_of(fusion, file)), "versions": fit_versions(fusion)}

        def is_current(task: FuseTask) -> bool:
            given = [separator for separator in chosen if target.content_of(task.track, separator.key) is not None]
            return all(separator.is_current(task.track, target) for separator in given)

        def make(missing: Sequence[FuseTask]) -> None:
            make_missing([task.track for task in missing], chosen, target, workers, progress, convert)

        _fuse_missing(tasks, out, made_of, is_current, make, workers, replace, progress)
        for task in tasks:
            clear_remains(task.folder)
    return [task.folder for task in tasks]


def _fuse_missing(
    tasks: Sequence[FuseTask],
    out: Path,
    made_of: Mapping[str, Any],
    is_current: Callable[[FuseTask], bool],
    make: Callable[[Sequence[FuseTask]], None],
    workers: int,
    replace: bool,
    progress: Progress,
) -> None:
    """Fuse what is not there yet, or was fused from something else; its stems are made first."""
    wanted = {task.name: {"digest": task.digest(made_of["sha256"]), "versions": made_of["versions"]} for task in tasks}
    fused, kept = _read_record(out), Checksums(out, out / CHECKSUMS)
    again, edited = _to_repair(tasks, kept, replace)
    missing = [
        task
        for task in tasks
        if task in again
        or not (task in edited or (_is_fused(task, wanted[task.name], fused.get(task.name)) and is_current(task)))
    ]
    if not replace:
        _check_places([*missing, *edited], wanted, fused)
    make(missing)
    for batch in _batches(missing, workers):
        # whose folders they are is known even when this is killed before they are done
        fused |= {task.name: wanted[task.name] for task in batch}
        _write_record(out, fused)
        with _on_record(batch, kept):
            run_all(fuse_one, batch, workers, "fuse", progress, lambda task: task.track.name)
        fused |= {task.name: {**wanted[task.name], "inputs": task.inputs()} for task in batch}
        _write_record(out, fused)


def _separators_of(
    fusion: BaseFusion, file: Path, given: Sequence[str], store: StemStore, stems: Mapping[str, Path]
) -> list[StoredSeparator]:
    """Separators that a fusion needs, by the labels of its inputs, but for those whose stems are given."""
    weights, described = fusion.constant_weights, described_separators(fusion, file)
    labels = list(described if weights is None else weights.separators)
    named = {text.partition("=")[0]: text for text in given}
    if twice := [label for label in named if label in stems]:
        raise ConfigError(f"got {twice[0]} in --separators and in --stems; name it in one of them")
    if labels and (unknown := [label for label in stems if label not in labels]):
        near = did_you_mean(unknown[0], labels)
        raise ConfigError(f"got --stems {unknown[0]}=...{near}; {file} fuses {', '.join(labels)}: use these labels")
    labels = labels or [*named, *(label for label in stems if label not in named)]
    if not labels:
        raise ConfigError(f"{file}: the file does not name its separators; name them with --separators A,B,C")
    labels = [label for label in labels if label not in stems]
    return [
        find_separator(named[label], store) if label in named else find_separator(label, store, described.get(label))
        for label in labels
    ]


def _output_folders(paths: Sequence[Path], out: Path, mixture: MixtureRule, sources: Sums | None) -> dict[str, Track]:
    """Every track by the folder below ``out`` that its stems are written to."""
    tracks = [track for path in paths for track in open_data(path, mixture, sources, complete=False)]
    names = [str(Path(track.name) if track.subset == SONGS else Path(track.subset, track.name)) for track in tracks]
    # songs of one name lie in their data sets' folders, with all that are of these, so that each is a tree of its own
    sets = [track.data_set or track.data for track in tracks]
    apart = {own for own, name in zip(sets, names, strict=True) if names.count(name) > 1}
    for own in sorted(apart):
        log.warning("other data sets have songs of the same names: those of %s are in %s", own, out / own)
    folders: dict[str, Track] = {}
    for track, own, name in zip(tracks, sets, names, strict=True):
        place = str(Path(own, name)) if own in apart else name
        if place in folders:
            raise RunError(f"two tracks would be written to {out / place}; rename one, or fuse them one by one")
        folders[place] = track
    return folders


def _files_of(fusion: BaseFusion, file: Path) -> tuple[Path, ...]:
    """All files of a saved fusion; of several, a fusion can be read by the name of any of the first two."""
    return fusion.saved_files(file.with_suffix(fusion.suffix) if file.suffix in (".json", ".safetensors") else file)


def _is_of(task: FuseTask, name: str) -> bool:
    """Whether a file on record is one that was written of a song."""
    file = task.out / name
    return file.parent == task.folder and (file.suffix == ".wav" or file.match("weights*.npz"))


@contextmanager
def _on_record(batch: Sequence[FuseTask], kept: Checksums) -> Iterator[None]:
    """Keep checksums of what the block writes; what another fusion wrote of the songs goes, other files stay."""

    def is_own(name: str) -> bool:
        return any(_is_of(task, name) for task in batch)

    def stamps() -> dict[Path, list[int]]:
        found = (file for task in batch if task.folder.is_dir() for file in task.folder.iterdir() if file.is_file())
        return {file: file_stamp(file) for file in sorted(found)}

    kept.forget(is_own)
    before = stamps()
    yield
    kept.discard_old(is_own)
    kept.keep(file for file, stamp in stamps().items() if before.get(file) != stamp)


def _to_repair(tasks: Sequence[FuseTask], kept: Checksums, replace: bool) -> tuple[list[FuseTask], list[FuseTask]]:
    """Songs of which a stem is missing, and those with a changed one: it may have been edited, is named, and stays."""
    changed = kept.changed()
    again, left = [], []
    for task in tasks:
        own = [name for name in changed if _is_of(task, name)]
        edited = [name for name in own if (kept.folder / name).exists()]
        if edited and not replace:
            log.warning(
                "%s: damaged or changed since it was fused, and left as it is; --replace makes it again",
                ", ".join(str(kept.folder / name) for name in edited),
            )
            left.append(task)
        elif own:
            again.append(task)
    return again, left


def _check_places(tasks: Sequence[FuseTask], wanted: Mapping[str, Any], fused: Mapping[str, Any]) -> None:
    """Refuse to write over stems of another song or fusion, before anything is computed."""
    taken = [task for task in tasks if _is_taken(task, wanted[task.name], fused.get(task.name))]
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise RunError(
            f"{taken[0].folder}{more}: stems of another song, or by another fusion, are there already; choose another "
            "--out, or replace them with --replace"
        )


def _is_taken(task: FuseTask, wanted: Mapping[str, Any], done: Any) -> bool:
    """Whether a folder has audio in it that is not from this song by this fusion."""
    is_own = isinstance(done, dict) and done.get("digest") == wanted["digest"]
    return not is_own and any(is_audio_file(file) for file in task.folder.glob("*"))


def _batches(tasks: Sequence[FuseTask], workers: int) -> Iterable[Sequence[FuseTask]]:
    """A few songs at a time, so that a command that is killed loses little."""
    size = 4 * workers
    return [tasks[start : start + size] for start in range(0, len(tasks), size)]


@contextmanager
def _temporary_store(out: Path) -> Iterator[Path]:
    """A store that goes when the command ends; the next command in this folder deletes what a killed one leaves."""
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    folder = temporary_in(out)
    folder.mkdir()
    try:
        yield folder
    except StemfuseError as error:
        error.args = tuple(str(part).replace(str(folder), "the temporary store") for part in error.args)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new and not any(out.iterdir()):
            out.rmdir()


def _is_fused(task: FuseTask, wanted: Mapping[str, Any], done: Any) -> bool:
    """Whether a song was fused from the same song, fusion and stems, by the same versions, before."""
    if not isinstance(done, dict) or not task.folder.is_dir():
        return False
    if any(done.get(name) != value for name, value in wanted.items()):
        return False
    inputs = done.get("inputs")
    return isinstance(inputs, dict) and all(inputs.get(label) == sha for label, sha in task.inputs().items())


def _read_record(out: Path) -> dict[str, Any]:
    try:
        return read_object(out / RECORD)
    except (OSError, ValueError):
        return {}


def _write_record(out: Path, fused: Mapping[str, Any]) -> None:
    write_whole(out / RECORD, lambda file: file.write(json.dumps(fused, ensure_ascii=False, indent=1).encode()))
