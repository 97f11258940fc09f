"""Masks over short-time Fourier transforms of songs of any length, and the masks that several methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfftfreq
from scipy.ndimage import median_filter

from stemfuse.separators.audio.signals import RATE, Samples
from stemfuse.separators.errors import SeparatorError

if TYPE_CHECKING:
    from scipy.signal import ShortTimeFFT

Spectrum = NDArray[np.complex128]
Mask = NDArray[np.float64]
Masks = Callable[[Spectrum, int], Sequence[Mask]]
MASK_BLOCK = 1 << 19
"""Samples masked at a time: 12 s, some hundred MB of spectra for songs of any length."""


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


def apply_masks(audio: Samples, masks: Masks, window: int, hop: int, context: int = 0) -> Samples:
    """Split audio by masks over its spectrum; the last part is the remainder.

    The song is processed in blocks. Each is taken with so much audio on both sides that the result is the same as
    without blocks. Beyond both ends the song is continued by its mirror image.

    Parameters
    ----------
    audio : ndarray, shape (channel, time), float32
        Of any length from one sample.
    masks : callable
        ``masks(spectrum, first)`` takes a spectrum (channel, frequency, STFT frame) and the number of its first STFT
        frame, whose centre is sample ``first * hop``. It returns one mask between 0 and 1 per part, which broadcasts to
        the spectrum.
    window, hop : int
        Of the transform, in samples.
    context : int
        STFT frames on either side that the masks of an STFT frame depend on.

    Returns
    -------
    ndarray, shape (mask + 1, channel, time), float32
        The masked parts and the remainder, whose mask is one minus the others: the parts sum to the audio.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(2, 5000)).astype("float32")
    >>> low, high = apply_masks(noise, lambda spectrum, first: [below(500.0, 2048)], 2048, 512)
    >>> bool(np.abs(low + high - noise).max() < 1e-6)
    True
    """
    stft = transform(window, hop)
    length = audio.shape[1]
    block = MASK_BLOCK // hop * hop
    margin = (context + 2 * -(-window // hop)) * hop
    padded = np.pad(audio, ((0, 0), (margin, margin)), mode="symmetric")
    parts: list[Samples] = []
    for start in range(0, length, block):
        stop = min(start + block, length)
        samples = padded[:, start : stop + 2 * margin]
        spectrum = stft.stft(samples)
        for index, mask in enumerate(masks(spectrum, (start - margin) // hop + stft.p_min)):
            if index == len(parts):
                parts.append(np.empty_like(audio))
            masked = stft.istft(mask * spectrum, k1=samples.shape[1])
            parts[index][:, start:stop] = masked[:, margin : margin + stop - start]
    return np.stack([*parts, audio - sum(parts)])


def below(crossover_hz: float, window: int) -> Mask:
    """Mask (frequency, 1) of what is below a crossover, 48 dB per octave; one minus it is the mask of what is above.

    The magnitude of a Linkwitz-Riley crossover of order eight, 1 / (1 + (f / crossover)^8).

    Examples
    --------
    >>> float(below(RATE / 8, 8)[1, 0])
    0.5
    """
    return 1 / (1 + (rfftfreq(window, 1 / RATE)[:, None] / crossover_hz) ** 8)


def _median(magnitude: Mask, taps: int, axis: int) -> Mask:
    """Running median along one axis of a spectrogram, mirrored at its ends."""
    rows = np.moveaxis(magnitude, axis, -1)
    half = taps // 2
    rows = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
    # all rows in one line: SciPy's filter of one-dimensional data is thirteen times faster than its others
    smooth = median_filter(rows.ravel(), size=taps).reshape(rows.shape)
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


def split_percussive(audio: Samples, crossover_hz: float, window: int = 8192) -> Samples:
    """Split audio into percussion, low tones and other tones.

    The medians are taken over 17 STFT frames, a quarter of a window apart, and over 9 bins. The longer the window, the
    more of everything that glides or trembles, such as a voice, counts as percussion.

    Parameters
    ----------
    audio : ndarray, shape (channel, time), float32
        Of any length from one sample.
    crossover_hz : float
        Between low and other tones.
    window : int
        Of the transform, in samples.

    Returns
    -------
    ndarray, shape (3, channel, time)
        The parts sum to the audio.
    """
    low = below(crossover_hz, window)

    def masks(spectrum: Spectrum, first: int) -> list[Mask]:
        percussive = percussive_mask(np.abs(spectrum).mean(axis=0), frames=17, bins=9)
        return [percussive, (1 - percussive) * low]

    return apply_masks(audio, masks, window, window // 4, context=8)
