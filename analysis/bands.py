"""Second moments by frequency band, for mixes whose weights depend on frequency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy
from numpy.typing import NDArray

from stemfuse.separators import Track

from .errors import GramError
from .gram import GramStatistics
from .input_frames import frame_lengths, input_frames


def band_statistics(
    track: Track, edges_hz: Sequence[float], window: int | None = None, hop: int | None = None
) -> list[GramStatistics]:
    """Gram statistics of every band: they add up to those of the whole.

    Parameters
    ----------
    track : Track
        With references and stems; read once.
    edges_hz : sequence of float
        The borders between bands, ascending, above 0 and below half the rate: n edges make n + 1 bands.
    window, hop : int
        Frame length and distance in samples; one second when not given.

    Returns
    -------
    list of GramStatistics
        From the lowest band to the highest.

    Raises
    ------
    GramError
        The edges are not ascending frequencies of this rate.
    TrackError
        The track has no references.

    Notes
    -----
    A frame's discrete Fourier transform is cut between its frequencies. By Parseval's theorem the second moments of a
    band are then sums of products over its frequencies. The signal of such a band is periodic in the frame.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44100))
    >>> track = Track.from_arrays("song", noise.sum(0), noise, {"a": 0.9 * noise})
    >>> parts = band_statistics(track, [1000.0])
    >>> whole = GramStatistics.of(track)
    >>> bool(np.allclose(parts[0].moments + parts[1].moments, whole.moments))
    True
    """
    window, hop = frame_lengths(track, window, hop)
    edges = np.asarray(edges_hz, np.float64)
    if edges.ndim != 1 or not len(edges) or not (np.diff([0.0, *edges, track.rate / 2]) > 0).all():
        raise GramError(f"got band edges {list(edges_hz)}, expected ascending frequencies below {track.rate / 2} Hz")
    whole = GramStatistics.of(track, window, hop)
    moments = np.empty((len(edges) + 1, *whole.moments.shape))
    for index, samples in enumerate(input_frames(track, window, hop)):
        spectrum, length = scipy.fft.rfft(samples.astype(np.float64)), samples.shape[1]
        weights = np.full(spectrum.shape[1], 2 / length)
        weights[0] = 1 / length
        if length % 2 == 0:
            weights[-1] = 1 / length
        borders = np.searchsorted(scipy.fft.rfftfreq(length, 1 / track.rate), edges)
        for band, part in enumerate(np.split(np.arange(spectrum.shape[1]), borders)):
            moments[band, index] = _products(spectrum[:, part], weights[part])
    return [replace(whole, moments=part) for part in moments]


def _products(spectrum: NDArray[np.complex128], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Real parts of the products of all channels, as one real product of twice as many columns."""
    halves = np.concatenate([spectrum.real, spectrum.imag], axis=1) * np.sqrt(np.tile(weights, 2))
    products: NDArray[np.float64] = halves @ halves.T
    return products
