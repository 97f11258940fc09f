"""Statistics of tracks, which fits and bounds start from, and the SDR that follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from stemfuse.blending import BaseFusion, LinearFusion, Mean, MixingWeights
from stemfuse.blending.scoring import alone, audio_statistics
from stemfuse.experiments.workers import Progress, few_threads, run_all, silent
from stemfuse.separators import Track, convert, track_labels

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


def measure_parts(parts: Sequence[Track], wholes: Sequence[Track]) -> None:
    """Keep the statistics of tracks with some of the stems of others, which were measured: no audio is read again."""
    from stemfuse.analysis import GramStatistics

    for part, whole in zip(parts, wholes, strict=True):
        if part.references is not None:
            GramStatistics.of(part, whole=whole)


def measure_one(track: Track) -> None:
    """Compute the statistics of one track and keep them in its store."""
    from stemfuse.analysis import GramStatistics

    with few_threads(1):
        GramStatistics.of(track)


def sdr_scores(fusion: BaseFusion, tracks: Sequence[Track]) -> pd.DataFrame:
    """Scores of single separators, their mean and a fusion: from statistics where its weights hold for all tracks.

    Parameters
    ----------
    fusion : BaseFusion
        Fitted; one that is neither linear nor learnt is left out, of all others without constant weights audio is made.
    tracks : sequence of Track
        With stems; those without references are left out.

    Returns
    -------
    DataFrame
        A score table of SDR, and of whole songs, which tells what is silent; empty without references.
        ``attrs["songs"]`` names the tracks, ``<subset>/<track>``.
    """
    import pandas as pd

    from stemfuse.analysis import GramStatistics

    tables, songs = [], []
    for track, name in zip(tracks, track_labels(tracks), strict=True):
        if track.references is None:
            continue
        if fusion.fitted_rate is not None:
            track = convert(track, fusion.fitted_rate, track.channels)
        gram = GramStatistics.of(track)
        songs.append(f"{track.subset}/{track.name}")
        methods: dict[str, BaseFusion] = {own: alone(own, track) for own in track.stems}
        for label, method in {**methods, "mean": Mean().fit([track]), fusion.kind: fusion}.items():
            if isinstance(method, LinearFusion) and not method.varies_in_time:
                tables.append(scores_of(method.weights(track), label, gram, track).assign(track=name))
            elif method.learns:
                made, weights = audio_statistics(method, track)
                tables.append(scores_of(weights, label, made, track).assign(track=name))
    scores = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    scores.attrs["songs"] = songs
    return scores


def sdr_table(scores: pd.DataFrame, notes: Mapping[str, str] = MappingProxyType({})) -> pd.DataFrame:
    """Median SDR (of frames, then of tracks) of every method of `sdr_scores`.

    Parameters
    ----------
    scores : DataFrame
        From `sdr_scores`.
    notes : mapping of str to str
        What else has to be known of a method's scores, such as that it was fitted on these tracks.

    Returns
    -------
    DataFrame
        One row per method: method, one column per source, and their mean, in dB; and a note. ``attrs["songs"]`` as
        before.
    """
    from stemfuse.analysis import aggregate, by_source, common_mask
    from stemfuse.analysis.reasons import method_notes

    if scores.empty:
        return scores
    masked, _ = common_mask(scores[scores["metric"] == "SDR"])
    grid = by_source(aggregate(masked), "SDR")
    said = method_notes(scores, masked)
    for method, note in notes.items():
        said[method] = "; ".join(filter(None, (said.get(method, ""), note)))
    table = grid.assign(note=grid.index.map(said).fillna("")).rename_axis("SDR, dB").reset_index()
    table.attrs["songs"] = scores.attrs["songs"]
    return table


def gain_rows(scores: pd.DataFrame, fusion: str) -> pd.DataFrame:
    """Gain of a fusion over the best separator and over the plain mean, with its interval, per source.

    Parameters
    ----------
    scores : DataFrame
        From `sdr_scores`, the fusion's on songs that it has not seen.
    fusion : str
        Its name there.

    Returns
    -------
    DataFrame
        For each of the two the gain and, in two more rows, the ends of its 95 % interval, paired by track; columns as
        in `sdr_table`. Where the best separator lacks a source that others have, the gain is over the best of each
        source, which the note names. Where there is no gain or no interval, the note says why.
    """
    import pandas as pd

    from stemfuse.analysis import by_source, common_mask, compare

    masked = common_mask(scores[scores["metric"] == "SDR"])[0]
    singles = [name for name in masked["fusion"].unique() if name not in ("mean", fusion)]
    parts = []
    for rows, baseline, words, note in (_over_best(masked, singles), (masked, "mean", "the mean", "")):
        if not baseline or fusion == baseline:
            continue
        pair = rows[rows["fusion"].isin([baseline, fusion])]
        gains = compare(pair, baseline)
        name, known = f"gain over {words}", bool(np.isfinite(gains["low"]).any())
        note = "; ".join(filter(None, (note, *_limits(gains, pair, masked))))
        values = {name: "difference"} | ({f"{name}: 95 % from": "low", f"{name}: 95 % to": "high"} if known else {})
        for row, value in values.items():
            part = by_source(gains, value=value)
            part.index = [row]
            parts.append(part.assign(note=note if row == name else ""))
    return pd.concat(parts).rename_axis("SDR, dB").reset_index() if parts else pd.DataFrame()


def _over_best(masked: pd.DataFrame, singles: Sequence[str]) -> tuple[pd.DataFrame, str, str, str]:
    """The best separator, or the best of each source where it lacks some: scores with it, name, words and note."""
    from stemfuse.analysis import BEST_PER_SOURCE, aggregate, best_single, with_best_per_source
    from stemfuse.analysis.aggregates import MEAN as MEAN_OF_SOURCES

    best = best_single(masked, singles).set_index("source")["fusion"]
    overall = str(best.get(MEAN_OF_SOURCES, ""))
    by_name: dict[str, list[str]] = {}
    for source, name in best.drop(MEAN_OF_SOURCES, errors="ignore").items():
        by_name.setdefault(str(name), []).append(str(source))
    own = aggregate(masked[masked["fusion"] == overall]) if overall else masked.head(0)
    if not by_name or set(best.index) <= set(own.loc[own["value"].notna(), "source"]):
        return masked, overall, f"the best separator, {overall}", ""
    picks = "; ".join(f"{', '.join(sources)}: {name}" for name, sources in by_name.items())
    return with_best_per_source(masked, singles), BEST_PER_SOURCE, "the best separator of each source", f"over {picks}"


def _limits(gains: pd.DataFrame, pair: pd.DataFrame, masked: pd.DataFrame) -> Iterator[str]:
    """Why gains or intervals are missing, and what the mean is over where it is not what it is over in the table."""
    from stemfuse.analysis.aggregates import MEAN as MEAN_OF_SOURCES
    from stemfuse.analysis.aggregates import common_sources, track_scores

    of_sources = gains[gains["source"] != MEAN_OF_SOURCES]
    compared = of_sources[of_sources["difference"].notna()]
    if lost := list(of_sources.loc[of_sources["difference"].isna(), "source"]):
        yield f"no gain of {', '.join(lost)}: no song has a value of it in both"
    averaged, shown = (common_sources(track_scores(rows)) for rows in (pair, masked))
    if averaged and averaged != shown:
        yield f"mean: of {', '.join(averaged)}"
    few = compared[compared["low"].isna()]
    if len(few) == len(compared):
        yield _too_few(int(gains["tracks"].max()))
    elif len(few):
        yield f"no interval of {', '.join(few['source'])}: {_too_few(int(few['tracks'].max()))}"


def _too_few(songs: int) -> str:
    return f"{songs} songs are too few for an interval" if songs != 1 else "one song is too little for an interval"


def rest_statistics(gram: GramStatistics, track: Track) -> GramStatistics | None:
    """Statistics of the samples after a track's last whole frame, which figures of whole songs count; None without any.

    Parameters
    ----------
    gram : GramStatistics
        Of the track.
    track : Track
        Less than a second of it is read.
    """
    from stemfuse.analysis.bss_eval import frame_slices
    from stemfuse.analysis.input_frames import input_samples

    rest = slice(frame_slices(track.length, gram.window, gram.hop)[-1].stop, track.length)
    if rest.start == rest.stop:
        return None
    samples = input_samples(track, rest).astype(np.float64)
    return replace(gram, moments=(samples @ samples.T)[None], silent=np.zeros(1, bool))


def scores_of(
    weights: MixingWeights, label: str, gram: GramStatistics, track: Track, rest: GramStatistics | None = None
) -> pd.DataFrame:
    """SDR of the sources that constant weights give of a track, and that of the whole song, as a score table.

    Parameters
    ----------
    weights : MixingWeights
        Constant.
    label : str
        What they are called in the table.
    gram : GramStatistics
        Of the track.
    track : Track
        Whose name the table has.
    rest : GramStatistics, optional
        Of the samples after the last frame; without it whole-song figures are those of the frames.
    """
    from stemfuse.analysis import SONG_SDR, scores_table
    from stemfuse.analysis.bss_eval.sdr import SONG_EPSILON

    given = [source for source in gram.sources if source in weights.sources]
    rows = [gram.sources.index(source) for source in given]
    values = gram.sdr(weights)[rows]
    energies, errors = np.zeros((2, len(gram.sources)))
    for part in filter(None, (gram, rest)):
        matrix = part.matrices(weights)
        for total, sums in ((energies, part.reference_energies), (errors, part.errors(matrix))):
            total += sums.reshape(len(part.moments), len(gram.sources), -1).sum((0, 2))
    song = 10 * np.log10((energies + SONG_EPSILON) / (errors + SONG_EPSILON))
    return scores_table(
        track.name, label, given, {"SDR": values}, {SONG_SDR: np.where(energies > 0, song, np.nan)[rows]}
    )
