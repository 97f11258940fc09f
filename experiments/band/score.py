"""The score of a song: who plays what and when, before any sound is made."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

STEPS = 16
"""Sixteenth notes in a bar; all songs are in 4/4."""

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
"""Semitones above the tonic."""


def read_pattern(pattern: str) -> list[tuple[int, int, str]]:
    """Read a rhythm: a letter starts a note, ``-`` holds it, ``.`` is silent, one character per sixteenth.

    Returns
    -------
    list of (step, length, letter)

    Examples
    --------
    >>> read_pattern("R--.5-")
    [(0, 3, 'R'), (4, 2, '5')]
    """
    notes: list[tuple[int, int, str]] = []
    for step, letter in enumerate(pattern):
        if letter == "-":
            start, length, held = notes.pop()
            notes.append((start, length + 1, held))
        elif letter != ".":
            notes.append((step, 1, letter))
    return notes


@dataclass(frozen=True, slots=True)
class Note:
    """One tone: MIDI pitch (60 is middle C), velocity 0 to 1; it may slide up or down from another pitch."""

    start_s: float
    length_s: float
    pitch: float
    velocity: float
    slide_from: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One stroke on a piece of the drum kit, velocity 0 to 1."""

    start_s: float
    piece: str
    velocity: float


@dataclass(frozen=True, slots=True)
class Syllable:
    """One sung syllable; its vowel begins at ``start_s``, its consonant just before."""

    start_s: float
    length_s: float
    pitch: float
    velocity: float
    consonant: str
    vowel: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """What is sung in one breath, with the pitches of a second singer: none, the same (double) or a third above."""

    syllables: tuple[Syllable, ...]
    backing: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What one instrument plays."""

    instrument: str
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Chord:
    """Pitch classes (0 is C), the root first."""

    tones: tuple[int, ...]

    def voicing(self, lowest: int, count: int) -> tuple[int, ...]:
        """The ``count`` chord tones at and above a MIDI pitch: near chords keep near hands.

        Examples
        --------
        >>> Chord((0, 4, 7)).voicing(52, 3)
        (52, 55, 60)
        """
        pitches = [pitch for pitch in range(lowest, lowest + 12 * count) if pitch % 12 in self.tones]
        return tuple(pitches[:count])

    def nearest(self, pitch: int) -> int:
        """The chord tone nearest to a MIDI pitch."""
        around = [tone for tone in range(pitch - 6, pitch + 7) if tone % 12 in self.tones]
        return min(around, key=lambda tone: abs(tone - pitch))


@dataclass(frozen=True, slots=True)
class Section:
    """Some bars of one character: ``players`` names who plays, ``chords`` has one chord for each half bar."""

    name: str
    start: int
    bars: int
    players: frozenset[str]
    chords: tuple[Chord, ...]

    @property
    def full(self) -> bool:
        """Whether the band plays out."""
        return self.name == "chorus"


@dataclass(frozen=True)
class Form:
    """What all players share.

    Parameters
    ----------
    seed : tuple of int
        All that is random in the song comes from it.
    length : int
        Length in samples, at 44 100 Hz.
    style : str
        One of `STYLES`.
    tempo_bpm : float
        Quarter notes per minute.
    feel : tuple of float
        Where the four sixteenths of a quarter note lie in it: (0, 0.25, 0.5, 0.75) is straight, others swing.
    looseness_s : float
        Standard deviation of the players' timing; 0 is a sequencer.
    loops : bool
        Whether the accompaniment repeats itself exactly.
    tonic : int
        Pitch class of the key.
    mode : str
        ``"major"`` or ``"minor"``.
    sections : tuple of Section
        Without gaps from bar 0 to the end.
    """

    seed: tuple[int, ...]
    length: int
    style: str
    tempo_bpm: float
    feel: tuple[float, float, float, float]
    looseness_s: float
    loops: bool
    tonic: int
    mode: str
    sections: tuple[Section, ...]

    @property
    def step_s(self) -> float:
        """Mean length of a sixteenth."""
        return 15.0 / self.tempo_bpm

    def time_s(self, bar: int, step: int) -> float:
        """When a sixteenth of a bar begins; ``step`` may lie outside the bar."""
        beat, sixteenth = divmod(bar * STEPS + step, 4)
        return (beat + self.feel[sixteenth]) * 60.0 / self.tempo_bpm

    def chord(self, bar: int, step: int = 0) -> Chord:
        """The chord that sounds at a step; after the end it is the first one again."""
        bar += step // STEPS
        for section in self.sections:
            if section.start <= bar < section.start + section.bars:
                return section.chords[2 * (bar - section.start) + (step % STEPS) // 8]
        return self.sections[0].chords[0]

    def scale_pitch(self, index: int) -> int:
        """MIDI pitch of a step of the key's scale; index 0 is the tonic in octave -1, 7 the tonic above it."""
        octave, degree = divmod(index, 7)
        return self.tonic + 12 * octave + SCALES[self.mode][degree]

    def scale_index(self, pitch: float) -> int:
        """Step of the scale nearest to a MIDI pitch, the inverse of `scale_pitch`."""
        guess = int((pitch - self.tonic) // 12) * 7
        return min(range(guess - 1, guess + 9), key=lambda index: abs(self.scale_pitch(index) - pitch))

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose, independent of what other players draw."""
        return np.random.default_rng((*self.seed, zlib.crc32(purpose.encode())))


@dataclass(frozen=True)
class Song:
    """A composed song; `render` makes it sound.

    Parameters
    ----------
    form : Form
        Tempo, key, sections and chords.
    drums : tuple of Hit
        In the order of time.
    bass : Part
        The bass line.
    others : tuple of Part
        Two or three accompanying instruments.
    voice : tuple of Phrase
        What is sung, with silence between the phrases.

    Examples
    --------
    >>> from stemfuse.experiments.band import compose
    >>> song = compose(7, 30.0)
    >>> song.form.style, round(song.form.tempo_bpm), song.bass.instrument
    ('breaks', 172, 'synth bass')
    """

    form: Form
    drums: tuple[Hit, ...]
    bass: Part
    others: tuple[Part, ...]
    voice: tuple[Phrase, ...]
