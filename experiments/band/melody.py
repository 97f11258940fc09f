"""What is sung: a melody in the key over the chords, in phrases with silence between them, and its words."""

from __future__ import annotations

import numpy as np

from .score import STEPS, Form, Phrase, Syllable

CONSONANTS = ("", "", "h", "s", "sh", "f", "t", "k", "p", "d", "b", "g", "m", "m", "n", "n", "l", "l", "r", "w", "y")
VOWELS = ("ah", "ah", "ay", "ee", "oh", "oh", "oo", "uh", "eh", "aw", "ih")
MOVES = (-3, -2, -2, -1, -1, -1, 0, 0, 1, 1, 1, 2, 2, 3, 4)
"""Steps of the scale from one sung note to the next: mostly near ones."""

SHORTEST_S = 0.14
"""Nobody sings syllables that are shorter."""

Motif = tuple[tuple[int, int, int], ...]
"""The idea of a phrase: (step, length, offset in steps of the scale from its centre) per note."""

Words = list[tuple[str, str]]
"""(consonant, vowel) per syllable."""


def _draw_motif(rng: np.random.Generator, steps: int, step_s: float) -> Motif:
    """Draw a rhythm that leaves the end of its span silent, and a contour that stays within an octave."""
    lengths = [length for length in (1, 2, 2, 2, 3, 4, 4, 6) if length * step_s >= SHORTEST_S]
    position, stop = int(rng.choice((0, 0, 2, 4))), round(steps * rng.uniform(0.5, 0.75))
    offset = int(rng.integers(-2, 4))
    notes = []
    while position < stop:
        length = int(rng.choice(lengths))
        notes.append((position, min(length, stop - position), offset))
        position += length + (2 if rng.random() < 0.08 else 0)
        move = int(rng.choice(MOVES))
        offset += move if abs(offset + move) <= 4 else -move
    # the last note is held, as singers do
    step, length, offset = notes[-1]
    notes[-1] = (step, max(length, min(4, steps - 4 - step)), offset)
    return tuple(notes)


def _draw_words(rng: np.random.Generator, count: int) -> Words:
    return [(str(rng.choice(CONSONANTS)), str(rng.choice(VOWELS))) for _ in range(count)]


def _set_to_music(
    form: Form, rng: np.random.Generator, bar: int, motif: Motif, words: Words, centre: int
) -> tuple[Syllable, ...]:
    """Fit a motif and words to the chords at a bar: strong and last notes become chord tones."""
    syllables = []
    for number, ((step, length, offset), (consonant, vowel)) in enumerate(zip(motif, words, strict=False)):
        pitch = form.scale_pitch(centre + offset)
        if number == len(motif) - 1 or (step % 4 == 0 and length > 1):
            pitch = form.chord(bar, step).nearest(pitch)
        start_s = form.time_s(bar, step) + rng.normal(0.0, 0.012)
        velocity = float(np.clip(rng.normal(0.85 if step % 4 == 0 else 0.75, 0.06), 0.4, 1.0))
        syllables.append(Syllable(start_s, length * form.step_s, pitch, velocity, consonant, vowel))
    return tuple(syllables)


def write_voice(form: Form) -> tuple[Phrase, ...]:
    """Write the phrases of the singer.

    A section has two motifs that alternate. A chorus always has the same words, lies higher and may have a second
    voice: the same notes (a double) or thirds above. Quick songs have phrases of two bars, slow ones of one.
    """
    rng = form.generator("melody")
    span = 1 if form.tempo_bpm < 84 else 2
    centre = form.scale_index(int(rng.integers(52, 69)))
    lift = int(rng.integers(1, 4))
    second = str(rng.choice(("none", "double", "third")))
    names = sorted({section.name for section in form.sections})
    motifs = {name: [_draw_motif(rng, span * STEPS, form.step_s) for _ in range(2)] for name in names}
    hook = [_draw_words(rng, span * STEPS) for _ in range(2)]
    phrases = []
    for section in form.sections:
        if "voice" not in section.players:
            continue
        end = section.start + section.bars
        for number, bar in enumerate(range(section.start, end, span)):
            # a phrase that would run into the next section is cut
            motif = tuple(note for note in motifs[section.name][number % 2] if note[0] + note[1] <= (end - bar) * STEPS)
            words = hook[number % 2] if section.full else _draw_words(rng, len(motif))
            syllables = _set_to_music(form, rng, bar, motif, words, centre + (lift if section.full else 0))
            backing: tuple[float, ...] = ()
            if section.full and second == "double":
                backing = tuple(syllable.pitch for syllable in syllables)
            elif section.full and second == "third":
                backing = tuple(form.scale_pitch(form.scale_index(syllable.pitch) + 2) for syllable in syllables)
            if syllables:
                phrases.append(Phrase(syllables, backing))
    return tuple(phrases)
