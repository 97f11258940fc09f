"""The stage that fits: every fusion of a run, or one fusion on a data set, is fitted and saved."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stemfuse.blending import BaseFusion, LinearFusion, fusion_class, leaks, make_fusion
from stemfuse.experiments.config import FusionConfig
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import ConfigError, RunError
from stemfuse.experiments.machine import training_devices
from stemfuse.experiments.plan import Plan, fit_digest
from stemfuse.experiments.record import FusionRecord
from stemfuse.experiments.run import PARTS, Run
from stemfuse.experiments.stored_separators import check_labels, find_separator
from stemfuse.experiments.workers import Progress, cores, silent
from stemfuse.separators import StemStore, Track

from .measure import compare_sdr, measure
from .separate import with_stems

if TYPE_CHECKING:
    import pandas as pd


class FitTracks(NamedTuple):
    """Tracks with stems by what they are for."""

    train: list[Track]
    valid: list[Track]
    tested: list[Track]


def fit(plan: Plan, run: Run, progress: Progress) -> None:
    """Fit every fusion that is not fitted yet."""
    tracks = _tracks_of(plan)
    record = run.record()
    known, record.fusions = record.fusions, {}
    if plan.learns():
        seen = [*tracks.train, *tracks.valid]
        measure(seen, plan.workers, progress)
        record.warnings = leaks(seen, tracks.tested)
    separators = {label: separator.describe for label, separator in record.separators.items()}
    for done, part in enumerate(plan.fusions):
        progress("fit", done, len(plan.fusions))
        label, digest = part.label or part.name, fit_digest(plan, part)
        fitted = known.get(label, FusionRecord())
        kept = run.checksums.read()
        if fitted.digest == digest and fitted.files and all(file in kept for file in fitted.files):
            record.fusions[label] = fitted
            record.use_devices(fitted.devices)
            continue
        run.checksums.forget(fitted.files.__contains__)
        record.fusions[label] = _fit_part(part, label, digest, tracks, separators, run, progress)
        record.use_devices(record.fusions[label].devices)
        # those that come later are still known when this is interrupted
        run.checksums.keep(run.path / file for file in record.fusions[label].files)
        run.write_record(record.model_copy(update={"fusions": known | record.fusions}))
    run.write_record(record)
    progress("fit", len(plan.fusions), len(plan.fusions))


def _tracks_of(plan: Plan) -> FitTracks:
    train, valid = plan.fitted_on() if plan.learns() else ([], [])
    tested = [planned.track for planned in plan.tested()]
    return FitTracks(*([plan.store.attach(track, plan.keys) for track in part] for part in (train, valid, tested)))


def _fit_part(
    part: FusionConfig,
    label: str,
    digest: str,
    tracks: FitTracks,
    separators: Mapping[str, Any],
    run: Run,
    progress: Progress,
) -> FusionRecord:
    """Fit one fusion of a run, save it, and put it on record."""
    started = time.perf_counter()
    journal = _journal_of(part, label)
    kept = {"storage": str(run.path / journal)} if journal else {}
    fusion = make_fusion(part.name, **(kept | part.options))
    show_progress(fusion, label, progress, run.path / PARTS / f"training-{digest[:16]}")
    file = f"fusions/{label}{fusion.suffix}"
    train, valid = (tracks.train, tracks.valid) if fusion.learns else (tracks.tested, [])
    fit_and_save(fusion, train, valid, separators, run.path / file)
    history = _keep_history(run, label, fusion)
    beside = str(Path(file).with_suffix(".json"))
    return FusionRecord(
        kind=part.name,
        file=file,
        linear=fusion.is_linear,
        devices=training_devices(fusion),
        options=part.model_dump(mode="json")["options"],
        files=[
            name for name in dict.fromkeys((file, beside, history, journal)) if name and (run.path / name).is_file()
        ],
        digest=digest,
        seconds=round(time.perf_counter() - started, 3),
        history=history,
        journal=journal,
        studies={source: study.study_name for source, study in fusion.studies_.items()},
    )


def _journal_of(part: FusionConfig, label: str) -> str:
    """Where a search keeps its trials, for the report and for a run that is resumed; empty for other fusions."""
    return f"fusions/{label}.journal" if _takes(part.name, "storage") else ""


def _keep_history(run: Run, label: str, fusion: BaseFusion) -> str:
    """Write the rows of a training as CSV; the file's name, empty where nothing was trained."""
    import pandas as pd

    if not fusion.history_:
        return ""
    file = f"fusions/{label}-history.csv"
    run.write_text(file, pd.DataFrame(fusion.history_).to_csv(index=False))
    return file


def show_progress(fusion: BaseFusion, label: str, progress: Progress, checkpoints: Path | None = None) -> None:
    """Let a fusion show its progress while it is fitted, and keep checkpoints.

    Parameters
    ----------
    fusion : BaseFusion
        Not fitted yet.
    label : str
        Its name in the progress.
    progress : callable
        Called as ``progress(label, epoch, epochs)``, or for each source of a search with its trials.
    checkpoints : Path, optional
        Folder from which a training that was killed goes on.
    """
    if fusion.learns:
        fusion.progress = lambda source, trial, trials: progress(f"{label}: {source}", trial, trials)
    if fusion.execution is not None:

        def show(row: Mapping[str, float]) -> None:
            if "epoch" in row:  # how many passes a solver needs is not known before
                progress(label, int(row["epoch"]), fusion.arguments()["epochs"])

        fusion.execution = replace(fusion.execution, checkpoints=checkpoints, progress=show)


def fit_and_save(
    fusion: BaseFusion, train: Sequence[Track], valid: Sequence[Track], separators: Mapping[str, Any], file: Path
) -> None:
    """Fit a fusion and save it with the descriptions of the separators that it mixes."""
    fusion.fit(train, valid or None)
    fusion.separators_ = separators
    fusion.save(file)


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
        Stem store; missing stems are separated first.
    separators : sequence of str
        See `find_separator`; labels of the weights' inputs.
    out : Path
        The new file: ``.npz`` for constant weights, ``.safetensors`` for networks, ``.json`` without weights.
    train, valid : sequence of str
        Subsets to fit and to validate on. A subset that is missing in the data set counts as empty.
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
        else on the tracks that it was fitted on; see `compare_sdr`. With folds two more rows, of left-out training
        tracks.

    Raises
    ------
    StemfuseError
        There are no tracks to fit on, stems cannot be made, or the fusion cannot be fitted.
    """
    target = StemStore(store)
    fusion = make_fusion(name, **options)
    if out.suffix != fusion.suffix:
        raise ConfigError(f"{out}: a {name} fusion is saved as {fusion.suffix}; choose such a name")
    if not separators:
        raise ConfigError("no separators given, expected at least one: --separators A,B,C")
    chosen = [find_separator(text, target) for text in separators]
    check_labels(chosen)
    parts = _tracks_in(data, train, valid)
    fitted, validated = (with_stems(part, chosen, target, workers, progress) for part in parts)
    if fusion.learns:
        measure([*fitted, *validated], workers or cores(), progress)
        leaks(fitted, validated)
    show_progress(fusion, name, progress)
    described = {separator.label: target.record(fitted[0], separator.key)["separator"] for separator in chosen}
    fit_and_save(fusion, fitted, validated, described, out)
    table = compare_sdr(fusion, validated or fitted)
    return table if folds < 2 else _with_cross_validation(table, make_fusion(name, **options), fitted, folds)


def _tracks_in(data: Path, train: Sequence[str], valid: Sequence[str]) -> tuple[list[Track], list[Track]]:
    """Tracks of a data set to fit and to validate on."""
    found = open_data(data)
    fitted, validated = (
        [track for subset in subsets if subset in found.subsets for track in found.tracks(subset)]
        for subsets in (train, valid)
    )
    if not fitted:
        raise RunError(
            f"{data}: no tracks in {', '.join(train)}, the subsets are {', '.join(found.subsets)}; choose with --train"
        )
    return fitted, validated


def _with_cross_validation(
    table: pd.DataFrame, fusion: BaseFusion, tracks: Sequence[Track], folds: int
) -> pd.DataFrame:
    """Two more rows: the mean and the fusion on training tracks that were left out in turn."""
    import pandas as pd

    from stemfuse.analysis import aggregate, by_source, common_mask
    from stemfuse.blending import cross_validate

    if not isinstance(fusion, LinearFusion):
        raise ConfigError(f"--folds: a {fusion.kind} fusion has no weights, expected a linear fusion")
    grid = by_source(aggregate(common_mask(cross_validate(fusion, tracks, folds))[0]), "SDR")
    grid.index = [f"{name}, left out in turn" for name in grid.index]
    return pd.concat([table, grid.rename_axis(table.columns[0]).reset_index()], ignore_index=True)


def _takes(name: str, option: str) -> bool:
    """Whether a fusion's constructor takes an option.

    Examples
    --------
    >>> _takes("search", "storage"), _takes("mean", "storage")
    (True, False)
    """
    return option in inspect.signature(fusion_class(name)).parameters
