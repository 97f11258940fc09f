"""What every fit does, for a run or for a command: tracks alike, progress, and what it is known to have seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from stemfuse.blending import BaseFusion, load_fusion
from stemfuse.experiments.conversion import comparable
from stemfuse.experiments.workers import Progress
from stemfuse.separators import StemStore, Track, listed

from .unfinished import UnfinishedFit


class FitTracks(NamedTuple):
    """Tracks with stems by what they are for."""

    train: list[Track]
    valid: list[Track]
    tested: list[Track]


def alike(tracks: FitTracks, convert: bool) -> FitTracks:
    """The tracks with one number of channels: that of stereo where some are stereo."""
    alike = iter(comparable([track for part in tracks for track in part], convert))
    return FitTracks(*([next(alike) for _ in part] for part in tracks))


def at_one_rate(
    fusion: BaseFusion, train: Sequence[Track], valid: Sequence[Track], convert: bool
) -> tuple[list[Track], list[Track]]:
    """The tracks as a fusion can be fitted to them: converted to one rate where it needs that."""
    together = comparable([*train, *valid], convert, fusion.needs_one_rate)
    return together[: len(train)], together[len(train) :]


def show_progress(
    fusion: BaseFusion,
    label: str,
    progress: Progress,
    checkpoints: Path | None = None,
    unfinished: UnfinishedFit | None = None,
) -> None:
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
    unfinished : UnfinishedFit, optional
        Where the rows of the history are kept, too.
    """
    if fusion.learns:
        fusion.progress = lambda source, trial, trials: progress(f"{label}: {source}", trial, trials)
    if fusion.execution is not None:

        def show(row: Mapping[str, float]) -> None:
            if "epoch" in row:  # how many passes a solver needs is not known before
                progress(label, int(row["epoch"]), fusion.arguments()["epochs"])
                if unfinished is not None:
                    unfinished.add(row)

        # spawned processes cannot be handed a closure
        told = show if not fusion.execution.spawns else None if unfinished is None else unfinished.add
        fusion.execution = replace(fusion.execution, checkpoints=checkpoints, progress=told)


def fit_and_save(
    fusion: BaseFusion,
    train: Sequence[Track],
    valid: Sequence[Track],
    separators: Mapping[str, Any],
    store: StemStore,
    file: Path,
    convert: bool,
) -> None:
    """Fit a fusion and save it with what is known of the separators that it mixes and of the songs that it has seen."""
    fitted, validated = at_one_rate(fusion, train, valid, convert)
    fusion.fit(fitted, validated or None)
    fusion.separators_ = with_sums(separators, train)
    fusion.songs_ = songs_seen(fusion, store, [*train, *valid])
    fusion.save(file)


def songs_seen(fusion: BaseFusion, store: StemStore, tracks: Sequence[Track]) -> tuple[str, ...]:
    """Songs that a fusion has seen that is fitted to these tracks, those of the files that it is made of among them."""
    own = songs_of(store, tracks) if fusion.learns else ()
    return tuple(dict.fromkeys((*own, *_songs_of_files(fusion))))


def songs_of(store: StemStore, tracks: Sequence[Track]) -> tuple[str, ...]:
    """Which songs these are, as a fusion keeps them: the beginnings of their mixtures' digests."""
    return tuple(store.contents.sha256(track.mixture)[:16] for track in tracks)


def seen_before(fusion: BaseFusion, store: StemStore, tested: Sequence[Track]) -> str:
    """What is to be said of a fusion from a file that was fitted to tested songs; empty where it was not."""
    known = _songs_of_files(fusion)
    count = sum(song in known for song in songs_of(store, tested)) if known else 0
    return f"its file was fitted on {count} of these {len(tested)} songs: on others it gains less" if count else ""


def _songs_of_files(fusion: BaseFusion) -> tuple[str, ...]:
    """Songs that the fusions have seen whose files a fusion's arguments name."""
    return tuple(dict.fromkeys(song for file in fusion.files() for song in load_fusion(file).songs_))


def with_sums(separators: Mapping[str, Any], train: Sequence[Track]) -> dict[str, Any]:
    """Descriptions of separators, with the sums that were made of their stems."""
    sums = {label: dict(where.sums) for track in train for label, where in track.stored.items() if where.sums}
    return {
        label: {**described, "sums": sums[label]} if label in sums else described
        for label, described in separators.items()
    }


def kept_equal(sources: Sequence[str]) -> str:
    """What is to be said of a search that kept equal weights, see `stemfuse.blending.Search`; empty of all others."""
    if not sources:
        return ""
    return f"equal weights of {listed(sources, most=20)}: on songs left out, the trials found none better"
