"""Bass and accompanying instruments: plucked strings, oscillators and frequency modulation, set up for each song."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import signal

from stemfuse.separators import RATE

from .score import Form, Note, Part
from .tones import (
    NYQUIST_MARGIN_HZ,
    Wave,
    decay,
    fade,
    frequency,
    harmonic_table,
    noise_band,
    oscillate,
    phases,
    place,
    pluck,
)

LAYERS = (0.55, 0.85)
"""Tones are made at these velocities; the nearest one is scaled to the exact velocity."""

SLIDE_S = 0.07
"""How long a slide takes."""


class Instrument(Protocol):
    """What makes tones."""

    @property
    def release_s(self) -> float:
        """How long a tone rings on when its note ends."""

    def tone(self, rng: np.random.Generator, note: Note, length: int) -> Wave:
        """A tone that is held for so many samples, (time,)."""


def _glide(note: Note, length: int) -> float | Wave:
    """Frequency of a note: constant, or one per sample when it slides."""
    hertz = frequency(note.pitch)
    if note.slide_from is None:
        return hertz
    way = np.clip(np.arange(length, dtype=np.float32) / (SLIDE_S * RATE), 0, 1)
    start = np.float32(note.slide_from - note.pitch)
    curve: Wave = np.float32(hertz) * np.exp2(start / 12 * (1 - way) ** 2)
    return curve


@dataclass(frozen=True)
class String:
    """A plucked, picked, slapped or hammered string.

    Parameters
    ----------
    decay_s, damping_hz, position, roughness : float
        See `tones.pluck`; harder playing lifts the damping.
    release_s : float
        How long the string rings after the note.
    thump : float
        Level of the finger's, thumb's or hammer's knock.
    course : float
        Detuning of a second string in cents; 0 is a single string.
    """

    decay_s: float
    damping_hz: float
    position: float
    roughness: float
    release_s: float = 0.05
    thump: float = 0.0
    course: float = 0.0

    def tone(self, rng: np.random.Generator, note: Note, length: int) -> Wave:
        """A tone that is held for so many samples, (time,)."""
        hertz = _glide(note, length)
        # short strings lose their energy sooner
        decay_s = self.decay_s * (110 / frequency(note.pitch)) ** 0.35
        damping_hz = self.damping_hz * (0.6 + 0.6 * note.velocity)
        wave = pluck(rng, hertz, length, decay_s, damping_hz, self.position, self.roughness, self.course)
        if self.thump:
            knock_length = min(length, int(0.05 * RATE))
            knock = noise_band(rng, knock_length, 400, 3_500) * decay(knock_length, 0.03)
            wave[:knock_length] += np.float32(self.thump * note.velocity) * knock
        return fade(wave, 0.001, 0.0)


@dataclass(frozen=True)
class Oscillator:
    """A waveform with a filter that closes, an envelope, unison detuning and vibrato.

    Parameters
    ----------
    shape : str
        One of `tones.SHAPES`.
    bright, dull : float
        Corner of the filter in harmonics at the attack and after `close_s`.
    close_s : float
        Time in which the filter closes (by 60 dB).
    attack_s, release_s : float
        Fades.
    sustain_s : float
        Time in which the tone falls by 60 dB while it is held.
    detune : float
        Distance of two further oscillators in cents; 0 is a single one.
    vibrato : float
        Depth in cents, after a quarter of a second.
    breath : float
        Level of the noise around the tone.
    """

    shape: str
    bright: float
    dull: float
    close_s: float = 0.4
    attack_s: float = 0.005
    release_s: float = 0.05
    sustain_s: float = 30.0
    detune: float = 0.0
    vibrato: float = 0.0
    breath: float = 0.0

    def tone(self, rng: np.random.Generator, note: Note, length: int) -> Wave:
        """A tone that is held for so many samples, (time,)."""
        hertz: float | Wave = _glide(note, length)
        if self.vibrato:
            time = np.arange(length, dtype=np.float32) / np.float32(RATE)
            depth = np.float32(self.vibrato / 1200) * np.clip(time / np.float32(0.3) - np.float32(0.8), 0, 1)
            bend: Wave = np.exp2(depth * np.sin(np.float32(2 * np.pi * rng.uniform(4.8, 6)) * time))
            hertz = bend * np.float32(hertz)
        harmonics = int(NYQUIST_MARGIN_HZ / frequency(note.pitch))
        bright = harmonic_table(self.shape, harmonics, round(self.bright * (0.4 + 0.6 * note.velocity), 1))
        dull = harmonic_table(self.shape, harmonics, self.dull)
        opened = decay(length, self.close_s)
        wave = np.zeros(length, np.float32)
        for cents in (0.0,) if not self.detune else (-self.detune, 0.0, self.detune):
            phase = phases(hertz * 2.0 ** (cents / 1200), length) + np.uint32(rng.integers(2**32))
            flat = oscillate(dull, phase)
            wave += flat + opened * (oscillate(bright, phase) - flat)
        if self.breath:
            hiss = frequency(note.pitch)
            wave += np.float32(self.breath) * noise_band(rng, length, hiss, 4 * hiss)
        return fade(wave * decay(length, self.sustain_s), self.attack_s, 0.0)


@dataclass(frozen=True)
class Modulated:
    """Two operators of frequency modulation (Chowning 1973): electric piano, bells, mallets.

    Parameters
    ----------
    ratio : float
        Frequency of the modulator over the carrier's.
    index : float
        Depth at the attack, in radians; harder playing is brighter.
    index_s : float
        Time in which the depth falls by 60 dB.
    decay_s : float
        Time in which the tone falls by 60 dB.
    release_s : float
        Fade after the note.
    tine : float
        Level of a short partial at fourteen times the frequency.
    """

    ratio: float
    index: float
    index_s: float
    decay_s: float
    release_s: float = 0.1
    tine: float = 0.0

    def tone(self, rng: np.random.Generator, note: Note, length: int) -> Wave:
        """A tone that is held for so many samples, (time,)."""
        sine = harmonic_table("sine", 1, 1e9)
        hertz = frequency(note.pitch)
        radians = np.arange(length, dtype=np.float32) * np.float32(2 * np.pi * hertz / RATE)
        depth = np.float32(self.index * note.velocity**1.5) * decay(length, self.index_s)
        modulator = oscillate(sine, phases(hertz * self.ratio, length))
        wave = np.sin(radians + depth * modulator) * decay(length, self.decay_s)
        if self.tine:
            tine = oscillate(sine, phases(hertz * 14, length)) * decay(length, 0.12)
            wave += np.float32(self.tine * note.velocity) * tine
        return fade(wave, 0.001, 0.0)


Patch = Callable[[np.random.Generator], Instrument]

PATCHES: dict[str, Patch] = {
    "finger bass": lambda rng: String(
        rng.uniform(2, 5), rng.uniform(350, 900), rng.uniform(0.15, 0.3), 0.15, thump=0.05
    ),
    "picked bass": lambda rng: String(
        rng.uniform(2, 5), rng.uniform(900, 1800), rng.uniform(0.08, 0.15), 0.3, thump=0.12
    ),
    "slap bass": lambda rng: String(
        rng.uniform(1.5, 3), rng.uniform(1800, 3200), rng.uniform(0.05, 0.1), 0.4, thump=0.5
    ),
    "synth bass": lambda rng: Oscillator(
        str(rng.choice(("saw", "square"))), rng.uniform(8, 25), rng.uniform(2, 5), rng.uniform(0.2, 0.8), detune=6
    ),
    "sub bass": lambda rng: Oscillator("triangle", rng.uniform(3, 6), 1.5, 0.5, release_s=0.09, sustain_s=4.0),
    "piano": lambda rng: String(rng.uniform(5, 8), rng.uniform(1500, 3000), 0.125, 0.05, 0.15, 0.08, rng.uniform(1, 3)),
    "strummed guitar": lambda rng: String(
        rng.uniform(3, 6), rng.uniform(2000, 4500), rng.uniform(0.12, 0.25), 0.35, 0.12, 0.05, rng.choice((0.0, 5.0))
    ),
    "plucked guitar": lambda rng: String(
        rng.uniform(3, 6), rng.uniform(1500, 3500), rng.uniform(0.12, 0.25), 0.2, 0.3, 0.04
    ),
    "muted guitar": lambda rng: String(rng.uniform(0.5, 1), rng.uniform(1500, 3000), 0.1, 0.3, 0.04, 0.15),
    "distorted guitar": lambda rng: String(rng.uniform(5, 9), rng.uniform(2500, 4000), 0.1, 0.3, 0.04, 0.05),
    "guitar lead": lambda rng: String(rng.uniform(5, 9), rng.uniform(2500, 4500), 0.1, 0.2, 0.1),
    "electric piano": lambda rng: Modulated(
        1.0, rng.uniform(1, 2.2), rng.uniform(0.8, 2), rng.uniform(3, 6), 0.12, rng.uniform(0, 0.15)
    ),
    "mallets": lambda rng: Modulated(rng.choice((3.99, 4.0)), rng.uniform(0.4, 1), 0.15, rng.uniform(0.6, 2), 0.3),
    "bells": lambda rng: Modulated(rng.choice((3.51, 1.41)), rng.uniform(1, 2), 1.5, rng.uniform(2, 4), 0.8),
    "organ": lambda rng: Oscillator("organ", 30, rng.uniform(8, 30), attack_s=0.008, release_s=0.03, detune=1.5),
    "warm pad": lambda rng: Oscillator(
        "saw", rng.uniform(6, 14), rng.uniform(3, 6), 4.0, rng.uniform(0.15, 0.4), rng.uniform(0.3, 0.6), detune=9
    ),
    "strings": lambda rng: Oscillator(
        "saw", rng.uniform(10, 18), rng.uniform(6, 12), 3.0, rng.uniform(0.08, 0.2), 0.25, detune=7, vibrato=12
    ),
    "synth stabs": lambda rng: Oscillator(
        str(rng.choice(("saw", "pulse"))), rng.uniform(12, 40), rng.uniform(2, 5), rng.uniform(0.2, 0.6), detune=8
    ),
    "synth arpeggio": lambda rng: Oscillator(
        str(rng.choice(("saw", "square", "pulse"))), rng.uniform(8, 25), rng.uniform(1.5, 4), 0.3, sustain_s=1.0
    ),
    "saw lead": lambda rng: Oscillator("saw", rng.uniform(10, 25), rng.uniform(4, 10), detune=5, vibrato=25),
    "square lead": lambda rng: Oscillator("square", rng.uniform(6, 15), rng.uniform(4, 8), vibrato=25),
    "flute": lambda rng: Oscillator("flute", 9, 6, 1.0, 0.05, 0.06, vibrato=18, breath=0.12),
}
"""How each instrument is set up for a song."""


DISTORTED = {"distorted guitar", "guitar lead"}
TREMBLING = {"electric piano", "organ"}
SWEPT = {"synth bass", "warm pad", "strings", "synth stabs", "synth arpeggio", "electric piano", "saw lead"}


def _drive(bus: Wave, amount: float) -> Wave:
    """An amplifier that distorts, and a loudspeaker that rolls off what it adds above 5 kHz."""
    peak = float(bus.max(initial=0.0) or 1.0)
    shaped: Wave = np.tanh(np.float32(amount / peak) * bus)
    # two averages of neighbours, zeros at 11 and 7 kHz
    for reach in (2, 3):
        shaped[reach:] = np.float32(0.5) * (shaped[reach:] + shaped[:-reach])
    return shaped


def _swing(length: int, hertz: float) -> Wave:
    """A slow sine between 0 and 1, (time,)."""
    curve: Wave = 0.5 + 0.5 * np.sin(np.float32(2 * np.pi * hertz / RATE) * np.arange(length, dtype=np.float32))
    return curve


def _sweep(bus: Wave, corner_hz: float, hertz: float) -> Wave:
    """A filter that opens and closes by hand, out of step with the bars."""
    pole = np.exp(-2 * np.pi * corner_hz / RATE)
    numerator, denominator = np.array([(1 - pole) ** 2], np.float32), np.array([1, -2 * pole, pole**2], np.float32)
    dull: Wave = signal.lfilter(numerator, denominator, bus)
    dull += _swing(len(bus), hertz) * (bus - dull)
    return dull


def play_part(form: Form, part: Part) -> Wave:
    """Play one part, dry and mono: every different tone is made once and placed wherever it sounds.

    Parameters
    ----------
    form : Form
        A band that loops plays each tone exactly alike, others have three takes of it.
    part : Part
        Instrument and notes.

    Returns
    -------
    ndarray, shape (time,), float32
    """
    rng = form.generator(f"patch of {part.instrument}")
    instrument = PATCHES[part.instrument](rng)
    lengths = [round((note.length_s + instrument.release_s) * RATE) for note in part.notes]
    longest: dict[float, int] = {}
    for note, length in zip(part.notes, lengths, strict=True):
        longest[note.pitch] = max(length, longest.get(note.pitch, 0))
    bus = np.zeros(form.length, np.float32)
    held: dict[tuple[float, float, float | None, int], Wave] = {}
    for number, (note, length) in enumerate(zip(part.notes, lengths, strict=True)):
        layer = min(LAYERS, key=lambda level: abs(level - note.velocity))
        key = (note.pitch, layer, note.slide_from, 0 if form.loops else number % 3)
        if key not in held:
            held[key] = instrument.tone(rng, replace(note, velocity=layer), longest[note.pitch])
        tone = fade(held[key][:length].copy(), 0.0, instrument.release_s)
        place(bus, tone, round(note.start_s * RATE), note.velocity)
    if part.instrument in DISTORTED:
        bus = _drive(bus, rng.uniform(6, 25))
    if part.instrument in TREMBLING and rng.random() < 0.6:
        bus *= 1 - np.float32(rng.uniform(0.15, 0.5)) * _swing(form.length, rng.uniform(3, 7))
    if part.instrument in SWEPT and rng.random() < (0.2 if form.loops else 0.7):
        bus = _sweep(bus, rng.uniform(400, 1_500), rng.uniform(0.1, 0.4))
    return bus
