"""The pipeline: separate -> cache -> fit -> fuse -> score -> report, going on where it stopped."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.blending import bounds, file_suffix, fusion_class, leaks, leave_one_out, make_fusion
from stemfuse.separators import Stems, StemStore, Track, digest, file_stamp

from .config import RunConfig, ScoreConfig, parse_config
from .plan import Plan, PlannedTrack, StoredSeparator, fit_digest, plan_run, run_identity
from .run import BOUNDS, LEAVE_ONE_OUT, Run, RunError, describe_machine, describe_versions, source_commit
from .traces import keep_history, keep_song, watch
from .workers import Progress, few_threads, kept_processes, run_all, silent

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

METHODS = 6
"""Methods scored at a time by a process: more of them read references less often, fewer let cores share a song."""

PARTS = ".parts"
"""Folder of a run with the scores of single tracks and methods, by which an interrupted run goes on."""


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


def separate(plan: Plan, result: Run, record: dict[str, Any], progress: Progress) -> None:
    """Fill the store with what is missing."""
    tracks = plan.needed()
    tasks = []
    for separator in plan.separators:
        lacking = plan.store.missing(tracks, separator.key)
        if lacking and separator.stored:
            raise RunError(
                f"{plan.store.root}: no usable stems by {separator.key} of {_listed(track.name for track in lacking)}; "
                "adopt them, or leave out stored: true"
            )
        tasks += [(plan.store.root, separator, track) for track in lacking]
    run_all(separate_one, tasks, plan.workers, "separate", progress, lambda task: f"{task[1].label} on {task[2].name}")
    for separator in plan.separators:
        stored = plan.store.record(tracks[0], separator.key)
        record["separators"][separator.label] = {
            "key": separator.key,
            "fingerprint": stored["fingerprint"],
            "describe": stored["separator"],
        }
    for entry in record["tracks"]:
        planned = next((track for track in tracks if track.name == entry["name"]), None)
        if planned is not None:
            entry["mixture_sha256"] = plan.store.record(planned, plan.separators[0].key)["mixture"]["sha256"]


def separate_one(task: tuple[Path, StoredSeparator, Track]) -> None:
    """Separate one track into the store, unless another process has done it meanwhile."""
    root, stored, track = task
    store = StemStore(root)
    if store.missing([track], stored.key):
        separator = stored.load()
        store.put(track, separator, separator.separate(track.mixture.read(), track.rate))


def measure(tracks: Sequence[Track], workers: int, progress: Progress = silent) -> None:
    """Read every track once, so that the statistics that fusions are fitted to lie in the store.

    Parameters
    ----------
    tracks : sequence of Track
        With stems in a store; tracks without references are passed over.
    workers : int
        Processes.
    progress : callable
        Called as ``progress("measure", done, total)``.
    """
    tasks = [track for track in tracks if track.references is not None and track.stored]
    run_all(measure_one, tasks, workers, "measure", progress, lambda track: track.name)


def measure_one(track: Track) -> None:
    """Statistics of one track, kept in its store."""
    from stemfuse.analysis import GramStatistics

    with few_threads(1):
        GramStatistics.of(track)


def fit(plan: Plan, result: Run, record: dict[str, Any], progress: Progress) -> None:
    """Fit every fusion that is not fitted yet."""
    parts = plan.fitted_on() if plan.learns() else ([], [])
    train, valid = ([plan.store.attach(track, plan.keys) for track in part] for part in parts)
    tested = [plan.store.attach(planned.track, plan.keys) for planned in plan.tested()]
    known, record["fusions"] = record["fusions"], {}
    if plan.learns():
        measure([*train, *valid], plan.workers, progress)
        record["warnings"] = leaks([*train, *valid], tested)
    for done, part in enumerate(plan.config.fusions):
        progress("fit", done, len(plan.config.fusions))
        label = part.label or part.name
        identity = fit_digest(plan, part)
        before = known.get(label, {})
        if before.get("digest") == identity and (result.path / before["file"]).is_file():
            record["fusions"][label] = before
            continue
        started = time.perf_counter()
        fusion: Any = make_fusion(part.name, **(_kept_in(result, part.name, label) | part.options))
        watch(fusion, label, progress, result.path / PARTS / f"training-{identity[:16]}")
        if getattr(fusion, "learns", True):
            fusion.fit(train, valid or None)
        else:
            fusion.fit(tested)
        fusion.separators_ = {name: separator["describe"] for name, separator in record["separators"].items()}
        file = f"fusions/{label}{file_suffix(fusion)}"
        fusion.save(result.path / file)
        record["fusions"][label] = {
            "kind": part.name,
            "file": file,
            "linear": hasattr(fusion, "weights"),
            "digest": identity,
            "seconds": round(time.perf_counter() - started, 3),
            "history": keep_history(result, label, fusion),
            "studies": {source: study.study_name for source, study in getattr(fusion, "studies_", {}).items()},
        }
        result.write_record(record | {"fusions": known | record["fusions"]})
    progress("fit", len(plan.config.fusions), len(plan.config.fusions))


def _kept_in(result: Run, name: str, label: str) -> dict[str, str]:
    """Where a search keeps its trials: in the run, for the report and for a run that is resumed."""
    accepted = inspect.signature(fusion_class(name)).parameters
    return {"storage": str(result.path / "fusions" / f"{label}.journal")} if "storage" in accepted else {}


def bound(plan: Plan, result: Run, record: dict[str, Any], progress: Progress) -> None:
    """Write what any linear mix could reach on the test tracks, and what each separator is worth there."""
    import pandas as pd

    options = plan.config.bounds
    by_data: dict[str, list[Track]] = {}
    for planned in plan.tested():
        if planned.track.references is not None and options is not None:
            by_data.setdefault(planned.data, []).append(plan.store.attach(planned.track, plan.keys))
    if options is None or not by_data:
        return
    measure([track for tracks in by_data.values() for track in tracks], plan.workers, progress)
    reached, worth = [], []
    for done, (data, tracks) in enumerate(by_data.items()):
        progress("bound", done, len(by_data))
        reached.append(bounds(tracks, **options.model_dump()).assign(data=data))
        if len(plan.separators) > 1:
            worth.append(leave_one_out(tracks).assign(data=data))
    progress("bound", len(by_data), len(by_data))
    for name, tables in ((BOUNDS, reached), (LEAVE_ONE_OUT, worth)):
        if tables:
            result.write_text(name, pd.concat(tables, ignore_index=True).to_csv(index=False))


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
    if track.references is None:
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


def report(plan: Plan, result: Run, record: dict[str, Any], progress: Progress) -> None:
    """Write players, figures and the page."""
    from .report import write_players, write_report

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


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
