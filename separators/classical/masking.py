"""Masks over short-time Fourier transforms of songs of any length, and the masks that several methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy
from numpy.typing import NDArray

from stemfuse.separators.audio.signals import RATE, Samples, Signal
from stemfuse.separators.blocks import ForwardReader
from stemfuse.separators.errors import SeparatorError

if TYPE_CHECKING:
    from scipy.signal import ShortTimeFFT

Spectrum = NDArray[np.complex128]
Mask = NDArray[np.float64]
Masks = Callable[[Spectrum, int], Sequence[Mask]]
MASK_BLOCK = 1 << 19
"""Samples masked at a time: 12 s, some hundred MB of spectra for songs of any length."""

Parts = Iterable[Samples]
"""Parts of a song as consecutive blocks, (part, channel, time)."""


def check_options(crossover_hz: float, *windows: int) -> None:
    """Raise a `SeparatorError` for a crossover or a window that a transform cannot have."""
    if not 0 < crossover_hz < RATE / 2:
        raise SeparatorError(f"got a crossover of {crossover_hz} Hz, expected more than 0 and less than {RATE / 2} Hz")
    for window in windows:
        if window < 64 or window % 4:
            raise SeparatorError(f"got a window of {window} samples, expected a multiple of 4, at least 64")


def transform(window: int, hop: int) -> ShortTimeFFT:
    """Short-time Fourier transform with a Hann window of ``window`` samples, ``hop`` samples apart."""
    # its import takes longer than all others that a finished run needs
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    return ShortTimeFFT(hann(window, sym=False), hop, RATE)


def one_part(mixture: Signal) -> Iterator[Samples]:
    """A whole song as its only part, in blocks."""
    return (samples[None] for _, samples in mixture.blocks())


def apply_masks(
    parts: Parts, length: int, masks: Masks, window: int, hop: int, context: int = 0, part: int = 0
) -> Iterator[Samples]:
    """Split one part of a song by masks over its spectrum; the last of the new parts is the remainder.

    The song is processed in blocks. Each is taken with so much audio on both sides that the result is the same as
    without blocks. Beyond both ends the song is continued by its mirror image.

    Parameters
    ----------
    parts : iterable of ndarray, shape (part, channel, time), float32
        Consecutive blocks of any lengths.
    length : int
        Of the song in samples, from one.
    masks : callable
        ``masks(spectrum, first)`` takes a spectrum (channel, frequency, STFT frame) and the number of its first STFT
        frame, whose centre is sample ``first * hop``. It returns one mask between 0 and 1 per new part, which
        broadcasts to the spectrum. It is called from the beginning of the song to its end.
    window, hop : int
        Of the transform, in samples.
    context : int
        STFT frames on either side that the masks of an STFT frame depend on.
    part : int
        Which part is split. The others are passed on.

    Yields
    ------
    ndarray, shape (part + mask, channel, time), float32
        In place of the part its masked parts and the remainder, whose mask is one minus the others: they sum to it.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(1, 2, 5000)).astype("float32")
    >>> for parts in apply_masks([noise], 5000, lambda spectrum, first: [below(500.0, 2048)], 2048, 512):
    ...     print(parts.shape, bool(np.abs(parts.sum(axis=0) - noise).max() < 1e-6))
    (2, 2, 5000) True
    """
    stft = transform(window, hop)
    block = MASK_BLOCK // hop * hop
    margin = (context + 2 * -(-window // hop)) * hop
    reader = ForwardReader(parts)
    for start in range(0, length, block):
        stop = min(start + block, length)
        first, last = max(0, start - margin), min(length, stop + margin)
        around: Samples = reader.read(first, last)
        beyond = ((0, 0), (first - (start - margin), stop + margin - last))
        samples = np.pad(around[part], beyond, mode="symmetric")
        inner = slice(margin, margin + stop - start)
        split = _masked(stft, samples, masks, (start - margin) // hop + stft.p_min, inner)
        given = around[:, :, start - first : stop - first]
        yield np.stack([*given[:part], *split, given[part] - sum(split), *given[part + 1 :]])


def _masked(stft: ShortTimeFFT, samples: Samples, masks: Masks, first: int, inner: slice) -> list[Samples]:
    """The masked parts of a block without what is around it; all spectra are gone when it returns."""
    spectrum = stft.stft(samples)
    return [
        stft.istft(mask * spectrum, k1=samples.shape[1])[:, inner].astype(np.float32) for mask in masks(spectrum, first)
    ]


def below(crossover_hz: float, window: int) -> Mask:
    """Mask (frequency, 1) of what is below a crossover, 48 dB per octave; one minus it is the mask of what is above.

    The magnitude of a Linkwitz-Riley crossover of order eight, 1 / (1 + (f / crossover)^8).

    Examples
    --------
    >>> float(below(RATE / 8, 8)[1, 0])
    0.5
    """
    return 1 / (1 + (scipy.fft.rfftfreq(window, 1 / RATE)[:, None] / crossover_hz) ** 8)


def _median(magnitude: Mask, taps: int, axis: int) -> Mask:
    """Running median along one axis of a spectrogram, mirrored at its ends."""
    rows = np.moveaxis(magnitude, axis, -1)
    half = taps // 2
    rows = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
    # all rows in one line: SciPy's filter of one-dimensional data is thirteen times faster than its others
    smooth = scipy.ndimage.median_filter(rows.ravel(), size=taps).reshape(rows.shape)
    return np.moveaxis(smooth[:, half : rows.shape[1] - half], -1, axis)


def percussive_mask(magnitude: Mask, frames: int, bins: int) -> Mask:
    """Share of percussion in each cell of a spectrogram, after Fitzgerald.

    A tone is a line along time and survives a median over ``frames``; a stroke is a line along frequency and
    survives a median over ``bins``. With these medians H and P the mask is the Wiener filter P^2 / (H^2 + P^2).

    Parameters
    ----------
    magnitude : ndarray, shape (frequency, STFT frame)
        Of the spectrum, all channels together.
    frames, bins : int
        Lengths of the two medians, in STFT frames and in bins, odd.

    Returns
    -------
    ndarray, shape (frequency, STFT frame)
        Between 0 and 1; a half where both medians are zero.

    References
    ----------
    D. Fitzgerald, "Harmonic/percussive separation using median filtering", DAFx 2010: the medians and the soft masks.

    Examples
    --------
    >>> stroke = np.zeros((9, 9))
    >>> stroke[:, 4] = 1
    >>> float(percussive_mask(stroke, 5, 5)[3, 4]), float(percussive_mask(stroke.T, 5, 5)[4, 3])
    (1.0, 0.0)
    """
    harmonic = _median(magnitude, frames, 1) ** 2
    percussive = _median(magnitude, bins, 0) ** 2
    total = harmonic + percussive
    return np.divide(percussive, total, out=np.full_like(total, 0.5), where=total > 0)


def split_percussive(
    parts: Parts, length: int, crossover_hz: float, window: int = 8192, part: int = 0
) -> Iterator[Samples]:
    """Split one part of a song into percussion, low tones and other tones.

    The medians are taken over 17 STFT frames, a quarter of a window apart, and over 9 bins. The longer the window, the
    more of everything that glides or trembles, such as a voice, counts as percussion.

    Parameters
    ----------
    parts : iterable of ndarray, shape (part, channel, time), float32
        Consecutive blocks of any lengths.
    length : int
        Of the song in samples, from one.
    crossover_hz : float
        Between low and other tones.
    window : int
        Of the transform, in samples.
    part : int
        Which part is split. The others are passed on.

    Yields
    ------
    ndarray, shape (part + 2, channel, time), float32
        In place of the part the three that sum to it.
    """
    low = below(crossover_hz, window)

    def masks(spectrum: Spectrum, first: int) -> list[Mask]:
        percussive = percussive_mask(np.abs(spectrum).mean(axis=0), frames=17, bins=9)
        return [percussive, (1 - percussive) * low]

    return apply_masks(parts, length, masks, window, window // 4, context=8, part=part)
