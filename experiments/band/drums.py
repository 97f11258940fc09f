"""The drum kit: synthesised strokes, some takes of each, played by the score and spread over the stereo image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stemfuse.separators import RATE

from .form import STYLES
from .score import Form, Hit
from .tones import Wave, decay, fade, noise_band, place, place_stereo

SEATS = {
    "kick": 0.0,
    "snare": 0.05,
    "rim": 0.1,
    "clap": 0.0,
    "hat": 0.6,
    "open": 0.6,
    "ride": -0.7,
    "crash": -0.5,
    "shaker": -0.8,
    "tom high": 0.5,
    "tom mid": 0.0,
    "tom low": -0.6,
}
"""Place of each piece when the kit is as wide as it can be: -1 is left, 1 is right."""

LAYERS = (0.35, 0.7, 1.0)
"""Strokes are made at these velocities; the nearest one is scaled to the exact velocity."""


def _sweep(length: int, low_hz: float, high_hz: float, fall_s: float) -> Wave:
    """A sine that falls from one frequency towards another."""
    time = np.arange(length, dtype=np.float32) / RATE
    cycles = low_hz * time + (high_hz - low_hz) * fall_s * (1 - np.exp(-time / fall_s))
    return np.sin(2 * np.pi * cycles)


def _length(seconds: float) -> int:
    return int(seconds * RATE)


class Kit:
    """One drum kit: a tuning of all its pieces, drawn once for a song.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the tuning and every stroke's noise.
    electronic : bool
        Machines have longer kicks, tighter hats and every stroke the same; drummers never strike twice alike.
    """

    def __init__(self, rng: np.random.Generator, electronic: bool) -> None:
        self.rng = rng
        self.takes = 1 if electronic else 3
        self.kick_hz = rng.uniform(42, 56) if electronic else rng.uniform(50, 68)
        self.kick_s = rng.uniform(0.35, 0.9) if electronic else rng.uniform(0.22, 0.4)
        self.click = rng.uniform(0.05, 0.35)
        self.snare_hz = rng.uniform(165, 235)
        self.snare_s = rng.uniform(0.14, 0.32)
        self.wires = rng.uniform(0.45, 0.8)
        self.tom_hz = rng.uniform(75, 100)
        self.metal_hz = rng.uniform(310, 420)
        self.brightness_hz = rng.uniform(5_500, 8_500)
        self.hat_s = rng.uniform(0.05, 0.12) if electronic else rng.uniform(0.06, 0.35)
        self.ride_s = rng.uniform(1.0, 2.5)
        self.crash_s = rng.uniform(1.4, 2.6)
        self.strokes: dict[tuple[str, float, int], Wave] = {}

    def stroke(self, piece: str, velocity: float, take: int) -> Wave:
        """One stroke, (time,), made on first use and kept."""
        layer = min(LAYERS, key=lambda level: abs(level - velocity))
        key = (piece, layer, take % self.takes)
        if key not in self.strokes:
            self.strokes[key] = PIECES[piece](self, layer)
        return self.strokes[key]

    def kick(self, level: float) -> Wave:
        """Falling sine, beater click and a little skin noise."""
        length = _length(self.kick_s)
        body = _sweep(length, self.kick_hz, self.kick_hz * (3.2 + level), 0.022) * decay(length, self.kick_s)
        beater = noise_band(self.rng, length, 900, 5_000) * decay(length, 0.03) * np.float32(self.click * level)
        skin = noise_band(self.rng, length, 90, 500) * decay(length, 0.12) * np.float32(0.12)
        return fade(np.tanh(1.6 * body) + beater + skin, 0.0005, 0.03)

    def snare(self, level: float) -> Wave:
        """Two modes of the skin and the noise of the wires, brighter when struck harder."""
        length = _length(self.snare_s + 0.1)
        tone = _sweep(length, self.snare_hz, self.snare_hz * 1.4, 0.012) * decay(length, 0.6 * self.snare_s)
        upper = _sweep(length, self.snare_hz * 1.72, self.snare_hz * 2.1, 0.008) * decay(length, 0.35 * self.snare_s)
        wires = noise_band(self.rng, length, 500, 3_500 + 6_000 * level) * decay(length, self.snare_s)
        crack = noise_band(self.rng, length, 2_500, 9_000) * decay(length, 0.035)
        mixed = 0.55 * tone + 0.3 * upper + self.wires * 0.5 * wires + 0.3 * level * crack
        return fade(mixed, 0.0005, 0.03)

    def rim(self, level: float) -> Wave:
        """A stick across the rim: two short modes and a click."""
        length = _length(0.12)
        modes = _sweep(length, 520, 560, 0.01) + 0.7 * _sweep(length, 1_680, 1_750, 0.01)
        click = noise_band(self.rng, length, 1_500, 7_000) * decay(length, 0.02)
        return fade((0.5 * modes * decay(length, 0.07) + 0.35 * level * click), 0.0003, 0.02)

    def clap(self, level: float) -> Wave:
        """Four bursts of hands and their room."""
        length = _length(0.3)
        wave = noise_band(self.rng, length, 800, 2_600 + 2_000 * level) * decay(length, 0.22) * np.float32(0.35)
        for burst in range(4):
            start = _length(0.009 * burst + self.rng.uniform(0, 0.002))
            hands = noise_band(self.rng, _length(0.03), 900, 4_000)
            place(wave, hands * decay(len(hands), 0.02), start, 0.5)
        return fade(wave, 0.0005, 0.05)

    def _metal(self, length: int, base_hz: float, low_hz: float, noise: float) -> Wave:
        """Six inharmonic square waves through a high pass, the classic analogue cymbal, and noise."""
        time = np.arange(length, dtype=np.float32)
        squares = np.zeros(length, np.float32)
        for ratio in (2.0, 3.07, 4.16, 5.43, 6.79, 8.21):
            squares += np.sign(np.sin(time * np.float32(2 * np.pi * base_hz * ratio / RATE)))
        # a second difference lifts the top by 12 dB per octave, as the high pass of the machine does
        bright = np.diff(squares, 2, prepend=np.zeros(2, np.float32)) * np.float32(0.11)
        hiss = noise_band(self.rng, length, low_hz, 16_000)
        return (1 - noise) * bright + noise * hiss

    def hat(self, level: float) -> Wave:
        """Closed hi-hat."""
        closing_s = self.hat_s * (0.5 + 0.5 * level)
        length = _length(closing_s + 0.02)
        metal = self._metal(length, self.metal_hz, self.brightness_hz * (0.8 + 0.2 * level), 0.75)
        return fade(0.3 * metal * decay(length, closing_s), 0.0005, 0.01)

    def open(self, level: float) -> Wave:
        """Open hi-hat; the player chokes it with the next closed one."""
        length = _length(0.55)
        metal = self._metal(length, self.metal_hz, self.brightness_hz * 0.8, 0.7)
        return fade(0.28 * metal * decay(length, 0.5), 0.001, 0.05)

    def ride(self, level: float) -> Wave:
        """Ride cymbal: a bell-like stick sound over a long wash."""
        length = _length(1.1)
        wash = self._metal(length, self.metal_hz * 0.8, 5_000, 0.6) * decay(length, self.ride_s)
        bell = sum(_sweep(length, hertz, hertz, 1.0) for hertz in (2_430.0, 3_790.0, 5_120.0))
        return fade((0.13 * wash + 0.05 * level * bell * decay(length, 0.4)), 0.0005, 0.2)

    def crash(self, level: float) -> Wave:
        """Crash cymbal: a wide burst whose top fades first."""
        length = _length(self.crash_s)
        low = noise_band(self.rng, length, 1_200, 6_000) * decay(length, self.crash_s)
        high = self._metal(length, self.metal_hz * 1.1, 5_000, 0.85) * decay(length, 0.6 * self.crash_s)
        return fade((0.08 * low + 0.17 * high), 0.003, 0.3)

    def shaker(self, level: float) -> Wave:
        """Shaker: a soft burst of bright noise."""
        length = _length(0.09)
        return fade(0.2 * noise_band(self.rng, length, 4_500, 12_000) * decay(length, 0.1), 0.02, 0.04)

    def tom(self, level: float, ratio: float) -> Wave:
        """A tom-tom: falling sine with a soft attack noise."""
        length = _length(0.5)
        hertz = self.tom_hz * ratio
        body = _sweep(length, hertz, hertz * (1.4 + 0.3 * level), 0.03) * decay(length, 0.55)
        attack = noise_band(self.rng, length, 300, 3_000) * decay(length, 0.05)
        return fade((0.85 * body + 0.15 * level * attack), 0.0005, 0.08)


PIECES: dict[str, Callable[[Kit, float], Wave]] = {
    "kick": Kit.kick,
    "snare": Kit.snare,
    "rim": Kit.rim,
    "clap": Kit.clap,
    "hat": Kit.hat,
    "open": Kit.open,
    "ride": Kit.ride,
    "crash": Kit.crash,
    "shaker": Kit.shaker,
    "tom high": lambda kit, level: kit.tom(level, 1.9),
    "tom mid": lambda kit, level: kit.tom(level, 1.4),
    "tom low": lambda kit, level: kit.tom(level, 1.0),
}


def play_drums(form: Form, hits: tuple[Hit, ...], width: float) -> Wave:
    """Play the drum part, dry.

    Parameters
    ----------
    form : Form
        Its style chooses between machine and drummer.
    hits : tuple of Hit
        In the order of time.
    width : float
        0 puts all pieces in the centre, 1 spreads them as seen from the audience.

    Returns
    -------
    ndarray, shape (channel, time), float32
    """
    rng = form.generator("kit")
    kit = Kit(rng, electronic=bool(rng.random() < STYLES[form.style].electronic))
    bus = np.zeros((2, form.length), np.float32)
    closed = np.array([hit.start_s for hit in hits if hit.piece in ("hat", "open")] + [np.inf])
    for number, hit in enumerate(hits):
        wave = kit.stroke(hit.piece, hit.velocity, number)
        if hit.piece == "open":
            until = closed[np.searchsorted(closed, hit.start_s + 1e-3)] - hit.start_s
            if until * RATE < len(wave):
                wave = fade(wave[: max(_length(until), 1)].copy(), 0.0, 0.01)
        place_stereo(bus, wave, round(hit.start_s * RATE), width * SEATS[hit.piece], hit.velocity)
    return bus
