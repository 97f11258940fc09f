"""The pipeline: separate, fit, bound, score, report; an interrupted run goes on where it stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stemfuse.separators import listed
from stemfuse.separators.audio.whole_files import clear_remains_below
from stemfuse.separators.store import file_stamp

from .config import RunConfig
from .contents import read_contents, signals_of
from .errors import DamagedRecordError, UnfittedError
from .identity import run_identity
from .live import live_progress
from .lock import run_lock
from .machine import describe_machine, describe_versions, source_commit
from .plan import Plan, plan_run
from .recipes import parse_config
from .record import DataRecord, RunRecord, TrackRecord
from .run import AUDIO, DESK, ESTIMATES, PLAYERS, Run
from .shares import Share
from .stages import bound, fit, report, score, separate
from .training import check_training
from .workers import Progress, kept_processes, silent

log = logging.getLogger(__name__)

Stage = Callable[[Plan, Run, Progress], None]

STAGES: Mapping[str, Stage] = {"separate": separate, "fit": fit, "bound": bound, "score": score, "report": report}
"""In their order; each is called as ``stage(plan, run, progress)`` and keeps what it finds in the run's folder."""


def run(
    config: RunConfig | Mapping[str, Any],
    progress: Progress = silent,
    verify: bool = False,
    prepare: Callable[[], object] | None = None,
    share: Share | None = None,
) -> Run:
    """Do a whole run, or what is left of it.

    Parameters
    ----------
    config : RunConfig or mapping
        The recipe; see `RunConfig`.
    progress : callable
        Called as ``progress(stage, done, total)``.
    verify : bool
        Read all audio and all files of the run again, even those that do not seem to have changed.
    prepare : callable, optional
        Called first, when no other process works in the folder: it may change the store.
    share : Share, optional
        Only fit and score this part of the fusions, in a folder beside the run's, from which the whole run takes them.

    Returns
    -------
    Run
        A folder with scores, weights, tables, figures and the report.

    Raises
    ------
    StemfuseError
        Something is missing or wrong, or another process works in the folder; what was computed is kept, and the next
        run goes on from there.
    """
    config = config if isinstance(config, RunConfig) else parse_config(config)
    stages = STAGES if share is None else {name: STAGES[name] for name in ("separate", "fit", "score")}
    config = config if share is None else share.of(config)
    _make_bands(config, progress)
    # what is wrong with a recipe is said before its folder is made
    check_training(config.training)
    plan = plan_run(config) if prepare is None else None
    with run_lock(config.out):
        if prepare is not None:
            prepare()
        return _run(plan or plan_run(config), progress, verify, stages)


def _make_bands(config: RunConfig, progress: Progress) -> None:
    """Make the songs of the synthetic band that the recipe wants; those that are there are left alone."""
    for part in config.data:
        if part.band is not None:
            from .band import synthesize

            songs, seconds, seed = part.band.songs, part.band.seconds, part.band.seed
            synthesize(part.path, songs, seconds, seed, progress=lambda done, total: progress("synth", done, total))


def _run(plan: Plan, progress: Progress, verify: bool, stages: Mapping[str, Stage]) -> Run:
    """Do what is left, in a folder that no other process works in."""
    config = plan.config
    run = Run(config.out)
    record = _record_before(run)
    _clear(plan, run)
    if verify:
        _forget(plan)
    read_contents(plan.needed(), plan.store, plan.workers, progress)
    whole, identity = _discard_changed(run, verify), run_identity(plan)
    same = record.identity == identity and not _has_other_stems(plan, record)
    if whole and same and _is_finished(plan, run, record):
        log.info("%s: nothing has changed since it was finished", config.out)
        return run
    if not same:
        record = _new_record(plan, identity, record)
    record.finished = None
    run.write_record(record)
    foreign = _foreign_files(run)
    wanted = {cell.label for cell in plan.fusions}
    kept = {file for label, fusion in record.fusions.items() if label in wanted for file in fusion.all_files()}
    run.checksums.forget(lambda name: name not in kept and not name.startswith((f"{AUDIO}/", f"{DESK}/")))
    # what is taken off the record and not written again is deleted at the end
    run.write_config(config)
    with kept_processes(plan.workers), live_progress(run, progress, "report" in stages) as shown:
        for name, stage in stages.items():
            started = time.perf_counter()
            stage(plan, run, shown)
            record = run.record()
            spent = round(record.seconds.get(name, 0) + time.perf_counter() - started, 2)
            record.seconds = record.seconds | {name: spent}
            run.write_record(record)
    # workers of a killed run may have outlived it for a moment
    _clear(plan, run)
    _discard_others(run)
    run.checksums.keep(file for file in run.results() if foreign.get(file) != file_stamp(file))
    if record.failed:
        raise UnfittedError(record.failed, len(plan.fusions))
    record.finished = _now()
    run.write_record(record)
    return run


def _record_before(run: Run) -> RunRecord:
    """What is on record; nothing of a record that has changed is believed."""
    try:
        return run.record()
    except DamagedRecordError:
        log.warning("%s: damaged or changed, all that it is about is made again", run.record_path)
        return RunRecord()


def _clear(plan: Plan, run: Run) -> None:
    """Delete what killed processes left, in the run and in the store."""
    clear_remains_below(run.path)
    plan.store.clear_remains()


def _discard_changed(run: Run, verify: bool) -> bool:
    """Take changed files off the record, so that they are made again; whether there were none, and there is a record.

    What would be read before it is written again is deleted.
    """
    changed = run.checksums.changed(verify)
    for name in changed:
        file = run.path / name
        log.warning("%s: %s, made again", file, "damaged or changed" if file.is_file() else "missing")
        if file.name.endswith((".journal", PLAYERS)) or name.startswith(f"{ESTIMATES}/"):
            file.unlink(missing_ok=True)
    run.checksums.forget(lambda name: name in changed)
    return not changed and run.checksums.sha256(run.scores_path.name) is not None


def _foreign_files(run: Run) -> dict[Path, list[int]]:
    """Files among the results that no run has written, with their stamps: they are the user's."""
    known = run.checksums.read().keys() | run.checksums.old().keys()
    return {file: file_stamp(file) for file in run.results() if file.relative_to(run.path).as_posix() not in known}


def _discard_others(run: Run) -> None:
    """Delete what earlier runs have written here and this recipe does not have."""
    if gone := run.checksums.discard_old():
        log.warning("%s: deleted what the recipe does not have any more: %s", run.path, listed(gone))


def _forget(plan: Plan) -> None:
    """Have all audio read again."""
    for track in plan.needed():
        for signal in signals_of(track):
            plan.store.contents.forget_signal(signal)
    for track, key in plan.entries():
        plan.store.forget(track, key)


def _has_other_stems(plan: Plan, record: RunRecord) -> bool:
    """Whether stems that were used have been replaced since; those that are missing are another matter."""
    used = {track.shown: track.stems for track in record.tracks}
    return bool(record.finished) and any(
        plan.store.content_of(track, key) not in (None, used.get(plan.labels[track], {}).get(key))
        for track, key in plan.entries()
    )


def _is_finished(plan: Plan, run: Run, record: RunRecord) -> bool:
    """Whether nothing is left to do: the last stage has ended, and neither the page nor a stem has gone since."""
    if not record.finished or not run.report_path.is_file():
        return False
    separators = {separator.key: separator for separator in plan.separators}
    return not any(
        plan.store.missing([track], key) or not separators[key].is_current(track, plan.store)
        for track, key in plan.entries()
    )


def _new_record(plan: Plan, identity: str, before: RunRecord) -> RunRecord:
    """The record of a run that begins; fusions fitted before are kept while their own digest still fits."""
    used = {track.shown: track.stems for track in before.tracks}
    return RunRecord(
        identity=identity,
        versions=describe_versions(),
        commit=source_commit(),
        seed=plan.config.seed,
        machine=describe_machine() | {"workers": plan.workers},
        started=_now(),
        finished=None,
        seconds={},
        data={part.name: DataRecord(path=str(part.path), real=part.real) for part in plan.config.data},
        tracks=[
            TrackRecord(
                name=entry.track.name,
                data=entry.data,
                subset=entry.track.subset,
                duration_s=round(entry.track.duration_s, 3),
                rate=entry.track.rate,
                notes=list(entry.track.notes),
                stems=used.get(plan.labels[entry.track], {}),
                **({"label": plan.labels[entry.track]} if plan.labels[entry.track] != entry.track.name else {}),
            )
            for entry in plan.tracks
        ],
        separators={},
        fusions=before.fusions,
        missing=plan.config.missing,
        left_out={label: list(names) for label, names in plan.left_out.items()},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
