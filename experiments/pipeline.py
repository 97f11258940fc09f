"""The pipeline: separate -> cache -> fit -> fuse -> score -> report, going on where it stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .config import RunConfig, parse_config
from .plan import Plan, PlannedTrack, plan_run, run_identity
from .report.fusions import keep_song
from .run import Run, describe_machine, describe_versions, source_commit
from .stages.bound import bound
from .stages.fit import fit
from .stages.score import score
from .stages.separate import separate
from .workers import Progress, kept_processes, silent

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


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
        Its folder holds scores, weights, tables, figures and the report.

    Raises
    ------
    StemfuseError
        Something is missing or wrong; what was computed is kept, and the next run goes on from there.
    """
    config = config if isinstance(config, RunConfig) else parse_config(config)
    plan = plan_run(config)
    result = Run(config.out)
    identity = run_identity(plan)
    record = result.record()
    if record.get("identity") == identity and record.get("finished") and result.report_path.is_file():
        lacking = [key for key in plan.keys.values() if plan.store.missing(plan.needed(), key)]
        if not lacking:
            log.info("%s: nothing has changed since it was finished", config.out)
            return result
    if record.get("identity") != identity:
        record = _new_record(plan, identity, record)
    result.write_config(config)
    record["finished"] = None
    result.write_record(record)
    stages = {"separate": separate, "fit": fit, "bound": bound, "score": score, "report": report}
    with kept_processes(plan.workers):
        for stage, work in stages.items():
            started = time.perf_counter()
            work(plan, result, record, progress)
            record["seconds"][stage] = round(record["seconds"].get(stage, 0) + time.perf_counter() - started, 2)
            result.write_record(record)
    record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    result.write_record(record)
    return result


def _new_record(plan: Plan, identity: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run that begins; fusions fitted before are kept while their own digest still fits."""
    return {
        "identity": identity,
        "versions": describe_versions(),
        "commit": source_commit(),
        "seed": plan.config.seed,
        "machine": describe_machine() | {"workers": plan.workers},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "seconds": {},
        "data": {part.name: {"path": str(part.path), "real": part.real} for part in plan.config.data},
        "tracks": [
            {
                "name": entry.track.name,
                "data": entry.data,
                "subset": entry.track.subset,
                "duration_s": round(entry.track.duration_s, 3),
                "rate": entry.track.rate,
                "notes": list(entry.track.notes),
            }
            for entry in plan.tracks
        ],
        "separators": {},
        "fusions": dict(before.get("fusions", {})),
    }


def report(plan: Plan, result: Run, record: dict[str, Any], progress: Progress) -> None:
    """Write players, figures and the page."""
    from .report.page import write_players, write_report

    chosen: list[PlannedTrack] = []
    for part in plan.config.data:
        chosen += [entry for entry in plan.tested() if entry.data == part.name][: plan.config.players.tracks]
    for done, planned in enumerate(chosen):
        progress("report", done, len(chosen) + 1)
        track = plan.store.attach(planned.track, plan.keys)
        methods = dict(track.stems)
        for label, described in record["fusions"].items():
            fusion: Any = result.fusion(label)
            methods[label] = fusion.fuse(track)
            if hasattr(fusion, "weights") and not hasattr(fusion, "weights_"):
                described.setdefault("songs", {})[track.name] = keep_song(result, label, fusion, track)
        write_players(result.path, track, methods, plan.config.players.duration_s)
    result.write_record(record)
    write_report(result.path, plan.workers)
    progress("report", len(chosen) + 1, len(chosen) + 1)
