"""Composing: a seed and a length become a song."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stemfuse.separators import RATE, TrackError

from .accompaniment import write_others
from .form import draw_form
from .melody import write_voice
from .rhythm import write_bass, write_drums
from .score import Song

SHORTEST_S = 1.0


def length_of(seconds: float) -> int:
    """Length in samples of a song of some seconds.

    Raises
    ------
    TrackError
        It is too short for a song, or not a finite number.
    """
    if not (math.isfinite(seconds) and seconds >= SHORTEST_S):
        raise TrackError(f"got {seconds} seconds for a song, expected {SHORTEST_S:g} seconds or more")
    return round(seconds * RATE)


def compose(seed: int | Sequence[int], seconds: float) -> Song:
    """Compose a song.

    Parameters
    ----------
    seed : int or sequence of int
        Not negative; the same seed and length give the same song.
    seconds : float
        Length, at least one second; music needs two or more.

    Raises
    ------
    TrackError
        Seed or length is out of range.

    Examples
    --------
    >>> song = compose(7, 30.0)
    >>> len(song.others), song.voice[0].syllables[0].vowel
    (3, 'oh')
    """
    seeds = (seed,) if isinstance(seed, int) else tuple(int(number) for number in seed)
    if not seeds or min(seeds) < 0:
        raise TrackError(f"got seed {seed!r}, expected a whole number from 0 up")
    form = draw_form(seeds, length_of(seconds))
    return Song(form, write_drums(form), write_bass(form), write_others(form), write_voice(form))
