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
    """What a kind of music has in common: tempo, grooves (quiet and full), bass lines and instruments."""

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
        (100, 150),
        STRAIGHT,
        (
            {"kick": "X.....x.X.x.....", "snare": "....X.......X..g", "hat": "X.x.X.x.X.x.X.x."},
            {"kick": "X.x...x.X.x...x.", "snare": "....X..g....X...", "ride": "X.x.X.x.X.x.X.x."},
        ),
        ("R-R-R-R-R-R-R-A-", "R---R-R-R---5-A-", "R-----R-R---R-A-"),
        ("picked bass", "finger bass"),
        ("distorted guitar", "strummed guitar", "organ"),
        ("plucked guitar", "strings", "organ", "piano"),
        ("guitar lead", "saw lead"),
        0.05,
        0.2,
    ),
    "dance": Style(
        (116, 130),
        STRAIGHT,
        (
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
        ("..R-..R-..R-..R-", "R.RR..R.R.RR..O.", "R.O.R.O.R.O.R.O."),
        ("synth bass", "sub bass"),
        ("synth stabs", "piano", "organ"),
        ("warm pad", "synth arpeggio", "strings", "bells"),
        ("saw lead", "square lead"),
        0.95,
        0.85,
    ),
    "funk": Style(
        (92, 116),
        SWUNG,
        (
            {"kick": "X..x......x..x..", "snare": "....X..g.g..X..g", "hat": "XgxgXgxgXgxgXgxg"},
            {
                "kick": "X.x....x..x..x..",
                "snare": "....X..g.g.gX..g",
                "hat": "X.xxX.xxX.xxX.x.",
                "open": "..............X.",
            },
        ),
        ("R.RO..R..5.R.O.A", "R..R..O.R..5..A.", "R.R...O-..R.5.A."),
        ("slap bass", "finger bass"),
        ("muted guitar", "electric piano", "organ"),
        ("electric piano", "organ", "strings", "mallets"),
        ("guitar lead", "square lead"),
        0.1,
        0.4,
    ),
    "ballad": Style(
        (64, 86),
        STRAIGHT,
        (
            {"kick": "X.......x.x.....", "rim": "....X.......X...", "hat": "x.g.x.g.x.g.x.g."},
            {
                "kick": "X......xX.x.....",
                "snare": "....X.......X..g",
                "ride": "X.x.x.x.X.x.x.x.",
                "hat": "....g.......g...",
            },
        ),
        ("R-------5-----A-", "R---------R-5-A-", "R-----5-O-----A-"),
        ("finger bass", "sub bass"),
        ("piano", "strummed guitar", "electric piano"),
        ("strings", "warm pad", "plucked guitar"),
        ("flute", "guitar lead"),
        0.15,
        0.3,
    ),
    "hip hop": Style(
        (78, 98),
        SWUNG,
        (
            {"kick": "X..x......x.....", "snare": "....X.......X...", "hat": "x.x.x.xgx.x.x.x."},
            {
                "kick": "X..x...x..x..x..",
                "clap": "....X.......X..g",
                "hat": "x.xxx.x.x.xgxxxx",
                "open": "......x.........",
            },
        ),
        ("R--.......R-..A-", "R-----..R-....O.", "R-------......5-"),
        ("sub bass", "synth bass", "finger bass"),
        ("electric piano", "piano", "mallets"),
        ("warm pad", "strings", "bells", "plucked guitar"),
        ("flute", "square lead"),
        0.7,
        0.9,
    ),
    "shuffle": Style(
        (96, 136),
        SHUFFLE,
        (
            {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
            {"kick": "X...x...X...x...", "snare": "....X.g.....X.g.", "ride": "X.x.X.x.X.x.X.x."},
        ),
        ("R---3---5---A---", "R-R-3-3-5-5-A-A-", "R---5---O---A---"),
        ("finger bass", "picked bass"),
        ("piano", "organ", "strummed guitar"),
        ("electric piano", "organ", "plucked guitar"),
        ("guitar lead", "flute"),
        0.0,
        0.15,
    ),
    "breaks": Style(
        (150, 174),
        STRAIGHT,
        (
            {"kick": "X.........x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {
                "kick": "X.x.......x.....",
                "snare": "....X..g.g..X..g",
                "hat": "X.x.X.x.X.x.X.x.",
                "ride": "X...X...X...X...",
            },
        ),
        ("R-----------5---", "R---..R-....O-A-", "R-------R-----3-"),
        ("synth bass", "sub bass"),
        ("synth stabs", "electric piano", "piano"),
        ("warm pad", "synth arpeggio", "strings"),
        ("saw lead", "bells"),
        0.6,
        0.7,
    ),
}
"""Per style; `chords` play rhythmic chords, `colours` long or broken ones, `leads` a line where nobody sings."""

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
    # nobody at all would be a hole in the song, not a section of it
    return frozenset(drawn or {"drums"})


def draw_form(seed: tuple[int, ...], frames: int) -> Form:
    """Draw tempo, key, chords and sections for a song of some length.

    Parameters
    ----------
    seed : tuple of int
        Not negative.
    frames : int
        Length in samples; short songs have short sections and begin where the voice is.

    Examples
    --------
    >>> form = draw_form((7,), 1_323_000)
    >>> [(section.name, section.bars) for section in form.sections]
    [('intro', 2), ('verse', 4), ('chorus', 4), ('break', 2), ('verse', 2), ('chorus', 1)]
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

    bars = math.ceil(frames / RATE * tempo_bpm / 240.0)
    unit = 1 if bars < 10 else 2 if bars < 28 else 4
    if bars < 5:
        sequence = [part for part in sequence if "voice" in players[part]]
    sections: list[Section] = []
    start = 0
    names = (part for part in itertools.cycle(sequence) for _ in range(unit))
    for part, run in itertools.groupby(itertools.islice(names, bars)):
        length = len(list(run))
        halves = tuple(itertools.islice(itertools.cycle(progressions[part]), 2 * length))
        sections.append(Section(part, start, length, players[part], halves))
        start += length
    return Form(seed, frames, name, tempo_bpm, style.feel, looseness_s, loops, tonic, mode, tuple(sections))
