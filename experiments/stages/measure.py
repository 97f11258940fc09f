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

    from stemfuse.analysis import GramStatistics


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


def compare_sdr(fusion: BaseFusion, tracks: Sequence[Track], note: str = "") -> pd.DataFrame:
    """Median SDR (of frames, then of tracks) of single separators, their mean and a linear fusion, from statistics.

    Parameters
    ----------
    fusion : BaseFusion
        Fitted; one that is not linear is left out of the table.
    tracks : sequence of Track
        With stems; those without references are left out.
    note : str
        What has to be known of the fusion's own scores, such as that it was fitted on these tracks.

    Returns
    -------
    DataFrame
        One row per method: method, one column per source, and their mean, in dB; and a note. ``attrs["songs"]`` names
        the tracks, ``<subset>/<track>``.
    """
    import pandas as pd

    from stemfuse.analysis import GramStatistics, aggregate, by_source, common_mask
    from stemfuse.analysis.reasons import method_notes

    tables, songs = [], []
    for track, name in zip(tracks, track_labels(tracks), strict=True):
        if track.references is None:
            continue
        gram = GramStatistics.of(track)
        songs.append(f"{track.subset}/{track.name}")
        methods: dict[str, BaseFusion] = {own: _single(own, track) for own in track.stems}
        for label, method in {**methods, "mean": Mean().fit([track]), fusion.kind: fusion}.items():
            if isinstance(method, LinearFusion):
                tables.append(_scores_of(method, label, gram, track).assign(track=name))
    if not tables:
        return pd.DataFrame()
    scores = pd.concat(tables, ignore_index=True)
    masked, _ = common_mask(scores[scores["metric"] == "SDR"])
    grid = by_source(aggregate(masked), "SDR")
    notes = method_notes(scores, masked)
    if note:
        notes[fusion.kind] = "; ".join(filter(None, (notes.get(fusion.kind), note)))
    table = grid.assign(note=grid.index.map(notes).fillna("")).rename_axis("SDR, dB").reset_index()
    table.attrs["songs"] = songs
    return table


def _scores_of(method: LinearFusion, label: str, gram: GramStatistics, track: Track) -> pd.DataFrame:
    """SDR of the sources that a method gives, and that of whole songs, which tells `method_notes` what is silent."""
    from stemfuse.analysis import SONG_SDR, scores_table

    weights = method.weights(track)
    given = [source for source in gram.sources if source in weights.sources]
    rows = [gram.sources.index(source) for source in given]
    if method.varies_in_time:
        return scores_table(track.name, label, given, {"SDR": _sdr_of_audio(method, track)[rows]})
    values, matrix = gram.sdr(weights)[rows], gram.matrices(weights)
    shape = (len(gram.moments), len(gram.sources), -1)
    energies, errors = (
        part.reshape(shape).sum((0, 2))[rows] for part in (gram.reference_energies, gram.errors(matrix))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        song = np.where(energies > 0, 10 * np.log10(energies / errors), np.nan)
    return scores_table(track.name, label, given, {"SDR": values}, {SONG_SDR: song})


def _single(name: str, track: Track) -> Fixed:
    """The blend that is one separator alone."""
    return Fixed({source: {name: 1.0} for source in track.stems[name].sources}).fit([track])


def _sdr_of_audio(fusion: BaseFusion, track: Track) -> NDArray[np.float64]:
    """SDR of a fusion whose weights vary in time, (source, frame), from the audio that it makes."""
    from stemfuse.analysis import GramStatistics

    fused = replace(track, stems={fusion.kind: fusion.fuse(track)}, stored={})
    return GramStatistics.from_track(fused).sdr(_single(fusion.kind, fused).weights_)
