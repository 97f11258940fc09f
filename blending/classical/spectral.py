"""Short-time spectra and band filters of audio that is read range by range, so that no song has to lie in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending.errors import FusionError

Array = NDArray[Any]
Read = Callable[[int, int], Array]
"""Samples ``start`` to ``stop`` of something: (..., time)."""

EVERY = slice(None)

BLOCK = 1 << 16
"""Samples that are read at a time: 1.5 s, some MB of spectra for three stereo signals."""


def blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """A range cut into blocks of at most `BLOCK` samples; an empty range is one empty block."""
    for low in range(start, max(stop, start + 1), BLOCK):
        yield low, min(low + BLOCK, stop)


def read_around(read: Read, length: int, start: int, stop: int) -> Array:
    """Samples of a range that may reach beyond a signal's two ends, where it is silent.

    Examples
    --------
    >>> read_around(lambda start, stop: np.arange(start, stop) + 1, 3, -2, 5).tolist()
    [0, 0, 1, 2, 3, 0, 0]
    """
    low, high = (min(max(edge, 0), length) for edge in (start, stop))
    inside = read(low, high)
    before = min(max(-start, 0), stop - start)
    padding = [(0, 0)] * (inside.ndim - 1) + [(before, stop - start - before - (high - low))]
    return np.pad(inside, padding)


@dataclass(frozen=True)
class ShortTimeFourier:
    """A short-time Fourier transform, and its inverse, of any range of a signal.

    STFT frame k lies around sample ``k * hop``, as in librosa, under a periodic Hann window. Beyond the signal all
    is zero. The inverse is by overlap-add with the canonical dual window, so that unchanged spectra give the signal
    back; the frames do not depend on the range that is read, so any range is the same range of the whole.

    Parameters
    ----------
    n_fft : int
        Length of the window in samples, even.
    hop : int
        Distance of STFT frames in samples, at most half the window.

    Raises
    ------
    FusionError
        The lengths do not allow the signal to be given back.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(2, 5000))
    >>> transform = ShortTimeFourier(512, 128)
    >>> same = transform.apply(lambda start, stop: noise[:, start:stop], lambda spectra: spectra, 5000, 70, 4321)
    >>> bool(np.abs(same - noise[:, 70:4321]).max() < 1e-12)
    True
    """

    n_fft: int = 2048
    hop: int = 1024

    def __post_init__(self) -> None:
        if self.n_fft < 4 or self.n_fft % 2 or not 1 <= self.hop <= self.n_fft // 2:
            raise FusionError(
                f"got n_fft={self.n_fft} and hop={self.hop}, expected an even n_fft and a hop of at most half of it"
            )

    @cached_property
    def window(self) -> NDArray[np.float64]:
        """The periodic Hann window of the analysis."""
        return np.square(np.sin(np.pi * np.arange(self.n_fft) / self.n_fft))

    @cached_property
    def dual(self) -> NDArray[np.float64]:
        """The synthesis window: the analysis window over the sum of its squares, which has the hop's period."""
        overlaps = -(-self.n_fft // self.hop)
        squares = np.pad(np.square(self.window), (0, overlaps * self.hop - self.n_fft)).reshape(overlaps, self.hop)
        dual: NDArray[np.float64] = self.window / np.tile(squares.sum(0), overlaps)[: self.n_fft]
        return dual

    def touching(self, start: int, stop: int) -> tuple[int, int]:
        """Numbers of the first STFT frame, and of the one after the last, that a range of samples depends on."""
        half = self.n_fft // 2
        first = (start - half) // self.hop + 1
        return first, max(first + 1, -(-(stop + half) // self.hop))

    def spectra(self, read: Read, length: int, first: int, last: int) -> Array:
        """Spectra of STFT frames ``first`` to ``last`` (exclusive) of a signal: (..., frame, bin), complex."""
        from scipy import fft

        half = self.n_fft // 2
        samples = read_around(read, length, first * self.hop - half, (last - 1) * self.hop + half)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.n_fft, axis=-1)[..., :: self.hop, :]
        spectra: Array = fft.rfft(frames * self.window.astype(samples.dtype))
        return spectra

    def samples(self, spectra: Array, first: int, start: int, stop: int) -> Array:
        """Samples ``start`` to ``stop`` from all STFT frames that touch them; the first one has number ``first``."""
        from scipy import fft

        frames = fft.irfft(spectra, self.n_fft)
        frames *= self.dual.astype(frames.dtype)
        overlaps = -(-self.n_fft // self.hop)
        count = frames.shape[-2]
        total = np.zeros((*frames.shape[:-2], count + overlaps - 1, self.hop), frames.dtype)
        for overlap in range(overlaps):
            part = frames[..., overlap * self.hop : (overlap + 1) * self.hop]
            total[..., overlap : overlap + count, : part.shape[-1]] += part
        offset = first * self.hop - self.n_fft // 2
        return total.reshape(*frames.shape[:-2], -1)[..., start - offset : stop - offset]

    def apply(self, read: Read, rule: Callable[[Array], Array], length: int, start: int, stop: int) -> Array:
        """Samples ``start`` to ``stop`` of what a rule makes of the spectra.

        Parameters
        ----------
        read : callable
            ``read(start, stop)`` gives samples (..., time) of a signal of ``length`` samples.
        rule : callable
            Takes spectra (..., frame, bin), each STFT frame for itself, and returns such, with any leading axes.
        length : int
            Of the signal in samples.
        start, stop : int
            The range.

        Returns
        -------
        ndarray, shape (..., time)
            In the precision of what ``read`` gave.
        """
        parts = []
        for low, high in blocks(start, stop):
            first, last = self.touching(low, high)
            parts.append(self.samples(rule(self.spectra(read, length, first, last)), first, low, high))
        return np.concatenate(parts, axis=-1)


def check_edges(edges_hz: Sequence[float], width_hz: float, top_hz: float = math.inf) -> None:
    """Raise unless bands have such edges.

    Raises
    ------
    FusionError
        The edges do not ascend, or their transitions overlap or reach beyond 0 or the top.

    Examples
    --------
    >>> check_edges([1000, 500], 60)
    Traceback (most recent call last):
    ...
    stemfuse.blending.errors.FusionError: got edges at 1000, 500 Hz, each 60 Hz wide; expected ascending edges above ...
    """
    borders = np.array([0.0, *edges_hz, top_hz], float)
    half = width_hz / 2
    room = np.diff(borders) - np.array([half, *[2 * half] * (len(borders) - 3), half])
    if not len(edges_hz) or not width_hz > 0 or not (room >= 0).all():
        within = f"between 0 and {top_hz:g} Hz" if math.isfinite(top_hz) else "above 0 Hz"
        raise FusionError(
            f"got edges at {', '.join(map(str, edges_hz)) or 'no'} Hz, each {width_hz} Hz wide; "
            f"expected ascending edges {within} whose transitions do not overlap"
        )


@dataclass(frozen=True)
class BandSplit:
    """Adjacent frequency bands whose sum is the signal, by linear-phase filters of finite length.

    The band below an edge is the signal through a sinc low-pass under a Blackman window, its delay removed. A band
    between two edges is the difference of two such; the last band is what the highest low-pass leaves. Bands that are
    treated alike add up to the treated signal exactly.

    Parameters
    ----------
    edges_hz : tuple of float
        Where one band gives way to the next, ascending; both are at -6 dB there.
    width_hz : float
        Width of the transition around an edge; the filters last 5.5 / width seconds.
    rate : int
        Sample rate in Hz.

    Raises
    ------
    FusionError
        The edges do not ascend, or their transitions overlap or reach beyond half the sample rate.

    Examples
    --------
    >>> BandSplit((1000.0,), 100.0, 44100).responses(44100)[:, [0, 900, 1000, 1100]].round(3).tolist()
    [[1.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.5, 1.0]]
    """

    edges_hz: tuple[float, ...]
    width_hz: float
    rate: int

    def __post_init__(self) -> None:
        check_edges(self.edges_hz, self.width_hz, self.rate / 2)

    @property
    def reach(self) -> int:
        """Samples on either side that a sample depends on."""
        return int(np.ceil(2.75 * self.rate / self.width_hz))

    @lru_cache(maxsize=8)  # noqa: B019, a split is a few numbers and equal ones share
    def responses(self, size: int) -> NDArray[np.float64]:
        """Zero-phase frequency responses of all bands for a transform of ``size`` samples: (band, bin), real."""
        time = np.arange(-self.reach, self.reach + 1)
        blackman = np.blackman(len(time) + 2)[1:-1]
        lows = []
        for edge_hz in self.edges_hz:
            kernel = np.sinc(2 * edge_hz / self.rate * time) * blackman
            around_zero = np.zeros(size)
            around_zero[time] = kernel / kernel.sum()
            lows.append(np.fft.rfft(around_zero).real)
        borders = np.stack([np.zeros_like(lows[0]), *lows, np.ones_like(lows[0])])
        return np.diff(borders, axis=0)

    def apply(self, read: Read, length: int, start: int, stop: int, bands: slice = EVERY) -> Array:
        """Samples ``start`` to ``stop`` of a signal whose bands come from different signals.

        Parameters
        ----------
        read : callable
            ``read(start, stop)`` gives samples (band, ..., time) of signals of ``length`` samples, one per band.
        length : int
            Of the signals in samples.
        start, stop : int
            The range.
        bands : slice
            Those that ``read`` gives; what lies in the others is silent.

        Returns
        -------
        ndarray, shape (..., time)
            In the precision of what ``read`` gave.
        """
        from scipy import fft

        reach = self.reach
        size = fft.next_fast_len(min(BLOCK, stop - start) + 2 * reach, real=True)
        responses = self.responses(size)[bands]
        parts = []
        for low, high in blocks(start, stop):
            samples = read_around(read, length, low - reach, high + reach)
            spectra = fft.rfft(samples, size)
            joined = sum(
                spectrum * response.astype(samples.dtype) for spectrum, response in zip(spectra, responses, strict=True)
            )
            # the circular convolution is wrong within the filters' reach of its two ends, which is cut
            parts.append(fft.irfft(joined, size)[..., reach : reach + high - low])
        return np.concatenate(parts, axis=-1)
