"""Scoring all methods of one track, and summing up the scores of many tracks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal

from stemfuse.separators import Stems, Track

from .aggregates import aggregate, by_source
from .bss_eval.evaluation import ReferenceProjection, bss_eval, song_sdr
from .scores import SONG_SDR, WHOLE_SONG, common_mask, scores_table
from .song_metrics import song_metrics

if TYPE_CHECKING:
    import pandas as pd


def score_track(
    track: Track,
    methods: Mapping[str, Stems],
    window_s: float = 1.0,
    hop_s: float = 1.0,
    backend: Literal["fast", "museval"] = "fast",
    threads: int | None = None,
    metrics: Collection[str] = (),
) -> pd.DataFrame:
    """Score the methods of one track by BSS Eval v4 and by the whole-song SDR of the 2021 challenge.

    A method without some of the sources is scored against the references of those that it has. Its ISR, SIR and SAR
    then depend on these alone; its SDR is the same.

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
        Metrics of whole songs to compute as well, some of `SONG_METRICS`.

    Returns
    -------
    DataFrame
        A score table: track, fusion, source, frame, metric, value in dB.
    """
    import pandas as pd

    references = track.required_references()
    window, hop = window_s * track.rate, hop_s * track.rate
    by_sources: dict[tuple[str, ...], list[str]] = {}
    for name, stems in methods.items():
        common = tuple(source for source in references.sources if source in stems.sources)
        by_sources.setdefault(common, []).append(name)
    tables = []
    for sources, names in by_sources.items():
        truth = references.select(sources)
        chosen = [methods[name].select(sources) for name in names]
        # methods of the same sources share the work on the references
        if backend == "fast":
            found = ReferenceProjection(truth, window, hop, workers=threads).evaluate_all(chosen)
        else:
            found = (bss_eval(truth, estimates, window, hop, backend=backend) for estimates in chosen)
        for name, estimates, scores in zip(names, chosen, found, strict=True):
            song = {SONG_SDR: song_sdr(truth, estimates)}
            if metrics:
                song |= song_metrics(truth, estimates, track.rate, metrics)
            tables.append(scores_table(track.name, name, sources, scores._asdict(), song))
    return pd.concat(tables, ignore_index=True)


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
        are left out for all methods because one of them has no finite value there.
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
        grids.append(grid.join(counts).rename_axis("method").reset_index().assign(metric=metric))
    summary = pd.concat(grids, ignore_index=True)
    columns = ["method", "metric", *[name for name in summary.columns if name not in ("method", "metric")]]
    return summary[columns]
