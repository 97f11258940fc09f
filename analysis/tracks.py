"""Scoring all methods of one track, and summing up the scores of many tracks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Stems, Track, TrackError
from stemfuse.separators.sources import scored_sums, summed

from .aggregates import aggregate, by_source, source_order
from .bss_eval.evaluation import Backend, ReferenceProjection, bss_eval
from .bss_eval.sdr import frame_sdr, song_sdr
from .reasons import method_notes
from .scores import SONG_SDR, WHOLE_SONG, common_mask, scores_table
from .song_metrics import song_metrics

if TYPE_CHECKING:
    import pandas as pd

SDR = "SDR"

Sums = tuple[tuple[str, tuple[str, ...]], ...]


def score_track(
    track: Track,
    methods: Mapping[str, Stems],
    window_s: float = 1.0,
    hop_s: float = 1.0,
    backend: Backend = "fast",
    threads: int | None = None,
    metrics: Collection[str] = (),
) -> pd.DataFrame:
    """Score the methods of one track by BSS Eval v4 and by the whole-song SDR of the 2021 challenge.

    A method without some of the sources is scored against the references of those that it has, all together: SIR and
    SAR depend on these, SDR and ISR do not. Vocals and accompaniment are scored as a pair, as museval does it; see
    `stemfuse.separators.sources.scored_sums`. The whole-song SDR of a reference without a sound is NaN.

    Parameters
    ----------
    track : Track
        With references.
    methods : mapping of str to Stems
        Single separators and fusions by name.
    window_s, hop_s : float
        Length and distance of frames in seconds.
    backend : {"fast", "museval"}
        See `bss_eval`.
    threads : int, optional
        Of the fast backend; one per core when not given.
    metrics : collection of str
        Metrics of whole songs to compute as well, some of `SONG_METRICS`. ``"SDR"`` among them: of BSS Eval's four
        only this one, which is a pass over the audio and no more.

    Returns
    -------
    DataFrame
        A score table: track, fusion, source, frame, metric, value in dB.
    """
    import pandas as pd

    references = track.required_references()
    window, hop = window_s * track.rate, hop_s * track.rate
    by_sums: dict[Sums, dict[str, Stems]] = {}
    for name, stems in methods.items():
        try:
            truth_sums, sums = scored_sums(references.sources, stems.sources)
        except TrackError as error:
            raise TrackError(f"{name}, track {track.name!r}: {error}") from error
        by_sums.setdefault(tuple(truth_sums.items()), {})[name] = summed(stems, sums)
    others = [name for name in metrics if name != SDR]
    tables = []
    for pairs, estimates_of in by_sums.items():
        truth = summed(references, dict(pairs))
        sources, names, chosen = truth.sources, list(estimates_of), list(estimates_of.values())
        sounds = [any(block.any() for _, block in truth[source].blocks()) for source in sources]
        # methods of the same sources share the work on the references
        for name, estimates, (values, song_values) in zip(
            names, chosen, _evaluated(truth, chosen, window, hop, backend, threads, SDR in metrics), strict=True
        ):
            of_song = {SONG_SDR: song_values}
            if others:
                of_song |= song_metrics(truth, estimates, track.rate, others)
            # of silence they say nothing of the estimate
            song = {metric: np.where(sounds, found, np.nan) for metric, found in of_song.items()}
            tables.append(scores_table(track.name, name, sources, values, song))
    return pd.concat(tables, ignore_index=True)


def _evaluated(
    truth: Stems, chosen: Sequence[Stems], window: float, hop: float, backend: Backend, threads: int | None, alone: bool
) -> Iterator[tuple[Mapping[str, NDArray[np.float64]], NDArray[np.float64]]]:
    """Of every estimate the metrics of frames by name, or SDR alone, and the whole-song SDR."""
    if alone and backend == "fast":
        for own in frame_sdr(truth, chosen, window, hop, workers=threads):
            yield {SDR: own.SDR}, own.song
        return
    if backend == "fast":
        found = ReferenceProjection(truth, window, hop, workers=threads).evaluate_all(chosen)
    else:
        found = (bss_eval(truth, estimates, window, hop, backend=backend) for estimates in chosen)
    for estimates, scores in zip(chosen, found, strict=True):
        yield {SDR: scores.SDR} if alone else scores._asdict(), song_sdr(truth, estimates)


def summarise(scores: pd.DataFrame, common_tracks: bool = True) -> pd.DataFrame:
    """One row per method and metric, on the frames that all methods have.

    Parameters
    ----------
    scores : DataFrame
        A score table of the methods to compare.
    common_tracks : bool
        See `common_mask`.

    Returns
    -------
    DataFrame
        Columns method, metric, one per source and their mean (median over frames, then over tracks; the metrics of
        whole songs are averaged over tracks, as in the 2021 challenge), tracks, frames, and dropped: frames that
        are left out for all methods because one of them has no finite value there; and note: why a value is missing,
        and what the mean is over where not all methods have the same sources. The mean is over the sources that all
        methods have.
    """
    import pandas as pd

    masked, _ = common_mask(scores, common_tracks)
    framewise, song = masked[masked["frame"] != WHOLE_SONG], masked[masked["frame"] == WHOLE_SONG]
    tables = [aggregate(framewise)]
    if not song.empty:
        tables.append(aggregate(song, over_frames="song", over_tracks="mean"))
    table = pd.concat(tables, ignore_index=True)
    grids = []
    for metric in table["metric"].unique():
        grid = by_source(table, metric)
        counts = table[table["metric"] == metric].groupby("fusion", sort=False)[["tracks", "frames", "dropped"]].max()
        grids.append(
            grid.assign(note=grid.index.map(method_notes(scores, masked, metric)).fillna(""))
            .join(counts)
            .rename_axis("method")
            .reset_index()
            .assign(metric=metric)
        )
    summary = pd.concat(grids, ignore_index=True)
    first, last = ["method", "metric"], ["tracks", "frames", "dropped", "note"]
    columns = [*first, *source_order(name for name in summary.columns if name not in (*first, *last)), *last]
    return summary[columns]
