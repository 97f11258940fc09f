"""Statistics of tracks, which fits and bounds start from, and the SDR that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending import BaseFusion, Fixed, LinearFusion, Mean
from stemfuse.experiments.workers import Progress, few_threads, run_all, silent
from stemfuse.separators import Track, track_labels

if TYPE_CHECKING:
    import pandas as pd


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
    """Compute the statistics of one track and keep them in its store."""
    from stemfuse.analysis import GramStatistics

    with few_threads(1):
        GramStatistics.of(track)


def compare_sdr(fusion: BaseFusion, tracks: Sequence[Track]) -> pd.DataFrame:
    """Median SDR (of frames, then of tracks) of single separators, their mean and a linear fusion, from statistics.

    Parameters
    ----------
    fusion : BaseFusion
        Fitted; one that is not linear is left out of the table.
    tracks : sequence of Track
        With stems; those without references are left out.

    Returns
    -------
    DataFrame
        One row per method: method, one column per source, and their mean, in dB.
    """
    import pandas as pd

    from stemfuse.analysis import GramStatistics, aggregate, by_source, common_mask, scores_table

    tables = []
    for track, name in zip(tracks, track_labels(tracks), strict=True):
        if track.references is None:
            continue
        gram = GramStatistics.of(track)
        methods: dict[str, BaseFusion] = {
            own: _single(own, track) for own, stems in track.stems.items() if set(stems.sources) >= set(gram.sources)
        }
        for label, method in {**methods, "mean": Mean().fit([track]), fusion.kind: fusion}.items():
            if isinstance(method, LinearFusion):
                values = _sdr_of_audio(method, track) if method.varies_in_time else gram.sdr(method.weights(track))
                tables.append(scores_table(name, label, gram.sources, {"SDR": values}))
    if not tables:
        return pd.DataFrame()
    grid = by_source(aggregate(common_mask(pd.concat(tables, ignore_index=True))[0]), "SDR")
    return grid.rename_axis("SDR, dB").reset_index()


def _single(name: str, track: Track) -> Fixed:
    """The blend that is one separator alone."""
    return Fixed({source: {name: 1.0} for source in track.stems[name].sources}).fit([track])


def _sdr_of_audio(fusion: BaseFusion, track: Track) -> NDArray[np.float64]:
    """SDR of a fusion whose weights vary in time, (source, frame), from the audio that it makes."""
    from stemfuse.analysis import GramStatistics

    fused = replace(track, stems={fusion.kind: fusion.fuse(track)}, stored={})
    return GramStatistics.from_track(fused).sdr(_single(fusion.kind, fused).weights_)
