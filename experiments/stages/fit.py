"""Fitting a fusion on a data set outside a run, and what it gains there."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending import file_suffix, fusion_class, leaks, make_fusion
from stemfuse.experiments.data.datasets import open_data
from stemfuse.experiments.errors import ConfigError, RunError
from stemfuse.experiments.plan import Plan, fit_digest
from stemfuse.experiments.run import Run
from stemfuse.experiments.workers import Progress, cores, few_threads, run_all, silent
from stemfuse.separators import StemStore, Track

from .separate import complete, find_separator

if TYPE_CHECKING:
    import pandas as pd
from stemfuse.experiments.run import PARTS

if TYPE_CHECKING:
    import pandas as pd


def fit_fusion(
    name: str,
    options: Mapping[str, Any],
    data: Path,
    store: Path,
    separators: Sequence[str],
    out: Path,
    train: Sequence[str] = ("train",),
    valid: Sequence[str] = ("valid",),
    folds: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Fit a fusion on a data set and save it.

    Parameters
    ----------
    name : str
        One of `stemfuse.blending.list_fusions`.
    options : mapping
        Its arguments.
    data : Path
        A data set with references.
    store : Path
        Stem store; what lacks in it is separated.
    separators : sequence of str
        See `find_separator`; labels of the weights' inputs.
    out : Path
        The new file: ``.npz`` for constant weights, ``.safetensors`` for networks, ``.json`` without weights.
    train, valid : sequence of str
        Subsets to fit and to validate on. A subset that the data set lacks counts as empty.
    folds : int
        From two on: groups of training tracks that are left out in turn, to see what the fusion gains on tracks that it
        has not seen where there are too few for a validation set; see `stemfuse.blending.cross_validate`.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    DataFrame
        SDR of every separator, of their mean and of the fusion, per source, on the validation tracks if there are any,
        else on the tracks that it was fitted on; see `judge`. With folds two more rows, of left-out training tracks.

    Raises
    ------
    StemfuseError
        No tracks to fit on, stems that cannot be made, or what the fusion itself says.
    """
    target = StemStore(store)
    fusion: Any = make_fusion(name, **options)
    if out.suffix != file_suffix(fusion):
        raise ConfigError(f"{out}: a {name} fusion is saved as {file_suffix(fusion)}; choose such a name")
    found = open_data(data)
    if not separators:
        raise ConfigError("no separators came, expected at least one: --separators A,B,C")
    chosen = [find_separator(text, target) for text in separators]
    parts = [
        [t for subset in subsets if subset in found.subsets for t in found.tracks(subset)] for subsets in (train, valid)
    ]
    if not parts[0]:
        raise RunError(
            f"{data}: no tracks in {', '.join(train)}, the subsets are {', '.join(found.subsets)}; choose with --train"
        )
    fitted, judges = (complete(part, chosen, target, workers, progress) for part in parts)
    if getattr(fusion, "learns", True):
        measure([*fitted, *judges], workers or cores(), progress)
        leaks(fitted, judges)
    watch(fusion, name, progress)
    fusion.fit(fitted, judges or None)
    fusion.separators_ = {separator.label: target.record(fitted[0], separator.key)["separator"] for separator in chosen}
    fusion.save(out)
    table = judge(fusion, judges or fitted)
    return table if folds < 2 else _with_cross_validation(table, make_fusion(name, **options), fitted, folds)


def _with_cross_validation(table: pd.DataFrame, fusion: Any, tracks: Sequence[Track], folds: int) -> pd.DataFrame:
    """Two more rows: the mean and the fusion on training tracks that were left out in turn."""
    import pandas as pd

    from stemfuse.analysis import aggregate, by_source, common_mask
    from stemfuse.blending import cross_validate

    grid = by_source(aggregate(common_mask(cross_validate(fusion, tracks, folds))[0]), "SDR")
    grid.index = [f"{name}, left out in turn" for name in grid.index]
    return pd.concat([table, grid.rename_axis(table.columns[0]).reset_index()], ignore_index=True)


def judge(fusion: Any, tracks: Sequence[Track]) -> pd.DataFrame:
    """Median SDR (of frames, then of tracks) of single separators, their mean and a linear fusion, from statistics.

    Parameters
    ----------
    fusion : Fusion
        Fitted; one without weights leaves only the others in the table.
    tracks : sequence of Track
        With stems; those without references are left out.

    Returns
    -------
    DataFrame
        One row per method: method, one column per source, and their mean, in dB.
    """
    import pandas as pd

    from stemfuse.analysis import GramStatistics, aggregate, by_source, common_mask, scores_table
    from stemfuse.blending import Fixed, Mean

    tables = []
    for track in tracks:
        if track.references is None:
            continue
        gram = GramStatistics.of(track)
        singles = {
            name: Fixed({source: {name: 1.0} for source in stems.sources}).fit([track])
            for name, stems in track.stems.items()
            if set(stems.sources) >= set(gram.sources)
        }
        for label, method in {**singles, "mean": Mean().fit([track]), fusion.kind: fusion}.items():
            if hasattr(method, "weights"):
                values = gram.sdr(method.weights(track)) if hasattr(method, "weights_") else _heard(method, track)
                tables.append(scores_table(track.name, label, gram.sources, {"SDR": values}))
    if not tables:
        return pd.DataFrame()
    grid = by_source(aggregate(common_mask(pd.concat(tables, ignore_index=True))[0]), "SDR")
    return grid.rename_axis("SDR, dB").reset_index()


def _heard(fusion: Any, track: Track) -> NDArray[np.float64]:
    """SDR of a fusion whose weights vary in time, (source, frame), from the audio that it makes."""
    from stemfuse.analysis import GramStatistics
    from stemfuse.blending import Fixed

    fused = replace(track, stems={fusion.kind: fusion.fuse(track)}, stored={})
    alone = Fixed({source: {fusion.kind: 1.0} for source in fused.stems[fusion.kind].sources}).fit([fused])
    return GramStatistics.from_track(fused).sdr(alone.weights_)


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


def watch(fusion: Any, label: str, progress: Progress, checkpoints: Path | None = None) -> None:
    """Show the trials of a search or the epochs of a training, which goes on from its checkpoints when killed."""
    if fusion.learns:
        fusion.progress = lambda source, trial, trials: progress(f"{label}: {source}", trial, trials)
    if fusion.execution is not None:

        def show(row: Mapping[str, float]) -> None:
            if "epoch" in row:  # a solver's passes have no number that is known before
                progress(label, int(row["epoch"]), fusion.epochs)

        fusion.execution = replace(fusion.execution, checkpoints=checkpoints, progress=show)


def keep_history(result: Run, label: str, fusion: Any) -> str:
    """Write the rows of a training as CSV; the file's name, empty where nothing was trained."""
    import pandas as pd

    if not getattr(fusion, "history_", None):
        return ""
    file = f"fusions/{label}-history.csv"
    result.write_text(file, pd.DataFrame(fusion.history_).to_csv(index=False))
    return file
