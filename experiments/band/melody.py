"""What is sung: a melody in the key over the chords, in phrases with silence between them, and its words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .score import STEPS, Form, Phrase, Section, Syllable

CONSONANTS = ("", "", "h", "s", "sh", "f", "t", "k", "p", "d", "b", "g", "m", "n", "l", "l", "r", "w", "y", "n", "m")
VOWELS = ("ah", "ah", "ay", "ee", "oh", "oh", "oo", "uh", "eh", "aw", "ih")
MOVES = (-3, -2, -2, -1, -1, -1, 0, 0, 1, 1, 1, 2, 2, 3, 4)
"""Steps of the scale from one sung note to the next: mostly near ones."""

SHORTEST_S = 0.14
"""Nobody sings syllables that are shorter."""


@dataclass(frozen=True)
class Motif:
    """The idea of a phrase: rhythm (step, length), contour in steps of the scale around its centre."""

    rhythm: tuple[tuple[int, int], ...]
    contour: tuple[int, ...]


def _draw_motif(rng: np.random.Generator, steps: int, step_s: float) -> Motif:
    """Draw a rhythm that leaves the end of its span silent, and a contour that stays within an octave."""
    lengths = [length for length in (1, 2, 2, 2, 3, 4, 4, 6) if length * step_s >= SHORTEST_S]
    position = int(rng.choice((0, 0, 2, 4)))
    stop = round(steps * rng.uniform(0.6, 0.82))
    rhythm = []
    while position < stop:
        length = int(rng.choice(lengths))
        rhythm.append((position, min(length, stop - position)))
        position += length + (2 if rng.random() < 0.08 else 0)
    # the last note is held, as singers do
    rhythm[-1] = (rhythm[-1][0], max(rhythm[-1][1], min(4, steps - 3 - rhythm[-1][0])))
    contour = [int(rng.integers(-2, 4))]
    for move in rng.choice(MOVES, len(rhythm) - 1):
        following = contour[-1] + int(move)
        contour.append(following if abs(following) <= 4 else contour[-1] - int(move))
    return Motif(tuple(rhythm), tuple(contour))


def _words(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    return [(str(rng.choice(CONSONANTS)), str(rng.choice(VOWELS))) for _ in range(count)]


def _sing(
    form: Form, rng: np.random.Generator, bar: int, motif: Motif, words: list[tuple[str, str]], centre: int
) -> tuple[Syllable, ...]:
    """Fit a motif to the chords at a bar: strong and last notes become chord tones."""
    syllables = []
    for number, ((step, length), offset) in enumerate(zip(motif.rhythm, motif.contour, strict=True)):
        pitch = form.scale_pitch(centre + offset)
        if number == len(motif.rhythm) - 1 or (step % 4 == 0 and length > 1):
            pitch = form.chord(bar, step).nearest(pitch)
        consonant, vowel = words[number]
        start_s = form.time_s(bar, step) + rng.normal(0.0, 0.012)
        velocity = float(np.clip(rng.normal(0.85 if step % 4 == 0 else 0.75, 0.06), 0.4, 1.0))
        syllables.append(Syllable(start_s, length * form.step_s, pitch, velocity, consonant, vowel))
    return tuple(syllables)


def _third_above(form: Form, pitch: float) -> int:
    return form.scale_pitch(form.scale_index(pitch) + 2)


def write_voice(form: Form) -> tuple[Phrase, ...]:
    """Write the phrases of the singer.

    A section has two motifs that alternate; a chorus always has the same words, lies higher and may be doubled or
    sung in thirds. Quick songs have phrases of two bars, slow ones of one.
    """
    rng = form.generator("melody")
    span = 1 if form.tempo_bpm < 84 else 2
    centre = form.scale_index(int(rng.integers(52, 69)))
    lift = int(rng.integers(1, 4))
    support = str(rng.choice(("none", "double", "third", "both")))
    names = sorted({section.name for section in form.sections})
    motifs = {name: [_draw_motif(rng, span * STEPS, form.step_s) for _ in range(2)] for name in names}
    hook = [_words(rng, span * STEPS) for _ in range(2)]

    def phrase(section: Section, number: int, bar: int, motif: Motif) -> Phrase:
        words = hook[number % 2] if section.full else _words(rng, len(motif.rhythm))
        syllables = _sing(form, rng, bar, motif, words, centre + (lift if section.full else 0))
        pitches = tuple(syllable.pitch for syllable in syllables)
        thirds = tuple(float(_third_above(form, pitch)) for pitch in pitches)
        if not section.full or support == "none" or (support == "both" and number % 2 == 0):
            return Phrase(syllables)
        return Phrase(syllables, pitches if support == "double" else thirds)

    phrases = []
    for section in form.sections:
        if "voice" not in section.players:
            continue
        for number, bar in enumerate(range(section.start, section.start + section.bars, span)):
            motif = motifs[section.name][number % 2]
            if bar + span > section.start + section.bars:
                # a phrase that would run into the next section is cut to the bar that is left
                inside = [index for index, (step, length) in enumerate(motif.rhythm) if step + length <= STEPS]
                if not inside:
                    continue
                motif = Motif(
                    tuple(motif.rhythm[index] for index in inside), tuple(motif.contour[index] for index in inside)
                )
            phrases.append(phrase(section, number, bar, motif))
    return tuple(phrases)
