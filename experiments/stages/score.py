"""The stage that scores: separators and fusions of a run, or folders of estimates, whoever made them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stemfuse.experiments.checksums import Kept
from stemfuse.experiments.config import ScoreConfig
from stemfuse.experiments.contents import in_threads
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import ConfigError, RunError
from stemfuse.experiments.identity import numeric_versions
from stemfuse.experiments.parts import find_parts, part_name
from stemfuse.experiments.plan import Plan
from stemfuse.experiments.record import RunRecord
from stemfuse.experiments.run import ESTIMATES, PARTS, Run
from stemfuse.experiments.shares import take_scores
from stemfuse.experiments.workers import Progress, cores, run_all, silent
from stemfuse.separators import Contents, StemfuseError, Sums, Track, listed, track_labels
from stemfuse.separators.audio.whole_files import clear_remains_below
from stemfuse.separators.sources import scored_sums

from .estimates import EstimatedStems, Missing, find_estimates, name_methods, say_late
from .methods import Estimates, FusionMethod, Method, ScoreTask, SeparatorMethod, score_one
from .song_content import SongContent, song_content

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SCORES = "scores.parquet"

METHODS = 8
"""Methods scored at a time by a process: more of them read references less often, fewer let cores share a song."""


def score(plan: Plan, run: Run, progress: Progress) -> None:
    """Fuse and score every test track with references, method by method; what was scored before is kept."""
    from stemfuse.analysis import write_museval_json, write_scores

    record, tested = run.record(), [planned.track for planned in plan.tested()]
    used = {track: song_content(plan, run, record, track) for track in tested}
    # a song without references is fused, if estimates are wanted, and not scored
    wanted = {track: _parts_of(plan, used[track]) if track.references is not None else {} for track in tested}
    known = {track: _places_of(plan, run, record, track, used[track]) for track in tested}
    places = known if plan.config.estimates else {track: {} for track in tested}
    names = [name for parts in wanted.values() for name in parts.values()]
    folder = run.path / PARTS
    folder.mkdir(parents=True, exist_ok=True)
    take_scores(run)
    present = find_parts(folder, names)
    tasks = [
        task
        for track, parts in wanted.items()
        for task in _tasks_of(plan, run, record, track, parts, present.keys(), places[track])
    ]
    run_all(score_one, tasks, plan.workers, "score", progress, lambda task: task.track.name)
    labelled = [(name, plan.labels[track]) for track, parts in wanted.items() for name in parts.values()]
    table = read_parts(folder, names, [label for _, label in labelled])
    write_scores(table, run.scores_path)
    run.checksums.keep([run.scores_path])
    # those of a recipe that asked for them stay while they are of the same weights and stems
    written = [place for of_track in known.values() for place in of_track.values()]
    run.checksums.take(_on_record(run, [place for place in written if plan.config.estimates or place.are_whole()]))
    write_museval_json(table[table["frame"] >= 0], run.path / "museval")


def _parts_of(plan: Plan, used: SongContent) -> dict[str, str]:
    """Names of the scores of every method."""
    scored = plan.config.score.model_dump()
    about: dict[str, object] = {"audio": used.audio, "score": scored, "versions": numeric_versions()}
    if plan.config.sources is not None:
        about["sources"] = plan.config.sources
    if plan.picked:
        about["picked"] = plan.picked
    return {label: part_name(label=label, stems=method, **about) for label, method in used.methods.items()}


def _places_of(plan: Plan, run: Run, record: RunRecord, track: Track, used: SongContent) -> dict[str, Estimates]:
    """By fusion, where its stems of a track lie; the names of their records are of what they are made of."""
    places = {}
    for label in filter(used.methods.__contains__, record.fusions):
        name = part_name(
            estimates=label,
            stems=used.methods[label],
            mixture=used.audio["mixture"],
            track=[track.subset, track.name],
            versions=numeric_versions(),
        )
        folder = run.path / ESTIMATES / label / plan.folders[track]
        places[label] = Estimates(folder, run.path / PARTS / f"{name}.json")
    return places


def _on_record(run: Run, places: Sequence[Estimates]) -> Kept:
    """Checksums of all estimates, by path in the run's folder."""
    return {
        (place.folder / name).relative_to(run.path).as_posix(): entry
        for place in places
        for name, entry in place.checksums.read().items()
    }


def _tasks_of(
    plan: Plan,
    run: Run,
    record: RunRecord,
    track: Track,
    parts: Mapping[str, str],
    present: Collection[str],
    places: Mapping[str, Estimates],
) -> list[ScoreTask]:
    """What is left to do for one track; one song may take longer than all others together: its methods are shared."""
    unwritten = {label: place for label, place in places.items() if not place.are_whole()}
    missing = [label for label, name in parts.items() if name not in present]
    count = -(-len(missing) // METHODS)
    groups = [missing[number::count] for number in range(count)]
    if only_written := [label for label in unwritten if label not in missing]:
        groups = [[*(groups[0] if groups else []), *only_written], *groups[1:]]
    if not groups:
        return []
    methods: dict[str, Method] = {label: SeparatorMethod(label) for label in plan.keys_of(track)}
    for label, fusion in record.fusions.items():
        if file := fusion.file_of(plan.refit_of(track)):
            mixed = fusion.mixed_of(methods)
            methods[label] = FusionMethod(run.path / file, unwritten.get(label), plan.config.convert, mixed)
    attached = plan.attach(track)
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


def read_parts(folder: Path, names: Sequence[str], labels: Sequence[str] = ()) -> pd.DataFrame:
    """One table of the scores of single tracks and methods; a part's track is called by its label if there is one."""
    import pandas as pd

    from stemfuse.analysis import read_scores

    if not names:
        raise RunError("no test track has references: nothing can be scored; use stemfuse fuse for songs without them")
    present = find_parts(folder, names)
    if missing := set(names) - present.keys():
        raise RunError(f"{folder}: {len(missing)} of {len(names)} files of scores cannot be read; run again")
    tables = [read_scores(present[name]) for name in names]
    if labels:
        tables = [table.assign(track=label) for table, label in zip(tables, labels, strict=True)]
    return pd.concat(tables, ignore_index=True)


def score_folders(
    references: Path,
    estimates: Sequence[Path],
    options: ScoreConfig,
    out: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
    sources: Sums | None = None,
    missing: Missing = "warn",
    convert: bool = False,
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
        Folder for ``scores.parquet``, ``museval/`` and ``summary.csv``; it goes on where it stopped. One with scores
        of other methods or songs is refused.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.
    sources : mapping, optional
        Sources that are picked or summed up, of references and estimates alike; see
        `stemfuse.separators.parse_sources`.
    missing : {"warn", "skip", "error"}
        What to do with tracks that some methods have no estimates of.
    convert : bool
        Whether estimates at another rate than the references, or in mono, are converted as they are read.
    model : str, optional
        Which one, where a folder of estimates has stems by several models.

    Returns
    -------
    DataFrame
        One row per method and metric: medians over frames, then tracks, by source, with counts of dropped frames and
        a note; ``attrs["songs"]`` names the tracks, ``<subset>/<track>``.

    Raises
    ------
    TrackError
        There are no estimates by a method, or two files are the same stem.
    ConfigError
        Two methods have one name.
    """
    from stemfuse.analysis import summarise, write_museval_json, write_scores

    roots = name_methods(estimates)
    data = open_data(references, mixture="sum", sources=sources)
    tracks = [track for track in data if track.references is not None]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(out or temporary) / PARTS
        folder.mkdir(parents=True, exist_ok=True)
        clear_remains_below(folder)
        contents = Contents(folder / "contents")
        found = find_estimates(tracks, roots, model, missing, convert, sources, contents, workers or cores(), progress)
        if out is not None:
            _check_kept(out, list(roots), track_labels([track for track, _ in found]))
        _say_sums(found)
        wanted = in_threads(
            lambda one: _names_of(*one, contents, options, sources), found, workers or cores(), "read", progress
        )
        present = find_parts(folder, [name for names in wanted for name in names.values()])
        tasks = []
        for (track, methods), names in zip(found, wanted, strict=True):
            left = {label: name for label, name in names.items() if name not in present}
            tasks += [ScoreTask(track, {label: methods[label] for label in left}, folder, left, options)]
        unfinished = [task for task in tasks if task.parts]
        run_all(score_one, unfinished, workers or cores(), "score", progress, lambda task: task.track.name)
        # workers of a killed process may have outlived it for a moment
        clear_remains_below(folder)
        labels = track_labels([track for track, _ in found])
        parts = [(name, label) for names, label in zip(wanted, labels, strict=True) for name in names.values()]
        table = read_parts(folder, [name for name, _ in parts], [label for _, label in parts])
    say_late(found, table)
    summary = summarise(table, common_tracks=False)
    summary.attrs["songs"] = [f"{track.subset}/{track.name}" for track, _ in found]
    if out is not None:
        write_scores(table, out / SCORES)
        for subset in {track.subset for track, _ in found}:
            # in museval's tree the subset tells songs of one name apart
            names = {
                label: track.name for (track, _), label in zip(found, labels, strict=True) if track.subset == subset
            }
            rows = table[table["track"].isin(names)]
            write_museval_json(rows.assign(track=rows["track"].map(names)), out / "museval", subset)
        summary.to_csv(out / "summary.csv", index=False)
    return summary


def _check_kept(out: Path, methods: Sequence[str], tracks: Sequence[str]) -> None:
    """Refuse a folder with scores of other methods or songs, which new tables would replace."""
    from stemfuse.analysis import read_scores

    if not (out / SCORES).is_file():
        return
    try:
        kept = read_scores(out / SCORES)
    except StemfuseError:
        # a damaged table is made anew
        return
    others = [name for name in kept["fusion"].unique() if name not in methods]
    songs = [name for name in kept["track"].unique() if name not in tracks]
    if others or songs:
        raise ConfigError(
            f"{out}: has scores of {listed(others or songs)}, which this command does not score; give all folders of "
            "--estimates at once (what was scored is not scored again), or choose another --out"
        )


def _names_of(
    track: Track,
    methods: Mapping[str, EstimatedStems],
    contents: Contents,
    options: ScoreConfig,
    sources: Sums | None,
) -> dict[str, str]:
    """Names of the scores of a track by method."""
    references = track.required_references()
    audio = {source: contents.sha256(references[source]) for source in references.sources}
    about: dict[str, object] = {
        "track": track.name,
        "references": audio,
        "score": options.model_dump(),
        "versions": numeric_versions(),
    }
    if sources is not None:
        about["sources"] = sources
    lost = {label: sorted(set(one.usual) - set(one.found.files)) for label, one in methods.items()}
    return {
        label: part_name(
            label=label, estimates=one.content(contents), **about, **({"lost": lost[label]} if lost[label] else {})
        )
        for label, one in methods.items()
    }


def _say_sums(found: Iterable[tuple[Track, Mapping[str, EstimatedStems]]]) -> None:
    """Say once what estimates or references are summed up to, and which sources are not scored."""
    said: dict[str, None] = {}
    for track, methods in found:
        references = track.required_references().sources
        for label, folder in methods.items():
            given = tuple(folder.found.files)
            estimates, note = folder.sums(track)
            truth, _ = scored_sums(references, tuple(estimates))
            sums = [
                f"its reference of {name} is the sum of {', '.join(parts)}"
                for name, parts in truth.items()
                if parts[1:]
            ]
            used = {part for name in truth for part in estimates[name]}
            unused = [source for source in given if source not in used and source not in references]
            words = [*([note] if note else []), *sums, *([f"not scored: {', '.join(unused)}"] if unused else [])]
            said |= dict.fromkeys(f"{label}: {text}" for text in words)
    for text in said:
        log.warning("%s", text)
