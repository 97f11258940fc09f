"""SDR alone: one pass over the audio, without projections; per frame as museval has it, and of whole songs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arithmetic import Values, blas_threads, usable_cores
from .framing import Audio, SourceAudio, check_pair, frame_slices, raise_not_finite, readable, sounding

SONG_EPSILON = 1e-7
"""Added to both energies of the whole-song SDR by the 2021 challenge."""

_BLOCK = 1 << 14
# a piece that a thread takes: some ten seconds of music
_PIECE = 1 << 19


class SdrScores(NamedTuple):
    """SDR in dB, and nothing else.

    Attributes
    ----------
    SDR : ndarray, shape (source, frame), float64
        As `bss_eval` has it: NaN in a frame in which a reference or an estimate is silent.
    song : ndarray, shape (source,), float64
        As `song_sdr` has it.
    """

    SDR: Values
    song: Values


class _Sums(NamedTuple):
    """Energies (source, interval) of references and of every estimate's errors, and where all of them sound."""

    reference: Values
    errors: Values
    references_sound: NDArray[np.bool_]
    estimates_sound: NDArray[np.bool_]


def frame_sdr(
    references: Audio,
    estimates: Sequence[Audio],
    window: float = 44_100,
    hop: float = 44_100,
    *,
    workers: int | None = None,
) -> list[SdrScores]:
    """SDR of several estimates of the same references, per frame and of the whole song, by one pass over the audio.

    museval's SDR needs no filters: it is 10 log10(sum s^2 / sum (s - y)^2) over time and channels of a frame. All
    sums are in float64, of differences that are taken in float64.

    Parameters
    ----------
    references : array_like, shape (source, time, channel), or Stems
        The true sources.
    estimates : sequence of array_like or Stems
        Of the same shape each; the references are read once for all.
    window, hop : float
        Length and distance of the frames in samples, see `bss_eval`.
    workers : int, optional
        Threads; one per core when not given.

    Returns
    -------
    list of SdrScores
        One for each estimate.

    Raises
    ------
    AudioError
        See `bss_eval`.

    See Also
    --------
    stemfuse.analysis.GramStatistics.sdr : of linear fusions, without a pass over audio.

    Examples
    --------
    >>> references = np.full((1, 88200, 2), 0.5)
    >>> [scores] = frame_sdr(references, [0.9 * references])
    >>> scores.SDR.round(6), scores.song.round(3)
    (array([[20., 20.]]), array([20.]))
    """
    truth, others = readable(references, "references"), [readable(audio, "estimates") for audio in estimates]
    for other in others:
        check_pair(truth, other)
    frames = frame_slices(truth.length, window, hop)
    borders = [edge for frame in frames for edge in (frame.start, frame.stop)]
    edges = np.unique([*range(0, truth.length, _PIECE), *borders, truth.length])
    with blas_threads(1):
        sums = _sums(truth, others, edges.tolist(), workers or usable_cores())
    _check_finite(truth, others, sums)
    first, last = (np.searchsorted(edges, [getattr(frame, side) for frame in frames]) for side in ("start", "stop"))
    energies, silent = _over(sums.reference, first, last), ~_any(sums.references_sound, first, last).all(axis=0)
    found = []
    for errors, sound in zip(sums.errors, sums.estimates_sound, strict=True):
        lost = silent | ~_any(sound, first, last).all(axis=0)
        distortion = _over(errors, first, last)
        with np.errstate(divide="ignore", invalid="ignore"):
            sdr = np.where(distortion == 0, np.inf, 10 * np.log10(energies / distortion))
        song = 10 * np.log10((sums.reference.sum(axis=1) + SONG_EPSILON) / (errors.sum(axis=1) + SONG_EPSILON))
        found.append(SdrScores(np.where(lost, np.nan, sdr), song))
    return found


def song_sdr(references: Audio, estimates: Audio) -> NDArray[np.float64]:
    """Signal-to-distortion ratio of whole songs, as the 2021 music demixing challenge ranked them.

    10 log10((sum s^2 + e) / (sum (s - y)^2 + e)) over time and channels with e = 1e-7: finite for silent sources and
    perfect estimates alike.

    Parameters
    ----------
    references, estimates : array_like, shape (source, time, channel), or Stems
        The true sources and estimates of them; stems are read block by block.

    Returns
    -------
    ndarray, shape (source,), float64
        In dB. The challenge's score of a song is the mean over its four sources.

    Raises
    ------
    AudioError
        See `bss_eval`.

    References
    ----------
    Y. Mitsufuji et al., "Music demixing challenge 2021", Frontiers in Signal Processing 1:808395, 2022, eq. 1-2.

    Examples
    --------
    >>> references = np.full((1, 100, 2), 0.5)
    >>> song_sdr(references, 0.9 * references).round(3)
    array([20.])
    """
    return frame_sdr(references, [estimates], np.inf, workers=1)[0].song


def _sums(truth: SourceAudio, others: Sequence[SourceAudio], edges: list[int], workers: int) -> _Sums:
    """Sums over every interval between two edges; threads take runs of intervals."""
    intervals = list(pairwise(edges))
    runs = list(_runs(intervals))
    if workers == 1 or len(runs) == 1:
        parts = [_sums_of(truth, others, run) for run in runs]
    else:
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(lambda run: _sums_of(truth, others, run), runs))
    return _Sums(*(np.concatenate(values, axis=-1) for values in zip(*parts, strict=True)))


def _runs(intervals: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Intervals in groups of some `_PIECE` samples."""
    run: list[tuple[int, int]] = []
    for interval in intervals:
        run.append(interval)
        if interval[1] - run[0][0] >= _PIECE:
            yield run
            run = []
    if run:
        yield run


def _sums_of(truth: SourceAudio, others: Sequence[SourceAudio], intervals: list[tuple[int, int]]) -> _Sums:
    """Sums over some intervals, block by block, in buffers that stay in the processor's cache."""
    count, shape = len(truth.sources), (len(truth.sources), truth.channels)
    reference, errors = np.zeros((count, len(intervals))), np.zeros((len(others), count, len(intervals)))
    sounds = np.zeros((1 + len(others), count, len(intervals)), bool)
    room = np.empty((2, *shape, min(_BLOCK, max(stop - start for start, stop in intervals))))
    for number, (start, stop) in enumerate(intervals):
        for begin in range(start, stop, _BLOCK):
            end = min(begin + _BLOCK, stop)
            true, error = room[:, :, :, : end - begin]
            samples = truth.read(begin, end)
            true[...] = samples
            reference[:, number] += _energy(true)
            _hear(sounds[0, :, number], samples)
            for other, sums, sound in zip(others, errors, sounds[1:], strict=True):
                samples = other.read(begin, end)
                error[...] = samples
                error -= true
                sums[:, number] += _energy(error)
                _hear(sound[:, number], samples)
    return _Sums(reference, errors, sounds[0], sounds[1:])


def _energy(waves: Values) -> Values:
    """Of every source; a product of rows with themselves is the fastest sum of squares that numpy has."""
    energy: Values = np.matmul(waves[..., None, :], waves[..., :, None]).sum(axis=(1, 2, 3))
    return energy


def _hear(sounds: NDArray[np.bool_], samples: NDArray[np.floating]) -> None:
    """Note which sources sound; what was heard before is not looked at again."""
    if not sounds.all():
        sounds |= sounding(samples)


def _over(sums: Values, first: NDArray[np.intp], last: NDArray[np.intp]) -> Values:
    """Of every frame, from its first interval to before its last; no differences of running sums, which would round."""
    return np.stack([sums[:, begin:end].sum(axis=1) for begin, end in zip(first, last, strict=True)], axis=1)


def _any(sounds: NDArray[np.bool_], first: NDArray[np.intp], last: NDArray[np.intp]) -> NDArray[np.bool_]:
    return np.stack([sounds[:, begin:end].any(axis=1) for begin, end in zip(first, last, strict=True)], axis=1)


def _check_finite(truth: SourceAudio, others: Sequence[SourceAudio], sums: _Sums) -> None:
    if not np.isfinite(sums.reference).all():
        raise_not_finite(truth, "references")
    for other, errors in zip(others, sums.errors, strict=True):
        if not np.isfinite(errors).all():
            raise_not_finite(other, "estimates")
