"""A fit that is safe: what it has learnt is kept while it runs, and the same command goes on from there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stemfuse.blending import BaseFusion, FusionError, Search
from stemfuse.experiments.config import TrainingConfig
from stemfuse.experiments.outputs import room_for
from stemfuse.experiments.training import is_follower, trains
from stemfuse.experiments.workers import Progress
from stemfuse.separators import StemStore, Track, digest

from .fitting import show_progress
from .unfinished import UnfinishedFit, write_rows

log = logging.getLogger(__name__)

LIMITS = ("epochs", "patience", "trials", "storage")
"""Arguments by which a fit may be prolonged, or that do not change its result."""


def goes_on(fusion: BaseFusion) -> bool:
    """Whether a fit takes so long that what it has done is kept."""
    return fusion.execution is not None or isinstance(fusion, Search)


def fit_safely(
    fusion: BaseFusion,
    train: Sequence[Track],
    valid: Sequence[Track],
    identity: str,
    out: Path,
    overwrite: bool,
    progress: Progress,
) -> UnfinishedFit | None:
    """Fit and save; a fit of the same identity that was killed or stopped goes on when it is called again.

    What it goes on from is kept until the caller ends it; None where nothing is kept.
    """
    if not goes_on(fusion):
        show_progress(fusion, fusion.kind, progress)
        fusion.fit(train, valid or None)
        if is_follower():
            return None
        with room_for(out, overwrite, _beside(fusion, out)):
            fusion.save(out)
        return None
    unfinished = UnfinishedFit(out, identity)
    unfinished.begin()
    stops: list[BaseException] = []
    show_progress(fusion, fusion.kind, progress, unfinished.folder, unfinished)
    if fusion.execution is not None:
        fusion.execution = replace(fusion.execution, interrupted=None if fusion.execution.spawns else stops.append)
    given = fusion.storage if isinstance(fusion, Search) else None
    if isinstance(fusion, Search) and given is None:
        fusion.storage = str(unfinished.journal)
    try:
        fusion.fit(train, valid or None)
    except FusionError:
        unfinished.end_if_empty()
        raise
    if isinstance(fusion, Search):
        fusion.storage = given
    if is_follower():
        return None
    if stops and len(fusion.history_) < 2:
        log.warning("stopped before the end of the first epoch: nothing was learnt yet, and %s is not written", out)
        raise stops[0]
    mine = overwrite or unfinished.may_replace()
    before = out.read_bytes() if out.is_file() else None
    with room_for(out, mine, _beside(fusion, out)):
        fusion.save(out)
    if fusion.history_:
        history = out.with_name(f"{out.stem}-history.csv")
        # the same fit again has the same rows but for their times
        with room_for(history, mine or out.read_bytes() == before):
            write_rows(history, fusion.history_)
    # called again, it may replace what it has just written
    unfinished.stop()
    if stops:
        log.warning(
            "stopped after epoch %d of %d: %s holds what was learnt until then",
            len(fusion.history_) - 1,
            fusion.arguments()["epochs"],
            out,
        )
        raise stops[0]
    return unfinished


def _beside(fusion: BaseFusion, out: Path) -> list[str]:
    """What the names of a fusion's other files have in place of the suffix of the first."""
    return [file.name.removeprefix(out.stem) for file in fusion.saved_files(out)[1:]]


def fit_identity(
    fusion: BaseFusion,
    train: Sequence[Track],
    valid: Sequence[Track],
    store: StemStore,
    keys: Mapping[str, str],
    training: TrainingConfig,
) -> str:
    """Digest of all that a fitted fusion depends on, but for the limits by which a fit may be prolonged."""
    arguments = {name: value for name, value in fusion.arguments().items() if name not in LIMITS}
    tracks = [[store.content(track, keys) for track in part] for part in (train, valid)]
    about = {"kind": fusion.kind, "arguments": arguments, "tracks": tracks, "keys": keys}
    return digest(about | ({"training": training.deciding} if training.deciding and trains(fusion) else {}))


def kept_folds(unfinished: UnfinishedFit | None) -> Callable[[BaseFusion, int], None]:
    """Let the fits without some songs keep what they have learnt as well, each in a place of its own."""

    def keep(fusion: BaseFusion, fold: int) -> None:
        if unfinished is None:
            return
        if fusion.execution is not None:
            fusion.execution = replace(fusion.execution, checkpoints=unfinished.folder / f"fold-{fold}")
        if isinstance(fusion, Search) and fusion.storage is None:
            fusion.storage = str(unfinished.folder / f"fold-{fold}.journal")

    return keep
