"""What the rhythm section plays: grooves with fills and ghost notes, and a bass line that follows the chords."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .form import STYLES
from .score import STEPS, Form, Hit, Note, Part, Section, read_pattern

STROKES = {"X": 1.0, "x": 0.72, "g": 0.3}
"""Velocity of an accent, a plain stroke and a ghost note."""

FILLS = (
    {"snare": "........x.x.xxxX"},
    {"tom high": "........X.x.....", "tom mid": "............x.x.", "tom low": "..............xX"},
    {"snare": "........xgxg....", "tom high": "............Xx..", "tom low": "..............Xx"},
    {"snare": "............XgxX", "kick": "........X..X...."},
    {"tom mid": "............X.x.", "tom low": ".............x.X"},
    {"clap": "........X.X.XXXX"},
)
"""What is played in the last bar of a section, from its first stroke on."""

LOWEST_BASS, HIGHEST_BASS = 28, 50
"""MIDI pitches: the open E string (41 Hz) and the D an octave above the open D (147 Hz)."""


Strokes = list[tuple[int, str, float]]
"""(step, piece, velocity) of one bar."""


def _strokes(groove: Mapping[str, str]) -> Strokes:
    return [(step, piece, STROKES[letter]) for piece, row in groove.items() for step, _, letter in read_pattern(row)]


def _with_fill(strokes: Strokes, fill: Strokes) -> Strokes:
    """A fill takes over from its first stroke; the hat goes on."""
    begin = min(step for step, _, _ in fill)
    return [stroke for stroke in strokes if stroke[0] < begin or stroke[1] == "hat"] + fill


def _with_liberties(rng: np.random.Generator, strokes: Strokes, liberty: float) -> Strokes:
    """Drummers leave out weak strokes and put in others."""
    kept = [stroke for stroke in strokes if stroke[2] == 1.0 or rng.random() >= liberty]
    extras = (("kick", 0.7), ("snare", 0.3), ("hat", 0.5))
    return kept + [(int(rng.integers(STEPS)), *extra) for extra in extras if rng.random() < 2 * liberty]


def write_drums(form: Form) -> tuple[Hit, ...]:
    """Write the drummer's strokes in the order of time.

    Verses have the quiet groove, choruses the full one. The last bar of a section may be a fill; a chorus after it
    begins with a crash. The timing deviates by the form's looseness; velocities vary less in a band that loops.
    """
    rng = form.generator("drums")
    quiet, full = (_strokes(groove) for groove in STYLES[form.style].grooves)
    fills = [_strokes(FILLS[index]) for index in rng.choice(len(FILLS), 2, replace=False)]
    fill_chance, liberty = rng.uniform(0.3, 0.9), 0.0 if form.loops else rng.uniform(0.0, 0.15)
    spread = 0.02 if form.loops else 0.09
    hits: list[Hit] = []
    filled = True
    for section in (section for section in form.sections if "drums" in section.players):
        for bar in range(section.start, section.start + section.bars):
            strokes = _with_liberties(rng, full if section.full else quiet, liberty)
            if filled and section.full:
                strokes.append((0, "crash", 1.0))
            last = bar == section.start + section.bars - 1 and section.bars > 1
            filled = last and rng.random() < fill_chance
            if filled:
                strokes = _with_fill(strokes, fills[rng.integers(2)])
            for step, piece, velocity in strokes:
                start_s = max(0.0, form.time_s(bar, step) + rng.normal(0.0, form.looseness_s))
                hits.append(Hit(start_s, piece, float(np.clip(velocity * rng.normal(1.0, spread), 0.1, 1.0))))
    return tuple(sorted(hits, key=lambda hit: hit.start_s))


def _bass_pitch(form: Form, bar: int, step: int, letter: str, lowest: int) -> int:
    """MIDI pitch of a letter of a bass line: Root, 3, 5, Octave, or Approach to the next bar's root."""
    chord = form.chord(bar, step)
    root = lowest + (chord.tones[0] - lowest) % 12
    if letter == "A":
        following = lowest + (form.chord(bar + 1).tones[0] - lowest) % 12
        return following + (-1 if following > root else 1 if following < root else 7)
    offset = {
        "R": 0,
        "3": (chord.tones[1] - chord.tones[0]) % 12,
        "5": (chord.tones[2] - chord.tones[0]) % 12,
        "O": 12,
    }[letter]
    return root + offset


def _bass_bar(form: Form, section: Section, bar: int, pattern: str, lowest: int) -> list[tuple[int, int, int]]:
    """One bar (step, length, pitch); on quiet sections the bass player thins the line out."""
    notes = []
    for step, length, letter in read_pattern(pattern):
        if section.name in ("intro", "break") and step % 8 and letter not in "RA":
            continue
        pitch = _bass_pitch(form, bar, step, letter, lowest)
        notes.append((step, length, pitch - 12 if pitch > HIGHEST_BASS else pitch))
    return notes


def write_bass(form: Form) -> Part:
    """Write a bass line: one or two patterns that follow the chords, with slides into some notes."""
    rng = form.generator("bass")
    style = STYLES[form.style]
    instrument = str(rng.choice(style.basses))
    lowest = int(rng.integers(LOWEST_BASS, LOWEST_BASS + 5))
    patterns = [str(pattern) for pattern in rng.choice(style.lines, 2, replace=False)]
    slide_chance = 0.0 if form.loops else rng.uniform(0.0, 0.2)
    shortness = rng.uniform(0.6, 0.98)
    notes: list[Note] = []
    for section in form.sections:
        if "bass" not in section.players:
            continue
        pattern = patterns[section.full]
        for bar in range(section.start, section.start + section.bars):
            for step, length, pitch in _bass_bar(form, section, bar, pattern, lowest):
                slides = bool(notes) and rng.random() < slide_chance and abs(notes[-1].pitch - pitch) <= 7
                accent = 0.85 if step % 8 == 0 else 0.7
                notes.append(
                    Note(
                        max(0.0, form.time_s(bar, step) + rng.normal(0.0, form.looseness_s)),
                        length * form.step_s * shortness,
                        pitch,
                        float(np.clip(accent * rng.normal(1.0, 0.02 if form.loops else 0.08), 0.2, 1.0)),
                        notes[-1].pitch if slides and notes[-1].pitch != pitch else None,
                    )
                )
    return Part(instrument, tuple(notes))
