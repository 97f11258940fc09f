"""Scoring folders of estimates, whoever made them, against a data set's references."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.experiments.config import ScoreConfig
from stemfuse.experiments.data.datasets import open_data
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.plan import Plan
from stemfuse.experiments.run import PARTS, Run
from stemfuse.experiments.workers import Progress, cores, few_threads, run_all, silent
from stemfuse.separators import SOURCES, Signal, Stems, StemStore, Track, TrackError, digest, file_stamp, fit_length

if TYPE_CHECKING:
    import pandas as pd

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".wav", ".flac")


@dataclass(frozen=True)
class FolderTask:
    """One track with the folders of its estimates, and where each method's scores go."""

    track: Track
    folders: Mapping[str, Path]
    parts: Mapping[str, Path]
    options: ScoreConfig


def score_folders(
    references: Path,
    estimates: Sequence[Path],
    options: ScoreConfig,
    out: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Score estimates on the tracks they belong to.

    Parameters
    ----------
    references : Path
        A data set with references, or one folder of sources.
    estimates : sequence of Path
        One per method: museval's tree ``<subset>/<track>/<source>.wav``, a tree ``<track>/<source>.wav``, or, for
        one folder of references, one folder of estimates. The folder's name is the method's.
    options : ScoreConfig
        Window, hop and backend.
    out : Path, optional
        Folder for ``scores.parquet``, ``museval/`` and ``summary.csv``; what was scored there before is kept.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    DataFrame
        One row per method and metric: medians over frames, then tracks, by source, with counts of dropped frames.

    Raises
    ------
    TrackError
        There are no estimates, or one method lacks tracks that another one has.
    """
    from stemfuse.analysis import summarise, write_museval_json, write_scores

    data = open_data(references, mixture="sum")
    tracks = [track for subset in data.subsets for track in data.tracks(subset) if track.references is not None]
    methods = _name_methods(estimates)
    with tempfile.TemporaryDirectory() as temporary:
        parts = Path(out or temporary) / PARTS
        parts.mkdir(parents=True, exist_ok=True)
        tasks = _plan(tracks, methods, parts, options, single=len(tracks) == 1)
        lacking = [task for task in tasks if not all(path.is_file() for path in task.parts.values())]
        run_all(score_folder, lacking, workers or cores(), "score", progress, lambda task: task.track.name)
        table = read_parts([path for task in tasks for path in task.parts.values()])
    summary = summarise(table)
    if out is not None:
        write_scores(table, out / "scores.parquet")
        for subset in {task.track.subset for task in tasks}:
            names = {task.track.name for task in tasks if task.track.subset == subset}
            write_museval_json(table[table["track"].isin(names)], out / "museval", subset)
        summary.to_csv(out / "summary.csv", index=False)
    return summary


def score_folder(task: FolderTask) -> None:
    """Score one track's estimates; each method's scores become a file of their own."""
    from stemfuse.analysis import score_track, write_scores

    wanted = {
        label: open_estimates(folder, task.track)
        for label, folder in task.folders.items()
        if not task.parts[label].is_file()
    }
    # one thread each: museval's values for nearly singular references depend on their number, ours then too
    with few_threads(1):
        scores = score_track(task.track, wanted, threads=1, **task.options.model_dump())
    for label in wanted:
        write_scores(scores[scores["fusion"] == label], task.parts[label])


def open_estimates(folder: Path, track: Track) -> Stems:
    """Estimates of one track, as long as its mixture by the rule of `fit_length`."""
    from stemfuse.separators import open_signal

    signals: dict[str, Signal] = {}
    for source, path in _files(folder).items():
        signals[source], _ = fit_length(open_signal(path), track.length)
    return Stems.from_signals(signals)


def _files(folder: Path) -> dict[str, Path]:
    """Files of the sources in a folder, in order."""
    found = {}
    for source in SOURCES:
        paths = [folder / f"{source}{suffix}" for suffix in SUFFIXES if (folder / f"{source}{suffix}").is_file()]
        if paths:
            found[source] = paths[0]
    return found


def _name_methods(estimates: Sequence[Path]) -> dict[str, Path]:
    """Folders by their names; folders of one name are told apart by their parents'."""
    names = [path.resolve().name for path in estimates]
    return {
        (name if names.count(name) == 1 else f"{path.resolve().parent.name}_{name}"): path
        for name, path in zip(names, estimates, strict=True)
    }


def _plan(
    tracks: Sequence[Track], methods: Mapping[str, Path], parts: Path, options: ScoreConfig, single: bool
) -> list[FolderTask]:
    """One task per track that has estimates."""
    tasks = []
    for track in tracks:
        folders = {}
        for label, root in methods.items():
            # other tools keep validation tracks where their files are, in train
            subsets = (track.subset, "train") if track.subset == "valid" else (track.subset,)
            places = [
                *(root / subset / track.name for subset in subsets),
                root / track.name,
                *([root] if single else []),
            ]
            found = next((place for place in places if _files(place)), None)
            if found is not None:
                folders[label] = found
        if not folders:
            continue
        if len(folders) < len(methods):
            lacking = ", ".join(sorted(methods.keys() - folders.keys()))
            raise TrackError(
                f"track {track.name!r} has estimates by {', '.join(folders)}, none by {lacking}; methods are "
                "compared on the same tracks: complete them, or score this method alone"
            )
        names = {
            label: parts / f"{_part_name(track, label, folder, options)}.parquet" for label, folder in folders.items()
        }
        tasks.append(FolderTask(track, folders, names, options))
    if not tasks:
        expected = "<subset>/<track>/<source>.wav or <track>/<source>.wav"
        raise TrackError(
            f"no estimates of the {len(tracks)} tracks with references in {', '.join(map(str, methods.values()))}; "
            f"expected {expected}"
        )
    return tasks


def _part_name(track: Track, label: str, folder: Path, options: ScoreConfig) -> str:
    from stemfuse.separators import open_signal

    references = track.required_references()
    heard = [file_stamp(references[source]) for source in references.sources]
    heard += [file_stamp(open_signal(path)) for path in _files(folder).values()]
    return digest({"label": label, "track": track.name, "heard": heard, "score": options.model_dump()})[:24]


METHODS = 6
"""Methods scored at a time by a process: more of them read references less often, fewer let cores share a song."""


def score(plan: Plan, result: Run, record: dict[str, Any], progress: Progress) -> None:
    """Fuse and score every test track with references, method by method, keeping what was scored before."""
    from stemfuse.analysis import write_museval_json, write_scores

    tasks: list[ScoreTask] = []
    parts: list[Path] = []
    for planned in plan.tested():
        # a song without references is fused, if estimates are wanted, and not scored
        scored = planned.track.references is not None
        wanted = _wanted_parts(plan, result, record, planned.track) if scored else {}
        parts += wanted.values()
        lacking = {label: path for label, path in wanted.items() if not path.is_file()}
        estimates = plan.config.estimates and not _has_estimates(result, record, planned.track)
        labels, place = list(lacking), (result.path, plan.store.root, plan.keys, planned.track)
        # one song may take longer than all others together: its methods are shared out
        for start in range(0, max(len(labels), int(estimates)), METHODS):
            some = {label: lacking[label] for label in labels[start : start + METHODS]}
            tasks.append(ScoreTask(*place, some, plan.config.score, estimates and start == 0))
    (result.path / PARTS).mkdir(parents=True, exist_ok=True)
    run_all(score_one, tasks, plan.workers, "score", progress, lambda task: task.track.name)
    table = read_parts(parts)
    write_scores(table, result.scores_path)
    write_museval_json(table[table["frame"] >= 0], result.path / "museval")


@dataclass(frozen=True)
class ScoreTask:
    """One track to be fused and scored by some methods; travels to another process."""

    run: Path
    store: Path
    keys: Mapping[str, str]
    track: Track
    parts: Mapping[str, Path]
    options: ScoreConfig
    estimates: bool


def _wanted_parts(plan: Plan, result: Run, record: Mapping[str, Any], track: Track) -> dict[str, Path]:
    """Where the scores of every method lie; the name says what they depend on, so none is ever stale."""
    methods: dict[str, Any] = dict(plan.keys)
    for label, fusion in record["fusions"].items():
        methods[label] = (fusion["digest"], plan.keys)
    options = plan.config.score.model_dump()
    return {
        label: result.path
        / PARTS
        / (
            digest(
                {
                    "method": [label, method],
                    "track": [track.subset, track.name, file_stamp(track.mixture)],
                    "score": options,
                }
            )[:24]
            + ".parquet"
        )
        for label, method in methods.items()
    }


def _has_estimates(result: Run, record: Mapping[str, Any], track: Track) -> bool:
    return all((result.path / "estimates" / label / track.subset / track.name).is_dir() for label in record["fusions"])


def score_one(task: ScoreTask) -> None:
    """Fuse one track and score it; each method's scores become a file of their own."""
    from stemfuse.analysis import score_track, write_scores

    run = Run(task.run)
    track = StemStore(task.store).attach(task.track, task.keys)
    methods: dict[str, Stems] = {label: track.stems[label] for label in task.keys if label in task.parts}
    for label in run.record()["fusions"]:
        if label in task.parts or task.estimates:
            methods[label] = run.fusion(label).fuse(track)
    if task.estimates:
        for label in methods.keys() - task.keys.keys():
            methods[label].write(run.path / "estimates" / label / track.subset / track.name)
    if not task.parts:
        return
    wanted = {label: stems for label, stems in methods.items() if label in task.parts}
    # one thread each: museval's values for nearly singular references depend on their number, ours then too
    with few_threads(1):
        scores = score_track(track, wanted, threads=1, **task.options.model_dump())
    for label, path in task.parts.items():
        write_scores(scores[scores["fusion"] == label], path)


def read_parts(parts: Sequence[Path]) -> pd.DataFrame:
    """One table of the scores of single tracks and methods."""
    import pandas as pd

    from stemfuse.analysis import read_scores

    if not parts:
        raise RunError("no test track has references: nothing can be scored; use stemfuse fuse for songs without them")
    return pd.concat([read_scores(part) for part in parts], ignore_index=True)
