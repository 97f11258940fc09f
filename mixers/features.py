"""The features that GramMixer predicts from: levels and correlations of signals in a few bands, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import scipy
from numpy.typing import NDArray

from stemfuse.blending import read_inputs
from stemfuse.separators import ChannelLabel, Samples, Track

from .segments import segment_starts

SILENCE = 1e-6
"""Energy added to every level, relative to the mean energy of the song's mixture: -60 dB is silence."""


def signals_of(labels: Sequence[str]) -> dict[str, list[int]]:
    """Positions of each signal's channels among labels.

    Examples
    --------
    >>> signals_of(["mixture.left", "mixture.right", "a.bass.left", "a.bass.right"])
    {'mixture': [0, 1], 'a.bass': [2, 3]}
    """
    signals: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        signals.setdefault(ChannelLabel.parse(label).signal, []).append(position)
    return signals


def band_energies(samples: Samples, rate: int, edges_hz: Sequence[float]) -> NDArray[np.float64]:
    """Second moments of channels in frequency bands, summed over time.

    Parameters
    ----------
    samples : ndarray, shape (channel, time)
        One block.
    rate : int
        Sample rate in Hz.
    edges_hz : sequence of float
        Where a band ends and the next one starts; the first band starts at 0, the last one ends at rate / 2.

    Returns
    -------
    ndarray, shape (band, channel, channel)
        Their sum over bands is ``samples @ samples.T``.

    Examples
    --------
    >>> times = np.arange(8000) / 8000
    >>> low, high = (np.sin(2 * np.pi * f * times).astype("float32") for f in (100, 2000))
    >>> np.abs(band_energies(np.stack([low, low + high]), 8000, [1000])).round().tolist()
    [[[4000.0, 4000.0], [4000.0, 4000.0]], [[0.0, 0.0], [0.0, 4000.0]]]
    """
    size = scipy.fft.next_fast_len(max(1, samples.shape[1]), real=True)
    spectra = scipy.fft.rfft(samples, size)
    # Parseval: every bin counts twice, except that of 0 Hz and the last one of an even length
    spectra[:, 0] *= np.float32(np.sqrt(0.5))
    if size % 2 == 0:
        spectra[:, -1] *= np.float32(np.sqrt(0.5))
    borders = [0, *(min(round(edge * size / rate), spectra.shape[1]) for edge in edges_hz), spectra.shape[1]]
    parts = [np.ascontiguousarray(spectra[:, start:stop]).view(np.float32) for start, stop in pairwise(borders)]
    return np.stack([part @ part.T for part in parts]).astype(np.float64) * (2 / size)


def log_gram(moments: NDArray[np.float64], groups: Sequence[Sequence[int]], scale: float) -> NDArray[np.float32]:
    """Features of one frame: each signal's level in each band and the correlation of each pair.

    Parameters
    ----------
    moments : ndarray, shape (band, channel, channel)
        See `band_energies`, divided by the length.
    groups : sequence of sequence of int
        Channels of each signal, left before right: left is compared with left, right with right.
    scale : float
        Standard deviation of the song's mixture, so that loudness does not matter.

    Returns
    -------
    ndarray, shape (band * signal * (signal + 1) / 2,)
        Levels as log10 of energy, from -6; correlations between -1 and 1.
    """
    channels = min(len(group) for group in groups)
    shared = sum(
        moments[:, [group[channel] for group in groups]][:, :, [group[channel] for group in groups]]
        for channel in range(channels)
    )
    relative = np.asarray(shared, np.float64) / (channels * scale**2)
    energies = np.diagonal(relative, axis1=1, axis2=2) + SILENCE
    sizes = np.sqrt(energies)
    correlations = relative / (sizes[:, :, None] * sizes[:, None, :])
    above = np.triu_indices(len(groups), 1)
    return np.concatenate([np.log10(energies).ravel(), correlations[:, *above].ravel()]).astype(np.float32)


def frame_features(
    track: Track, frame: int, scale: float, labels: Sequence[str], edges_hz: Sequence[float]
) -> NDArray[np.float32]:
    """Features of all frames of a track, (frame, feature): a frame starts every half frame, until the end is covered.

    Every half frame is read and transformed once, for the two frames that it belongs to; the last one may be shorter.

    Parameters
    ----------
    track : Track
        With all inputs.
    frame : int
        Length of a frame in samples.
    scale : float
        Standard deviation of the song's mixture.
    labels : sequence of str
        Which input channels.
    edges_hz : sequence of float
        Borders of the bands; see `band_energies`.
    """
    groups, hop = list(signals_of(labels).values()), frame // 2
    count = len(segment_starts(track.length, frame, hop))
    borders = [min(hop * index, track.length) for index in range(count + 1)] + [track.length]
    energies = [
        band_energies(read_inputs(track, labels, start, stop), track.rate, edges_hz)
        for start, stop in pairwise(borders)
    ]
    rows = [
        log_gram((first + second) / (stop - start), groups, scale)
        for first, second, start, stop in zip(energies, energies[1:], borders, borders[2:], strict=False)
    ]
    return np.stack(rows)
