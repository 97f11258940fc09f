"""The stage that reports: players of some songs, weights that vary in time, and the page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stemfuse.blending import LinearFusion, fusion_class
from stemfuse.experiments.config import RunConfig
from stemfuse.experiments.conversion import fuse_track
from stemfuse.experiments.identity import numeric_versions
from stemfuse.experiments.plan import Plan
from stemfuse.experiments.record import FusionRecord, RunRecord, SongRecord
from stemfuse.experiments.run import AUDIO, DESK, PLAYERS, Run
from stemfuse.experiments.workers import Progress, run_tasks
from stemfuse.separators import AudioError, Track, digest

from .song_content import song_content

log = logging.getLogger(__name__)


def report(plan: Plan, run: Run, progress: Progress) -> None:
    """Write players, weights that vary in time, figures and the page."""
    from stemfuse.experiments.desk import RunSongs, write_excerpt
    from stemfuse.experiments.report import list_excerpts, shown_fusions, write_report

    record = run.record()
    # of a study, what is drawn and played is the best of its cells
    drawn = {label: record.fusions[label] for label in shown_fusions(run)}
    chosen, desk = list(_chosen_tracks(plan)), RunSongs(run.path, plan)
    _discard_damaged_players(run)
    _discard_others(run, record, [plan.labels[track] for track in chosen])
    tasks, plans = [], {plan.labels[planned]: planned for planned in chosen}
    for planned in chosen:
        track = plan.attach(planned)
        shown = replace(track, name=plan.labels[planned])
        identity = _identity_of(plan, run, record, planned, list(drawn))
        if not _is_kept(run, record, drawn, shown, identity):
            run.checksums.forget(_files_of(run, record, shown).__contains__)
            tasks.append(_Song(run.path, track, shown, plan.refit_of(track), tuple(drawn), identity, plan.config))
    progress("report", len(chosen) - len(tasks), len(chosen) + 1)
    for done, (task, made) in enumerate(run_tasks(_make_song, tasks, plan.workers), len(chosen) - len(tasks) + 1):
        if isinstance(made, Exception):
            raise made
        entry, songs = made
        for label, song in songs.items():
            drawn[label].songs = drawn[label].songs | {task.shown.name: song}
        # what the page shows of a song is on record before its players say that it is done
        run.write_record(record)
        write_excerpt(run.path, desk.open(plans[task.shown.name]), plan.config.players.duration_s)
        list_excerpts(run.path, entry)
        run.checksums.keep(run.path / file for file in _files_of(run, record, task.shown))
        progress("report", done, len(chosen) + 1)
    _discard_others(run, record, [plan.labels[track] for track in chosen])
    write_report(run.path, plan.workers)
    progress("report", len(chosen) + 1, len(chosen) + 1)


@dataclass(frozen=True, eq=False)
class _Song:
    """A song whose excerpts are made; travels to another process."""

    run: Path
    track: Track
    shown: Track
    refit: int | None
    drawn: tuple[str, ...]
    identity: str
    config: RunConfig


def _make_song(task: _Song) -> tuple[dict[str, Any], dict[str, SongRecord]]:
    """Fuse and write one song's excerpts; their entry, and the weights that were predicted for it by fusion."""
    from stemfuse.experiments.report import make_excerpts

    run, track, songs = Run(task.run), task.track, {}
    methods, fusions = dict(track.stems), run.record().fusions
    for label in task.drawn:
        fitted = fusions[label]
        if not fitted.file_of(task.refit):
            continue
        fusion, mixed = run.fusion(label, task.refit), fitted.mixed_of(track.stems)
        given = track if mixed is None else track.only(mixed)
        methods[label] = fuse_track(fusion, given, task.config.convert)
        if isinstance(fusion, LinearFusion) and fusion.varies_in_time:
            songs[label] = keep_song(run, label, fusion, given, task.shown.name)
    players = task.config.players
    entry = make_excerpts(run.path, task.shown, methods, players.duration_s, identity=task.identity, form=players.form)
    return entry, songs


def _identity_of(plan: Plan, run: Run, record: RunRecord, track: Track, drawn: Sequence[str]) -> str:
    """Digest of what the excerpts of a song, and the weights that were predicted for it, are made of."""
    content, config = song_content(plan, run, record, track), plan.config
    methods = [(label, of) for label, of in content.methods.items() if label not in record.fusions or label in drawn]
    about = {"audio": content.audio, "methods": methods, "duration_s": config.players.duration_s}
    about |= {"form": config.players.form}
    about |= {"picked": plan.picked} if plan.picked else {}
    return digest(about | {"sources": config.sources, "convert": config.convert, "versions": numeric_versions()})


def _discard_others(run: Run, record: RunRecord, names: Sequence[str]) -> None:
    """Take off the page what it has of songs that are not chosen any more; the others are in the order of the run."""
    from stemfuse.experiments.report import read_players, sort_players

    others = {entry["track"] for entry in read_players(run.path)} - set(names)
    gone = [file for name in others for file in _excerpts_of(run, name)]
    for fusion in record.fusions.values():
        dropped = [name for name in fusion.songs if name not in names]
        gone += [fusion.songs[name].file for name in dropped]
        if dropped:
            fusion.songs = {name: song for name, song in fusion.songs.items() if name in names}
    if gone:
        run.write_record(record)
    if sort_players(run.path, names):
        players = f"{AUDIO}/{PLAYERS}"
        run.checksums.forget(players.__eq__)
        run.checksums.keep(path for path in [run.path / players] if path.is_file())
    run.checksums.forget(gone.__contains__)


def _is_kept(run: Run, record: RunRecord, drawn: Mapping[str, FusionRecord], track: Track, identity: str) -> bool:
    """Whether all that the report has of a song was made of what it is made of now, and is as it was made."""
    from stemfuse.experiments.report import is_written

    varying = [fusion for fusion in drawn.values() if fusion.linear and fusion_class(fusion.kind).varies_in_time]
    if not is_written(run.path, track, identity) or not all(
        track.name in fusion.songs or fusion.unfitted for fusion in varying
    ):
        return False
    return set(_files_of(run, record, track)) <= run.checksums.read().keys()


def _files_of(run: Run, record: RunRecord, track: Track) -> list[str]:
    """What the report has of a song: excerpts, their list, and weights that vary in time."""
    songs = [fusion.songs[track.name].file for fusion in record.fusions.values() if track.name in fusion.songs]
    return [f"{AUDIO}/{PLAYERS}", *_excerpts_of(run, track.name), *songs]


def _excerpts_of(run: Run, name: str) -> list[str]:
    """Files of a song's excerpts, and its desk."""
    from stemfuse.experiments.report import read_players, safe_name

    entries = [entry["files"] for entry in read_players(run.path) if entry["track"] == name]
    desk = [f"{DESK}/{safe_name(name)}.html"] if entries else []
    return [*(f"report/{file['path']}" for files in entries for file in files), *desk]


def _discard_damaged_players(run: Run) -> None:
    """Players are listed anew where their list cannot be read."""
    from stemfuse.experiments.report import read_players

    try:
        read_players(run.path)
    except AudioError as error:
        log.warning("%s: made again", error)
        (run.path / AUDIO / PLAYERS).unlink(missing_ok=True)


def _chosen_tracks(plan: Plan) -> Iterator[Track]:
    """The first test tracks of every data set."""
    for part in plan.config.data:
        tracks = [planned.track for planned in plan.tested() if planned.data == part.name]
        yield from tracks[: plan.config.players.tracks]


def keep_song(run: Run, label: str, fusion: LinearFusion, track: Track, name: str = "") -> SongRecord:
    """Keep the weights that a fusion predicts for one song, beside the levels of its sources, for the report."""
    from stemfuse.experiments.report import safe_name

    file = f"fusions/{label}-{safe_name(name or track.name)}.npz"
    fusion.weights(track).save(run.path / file)
    levels = {}
    for source in track.references.sources if track.references is not None else ():
        signal = track.required_references()[source]
        seconds = [signal.read(s, min(s + track.rate, track.length)) for s in range(0, track.length, track.rate)]
        energies = [float(np.mean(np.square(second, dtype=np.float64))) for second in seconds]
        levels[source] = [round(10 * float(np.log10(max(energy, 1e-10))), 1) for energy in energies]
    return SongRecord(file=file, levels_db=levels)
