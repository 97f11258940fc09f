"""The stage that scores: separators and fusions of a run, or folders of estimates, whoever made them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stemfuse.blending import load_fusion
from stemfuse.experiments.config import ScoreConfig
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.plan import Plan
from stemfuse.experiments.record import RunRecord
from stemfuse.experiments.run import PARTS, Run
from stemfuse.experiments.workers import Progress, cores, few_threads, run_all, silent
from stemfuse.separators import Stems, Track, digest, file_stamp

from .estimates import EstimatesFolder, find_estimates, name_methods

if TYPE_CHECKING:
    import pandas as pd

METHODS = 6
"""Methods scored at a time by a process: more of them read references less often, fewer let cores share a song."""


class Method(Protocol):
    """What is scored; travels to another process."""

    def stems(self, track: Track) -> Stems:
        """Its estimates of one track."""
        ...


@dataclass(frozen=True)
class SeparatorMethod:
    """A single separator, whose stems the track has."""

    label: str

    def stems(self, track: Track) -> Stems:
        """Stems of one track."""
        return track.stems[self.label]


@dataclass(frozen=True)
class FusionMethod:
    """A saved fusion of the stems that the track has; its own stems are written into a folder when there is one."""

    file: Path
    folder: Path | None

    def stems(self, track: Track) -> Stems:
        """Fused stems of one track."""
        fused = load_fusion(self.file).fuse(track)
        if self.folder is not None:
            fused.write(self.folder)
        return fused


@dataclass(frozen=True)
class ScoreTask:
    """One track to be scored by some methods; travels to another process."""

    track: Track
    methods: Mapping[str, Method]
    parts: Mapping[str, Path]
    """By method, the file of its scores. Methods without one are not scored, only written."""
    options: ScoreConfig


def score_one(task: ScoreTask) -> None:
    """Score one track; each method's scores become a file of their own."""
    from stemfuse.analysis import score_track, write_scores

    opened = {label: method.stems(task.track) for label, method in task.methods.items()}
    wanted = {label: stems for label, stems in opened.items() if label in task.parts}
    if not wanted:
        return
    # one thread each: museval's values for nearly singular references depend on their number, ours then too
    with few_threads(1):
        scores = score_track(task.track, wanted, threads=1, **task.options.model_dump())
    for label in wanted:
        write_scores(scores[scores["fusion"] == label], task.parts[label])


def score(plan: Plan, run: Run, progress: Progress) -> None:
    """Fuse and score every test track with references, method by method; what was scored before is kept."""
    from stemfuse.analysis import write_museval_json, write_scores

    record = run.record()
    tasks: list[ScoreTask] = []
    parts: list[Path] = []
    for planned in plan.tested():
        # a song without references is fused, if estimates are wanted, and not scored
        scored = planned.track.references is not None
        wanted = _parts_of(plan, run, record, planned.track) if scored else {}
        parts += wanted.values()
        tasks += _tasks_of(plan, run, record, planned.track, wanted)
    (run.path / PARTS).mkdir(parents=True, exist_ok=True)
    run_all(score_one, tasks, plan.workers, "score", progress, lambda task: task.track.name)
    table = read_parts(parts)
    write_scores(table, run.scores_path)
    write_museval_json(table[table["frame"] >= 0], run.path / "museval")


def _parts_of(plan: Plan, run: Run, record: RunRecord, track: Track) -> dict[str, Path]:
    """Where the scores of every method lie; the name says what they depend on, so none is ever stale."""
    methods: dict[str, object] = dict(plan.keys)
    for label, fusion in record.fusions.items():
        methods[label] = (fusion.digest, plan.keys)
    song, options = [track.subset, track.name, file_stamp(track.mixture)], plan.config.score.model_dump()
    names = {
        label: digest({"method": [label, method], "track": song, "score": options})[:24]
        for label, method in methods.items()
    }
    return {label: run.path / PARTS / f"{name}.parquet" for label, name in names.items()}


def _tasks_of(plan: Plan, run: Run, record: RunRecord, track: Track, parts: Mapping[str, Path]) -> list[ScoreTask]:
    """What is left to do for one track; one song may take longer than all others together: its methods are shared."""
    folders = {label: run.path / "estimates" / label / track.subset / track.name for label in record.fusions}
    if not plan.config.estimates or all(folder.is_dir() for folder in folders.values()):
        folders = {}
    missing = [label for label, path in parts.items() if not path.is_file()]
    groups = [missing[start : start + METHODS] for start in range(0, len(missing), METHODS)]
    if folders:
        only_written = [label for label in folders if label not in missing]
        groups = [[*(groups[0] if groups else []), *only_written], *groups[1:]]
    if not groups:
        return []
    methods: dict[str, Method] = {label: SeparatorMethod(label) for label in plan.keys}
    for label, fusion in record.fusions.items():
        methods[label] = FusionMethod(run.path / fusion.file, folders.get(label))
    attached = plan.store.attach(track, plan.keys)
    return [
        ScoreTask(
            attached,
            {label: methods[label] for label in group},
            {label: parts[label] for label in group if label in missing},
            plan.config.score,
        )
        for group in groups
    ]


def read_parts(parts: Sequence[Path]) -> pd.DataFrame:
    """One table of the scores of single tracks and methods."""
    import pandas as pd

    from stemfuse.analysis import read_scores

    if not parts:
        raise RunError("no test track has references: nothing can be scored; use stemfuse fuse for songs without them")
    return pd.concat([read_scores(part) for part in parts], ignore_index=True)


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
        There are no estimates, or a track is missing in the estimates of some methods.
    """
    from stemfuse.analysis import summarise, write_museval_json, write_scores

    tracks = [track for track in open_data(references, mixture="sum") if track.references is not None]
    found = find_estimates(tracks, name_methods(estimates))
    with tempfile.TemporaryDirectory() as temporary:
        parts = Path(out or temporary) / PARTS
        parts.mkdir(parents=True, exist_ok=True)
        wanted = [
            {label: parts / f"{estimate.digest(track, label, options)}.parquet" for label, estimate in methods.items()}
            for track, methods in found
        ]
        tasks = [_task_of(*one, paths, options) for one, paths in zip(found, wanted, strict=True)]
        unfinished = [task for task in tasks if task.parts]
        run_all(score_one, unfinished, workers or cores(), "score", progress, lambda task: task.track.name)
        table = read_parts([path for paths in wanted for path in paths.values()])
    summary = summarise(table)
    if out is not None:
        write_scores(table, out / "scores.parquet")
        for subset in {track.subset for track, _ in found}:
            names = {track.name for track, _ in found if track.subset == subset}
            write_museval_json(table[table["track"].isin(names)], out / "museval", subset)
        summary.to_csv(out / "summary.csv", index=False)
    return summary


def _task_of(
    track: Track, methods: Mapping[str, EstimatesFolder], parts: Mapping[str, Path], options: ScoreConfig
) -> ScoreTask:
    """Methods of a track whose scores are missing."""
    missing = {label: path for label, path in parts.items() if not path.is_file()}
    return ScoreTask(track, {label: methods[label] for label in missing}, missing, options)
