"""The stage that scores: separators and fusions of a run, or folders of estimates, whoever made them."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stemfuse.blending import load_fusion
from stemfuse.experiments.config import ScoreConfig
from stemfuse.experiments.contents import in_threads
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.parts import find_parts, part_name, write_part
from stemfuse.experiments.plan import Plan, numeric_versions
from stemfuse.experiments.record import RunRecord
from stemfuse.experiments.run import PARTS, Run
from stemfuse.experiments.workers import Progress, cores, few_threads, run_all, silent
from stemfuse.separators import Contents, Stems, Track
from stemfuse.separators.audio.whole_files import clear_remains_below

from .estimates import Estimates, find_estimates, name_methods

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
    folder: Path
    """Of the parts."""
    parts: Mapping[str, str]
    """By method, the name of its scores. Methods without one are not scored, only written."""
    options: ScoreConfig


def score_one(task: ScoreTask) -> None:
    """Score one track; each method's scores become a file of their own."""
    from stemfuse.analysis import score_track

    opened = {label: method.stems(task.track) for label, method in task.methods.items()}
    wanted = {label: stems for label, stems in opened.items() if label in task.parts}
    if not wanted:
        return
    # one thread each: museval's values for nearly singular references depend on their number, ours then too
    with few_threads(1):
        scores = score_track(task.track, wanted, threads=1, **task.options.model_dump())
    for label in wanted:
        write_part(scores[scores["fusion"] == label], task.folder, task.parts[label])


def score(plan: Plan, run: Run, progress: Progress) -> None:
    """Fuse and score every test track with references, method by method; what was scored before is kept."""
    from stemfuse.analysis import write_museval_json, write_scores

    record = run.record()
    # a song without references is fused, if estimates are wanted, and not scored
    wanted = {
        planned.track: _parts_of(plan, run, record, planned.track) if planned.track.references is not None else {}
        for planned in plan.tested()
    }
    names = [name for parts in wanted.values() for name in parts.values()]
    folder = run.path / PARTS
    folder.mkdir(parents=True, exist_ok=True)
    present = find_parts(folder, names)
    tasks = [
        task for track, parts in wanted.items() for task in _tasks_of(plan, run, record, track, parts, present.keys())
    ]
    run_all(score_one, tasks, plan.workers, "score", progress, lambda task: task.track.name)
    table = read_parts(folder, names)
    write_scores(table, run.scores_path)
    run.checksums.keep([run.scores_path])
    write_museval_json(table[table["frame"] >= 0], run.path / "museval")


def _parts_of(plan: Plan, run: Run, record: RunRecord, track: Track) -> dict[str, str]:
    """Names of the scores of every method."""
    content, kept = plan.store.content(track, plan.keys), run.checksums.read()
    audio = {what: content[what] for what in content if what != "stems"}
    stems: dict[str, object] = dict(content["stems"])
    for label, fusion in record.fusions.items():
        # not the journal of a search, which grows
        files = [kept.get(file, ("",))[0] for file in fusion.files if file not in (fusion.journal, fusion.history)]
        stems[label] = [fusion.digest, files, content["stems"]]
    about = {"audio": audio, "score": plan.config.score.model_dump(), "versions": numeric_versions()}
    return {label: part_name(label=label, stems=method, **about) for label, method in stems.items()}


def _tasks_of(
    plan: Plan, run: Run, record: RunRecord, track: Track, parts: Mapping[str, str], present: Collection[str]
) -> list[ScoreTask]:
    """What is left to do for one track; one song may take longer than all others together: its methods are shared."""
    folders = {label: run.path / "estimates" / label / track.subset / track.name for label in record.fusions}
    if not plan.config.estimates or all(folder.is_dir() for folder in folders.values()):
        folders = {}
    missing = [label for label, name in parts.items() if name not in present]
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
            run.path / PARTS,
            {label: parts[label] for label in group if label in missing},
            plan.config.score,
        )
        for group in groups
    ]


def read_parts(folder: Path, names: Sequence[str]) -> pd.DataFrame:
    """One table of the scores of single tracks and methods."""
    import pandas as pd

    from stemfuse.analysis import read_scores

    if not names:
        raise RunError("no test track has references: nothing can be scored; use stemfuse fuse for songs without them")
    present = find_parts(folder, names)
    if missing := set(names) - present.keys():
        raise RunError(f"{folder}: {len(missing)} of {len(names)} files of scores cannot be read; run again")
    return pd.concat([read_scores(present[name]) for name in names], ignore_index=True)


def score_folders(
    references: Path,
    estimates: Sequence[Path],
    options: ScoreConfig,
    out: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
    model: str | None = None,
) -> pd.DataFrame:
    """Score estimates on the tracks they belong to.

    Parameters
    ----------
    references : Path
        A data set with references, or one folder of sources.
    estimates : sequence of Path
        One per method, in any layout that `find_stems` reads: museval's tree ``<subset>/<track>/<source>.wav``, those
        of other tools, or, for one folder of references, one folder of estimates. The folder's name is the method's.
    options : ScoreConfig
        Window, hop and backend.
    out : Path, optional
        Folder for ``scores.parquet``, ``museval/`` and ``summary.csv``; what was scored there before is kept.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.
    model : str, optional
        Which one, where a folder of estimates has stems by several models.

    Returns
    -------
    DataFrame
        One row per method and metric: medians over frames, then tracks, by source, with counts of dropped frames.

    Raises
    ------
    TrackError
        There are no estimates by a method, or two files are the same stem.
    ConfigError
        Two methods have one name.
    """
    from stemfuse.analysis import summarise, write_museval_json, write_scores

    named = name_methods(estimates)
    tracks = [track for track in open_data(references, mixture="sum") if track.references is not None]
    found = find_estimates(tracks, named, model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(out or temporary) / PARTS
        folder.mkdir(parents=True, exist_ok=True)
        clear_remains_below(folder)
        contents = Contents(folder / "contents")
        wanted = in_threads(lambda one: _names_of(*one, contents, options), found, workers or cores(), "read", progress)
        present = find_parts(folder, [name for names in wanted for name in names.values()])
        tasks = []
        for (track, methods), names in zip(found, wanted, strict=True):
            missing = {label: name for label, name in names.items() if name not in present}
            tasks += [ScoreTask(track, {label: methods[label] for label in missing}, folder, missing, options)]
        unfinished = [task for task in tasks if task.parts]
        run_all(score_one, unfinished, workers or cores(), "score", progress, lambda task: task.track.name)
        table = read_parts(folder, [name for names in wanted for name in names.values()])
    summary = summarise(table, common_tracks=False)
    if out is not None:
        write_scores(table, out / "scores.parquet")
        for subset in {track.subset for track, _ in found}:
            of_subset = {track.name for track, _ in found if track.subset == subset}
            write_museval_json(table[table["track"].isin(of_subset)], out / "museval", subset)
        summary.to_csv(out / "summary.csv", index=False)
    return summary


def _names_of(
    track: Track, methods: Mapping[str, Estimates], contents: Contents, options: ScoreConfig
) -> dict[str, str]:
    """Names of the scores of a track by method."""
    references = track.required_references()
    audio = {source: contents.sha256(references[source]) for source in references.sources}
    about = {"track": track.name, "references": audio, "score": options.model_dump(), "versions": numeric_versions()}
    return {
        label: part_name(label=label, estimates=estimates.content(contents), **about)
        for label, estimates in methods.items()
    }
