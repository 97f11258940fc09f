"""The elements of sound: oscillators by table, plucked strings, noise bands, and placing tones in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stemfuse.separators import RATE

Wave = NDArray[np.float32]

TABLE_BITS = 13
"""A period has 8192 points: reading the nearest one keeps the error 75 dB below the tone."""

NYQUIST_MARGIN_HZ = 17_000.0
"""Tables have no harmonics above it, so that vibrato and slides do not fold over."""


def frequency(pitch: float) -> float:
    """Frequency in Hz of a MIDI pitch in equal temperament, A4 = 440 Hz.

    Examples
    --------
    >>> frequency(69), round(frequency(60), 2)
    (440.0, 261.63)
    """
    return float(440.0 * 2.0 ** ((pitch - 69.0) / 12.0))


def decay(length: int, time_s: float) -> Wave:
    """An exponential that falls by 60 dB in ``time_s``."""
    slope = np.float32(-np.log(1000.0) / (time_s * RATE))
    curve: Wave = np.exp(np.arange(length, dtype=np.float32) * slope)
    return curve


def fade(wave: Wave, attack_s: float, release_s: float) -> Wave:
    """Fade a tone in and out at its ends, in place: half a cosine each."""
    rise = min(int(attack_s * RATE), len(wave))
    fall = min(int(release_s * RATE), len(wave))
    if rise > 1:
        wave[:rise] *= 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, rise, dtype=np.float32))
    if fall > 1:
        wave[-fall:] *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, fall, dtype=np.float32))
    return wave


def place(bus: Wave, wave: Wave, start: int, gain: float = 1.0) -> None:
    """Add a tone to a bus, both (time,); what lies outside the bus is left out."""
    first, last = max(start, 0), min(start + len(wave), len(bus))
    if first < last:
        bus[first:last] += np.float32(gain) * wave[first - start : last - start]


def place_stereo(bus: Wave, wave: Wave, start: int, pan: float, gain: float = 1.0) -> None:
    """Add a tone to a bus (channel, time) at a place from -1 (left) to 1 (right), of equal power wherever it is."""
    angle = (1 + pan) * np.pi / 4
    place(bus[0], wave, start, gain * float(np.cos(angle)))
    place(bus[1], wave, start, gain * float(np.sin(angle)))


def noise_band(rng: np.random.Generator, length: int, low_hz: float, high_hz: float) -> Wave:
    """Gaussian noise of unit power in a band whose sides fall by 12 dB per octave."""
    size = fft.next_fast_len(max(length, 2), real=True)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32))
    squared_hz = np.square(np.maximum(fft.rfftfreq(size, 1 / RATE), 1.0).astype(np.float32))
    below, above = np.square(np.float32(low_hz**2) / squared_hz), np.square(squared_hz / np.float32(high_hz**2))
    response = 1 / np.sqrt((1 + below) * (1 + above))
    noise: Wave = fft.irfft(spectrum * response, size)[:length]
    noise /= np.float32(np.sqrt(np.mean(response**2)))
    return noise


SHAPES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "sine": lambda k: np.where(k == 1, 1.0, 0.0),
    "saw": lambda k: 1 / k,
    "square": lambda k: np.where(k % 2 == 1, 1 / k, 0.0),
    "pulse": lambda k: np.sin(np.pi * k * 0.2) / k,
    "triangle": lambda k: np.where(k % 2 == 1, 1 / k**2, 0.0),
    "organ": lambda k: np.select([k == 1, k == 2, k == 3, k == 4, k == 6, k == 8], [1, 0.8, 0.6, 0.35, 0.2, 0.15], 0.0),
    "flute": lambda k: np.select([k == 1, k == 2, k == 3, k == 4], [1, 0.4, 0.2, 0.06], 0.0),
}
"""Amplitude of harmonic k = 1, 2, ... of each waveform."""


@lru_cache(maxsize=256)
def harmonic_table(shape: str, harmonics: int, corner: float) -> Wave:
    """One period of a waveform with a number of harmonics, damped by 12 dB per octave above harmonic ``corner``."""
    size = 1 << TABLE_BITS
    k = np.arange(1, min(harmonics, size // 2 - 1) + 1, dtype=np.float64)
    amplitudes = SHAPES[shape](k) / (1 + (k / corner) ** 2)
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    spectrum[1 : len(k) + 1] = -1j * amplitudes * size / 2
    period = fft.irfft(spectrum, size)
    table: Wave = (period / np.sqrt(np.mean(period**2))).astype(np.float32)
    table.setflags(write=False)
    return table


def phases(hertz: float | NDArray[np.floating], length: int) -> NDArray[np.uint32]:
    """Phase of an oscillator as a fraction of 2**32, which wraps by itself; ``hertz`` is constant or one per sample."""
    if np.ndim(hertz) == 0:
        increment = np.uint32(round(float(hertz) / RATE * 2**32))
        return np.arange(length, dtype=np.uint32) * increment
    increments = (np.asarray(hertz) * (2**32 / RATE)).astype(np.uint32)
    return np.cumsum(increments, dtype=np.uint32)


def oscillate(table: Wave, phase: NDArray[np.uint32]) -> Wave:
    """Read a table of one period at phases: (time,)."""
    wave: Wave = table[phase >> np.uint32(32 - TABLE_BITS)]
    return wave


def _between(wave: Wave, positions: NDArray[np.float64]) -> Wave:
    """Read a wave between its samples, by straight lines."""
    index = positions.astype(np.int64)
    rest = (positions - index).astype(np.float32)
    read: Wave = wave[index]
    read += rest * (wave[index + 1] - read)
    return read


def pluck(
    rng: np.random.Generator,
    hertz: float | Wave,
    length: int,
    decay_s: float,
    damping_hz: float,
    plucked_at: float,
    roughness: float,
    course: float = 0.0,
) -> Wave:
    """A plucked string: the loop of Karplus and Strong, solved in the harmonics of one period.

    The loop repeats a period of N samples through a filter. The discrete Fourier transform of a period diagonalises
    it: harmonic h of the k-th repetition is the first one's times r(h)**k, so that all periods are one table of powers
    and one batch of short inverse transforms, without a loop over samples. Reading between the samples tunes it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the excitation.
    hertz : float or ndarray, shape (time,)
        Frequency, constant or one per sample (a slide).
    length : int
        Length in samples.
    decay_s : float
        Time in which the lowest harmonics fall by 60 dB.
    damping_hz : float
        Frequency that decays twice as fast; an octave above it is five times.
    plucked_at : float
        Where the string is plucked, as a fraction of its length.
    roughness : float
        0 is a smooth pluck whose harmonics fall as 1/h, 1 the noise burst of the original algorithm.
    course : float
        Detuning of a second string beside it in cents; 0 is a single string.

    References
    ----------
    Karplus and Strong 1983, Digital synthesis of plucked-string and drum timbres; Jaffe and Smith 1983, Extensions of
    the Karplus-Strong plucked-string algorithm (decay shaping, pick position, tuning).
    """
    cycles = np.cumsum(np.broadcast_to(np.asarray(hertz, np.float64) / RATE, length))
    size = int(np.ceil(length / cycles[-1]))
    detuned = 2.0 ** (course / 1200)
    h = np.arange(1, size // 2)
    rates = np.log(1000.0) / decay_s * (1 + (h * RATE / size / damping_hz) ** 2) * size / RATE
    burst = roughness * np.exp(2j * np.pi * rng.random(len(h))) * rng.rayleigh(0.8, len(h)) + (1 - roughness)
    burst *= -1j * np.abs(np.sin(np.pi * h * plucked_at)) / h ** (1 - 0.5 * roughness)
    burst /= np.sqrt(np.sum(np.abs(burst) ** 2))
    repetition = np.arange(int(cycles[-1] * detuned) + 2, dtype=np.float32)[:, None]
    spectrum = np.zeros((len(repetition), size // 2 + 1), np.complex64)
    spectrum[:, 1 : size // 2] = np.exp(-repetition * rates.astype(np.float32)) * burst.astype(np.complex64)
    string: Wave = fft.irfft(spectrum, size, axis=1, norm="forward").ravel()
    cycles *= size
    return _between(string, cycles) + _between(string, cycles * detuned) if course else _between(string, cycles)
