"""Seconds that fusions take to fit, and to fuse a minute: apart from all that must be equal run by run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from stemfuse.blending import load_fusion
from stemfuse.experiments.config import RunConfig
from stemfuse.experiments.conversion import fuse_track
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.run import Run
from stemfuse.experiments.workers import Progress, few_threads
from stemfuse.separators import Track, whole_file
from stemfuse.separators.foreign.documents import read_json

BLOCK = 1 << 18


def times_of(run: Run, config: RunConfig, file: Path, progress: Progress) -> dict[str, dict[str, float | None]]:
    """By fusion: seconds that the fit took, and that a minute of music takes to fuse on one core.

    Parameters
    ----------
    run : Run
        Finished.
    config : RunConfig
        Its recipe.
    file : Path
        Where times are kept: a fusion that has not changed is not timed again.
    progress : callable
        Called as ``progress("time", done, total)``.
    """
    kept: dict[str, Any] = read_json(file) if file.is_file() else {}
    fusions = run.record().fusions
    missing = [label for label, fitted in fusions.items() if kept.get(label, {}).get("digest") != fitted.digest]
    if missing:
        plan = plan_run(config)
        song = next(entry.track for entry in plan.tested() if plan.having(tuple(plan.keys), [entry.track]))
        for done, label in enumerate(missing):
            progress("time", done, len(missing))
            fitted = fusions[label]
            mixed = fitted.mixed_of(tuple(plan.keys))
            track = plan.attach(song) if mixed is None else plan.attach(song, mixed)
            seconds = _seconds(run.path / fitted.file, track, config.convert)
            kept[label] = {"digest": fitted.digest, "fit_s": fitted.seconds, "apply_s": seconds}
        progress("time", len(missing), len(missing))
        with whole_file(file, "choose another folder with out=") as temporary:
            temporary.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
    return {label: {key: kept[label][key] for key in ("fit_s", "apply_s")} for label in fusions}


def _seconds(file: Path, track: Track, convert: bool) -> float:
    """Of fusing a minute, with the stems' files in memory already."""
    fusion = load_fusion(file)
    for stems in track.stems.values():
        stems.read(0, track.length)
    with few_threads(1):
        started = time.perf_counter()
        fused = fuse_track(fusion, track, convert)
        for start in range(0, track.length, BLOCK):
            fused.read(start, min(start + BLOCK, track.length))
    return round((time.perf_counter() - started) * 60 / track.duration_s, 3)
