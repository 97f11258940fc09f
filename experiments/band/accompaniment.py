"""What the accompanying instruments play: rhythmic chords, held or broken chords, and a line between the sung ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .form import STYLES
from .score import STEPS, Form, Note, Part, Section, read_pattern

STRUMMED = {"strummed guitar", "distorted guitar", "muted guitar"}

CHORD_RHYTHMS = {
    "strummed guitar": ("X---x-x---x-x-x-", "X---x-x-x-x-x-x-", "X-------x---x-x-"),
    "distorted guitar": ("X-X-X-X-X-X-X-X-", "X-------x-X-----", "X---------------"),
    "muted guitar": ("..xX..x...xX..x.", "....X.......X.x.", "x.xX.x..x.xX.x.."),
    "synth stabs": ("..X-..X-..X-..X-", "X--X--X-..X-..X-", "X..X..X...X..X.."),
    "any": ("X---X---X---X---", "X-----X-..X---X-", "X-------X-------", "X--x--X-x--x--X-", "..X...X...X...X."),
}
"""Accents (X) and plain strokes (x) of chords, per instrument."""

BROKEN = ("x-x-x-x-x-x-x-x-", "xxxxxxxxxxxxxxxx", "x--x--x-x--x--x-", "x---x---x---x---")
ORDERS = ((0, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0), (0, 1, 2, 3, 2, 1), (0, 2, 3, 2))
"""Rhythms of broken chords and the order of their tones."""

LINES = ("x-----x---x-----", "x---x-x-x-------", "..x-x-x-x---x---", "x-------x---x---", "x-x-x-x-x-----x-")
"""Rhythms of leads."""

HELD = {"warm pad", "strings", "organ"}
"""Colours that hold their chords; the others break them."""

Bar = Callable[[np.random.Generator, Form, int, str], Iterator[Note]]
"""Writes one bar: (random numbers, form, bar, rhythm) -> notes in exact time."""


def _chord_bar(instrument: str, lowest: int) -> Bar:
    """Chords in rhythm; a strummed chord's strings follow one another, up strokes from the top."""
    count = {"distorted guitar": 3, "strummed guitar": 6}.get(instrument, 4)

    def write(rng: np.random.Generator, form: Form, bar: int, rhythm: str) -> Iterator[Note]:
        hand = lowest + int(rng.integers(-2, 4))
        for step, length, letter in read_pattern(rhythm):
            chord = form.chord(bar, step)
            pitches = chord.voicing(hand, count)
            if instrument == "distorted guitar":
                # distortion makes mud of thirds, so rock guitarists play root, fifth and octave
                root = lowest + (chord.tones[0] - lowest) % 12
                pitches = (root, root + 7, root + 12)
            spread_s = rng.uniform(0.006, 0.016) if instrument in STRUMMED else 0.0
            for string, pitch in enumerate(pitches if step % 4 == 0 else pitches[::-1]):
                start_s = form.time_s(bar, step) + string * spread_s
                velocity = (0.9 if letter == "X" else 0.65) * (1 - 0.05 * string)
                yield Note(start_s, length * form.step_s * 0.95, pitch, velocity)

    return write


def _held_bar(lowest: int) -> Bar:
    """Chords that sound until the next one."""

    def write(rng: np.random.Generator, form: Form, bar: int, rhythm: str) -> Iterator[Note]:
        hand = lowest + int(rng.integers(-3, 4))
        halves = (form.chord(bar, 0), form.chord(bar, 8))
        spans = [(0, STEPS, halves[0])] if halves[0] == halves[1] else [(0, 8, halves[0]), (8, 8, halves[1])]
        for step, length, chord in spans:
            for pitch in chord.voicing(hand, 4):
                yield Note(form.time_s(bar, step), length * form.step_s, pitch, 0.75)

    return write


def _broken_bar(lowest: int) -> Bar:
    """The tones of the chord one after the other."""

    def write(rng: np.random.Generator, form: Form, bar: int, rhythm: str) -> Iterator[Note]:
        order = ORDERS[rng.integers(len(ORDERS))]
        for number, (step, length, _) in enumerate(read_pattern(rhythm)):
            pitch = form.chord(bar, step).voicing(lowest, 4)[order[number % len(order)]]
            yield Note(form.time_s(bar, step), 1.6 * length * form.step_s, pitch, 0.8 if step % 4 == 0 else 0.6)

    return write


def _line_bar(lowest: int) -> Bar:
    """A line through the scale that rests on chord tones."""

    def write(rng: np.random.Generator, form: Form, bar: int, rhythm: str) -> Iterator[Note]:
        shape = np.cumsum(rng.choice((-2, -1, 1, 1, 2), STEPS))
        start = form.scale_index(form.chord(bar).voicing(lowest, 2)[1])
        for step, length, _ in read_pattern(rhythm):
            # folding keeps the line within an octave and a half
            pitch = form.scale_pitch(start + abs((int(shape[step]) + 5) % 20 - 10) - 5)
            if step % 8 == 0:
                pitch = form.chord(bar, step).nearest(pitch)
            yield Note(form.time_s(bar, step), length * form.step_s, pitch, 0.8)

    return write


def _perform(form: Form, player: str, instrument: str, write: Bar, rhythms: tuple[str, ...]) -> Part:
    """Let one player play through the sections that name it.

    A band that loops draws the same random numbers in every bar, so that only the chords change. Others vary rhythm and
    voicing from bar to bar, and their timing deviates by the form's looseness.
    """
    rng = form.generator(f"performing {player}")
    plain, full = (str(rhythm) for rhythm in rng.choice(rhythms, 2, replace=False))

    def bars(section: Section) -> Iterator[Note]:
        for bar in range(section.start, section.start + section.bars):
            source = form.generator(player) if form.loops else rng
            varied = not form.loops and rng.random() < 0.35
            rhythm = str(rng.choice(rhythms)) if varied else full if section.full else plain
            yield from write(source, form, bar, rhythm)

    notes = []
    for section in form.sections:
        if player in section.players:
            for note in bars(section):
                late_s = 0.0 if form.loops else rng.normal(0.0, form.looseness_s)
                velocity = note.velocity * (1.0 if form.loops else rng.normal(1.0, 0.12))
                notes.append(
                    Note(max(0.0, note.start_s + late_s), note.length_s, note.pitch, float(np.clip(velocity, 0.15, 1)))
                )
    return Part(instrument, tuple(notes))


def write_others(form: Form) -> tuple[Part, ...]:
    """Write two or three accompanying parts: chords, a colour (held or broken chords) and perhaps a lead."""
    rng = form.generator("others")
    style = STYLES[form.style]
    chords = str(rng.choice(style.chords))
    colour = str(rng.choice([name for name in style.colours if name != chords]))
    lead = str(rng.choice(style.leads))
    low = int(rng.integers(40, 46) if chords in STRUMMED else rng.integers(48, 56))
    high = int(rng.integers(55, 66))
    broken = _held_bar(high) if colour in HELD else _broken_bar(high)
    parts = [
        _perform(form, "chords", chords, _chord_bar(chords, low), CHORD_RHYTHMS.get(chords, CHORD_RHYTHMS["any"])),
        _perform(form, "colour", colour, broken, BROKEN),
    ]
    if rng.random() < 0.6:
        parts.append(_perform(form, "lead", lead, _line_bar(int(rng.integers(60, 70))), LINES))
    return tuple(part for part in parts if part.notes)
