"""The stage that fits: every fusion of a run is fitted and saved, once more without each group of songs if asked."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemfuse.blending import BaseFusion, Fixed, FusionError, fusion_class, leaks, make_fusion
from stemfuse.experiments.config import Cell
from stemfuse.experiments.identity import fit_digest
from stemfuse.experiments.machine import training_devices
from stemfuse.experiments.plan import Plan
from stemfuse.experiments.record import FusionRecord
from stemfuse.experiments.run import FOLDS, LOGS, PARTS, Run
from stemfuse.experiments.shares import take_fusion
from stemfuse.experiments.training import execution_of
from stemfuse.experiments.workers import NO_MEMORY, Progress, is_memory
from stemfuse.separators import StemStore, Track, TrainingError, listed

from .fitting import FitTracks, alike, fit_and_save, kept_equal, seen_before, show_progress
from .measure import measure, measure_parts

log = logging.getLogger(__name__)


def fit(plan: Plan, run: Run, progress: Progress) -> None:
    """Fit every fusion that is not fitted yet."""
    tracks = _tracks_of(plan)
    record = run.record()
    known, record.fusions, record.failed = record.fusions, {}, {}
    if plan.learns():
        seen = [*tracks.train, *tracks.valid]
        measure(seen, plan.workers, progress)
        # songs that are left out in turn are among both, and no fusion is scored on those that it was fitted to
        record.warnings = leaks(seen, [] if plan.folds else tracks.tested)
    record.notes = [crossing(plan.folds, len(plan.tested()))] if plan.folds else []
    record.notes += absences(plan)
    separators = {label: separator.describe for label, separator in record.separators.items()}
    errors: list[Exception] = []
    for done, cell in enumerate(plan.fusions):
        progress("fit", done, len(plan.fusions))
        label, digest = cell.label, fit_digest(plan, cell)
        fitted = known.get(label, FusionRecord())
        kept = run.checksums.read()
        # the songs that are tested may be others
        anew = make_fusion(cell.name, **cell.options)
        fitted.note = _note(anew, plan.store, tracks.tested, separators, fitted.kept_equal)
        if fitted.digest == digest and fitted.files and all(file in kept for file in fitted.files):
            record.fusions[label] = fitted.of(cell)
            record.use_devices(fitted.devices)
            continue
        run.checksums.forget(fitted.files.__contains__)
        try:
            taken = take_fusion(run, label, digest)
            record.fusions[label] = (
                taken.of(cell) if taken else _fit_cell(plan, cell, digest, tracks, separators, run, progress)
            )
        except Exception as error:
            if not _is_its_own(error):
                raise
            errors.append(error)
            record.failed[label] = NO_MEMORY if is_memory(error) else str(error)
            log.warning("%s: not fitted: %s", label, record.failed[label])
            continue
        record.use_devices(record.fusions[label].devices)
        # those that come later are still known when this is interrupted
        run.checksums.keep(run.path / file for file in record.fusions[label].files)
        run.write_record(record.model_copy(update={"fusions": known | record.fusions}))
    if errors and not record.fusions:
        raise errors[0]
    record.notes += [f"{label}: {text}" for label, fitted in record.fusions.items() for text in fitted.unfitted]
    run.write_record(record)
    progress("fit", len(plan.fusions), len(plan.fusions))


def crossing(folds: int, songs: int) -> str:
    """What is to be said of scores where songs are left out in turn.

    Examples
    --------
    >>> crossing(3, 3)
    'each song is fused by weights that were fitted without it; the saved weights are fitted on all 3 songs'
    """
    without = "it" if folds == songs else f"its group, one of {folds}"
    return (
        f"each song is fused by weights that were fitted without {without}; "
        f"the saved weights are fitted on all {songs} songs"
    )


def absences(plan: Plan) -> list[str]:
    """What is to be said of songs that not all separators have stems of."""
    said = []
    if plan.dropped:
        said.append(plan.dropped)
    songs = [planned.named for planned in plan.tested() if tuple(plan.keys_of(planned.track)) != tuple(plan.keys)]
    if not songs:
        return said
    if plan.together != tuple(plan.keys):
        said.append(
            f"no song to fit on has stems by all separators: the saved weights mix {listed(plan.together, most=20)}, "
            "which most songs have"
        )
    said.append(
        f"{listed(songs, most=20)}: not all separators have stems of these songs; every fusion is fitted again there "
        "for those that have, and bounds are of the other songs"
    )
    return said


def _tracks_of(plan: Plan, refit: int | None = None, cell: Cell | None = None) -> FitTracks:
    """Tracks with the stems of all separators, or of those of a refit; of these, those that a fusion mixes."""
    labels = plan.together if refit is None else plan.refits[refit].separators
    train, valid = plan.fitted_on(refit) if plan.learns() else ([], [])
    tested = plan.having(labels, [planned.track for planned in plan.tested()])
    mixed = labels if cell is None else plan.mixed_by(cell, refit)
    parts = ([plan.attach(track, mixed) for track in part] for part in (train, valid, tested))
    return alike(FitTracks(*parts), plan.config.convert)


def _fit_cell(
    plan: Plan,
    cell: Cell,
    digest: str,
    tracks: FitTracks,
    separators: Mapping[str, Any],
    run: Run,
    progress: Progress,
) -> FusionRecord:
    """Fit one fusion, for all songs and for those of each refit, and save it."""
    mixed = plan.mixed_by(cell)
    if lacking := [label for label in cell.separators or () if label not in mixed]:
        raise FusionError(f"no stems by {listed(lacking)} for the songs that are fitted on; adopt or separate them")
    if cell.separators is not None:
        whole, tracks = tracks, _tracks_of(plan, None, cell)
        measure_parts(tracks.train + tracks.valid, whole.train + whole.valid)
    described = {label: separators[label] for label in mixed if label in separators}
    fitted = _fit_part(plan, cell, digest, tracks, described, run, progress)
    _fit_again(plan, cell, fitted, separators, run, progress)
    return fitted


def _is_its_own(error: Exception) -> bool:
    """Whether something is wrong with one fusion, while others can be fitted: not a full disk or a wrong recipe."""
    return is_memory(error) or (isinstance(error, FusionError | TrainingError) and not error.is_usage)


def _fit_again(
    plan: Plan,
    part: Cell,
    record: FusionRecord,
    separators: Mapping[str, Any],
    run: Run,
    progress: Progress,
) -> None:
    """Fit a fusion once more for songs that it has seen, and for those that lack stems; these files belong to it."""
    learns, files = fusion_class(part.name).learns, {}
    if not learns and not plan.absent:
        return
    for number, refit in enumerate(plan.refits):
        # what learns nothing is the same for all songs with stems by the same separators
        same = refit if learns else plan.mixed_by(part, number)
        if not learns and same == plan.mixed_by(part):
            files[same] = record.file
        if same not in files:
            try:
                files[same] = _fit_refit(plan, part, number, record, separators, run, progress)
            except FusionError as error:
                songs = [planned.named for planned in plan.tested() if plan.refit_of(planned.track) == number]
                record.unfitted = [
                    *record.unfitted,
                    f"no scores of {listed(songs, most=20)}, not fitted there: {error}",
                ]
                log.warning("%s: %s", part.label, record.unfitted[-1])
                files[same] = ""
        record.folds = [*record.folds, files[same]]


def _fit_refit(
    plan: Plan,
    part: Cell,
    number: int,
    record: FusionRecord,
    separators: Mapping[str, Any],
    run: Run,
    progress: Progress,
) -> str:
    """Fit a fusion for the songs of one refit and save it; its file."""
    tracks, digest = _tracks_of(plan, number, part), fit_digest(plan, part, number)
    if part.separators and not plan.mixed_by(part, number):
        raise FusionError(f"none of {listed(part.separators)} has stems of them")
    if fusion_class(part.name).learns and plan.refits[number].separators != plan.together:
        measure([*tracks.train, *tracks.valid], plan.workers, progress)
    label = f"{part.label}, fit {number + 1} of {len(plan.refits)} for songs of their own"
    # kept until the run ends, for a run that is resumed
    journal = {"storage": str(run.path / PARTS / f"search-{digest[:16]}.journal")} if record.journal else {}
    fusion = make_fusion(part.name, **(journal | part.options))
    logs = run.path / LOGS / f"{Path(record.file).stem}-{number + 1}-{digest[:8]}"
    fusion.trained_by(execution_of(plan.config.training, plan.store, logs, again=True))
    show_progress(fusion, label, progress, run.path / PARTS / f"training-{digest[:16]}")
    file = Path("fusions", FOLDS, f"{Path(record.file).stem}-{number + 1}{fusion.suffix}").as_posix()
    described = {label: separators[label] for label in plan.mixed_by(part, number)}
    train, valid = (tracks.train, tracks.valid) if fusion.learns else (tracks.tested, [])
    fit_and_save(fusion, train, valid, described, plan.store, run.path / file, plan.config.convert)
    record.files = record.files + [saved.as_posix() for saved in fusion.saved_files(file)]
    return file


def _fit_part(
    plan: Plan,
    part: Cell,
    digest: str,
    tracks: FitTracks,
    separators: Mapping[str, Any],
    run: Run,
    progress: Progress,
) -> FusionRecord:
    """Fit one fusion of a run, save it, and put it on record."""
    started, label = time.perf_counter(), part.label
    journal = _journal_of(part, label)
    kept = {"storage": str(run.path / journal)} if journal else {}
    fusion = make_fusion(part.name, **(kept | part.options))
    fusion.trained_by(execution_of(plan.config.training, plan.store, run.path / LOGS / f"{label}-{digest[:8]}"))
    show_progress(fusion, label, progress, run.path / PARTS / f"training-{digest[:16]}")
    file = f"fusions/{label}{fusion.suffix}"
    train, valid = (tracks.train, tracks.valid) if fusion.learns else (tracks.tested or tracks.train, [])
    fit_and_save(fusion, train, valid, separators, plan.store, run.path / file, plan.config.convert)
    history = _keep_history(run, label, fusion)
    kept_by_search = [journal] if journal and (run.path / journal).is_file() else []
    return FusionRecord(
        kind=part.name,
        file=file,
        linear=fusion.is_linear,
        devices=training_devices(fusion),
        options=part.model_dump(mode="json")["options"],
        note=_note(fusion, plan.store, tracks.tested, separators, fusion.kept_equal_),
        kept_equal=list(fusion.kept_equal_),
        files=[
            *(saved.as_posix() for saved in fusion.saved_files(file)),
            *([history] if history else []),
            *kept_by_search,
        ],
        digest=digest,
        seconds=round(time.perf_counter() - started, 3),
        history=history,
        journal=journal,
        studies={source: study.study_name for source, study in fusion.studies_.items()},
    ).of(part)


def _note(
    fusion: BaseFusion,
    store: StemStore,
    tested: Sequence[Track],
    separators: Mapping[str, Any],
    equal: Sequence[str],
) -> str:
    """What has to be known of a fusion's scores: whose weights they are, on which songs, and where they are equal."""
    made = {label: str(described.get("name", "")) for label, described in separators.items()}
    stand_ins = fusion.stand_ins(made) if isinstance(fusion, Fixed) else ""
    return "; ".join(filter(None, (stand_ins, seen_before(fusion, store, tested), kept_equal(equal))))


def _journal_of(part: Cell, label: str) -> str:
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


def _takes(name: str, option: str) -> bool:
    """Whether a fusion's constructor takes an option.

    Examples
    --------
    >>> _takes("search", "storage"), _takes("mean", "storage")
    (True, False)
    """
    return option in inspect.signature(fusion_class(name)).parameters
