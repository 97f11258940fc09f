"""Short-time power spectra of a mixture and of each separator's estimate of a source, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending import FusionError, read_inputs
from stemfuse.separators import ChannelLabel, Samples, Track

from .features import SILENCE, signals_of
from .segments import segment_starts

WINDOW_S = 0.046
"""Length of the short-time windows: 2048 samples at 44.1 kHz."""
LOWEST_HZ = 40.0
"""Where the second band starts; the first one is all below."""


def own_stems(inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, list[str]]:
    """By source, the signals that are a separator's estimate of it, in the order of the inputs.

    Raises
    ------
    FusionError
        No separator gives a source.

    Examples
    --------
    >>> own_stems(["mixture.left", "a.bass.left", "b.bass.left", "b.drums.left"], ["bass.left"])
    {'bass': ['a.bass', 'b.bass']}
    """
    labels = [ChannelLabel.parse(label) for label in inputs]
    found = {}
    for source in signals_of(outputs):
        found[source] = list(
            dict.fromkeys(label.signal for label in labels if label.is_stem and label.source == source)
        )
        if not found[source]:
            raise FusionError(f"{source}: no separator gives it; weights that sum to one need at least one stem of it")
    return found


def short_time_power(samples: Samples, window: int) -> tuple[Samples, int]:
    """Power spectra of Hann windows that overlap by half, summed over them.

    Parameters
    ----------
    samples : ndarray, shape (channel, time)
        One block; a shorter one than a window is filled with zeros.
    window : int
        Length of a window in samples.

    Returns
    -------
    power : ndarray, shape (channel, bin)
    count : int
        Number of windows.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 4 / 64 * np.arange(640))[None].astype("float32")
    >>> power, count = short_time_power(tone, 64)
    >>> int(power[0].argmax()), count
    (4, 19)
    """
    if samples.shape[1] < window:
        samples = np.pad(samples, ((0, 0), (0, window - samples.shape[1])))
    pieces = np.lib.stride_tricks.sliding_window_view(samples, window, axis=1)[:, :: window // 2]
    spectra = np.fft.rfft(pieces * np.hanning(window + 1)[:-1].astype(np.float32))
    power: Samples = np.square(np.abs(spectra)).sum(1, dtype=np.float64).astype(np.float32)
    return power, pieces.shape[1]


def frame_powers(
    track: Track, inputs: Sequence[str], stems: Mapping[str, Sequence[str]], frame: int, scale: float
) -> Iterator[NDArray[np.float32]]:
    """Yield the mean power spectra of every frame of a track; one starts every half frame, until the end is covered.

    Parameters
    ----------
    track : Track
        With all inputs.
    inputs : sequence of str
        Labels of channels that are read.
    stems : mapping of str to sequence of str
        By source, the signals whose spectra are wanted; see `own_stems`.
    frame : int
        Length of a frame in samples.
    scale : float
        Standard deviation of the song's mixture, so that loudness does not matter.

    Yields
    ------
    ndarray, shape (1 + 2 stem, bin)
        Of the mixture, of all stems one after the other, and of what each leaves of the mixture; mean over channels.
        The mean energy of the mixture is 1.
    """
    hop, window = frame // 2, 2 * max(1, round(WINDOW_S * track.rate / 2))
    groups = signals_of(inputs)
    chosen = [signal for signals in stems.values() for signal in signals]
    count = len(segment_starts(track.length, frame, hop))
    borders = [min(hop * index, track.length) for index in range(count + 1)] + [track.length]
    energy = (scale**2) * window * float(np.square(np.hanning(window + 1)[:-1]).sum()) / 2
    earlier: tuple[Samples, int] | None = None
    for start, stop in pairwise(borders):
        audio, mixture = read_inputs(track, inputs, start, stop), track.mixture.read(start, stop)
        signals = [mixture, *(audio[groups[signal]] for signal in chosen)]
        signals += [mixture - signal for signal in signals[1:]]
        power, windows = short_time_power(np.concatenate(signals), window)
        half = power.reshape(len(signals), len(mixture), -1).mean(1), windows if stop > start else 0
        if earlier is not None:
            yield (earlier[0] + half[0]) / np.float32(max(1, earlier[1] + half[1]) * energy)
        earlier = half


def band_levels(powers: NDArray[np.float32], bands: int, rate: int) -> NDArray[np.float32]:
    """Levels in bands of equal width on the scale of octaves, (..., band), as log10 of mean power, from -6.

    Parameters
    ----------
    powers : ndarray, shape (..., bin)
        See `frame_powers`.
    bands : int
        How many; the first is all below `LOWEST_HZ`. No band is narrower than a bin.
    rate : int
        Sample rate in Hz.

    Examples
    --------
    >>> band_levels(np.ones((1, 1025), "float32"), 4, 44_100).round(3).tolist()
    [[0.0, 0.0, 0.0, 0.0]]
    """
    size = powers.shape[-1]
    edges_hz = np.geomspace(LOWEST_HZ, rate / 2, bands)
    edges = np.maximum.accumulate(np.r_[0, np.round(edges_hz / (rate / 2) * (size - 1)).astype(int)])
    edges = np.maximum(edges, np.arange(len(edges)))
    sums = np.add.reduceat(powers, np.minimum(edges[:-1], size - 1), axis=-1)
    widths = np.diff(np.r_[np.minimum(edges[:-1], size - 1), size])
    return np.asarray(np.log10(sums / np.maximum(widths, 1) + SILENCE), np.float32)


def log_evidence(powers: NDArray[np.float32], stems: int) -> NDArray[np.float32]:
    """How well the power of each estimate and that of its rest explain the mixture's, (..., stem).

    Source and rest are taken for independent and Gaussian in every bin, with the powers of the estimate and of what
    it leaves of the mixture: the mean over bins of the logarithm of the mixture's likelihood, up to a constant. It is
    largest where the two powers add up to the mixture's, as those of independent signals do.

    Parameters
    ----------
    powers : ndarray, shape (..., 1 + 2 stem, bin)
        See `frame_powers`.
    stems : int
        How many.

    Examples
    --------
    >>> powers = np.array([[[1.0], [0.5], [0.9], [0.5], [0.9]]], "float32")
    >>> log_evidence(powers, 2)[0].round(3)
    array([ 0.   , -0.143], dtype=float32)
    """
    mixture = powers[..., :1, :] + SILENCE
    ratio = mixture / (powers[..., 1 : 1 + stems, :] + powers[..., 1 + stems :, :] + SILENCE)
    return np.asarray(1 + (np.log(ratio) - ratio).mean(-1), np.float32)


def power_features(
    track: Track, frame: int, scale: float, inputs: Sequence[str], stems: Mapping[str, Sequence[str]], bands: int
) -> NDArray[np.float32]:
    """Features of all frames: levels of the mixture and of each stem in bands, then each stem's `log_evidence`.

    Parameters
    ----------
    track, frame, scale, inputs, stems
        See `frame_powers`.
    bands : int
        See `band_levels`.

    Returns
    -------
    ndarray, shape (frame, (1 + stem) * band + stem)
    """
    count = sum(map(len, stems.values()))
    rows = [
        np.concatenate([band_levels(powers[: 1 + count], bands, track.rate).ravel(), log_evidence(powers, count)])
        for powers in frame_powers(track, inputs, stems, frame, scale)
    ]
    return np.stack(rows)
