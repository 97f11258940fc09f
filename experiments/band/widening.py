"""A wider world for training: each stem at another speed, through filters, rooms, overdrive and a lossy codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from stemfuse.separators import RATE, SOURCES

from .composition import compose, length_of
from .mixing import FULL_SCALE, draw_room, level_of, mix, reverberate, saturate
from .tones import Wave

PURPOSE = 0x71DE
"""Makes the random numbers of the widening others than those of the song."""

SPEEDS = (0.75, 1.35)
"""Slowest and fastest playback: 5 semitones each way, tempo with pitch."""

LEVEL_DB = 4.5
"""Standard deviation of a stem's level around that of the others; the band's own is 1.8."""

WINDOW = 1024
"""Of the codec's transform, in samples."""

BAND_EDGES_HZ = (0, 200, 400, 630, 920, 1_270, 1_720, 2_320, 3_150, 4_400, 6_400, 9_500, 13_500, RATE / 2)
"""Of the bands in which the codec measures levels: two or three Bark each."""


@dataclass(frozen=True)
class Treatment:
    """What happens to one stem after it was played.

    Parameters
    ----------
    speed : float
        Playback over recording: 2 is an octave higher in half the time.
    bells : tuple of (float, float, float)
        Peaks and dips of an equaliser: frequency in Hz, gain in dB, quality.
    low_cut_hz, high_cut_hz : float
        Corners of a high and a low pass of 12 dB per octave; 0 is none.
    drive : float
        Overdrive, see `Production`; 0 is none.
    reverberation_s, wetness : float
        Room and its level; a level of 0 is none.
    width : float
        Factor of the difference of left and right.
    coarseness : float
        Step of the codec over the level of a band; 0 is no codec, 1 is a very low bit rate.
    bandwidth_hz : float
        Above it the codec keeps nothing.
    """

    speed: float = 1.0
    bells: tuple[tuple[float, float, float], ...] = ()
    low_cut_hz: float = 0.0
    high_cut_hz: float = 0.0
    drive: float = 0.0
    reverberation_s: float = 1.0
    wetness: float = 0.0
    width: float = 1.0
    coarseness: float = 0.0
    bandwidth_hz: float = RATE / 2


def draw_speed(rng: np.random.Generator) -> float:
    """Draw a playback speed that resampling meets exactly: a multiple of 1 / 40."""
    return round(40 * float(np.exp(rng.uniform(*np.log(SPEEDS))))) / 40


def draw_treatment(rng: np.random.Generator, source: str, speed: float = 1.0) -> Treatment:
    """Draw what happens to a stem.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws everything.
    source : str
        Basses keep their lows and are dry; others may lose lows.
    speed : float
        Of playback: stems that belong together have the same.

    Examples
    --------
    >>> treatment = draw_treatment(np.random.default_rng(0), "drums")
    >>> treatment.speed, len(treatment.bells) <= 4
    (1.0, True)
    """
    chances = rng.random(6)
    deep = source in ("bass", "drums")
    return Treatment(
        speed=speed,
        bells=tuple(
            (
                float(np.exp(rng.uniform(np.log(80), np.log(12_000)))),
                float(rng.normal(0, 6)),
                float(rng.uniform(0.4, 2)),
            )
            for _ in range(int(rng.integers(1, 5)))
        ),
        low_cut_hz=float(rng.uniform(20, 45 if deep else 250)) if chances[0] < 0.4 else 0.0,
        high_cut_hz=float(np.exp(rng.uniform(np.log(600 if source == "bass" else 2_500), np.log(16_000))))
        if chances[1] < 0.35
        else 0.0,
        drive=float(np.exp(rng.uniform(np.log(0.5), np.log(8)))) if chances[2] < 0.4 else 0.0,
        reverberation_s=float(np.exp(rng.uniform(np.log(0.15), np.log(4)))),
        wetness=float(rng.uniform(0.02, 0.15 if source == "bass" else 0.9)) if chances[3] < 0.4 else 0.0,
        width=float(rng.uniform(0, 1.8)) if chances[4] < 0.4 else 1.0,
        coarseness=float(rng.uniform(0.1, 1.0)) if chances[5] < 0.4 else 0.0,
        bandwidth_hz=float(rng.uniform(9_000, 20_000)),
    )


def _bell(hertz: float, gain_db: float, quality: float) -> NDArray[np.float64]:
    """One section of an equaliser: gain around a frequency, none far from it (the usual bilinear biquad)."""
    omega = 2 * np.pi * hertz / RATE
    gain, alpha = 10 ** (gain_db / 40), np.sin(omega) / (2 * quality)
    zeros = np.array([1 + alpha * gain, -2 * np.cos(omega), 1 - alpha * gain])
    poles = np.array([1 + alpha / gain, -2 * np.cos(omega), 1 - alpha / gain])
    section: NDArray[np.float64] = np.concatenate([zeros, poles]) / poles[0]
    return section


def _filtered(wave: Wave, treatment: Treatment) -> Wave:
    """The equaliser and both passes."""
    sections = [_bell(*bell) for bell in treatment.bells]
    if treatment.low_cut_hz:
        sections += list(signal.butter(2, treatment.low_cut_hz, "highpass", fs=RATE, output="sos"))
    if treatment.high_cut_hz:
        sections += list(signal.butter(2, treatment.high_cut_hz, "lowpass", fs=RATE, output="sos"))
    if not sections:
        return wave
    filtered: Wave = signal.sosfilt(np.array(sections, np.float32), wave, axis=1).astype(np.float32)
    return filtered


def coded(wave: Wave, coarseness: float, bandwidth_hz: float) -> Wave:
    """What a lossy codec leaves of a signal, (channel, time): short spectra in steps that grow with each band's level.

    What is below half a step is gone, as the soft overtones beside loud ones are at low bit rates.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (2, 44_100)).astype(np.float32)
    >>> fine, rough = (coded(noise, step, 16_000) - coded(noise, 0.01, 16_000) for step in (0.1, 1.0))
    >>> bool(abs(fine).max() < abs(rough).max())
    True
    """
    hop, length = WINDOW // 2, wave.shape[1]
    window = np.sin(np.pi * (np.arange(WINDOW, dtype=np.float32) + 0.5) / WINDOW)
    padded = np.pad(wave, ((0, 0), (hop, hop + -length % hop)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::hop]
    spectra = fft.rfft(frames * window, axis=2)
    hertz = fft.rfftfreq(WINDOW, 1 / RATE)
    edges = np.searchsorted(hertz, BAND_EDGES_HZ[:-1])
    widths = np.diff(np.append(edges, len(hertz)))
    power = np.add.reduceat(np.square(spectra.real) + np.square(spectra.imag), edges, axis=2) / widths
    step = np.repeat(np.float32(coarseness) * np.sqrt(power) + np.float32(1e-9), widths, axis=2)
    coarse = step * (np.rint(spectra.real / step) + 1j * np.rint(spectra.imag / step))
    coarse[:, :, hertz > bandwidth_hz] = 0
    parts = fft.irfft(coarse, WINDOW, axis=2) * window
    decoded = np.zeros_like(padded)
    decoded[:, :-hop] += parts[:, :, :hop].reshape(len(wave), -1)
    decoded[:, hop:] += parts[:, :, hop:].reshape(len(wave), -1)
    return decoded[:, hop : hop + length]


def treat(rng: np.random.Generator, wave: Wave, treatment: Treatment) -> Wave:
    """Treat a stem: speed, filters, overdrive, room, width, codec.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the room's reflections.
    wave : ndarray, shape (channel, time), float32
        Stereo.
    treatment : Treatment
        What to do.

    Returns
    -------
    ndarray, shape (channel, time), float32
        Of another length when the speed is not 1; silence stays silence.
    """
    if treatment.speed != 1:
        ratio = Fraction(treatment.speed).limit_denominator(40)
        wave = signal.resample_poly(wave, ratio.denominator, ratio.numerator, axis=1).astype(np.float32)
    wave = _filtered(wave, treatment).copy()
    if treatment.drive:
        saturate(wave, treatment.drive)
    if treatment.wetness:
        reverberate(wave, draw_room(rng, treatment.reverberation_s), treatment.wetness)
    if treatment.width != 1:
        middle, side = (wave[0] + wave[1]) / 2, (wave[0] - wave[1]) / 2 * np.float32(treatment.width)
        wave = np.stack([middle + side, middle - side])
    if treatment.coarseness:
        wave = coded(wave, treatment.coarseness, treatment.bandwidth_hz)
    return wave


def balanced(rng: np.random.Generator, stems: Sequence[Wave]) -> NDArray[np.int16]:
    """Bring stems to random levels and to 16 bit, so that neither a stem nor their sum overflows.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws levels and the peak.
    stems : sequence of ndarray, shape (channel, time), float32
        All of one length.

    Returns
    -------
    ndarray, shape (source, channel, time), int16
    """
    scaled = [
        wave * np.float32(10 ** (rng.normal(0, LEVEL_DB) / 20) / loud) if (loud := level_of(wave)) else wave
        for wave in stems
    ]
    loudest = max(float(np.abs(wave).max()) for wave in (*scaled, sum(scaled, np.float32(0)))) or 1.0
    gain = np.float32(rng.uniform(0.3, 0.97) * FULL_SCALE / loudest)
    return np.rint(np.stack(scaled) * gain).astype(np.int16)


def mix_widely(seed: Sequence[int], seconds: float) -> NDArray[np.int16]:
    """Compose, play and treat a song: 16-bit samples, (source, channel, time).

    All stems have one speed, so that they stay together; everything else is drawn for each.

    Parameters
    ----------
    seed : sequence of int
        As of `compose`.
    seconds : float
        Length.

    Examples
    --------
    >>> mix_widely((7, 0), 2.0).shape
    (4, 2, 88200)
    """
    length = length_of(seconds)
    rng = np.random.default_rng((*seed, PURPOSE))
    speed = draw_speed(rng)
    # a little more, since resampling rounds the length
    played = mix(compose(seed, seconds * speed + 0.1)) / np.float32(FULL_SCALE)
    stems = [
        treat(rng, wave, draw_treatment(rng, source, speed))[:, :length]
        for source, wave in zip(SOURCES, played, strict=True)
    ]
    return balanced(rng, stems)
