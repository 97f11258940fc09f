"""The mixing desk: places, room, saturation and levels, and the four stems with their sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from stemfuse.separators import RATE, SOURCES, Stems

from .drums import play_drums
from .instruments import play_part
from .score import Form, Song
from .tones import Wave, decay, noise_band, place
from .voice import play_voice

FULL_SCALE = 1 << 15
"""Stems are whole multiples of 1 / 32768, so that 16-bit files hold them exactly and float32 sums them exactly."""

GAIN_STEP = 1024
"""Samples between two values of the compressor's gain."""

HISS_DB = -75.0
"""Noise floor of each stem against full scale."""

MEAN_LEVELS_DB = {"drums": -0.5, "bass": -2.0, "other": -0.5, "vocals": -1.5}
"""Usual levels of the sources while they play, relative to one another."""


@dataclass(frozen=True)
class Production:
    """The engineer's decisions, drawn for each song.

    Parameters
    ----------
    voice_pan : float
        0 is the centre, where most voices are; some lie slightly off it.
    voice_width : float
        How far second voices lie from the centre.
    voice_delay_s : float
        Delay of an echo of the right channel, which makes the voice wide; 0 in most songs.
    drum_width : float
        0 is a mono kit, 1 a wide one.
    part_pans : tuple of float
        Places of the accompanying parts.
    part_delays_s : tuple of float
        Delays between their channels, which make them wide; a negative one is of the left channel.
    reverberation_s : float
        Time in which the room falls silent (60 dB).
    wetness : dict of str to float
        Level of the room in each source.
    compression : dict of str to float
        How much the level of each source is evened out; 0 not at all, 1 wholly.
    drive : dict of str to float
        Saturation of each source; below 0.5 is hardly audible, 2 is strong.
    levels_db : dict of str to float
        Levels while the sources play.
    peak : float
        Largest sample of the mixture, below 1.
    """

    voice_pan: float
    voice_width: float
    voice_delay_s: float
    drum_width: float
    part_pans: tuple[float, ...]
    part_delays_s: tuple[float, ...]
    reverberation_s: float
    wetness: dict[str, float]
    compression: dict[str, float]
    drive: dict[str, float]
    levels_db: dict[str, float]
    peak: float


def draw_production(form: Form) -> Production:
    """Draw how a song is mixed: where it lies in the image, its room and its levels.

    Examples
    --------
    >>> from stemfuse.experiments.band import compose
    >>> production = draw_production(compose(7, 10.0).form)
    >>> 0 < production.peak < 1
    True
    """
    rng = form.generator("production")
    # one number for the whole image: a narrow band has a narrow kit and its guitars in the middle
    image = rng.uniform(-0.1, 1.0)
    drum_width, spread = np.clip(image + rng.normal(0.0, 0.15, 2), 0.0, 1.0)
    side = rng.choice((-1.0, 1.0))
    off_centre, doubled = rng.random() < 0.3, rng.random() < 0.15
    delayed = rng.random(3) < 0.6 * image
    return Production(
        voice_pan=float(rng.uniform(0.08, 0.3) * rng.choice((-1, 1))) if off_centre else 0.0,
        voice_width=float(rng.uniform(0.2, 0.8)),
        voice_delay_s=float(rng.uniform(0.006, 0.018)) if doubled else 0.0,
        drum_width=float(drum_width),
        part_pans=(float(side * spread), float(-side * spread * rng.uniform(0.2, 1)), float(rng.uniform(-0.4, 0.4))),
        part_delays_s=tuple(float(delay_s) for delay_s in rng.uniform(-0.02, 0.02, 3) * delayed),
        reverberation_s=float(rng.uniform(0.35, 1.4)),
        wetness={
            "drums": float(rng.uniform(0.03, 0.3)),
            "bass": float(rng.uniform(0.01, 0.05)),
            "other": float(rng.uniform(0.05, 0.3)),
            "vocals": float(rng.uniform(0.04, 0.25)),
        },
        compression={source: float(rng.uniform(0.1, 0.7)) for source in SOURCES},
        drive={source: float(rng.uniform(0.3, 2.2)) for source in SOURCES},
        levels_db={source: float(rng.normal(MEAN_LEVELS_DB[source], 1.8)) for source in SOURCES},
        peak=float(rng.uniform(0.7, 0.97)),
    )


def draw_room(rng: np.random.Generator, reverberation_s: float) -> Wave:
    """Impulse response of a room for two ears, (channel, time): early reflections, then noise whose top fades first.

    Its energy is 1. Its rate is half of `RATE`, since walls and air absorb the top octave. That decaying noise makes a
    natural tail was found by Moorer 1979, About this reverberation business.
    """
    length = int(min(reverberation_s, 1.0) * RATE)
    response = np.zeros((2, length), np.float32)
    delay = int(rng.uniform(0.004, 0.02) * RATE)
    for channel in response:
        for low_hz, high_hz, gain, share in ((150, 900, 1.0, 1.1), (900, 4_000, 1.0, 1.0), (4_000, 12_000, 0.5, 0.55)):
            tail = noise_band(rng, length - delay, low_hz, high_hz) * decay(length - delay, share * reverberation_s)
            place(channel, tail, delay, gain)
        for _ in range(6):
            channel[2 * int(rng.uniform(0.0015, 0.02) * RATE)] += np.float32(rng.normal(0, 5))
    response = response[:, ::2].copy()
    response /= np.sqrt(np.sum(response**2, axis=1, keepdims=True))
    return response


def reverberate(wave: Wave, room: Wave, wetness: float) -> None:
    """Add a room to a stem (channel, time), in place: the sum of its channels convolved with each ear's response.

    Overlap-add at half the rate, in blocks that stay in the processor's cache.
    """
    half = wave.shape[1] // 2
    size = 1 << int(np.ceil(np.log2(2 * room.shape[1])))
    hop = size - room.shape[1] + 1
    count = -(-half // hop)
    send = np.zeros(count * hop, np.float32)
    np.add(wave[0, : 2 * half : 2], wave[0, 1 : 2 * half : 2], out=send[:half])
    send[:half] += wave[1, : 2 * half : 2]
    send[:half] += wave[1, 1 : 2 * half : 2]
    # the sum of two channels and two neighbours, in equal power of the centre
    response = fft.rfft(room * np.float32(0.35 * wetness), size, axis=1)
    wet = np.zeros((2, count * hop + size), np.float32)
    for block in range(count):
        spectrum = fft.rfft(send[block * hop : (block + 1) * hop], size)
        wet[:, block * hop : block * hop + size] += fft.irfft(response * spectrum, size, axis=1)
    # back to the full rate by straight lines
    wave[:, : 2 * half : 2] += wet[:, :half]
    wave[:, 1 : 2 * half : 2] += np.float32(0.5) * (wet[:, :half] + wet[:, 1 : half + 1])


def _widen(bus: Wave, wave: Wave, pan: float, delay_s: float) -> None:
    """Add a whole part to a stereo bus: equal-power pan, and one channel later than the other."""
    angle = (1 + pan) * np.pi / 4
    late = round(delay_s * RATE)
    place(bus[0], wave, max(-late, 0), float(np.cos(angle)))
    place(bus[1], wave, max(late, 0), float(np.sin(angle)))


def level_of(stem: Wave) -> float:
    """Root mean square of a stem while it plays: of the half seconds within 30 dB of its loudest one."""
    size = RATE // 2
    halves = (stem[:, start : start + size] for start in range(0, stem.shape[1], size))
    power = np.array([float(np.einsum("ct,ct->", half, half)) / half.size for half in halves])
    loudest = power.max()
    return float(np.sqrt(np.mean(power[power > loudest / 1_000]))) if loudest > 0 else 0.0


def _compress(stem: Wave, amount: float) -> None:
    """Even out the level in place: passages louder than usual become softer, softer ones louder by 10 dB at most.

    The gain is the level over its usual value to the power ``-amount``, followed in steps of 23 ms.
    """
    usual = level_of(stem)
    count = -(-stem.shape[1] // GAIN_STEP) + 1
    steps = np.pad(stem, ((0, 0), (0, count * GAIN_STEP - stem.shape[1]))).reshape(2, count, GAIN_STEP)
    power = np.einsum("cft,cft->f", steps, steps).astype(np.float64) / (2 * GAIN_STEP)
    # once forward and once backward: the level is known a little ahead, as with a look-ahead compressor
    smooth = signal.filtfilt([0.3], [1, -0.7], power, padtype="even")
    level = np.sqrt(np.maximum(smooth, 0)) / (usual or 1.0)
    gain = np.minimum((level + 1e-6) ** -amount, 3.2).astype(np.float32)
    ramp = np.arange(GAIN_STEP, dtype=np.float32) / GAIN_STEP
    curve = gain[:-1, None] + np.diff(gain)[:, None] * ramp
    stem *= curve.ravel()[: stem.shape[1]]


def saturate(stem: Wave, drive: float) -> None:
    """Tape, in place: the hyperbolic tangent, with the peak where it was."""
    peak = float(max(stem.max(), -stem.min())) or 1.0
    stem *= np.float32(drive / peak)
    np.tanh(stem, out=stem)
    stem *= np.float32(peak / np.tanh(drive))


def _hiss(stem: Wave, noise: Wave) -> None:
    """Add the noise of microphones and amplifiers in place, while the fader is up: rests stay silent.

    Recordings have it, and without it the tonal stems have bands without energy, where distortion filters are
    undetermined and museval's figures a matter of rounding.
    """
    length = stem.shape[1]
    peaks = np.maximum.reduceat(np.abs(stem).max(axis=0), np.arange(0, length, GAIN_STEP))
    stem += noise[:, :length] * np.repeat(peaks > 0.5, GAIN_STEP)[:length]


def _play_dry(song: Song, production: Production) -> dict[str, Wave]:
    """Let the band play without a room: source -> (channel, time)."""
    form = song.form
    other = np.zeros((2, form.length), np.float32)
    for part, pan, delay_s in zip(song.others, production.part_pans, production.part_delays_s, strict=False):
        wave = play_part(form, part)
        _widen(other, wave / np.float32(level_of(wave[None]) or 1.0), pan, delay_s)
    vocals = play_voice(form, song.voice, production.voice_pan, production.voice_width)
    late = round(production.voice_delay_s * RATE)
    if late:
        vocals[1, late:] = 0.6 * vocals[1, late:] + 0.4 * vocals[1, :-late]
    return {
        "drums": play_drums(form, song.drums, production.drum_width),
        "bass": np.tile(play_part(form, song.bass), (2, 1)),
        "other": other,
        "vocals": vocals,
    }


def mix(song: Song) -> NDArray[np.int16]:
    """Play and mix a song in 16-bit samples, (source, channel, time); their sum does not overflow either."""
    form = song.form
    production = draw_production(form)
    room = draw_room(form.generator("room"), production.reverberation_s)
    dry = _play_dry(song, production)
    stems = []
    for source in SOURCES:
        wave = dry.pop(source)
        if production.wetness[source]:
            reverberate(wave, room, production.wetness[source])
        _compress(wave, production.compression[source])
        saturate(wave, production.drive[source])
        wave *= np.float32(10 ** (production.levels_db[source] / 20) / (level_of(wave) or 1.0))
        stems.append(wave)
    loudest = max(float(max(wave.max(), -wave.min())) for wave in (*stems, sum(stems, np.float32(0))))
    # one noise, read from a second further on for each stem
    noise = form.generator("hiss").standard_normal((2, form.length + len(SOURCES) * RATE), np.float32)
    noise *= np.float32(FULL_SCALE * 10 ** (HISS_DB / 20))
    samples = np.empty((len(SOURCES), 2, form.length), np.int16)
    for number, (wave, target) in enumerate(zip(stems, samples, strict=True)):
        wave *= np.float32(production.peak * FULL_SCALE / (loudest or 1.0))
        _hiss(wave, noise[:, number * RATE :])
        np.rint(wave, out=target, casting="unsafe")
    return samples


def render(song: Song) -> Stems:
    """Play and mix a song.

    Parameters
    ----------
    song : Song
        What `compose` wrote.

    Returns
    -------
    Stems
        Drums, bass, other, vocals, stereo, 44 100 Hz, in samples that are multiples of 1 / 32768. Their sum is the
        mixture, exactly in float32, and neither it nor a stem reaches full scale.

    Examples
    --------
    >>> from stemfuse.experiments.band import compose
    >>> stems = render(compose(7, 2.0))
    >>> stems.audio.shape, bool(abs(stems.audio.sum(0)).max() < 1)
    ((4, 2, 88200), True)
    """
    return Stems(mix(song) / np.float32(FULL_SCALE))
