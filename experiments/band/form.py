"""The form of a song: style, tempo, key, chords and sections, and who rests when."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stemfuse.separators import RATE

from .score import SCALES, Chord, Form, Section

STRAIGHT = (0.0, 0.25, 0.5, 0.75)
SWUNG = (0.0, 0.29, 0.5, 0.79)
SHUFFLE = (0.0, 0.33, 0.66, 0.83)

Groove = Mapping[str, str]


@dataclass(frozen=True)
class Style:
    """What songs of a kind have in common.

    Parameters
    ----------
    tempo_bpm : tuple of float
        Slowest and fastest.
    feel : tuple of float
        See `Form`.
    grooves : tuple of mapping of str to str
        The quiet and the full one; per piece of the kit a pattern of accents (X), strokes (x) and ghost notes (g).
    lines : tuple of str
        Bass patterns of chord tones: R, 3, 5, O (octave) and A (approach to the next bar's root).
    basses, chords, colours, leads : tuple of str
        Instruments to choose from: `chords` plays rhythmic chords, `colours` held or broken ones, `leads` a line.
    electronic : float
        Probability of a drum machine.
    loops : float
        Probability of an accompaniment that repeats exactly.
    """

    tempo_bpm: tuple[float, float]
    feel: tuple[float, float, float, float]
    grooves: tuple[Groove, Groove]
    lines: tuple[str, ...]
    basses: tuple[str, ...]
    chords: tuple[str, ...]
    colours: tuple[str, ...]
    leads: tuple[str, ...]
    electronic: float
    loops: float


STYLES = {
    "rock": Style(
        tempo_bpm=(100, 150),
        feel=STRAIGHT,
        grooves=(
            {"kick": "X.....x.X.x.....", "snare": "....X.......X..g", "hat": "X.x.X.x.X.x.X.x."},
            {"kick": "X.x...x.X.x...x.", "snare": "....X..g....X...", "ride": "X.x.X.x.X.x.X.x."},
        ),
        lines=("R-R-R-R-R-R-R-A-", "R---R-R-R---5-A-", "R-----R-R---R-A-"),
        basses=("picked bass", "finger bass"),
        chords=("distorted guitar", "strummed guitar", "organ"),
        colours=("plucked guitar", "strings", "organ", "piano"),
        leads=("guitar lead", "saw lead"),
        electronic=0.05,
        loops=0.2,
    ),
    "dance": Style(
        tempo_bpm=(116, 130),
        feel=STRAIGHT,
        grooves=(
            {
                "kick": "X...X...X...X...",
                "clap": "....X.......X...",
                "open": "..x...x...x...x.",
                "shaker": "xgxgxgxgxgxgxgxg",
            },
            {
                "kick": "X...X...X...X..x",
                "snare": "....X.......X...",
                "hat": "x.x.x.x.x.x.x.xg",
                "open": "..X...X...X...X.",
            },
        ),
        lines=("..R-..R-..R-..R-", "R.RR..R.R.RR..O.", "R.O.R.O.R.O.R.O."),
        basses=("synth bass", "sub bass"),
        chords=("synth stabs", "piano", "organ"),
        colours=("warm pad", "synth arpeggio", "strings", "bells"),
        leads=("saw lead", "square lead"),
        electronic=0.95,
        loops=0.85,
    ),
    "funk": Style(
        tempo_bpm=(92, 116),
        feel=SWUNG,
        grooves=(
            {"kick": "X..x......x..x..", "snare": "....X..g.g..X..g", "hat": "XgxgXgxgXgxgXgxg"},
            {
                "kick": "X.x....x..x..x..",
                "snare": "....X..g.g.gX..g",
                "hat": "X.xxX.xxX.xxX.x.",
                "open": "..............X.",
            },
        ),
        lines=("R.RO..R..5.R.O.A", "R..R..O.R..5..A.", "R.R...O-..R.5.A."),
        basses=("slap bass", "finger bass"),
        chords=("muted guitar", "electric piano", "organ"),
        colours=("electric piano", "organ", "strings", "mallets"),
        leads=("guitar lead", "square lead"),
        electronic=0.1,
        loops=0.4,
    ),
    "ballad": Style(
        tempo_bpm=(64, 86),
        feel=STRAIGHT,
        grooves=(
            {"kick": "X.......x.x.....", "rim": "....X.......X...", "hat": "x.g.x.g.x.g.x.g."},
            {
                "kick": "X......xX.x.....",
                "snare": "....X.......X..g",
                "ride": "X.x.x.x.X.x.x.x.",
                "hat": "....g.......g...",
            },
        ),
        lines=("R-------5-----A-", "R---------R-5-A-", "R-----5-O-----A-"),
        basses=("finger bass", "sub bass"),
        chords=("piano", "strummed guitar", "electric piano"),
        colours=("strings", "warm pad", "plucked guitar"),
        leads=("flute", "guitar lead"),
        electronic=0.15,
        loops=0.3,
    ),
    "hip hop": Style(
        tempo_bpm=(78, 98),
        feel=SWUNG,
        grooves=(
            {"kick": "X..x......x.....", "snare": "....X.......X...", "hat": "x.x.x.xgx.x.x.x."},
            {
                "kick": "X..x...x..x..x..",
                "clap": "....X.......X..g",
                "hat": "x.xxx.x.x.xgxxxx",
                "open": "......x.........",
            },
        ),
        lines=("R--.......R-..A-", "R-----..R-....O.", "R-------......5-"),
        basses=("sub bass", "synth bass", "finger bass"),
        chords=("electric piano", "piano", "mallets"),
        colours=("warm pad", "strings", "bells", "plucked guitar"),
        leads=("flute", "square lead"),
        electronic=0.7,
        loops=0.9,
    ),
    "shuffle": Style(
        tempo_bpm=(96, 136),
        feel=SHUFFLE,
        grooves=(
            {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
            {"kick": "X...x...X...x...", "snare": "....X.g.....X.g.", "ride": "X.x.X.x.X.x.X.x."},
        ),
        lines=("R---3---5---A---", "R-R-3-3-5-5-A-A-", "R---5---O---A---"),
        basses=("finger bass", "picked bass"),
        chords=("piano", "organ", "strummed guitar"),
        colours=("electric piano", "organ", "plucked guitar"),
        leads=("guitar lead", "flute"),
        electronic=0.0,
        loops=0.15,
    ),
    "breaks": Style(
        tempo_bpm=(150, 174),
        feel=STRAIGHT,
        grooves=(
            {"kick": "X.........x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {
                "kick": "X.x.......x.....",
                "snare": "....X..g.g..X..g",
                "hat": "X.x.X.x.X.x.X.x.",
                "ride": "X...X...X...X...",
            },
        ),
        lines=("R-----------5---", "R---..R-....O-A-", "R-------R-----3-"),
        basses=("synth bass", "sub bass"),
        chords=("synth stabs", "electric piano", "piano"),
        colours=("warm pad", "synth arpeggio", "strings"),
        leads=("saw lead", "bells"),
        electronic=0.6,
        loops=0.7,
    ),
}
"""The kinds of music there are."""

PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (1, 4, 0, 5), (0, 2, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 4), (0, 5, 3, 4), (0, 3, 6, 2), (5, 6, 0, 0), (0, 2, 6, 3)),
}
"""Roots as steps of the scale, one for each bar."""

SEQUENCES = (
    "intro verse verse chorus chorus break verse chorus bridge chorus chorus break",
    "intro verse chorus break verse chorus bridge chorus verse chorus",
    "verse verse chorus break verse chorus chorus bridge chorus break",
    "chorus break verse verse chorus chorus bridge verse chorus",
    "break verse chorus verse bridge chorus break chorus",
)

PRESENCE = {
    "intro": {"drums": 0.5, "bass": 0.5, "chords": 0.7, "colour": 1.0, "lead": 0.7},
    "verse": {"drums": 1.0, "bass": 1.0, "voice": 1.0, "chords": 1.0, "colour": 0.6, "lead": 0.2},
    "chorus": {"drums": 1.0, "bass": 1.0, "voice": 1.0, "chords": 1.0, "colour": 1.0, "lead": 0.5},
    "bridge": {"drums": 0.4, "bass": 0.6, "voice": 0.8, "chords": 0.4, "colour": 1.0, "lead": 0.4},
    "break": {"drums": 0.75, "bass": 0.6, "chords": 0.35, "colour": 0.4, "lead": 0.4},
}
"""How probably each player takes part in a section of that name; drawn once per name and song."""


def _chord(tonic: int, mode: str, degree: int, seventh: bool) -> Chord:
    """The chord of thirds on a step of the scale; the dominant of a minor key gets its leading note."""
    scale = SCALES[mode]
    tones = [(tonic + scale[(degree + third) % 7]) % 12 for third in (0, 2, 4, 6)[: 4 if seventh else 3]]
    if mode == "minor" and degree == 4:
        tones[1] = (tones[0] + 4) % 12
    return Chord(tuple(tones))


def _progression(rng: np.random.Generator, tonic: int, mode: str, sevenths: float, quick: bool) -> list[Chord]:
    """Four bars of chords, one for each half bar; `quick` harmony changes twice a bar at times."""
    degrees = PROGRESSIONS[mode][rng.integers(len(PROGRESSIONS[mode]))]
    halves: list[Chord] = []
    for degree, following in zip(degrees, (*degrees[1:], degrees[0]), strict=True):
        first = _chord(tonic, mode, degree, bool(rng.random() < sevenths))
        passing = _chord(tonic, mode, (following + 4) % 7, seventh=True)
        halves += [first, passing if quick and rng.random() < 0.3 else first]
    return halves


def _players(rng: np.random.Generator, name: str) -> frozenset[str]:
    drawn = {player for player, chance in PRESENCE[name].items() if rng.random() < chance}
    # without any player it would be a gap in the song, not a section
    return frozenset(drawn or {"drums"})


def draw_form(seed: tuple[int, ...], length: int) -> Form:
    """Draw tempo, key, chords and sections for a song of some length.

    Parameters
    ----------
    seed : tuple of int
        Not negative.
    length : int
        Length in samples; short songs have short sections and begin where the voice is.

    Examples
    --------
    >>> form = draw_form((7,), 1_323_000)
    >>> [(section.name, section.bars) for section in form.sections]
    [('chorus', 2), ('break', 2), ('verse', 4), ('chorus', 4), ('bridge', 2), ('verse', 2), ('chorus', 4), ('break', 2)]
    """
    rng = np.random.default_rng(seed)
    name = str(rng.choice(list(STYLES)))
    style = STYLES[name]
    tempo_bpm = float(rng.uniform(*style.tempo_bpm))
    tonic = int(rng.integers(12))
    mode = str(rng.choice(list(SCALES)))
    sequence = SEQUENCES[rng.integers(len(SEQUENCES))].split()
    sevenths, quick = rng.choice((0.0, 0.2, 0.7)), bool(rng.random() < 0.4)
    progressions = {part: _progression(rng, tonic, mode, sevenths, quick) for part in PRESENCE}
    players = {part: _players(rng, part) for part in PRESENCE}
    loops = bool(rng.random() < style.loops)
    looseness_s = float(rng.uniform(0.0, 0.002) if loops else rng.uniform(0.003, 0.010))

    bars = math.ceil(length / RATE * tempo_bpm / 240.0)
    unit = 1 if bars < 10 else 2 if bars < 28 else 4
    if bars < 5:
        sequence = [part for part in sequence if "voice" in players[part]]
    sections: list[Section] = []
    start = 0
    names = (part for part in itertools.cycle(sequence) for _ in range(unit))
    for part, repeated in itertools.groupby(itertools.islice(names, bars)):
        count = len(list(repeated))
        halves = tuple(itertools.islice(itertools.cycle(progressions[part]), 2 * count))
        sections.append(Section(part, start, count, players[part], halves))
        start += count
    return Form(seed, length, name, tempo_bpm, style.feel, looseness_s, loops, tonic, mode, tuple(sections))
