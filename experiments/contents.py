"""Reading what a run depends on before anything is computed: the content of its tracks, song by song, in threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from stemfuse.separators import Signal, StemfuseError, StemStore, Track

from .workers import Progress

Task = TypeVar("Task")
Result = TypeVar("Result")


def signals_of(track: Track) -> list[Signal]:
    """Mixture and references of a track."""
    references = track.references
    return [track.mixture, *([references[source] for source in references.sources] if references else [])]


def read_contents(tracks: Iterable[Track], store: StemStore, workers: int, progress: Progress) -> None:
    """Let a store know the digests of mixtures and references; those that it knows are not read.

    A signal that cannot be read is passed over: the stage that needs it says what is wrong.
    """
    signals = [signal for track in tracks for signal in signals_of(track)]
    unknown = [signal for signal in signals if signal.files and not store.contents.knows(signal)]

    def read(signal: Signal) -> None:
        with contextlib.suppress(StemfuseError):
            store.contents.sha256(signal)

    in_threads(read, unknown, workers, "read", progress)


def in_threads(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, stage: str, progress: Progress
) -> list[Result]:
    """Results of tasks that only read and digest files, in their order; no process has to be started for them."""
    results: list[Result] = []
    if tasks:
        progress(stage, 0, len(tasks))
    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(function, tasks):
            results.append(result)
            progress(stage, len(results), len(tasks))
    return results
