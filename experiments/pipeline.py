"""The pipeline: separate, fit, bound, score, report; an interrupted run goes on where it stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .config import RunConfig, parse_config
from .lock import run_lock
from .machine import describe_machine, describe_versions, source_commit
from .plan import Plan, plan_run, run_identity
from .record import DataRecord, RunRecord, TrackRecord
from .run import Run
from .stages import bound, fit, report, score, separate
from .workers import Progress, kept_processes, silent

log = logging.getLogger(__name__)

STAGES = {"separate": separate, "fit": fit, "bound": bound, "score": score, "report": report}
"""In their order; each is called as ``stage(plan, run, progress)`` and keeps what it finds in the run's folder."""


def run(config: RunConfig | Mapping[str, Any], progress: Progress = silent) -> Run:
    """Do a whole run, or what is left of it.

    Parameters
    ----------
    config : RunConfig or mapping
        The recipe; see `RunConfig`.
    progress : callable
        Called as ``progress(stage, done, total)``.

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
    plan = plan_run(config)
    with run_lock(config.out):
        return _run(plan, progress)


def _run(plan: Plan, progress: Progress) -> Run:
    """Do what is left, in a folder that no other process works in."""
    config = plan.config
    run = Run(config.out)
    identity, record = run_identity(plan), run.record()
    if record.identity == identity and _is_finished(plan, run, record):
        log.info("%s: nothing has changed since it was finished", config.out)
        return run
    if record.identity != identity:
        record = _new_record(plan, identity, record)
    run.write_config(config)
    record.finished = None
    run.write_record(record)
    with kept_processes(plan.workers):
        for name, stage in STAGES.items():
            started = time.perf_counter()
            stage(plan, run, progress)
            record = run.record()
            spent = round(record.seconds.get(name, 0) + time.perf_counter() - started, 2)
            record.seconds = record.seconds | {name: spent}
            run.write_record(record)
    record.finished = _now()
    run.write_record(record)
    return run


def _is_finished(plan: Plan, run: Run, record: RunRecord) -> bool:
    """Whether nothing is left to do: the last stage has ended, and neither the page nor a stem has gone since."""
    if not record.finished or not run.report_path.is_file():
        return False
    return not any(plan.store.missing(plan.needed(), key) for key in plan.keys.values())


def _new_record(plan: Plan, identity: str, before: RunRecord) -> RunRecord:
    """The record of a run that begins; fusions fitted before are kept while their own digest still fits."""
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
            )
            for entry in plan.tracks
        ],
        separators={},
        fusions=before.fusions,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
