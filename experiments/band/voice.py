"""The singer: a glottal source through the moving resonances of a vocal tract, with breath and consonants.

Source and filter are multiplied in a short-time Fourier transform (STFT): formants move every 12 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from stemfuse.separators import RATE

from .phonemes import CONSONANTS, GLIDE, GLIDES, VOWELS
from .score import Form, Phrase, Syllable
from .tones import TABLE_BITS, Wave, oscillate, phases, place_stereo

WINDOW, HOP = 1024, 256
LEAD_S, TAIL_S = 0.5, 0.25
"""A phrase has this much time before its first syllable (for breath and consonant) and after its last."""

BANDWIDTHS = (80.0, 100.0, 160.0)
UPPER_FORMANTS = np.arange(3_300.0, RATE / 2, 1_100.0)
"""A tube of 17 cm resonates at about every kilohertz; these stay where they are."""


@dataclass(frozen=True)
class Singer:
    """One person's voice.

    Parameters
    ----------
    tract : float
        Formant frequencies over a man's; women's tracts are shorter, about 1.17.
    open_quotient : float
        Part of the glottal period with open folds; more is softer.
    presence : float
        Gain above 7 kHz that singers and engineers add, less 1.
    breath : float
        Level of the breath in the voice.
    vibrato_hz, vibrato_cents : float
        Rate and depth once it has set in.
    portamento_s : float
        Time from note to note.
    drift_cents : float
        Standard deviation of slow intonation errors.
    """

    tract: float
    open_quotient: float
    presence: float
    breath: float
    vibrato_hz: float
    vibrato_cents: float
    portamento_s: float
    drift_cents: float

    @classmethod
    def draw(cls, rng: np.random.Generator, high: bool) -> Singer:
        """Draw a singer; high voices have shorter tracts."""
        return cls(
            tract=rng.normal(1.16 if high else 1.0, 0.03),
            open_quotient=rng.uniform(0.45, 0.7),
            presence=rng.uniform(4.0, 14.0),
            breath=rng.uniform(0.02, 0.1),
            vibrato_hz=rng.uniform(4.8, 6.4),
            vibrato_cents=rng.uniform(15, 60),
            portamento_s=rng.uniform(0.05, 0.1),
            drift_cents=rng.uniform(4, 12),
        )


@lru_cache(maxsize=64)
def _glottal_table(open_quotient: float, harmonics: int) -> Wave:
    """One period of the derivative of the glottal flow of Klatt and Klatt 1990: a cubic pulse, then closed folds."""
    size = 1 << TABLE_BITS
    time = np.arange(size) / size / open_quotient
    flow = np.where(time < 1, time**2 - time**3, 0.0)
    spectrum = fft.rfft(flow) * (1j * np.arange(size // 2 + 1))
    spectrum[harmonics + 1 :] = 0
    period = fft.irfft(spectrum, size)
    table: Wave = (period / np.sqrt(np.mean(period**2))).astype(np.float32)
    table.setflags(write=False)
    return table


def _wander(rng: np.random.Generator, count: int, smoothness: int) -> NDArray[np.float64]:
    """A slow random curve of unit deviation, one value per STFT frame."""
    kernel = np.hanning(smoothness + 2)
    return np.convolve(rng.standard_normal(count + smoothness + 1), kernel / np.sqrt(np.sum(kernel**2)), "valid")


def _pitch_curve(
    rng: np.random.Generator, singer: Singer, phrase: Phrase, pitches: tuple[float, ...], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """MIDI pitch at each STFT frame: notes joined by portamento, scooped into, with vibrato and drift."""
    starts = np.array([syllable.start_s for syllable in phrase.syllables])
    index = np.clip(np.searchsorted(starts, times + 0.3 * singer.portamento_s, "right") - 1, 0, None)
    since = times - starts[index]
    lengths = np.array([syllable.length_s for syllable in phrase.syllables])[index]
    steps = np.asarray(pitches)[index]
    reach = max(int(singer.portamento_s * RATE / HOP), 1)
    kernel = np.hanning(reach + 2)
    curve = np.convolve(np.pad(steps, reach, "edge"), kernel / kernel.sum(), "same")[reach:-reach]
    curve -= rng.uniform(0.4, 1.5) * np.exp(-np.clip(times - starts[0], 0, None) / 0.05)
    depth = np.clip((since - 0.22) / 0.3, 0, 1) * (lengths > 0.4) * singer.vibrato_cents
    rate = singer.vibrato_hz * (1 + 0.04 * _wander(rng, len(times), 60))
    vibrato = depth * np.sin(2 * np.pi * np.cumsum(rate) * HOP / RATE)
    drift = singer.drift_cents * _wander(rng, len(times), 90) + 3 * _wander(rng, len(times), 3)
    curve += (vibrato + drift) / 100
    return curve


class Posture(NamedTuple):
    """A momentary state of tract, folds and constriction: formants in Hz, levels, and where the noise lies."""

    formants: tuple[float, float, float]
    voicing: float
    breath: float
    noise: float
    centre_hz: float
    octaves: float


def _syllable_postures(singer: Singer, syllable: Syllable) -> tuple[Posture, Posture, Posture, Posture]:
    """The four postures of a syllable: closure, consonant, vowel, and where the vowel glides to."""
    consonant, vowel, level = CONSONANTS[syllable.consonant], VOWELS[syllable.vowel], syllable.velocity
    locus = consonant.formants or vowel
    band = (consonant.centre_hz, consonant.octaves)
    goal = VOWELS[GLIDES.get(syllable.vowel, syllable.vowel)]
    first, second, third = (hertz + GLIDE * (to - hertz) for hertz, to in zip(vowel, goal, strict=True))
    breath = singer.breath * level
    return (
        Posture(locus, 0.15 * consonant.voicing, 0.0, 0.0, *band),
        Posture(locus, consonant.voicing * level, consonant.breath * level, consonant.noise * level, *band),
        Posture(vowel, level, breath, 0.0, *band),
        Posture((first, second, third), 0.85 * level, breath, 0.0, *band),
    )


def _gestures(rng: np.random.Generator, singer: Singer, phrase: Phrase) -> list[tuple[float, Posture]]:
    """Postures in the order of time, between which the tract moves in straight lines."""
    gestures: list[tuple[float, Posture]] = []
    resting = True
    for number, syllable in enumerate(phrase.syllables):
        consonant = CONSONANTS[syllable.consonant]
        closed, held, sung, glided = _syllable_postures(singer, syllable)
        start_s = syllable.start_s
        begin_s = start_s - consonant.sound_s
        if resting:
            silent = closed._replace(voicing=0.0)
            if number == 0 and rng.random() < 0.7:
                inhaled = silent._replace(breath=rng.uniform(0.03, 0.12))
                gestures += [(begin_s - 0.42, silent), (begin_s - 0.3, inhaled), (begin_s - 0.17, silent)]
            gestures.append((begin_s - consonant.closure_s - 0.02, silent))
        if consonant.closure_s:
            gestures += [(begin_s - consonant.closure_s, closed), (begin_s - 0.005, closed)]
        gestures += [(begin_s, held), (start_s - 0.008, held), (start_s + 0.035, sung)]
        end_s = start_s + syllable.length_s
        following = phrase.syllables[number + 1] if number + 1 < len(phrase.syllables) else None
        resting = following is None or following.start_s > end_s + 0.12
        if following is None or resting:
            gestures += [(end_s - 0.08, glided), (end_s + 0.06, glided._replace(voicing=0.0, breath=0.0))]
        else:
            coming = CONSONANTS[following.consonant]
            gestures.append((following.start_s - coming.sound_s - coming.closure_s - 0.03, glided))
    return gestures


def _track(gestures: list[tuple[float, Posture]], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Postures at each STFT frame: (parameter, STFT frame), three formants, then the other fields of `Posture`."""
    moments = np.maximum.accumulate([moment for moment, _ in gestures])
    columns = np.array([(*posture.formants, *posture[1:]) for _, posture in gestures]).T
    return np.stack([np.interp(times, moments, column) for column in columns])


def _resonance(hertz: NDArray[np.float64], bandwidth_hz: float) -> Wave:
    """Squared magnitude of a digital resonator of gain 1 at 0 Hz, (STFT frame, frequency)."""
    omega = np.linspace(0, np.pi, WINDOW // 2 + 1, dtype=np.float32)
    theta = (np.pi / RATE * hertz).astype(np.float32)[:, None]
    radius = np.float32(np.exp(-np.pi * bandwidth_hz / RATE))
    lost = (1 - radius) ** 2
    # differences of angles, not of cosines: the latter cancel in single precision
    along, across = np.cos(theta) * np.sin(omega / 2), np.sin(theta) * np.cos(omega / 2)
    below, above = np.square(along - across), np.square(along + across)
    unity = np.square(lost + 4 * radius * np.square(np.sin(theta)))
    response: Wave = unity / ((lost + 4 * radius * below) * (lost + 4 * radius * above))
    return response


def _tract(singer: Singer, formants_hz: list[NDArray[np.float64]], tone_hz: NDArray[np.float64]) -> Wave:
    """Magnitude of the tract's response, (STFT frame, frequency): resonances in cascade (Klatt 1980)."""
    hertz = np.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=np.float32)
    presence = 1 + np.float32(singer.presence) / (1 + (np.float32(7_000) / np.maximum(hertz, 1)) ** 4)
    response = np.square(presence)[None]
    for formant in singer.tract * UPPER_FORMANTS:
        if formant < 0.95 * RATE / 2:
            response = response * _resonance(np.array([formant]), 0.08 * formant)
    first, second, third = (singer.tract * formant_hz for formant_hz in formants_hz)
    # singers open their mouths so that the first formant is not below the tone
    for moving, bandwidth_hz in zip((np.maximum(first, 0.9 * tone_hz), second, third), BANDWIDTHS, strict=True):
        response = response * _resonance(moving, bandwidth_hz)
    return np.sqrt(response, out=response)


def _constriction(centre_hz: NDArray[np.float64], octaves: NDArray[np.float64]) -> Wave:
    """Magnitude of a consonant's noise, (STFT frame, frequency), of unit power."""
    hertz = np.maximum(np.fft.rfftfreq(WINDOW, 1 / RATE), 1.0)
    distance = np.log2(hertz / centre_hz[:, None]) / octaves[:, None]
    band = np.exp(-0.5 * distance**2)
    response: Wave = (band / np.sqrt(np.mean(band**2, axis=1, keepdims=True))).astype(np.float32)
    return response


def _spectra(wave: Wave, window: Wave) -> NDArray[np.complex64]:
    spectra: NDArray[np.complex64] = fft.rfft(sliding_window_view(wave, WINDOW)[::HOP] * window, axis=1)
    return spectra


def sing(rng: np.random.Generator, singer: Singer, phrase: Phrase, pitches: tuple[float, ...]) -> tuple[Wave, int]:
    """Sing a phrase.

    Parameters
    ----------
    rng : numpy.random.Generator
        Breath, consonants, jitter and drift are different each time.
    singer : Singer
        Whose voice.
    phrase : Phrase
        Words and rhythm.
    pitches : tuple of float
        One MIDI pitch for each syllable: the phrase's own or a second voice's.

    Returns
    -------
    wave : ndarray, shape (time,), float32
    start : int
        Sample of the song at which it begins; negative when the breath before the phrase lies before the song.
    """
    begin_s = phrase.syllables[0].start_s - LEAD_S
    end_s = phrase.syllables[-1].start_s + phrase.syllables[-1].length_s + TAIL_S
    count = int((end_s - begin_s) * RATE / HOP)
    times = begin_s + (np.arange(count) * HOP + WINDOW / 2) / RATE

    pitch = _pitch_curve(rng, singer, phrase, pitches, times)
    hertz = 440.0 * 2.0 ** ((pitch - 69) / 12)
    length = (count - 1) * HOP + WINDOW
    fine = np.interp(np.arange(length), np.arange(count) * HOP + WINDOW // 2, hertz)
    table = _glottal_table(round(singer.open_quotient, 3), int(20_000 / np.median(hertz)))
    source = oscillate(table, phases(fine, length))

    *formants, voicing, breath, noise, centre_hz, octaves = _track(_gestures(rng, singer, phrase), times)
    voicing = voicing * (1 + 0.05 * _wander(rng, count, 8))

    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    hiss = _spectra(rng.standard_normal(length, dtype=np.float32), window)
    excitation = _spectra(source, window) * voicing[:, None].astype(np.float32)
    excitation += hiss * breath[:, None].astype(np.float32)
    # formants move slowly: one response serves two STFT frames
    excitation *= _tract(singer, [formant[::2] for formant in formants], hertz[::2]).repeat(2, axis=0)[:count]
    noisy = np.flatnonzero(noise > 0)
    level = noise[noisy, None].astype(np.float32)
    excitation[noisy] += hiss[noisy] * level * _constriction(centre_hz[noisy], octaves[noisy])

    # four Hann windows squared that overlap by three quarters add up to 1.5
    parts = fft.irfft(excitation, WINDOW, axis=1) * (window / np.float32(1.5))
    wave = np.zeros(length, np.float32)
    for quarter in range(WINDOW // HOP):
        wave[quarter * HOP : (quarter + count) * HOP] += parts[:, quarter * HOP : (quarter + 1) * HOP].ravel()
    return wave, round(begin_s * RATE)


def play_voice(form: Form, phrases: tuple[Phrase, ...], pan: float, width: float) -> Wave:
    """Sing all phrases, dry.

    Parameters
    ----------
    form : Form
        Draws the singers.
    phrases : tuple of Phrase
        What is sung.
    pan : float
        Place of the lead, -1 left to 1 right.
    width : float
        How far a second voice lies from the lead, on both sides in turn.

    Returns
    -------
    ndarray, shape (channel, time), float32
    """
    rng = form.generator("singer")
    bus = np.zeros((2, form.length), np.float32)
    if not phrases:
        return bus
    middle = np.mean([syllable.pitch for phrase in phrases for syllable in phrase.syllables])
    lead = Singer.draw(rng, high=bool(middle > 60))
    second = lead if rng.random() < 0.5 else Singer.draw(rng, high=bool(middle > 58))
    for phrase in phrases:
        wave, start = sing(rng, lead, phrase, tuple(syllable.pitch for syllable in phrase.syllables))
        place_stereo(bus, wave, start, pan, 1.0)
        if phrase.backing:
            wave, start = sing(rng, second, phrase, phrase.backing)
            # one take, left and right at different times, is how records are made wide
            for side in (-1, 1):
                place_stereo(bus, wave, start + int(rng.integers(200, 1_000)), side * width, 0.3)
    return bus
