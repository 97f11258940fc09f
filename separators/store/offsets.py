"""Offsets of stems: found by phase, and confirmed part by part of a song before anybody relies on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.audio.signals import Samples, Signal

from .moments import read_clipped

FEW = 8
"""Samples: phases of filters and of what bleeds into a stem seem to move it by less than this."""

ReadPart = Callable[[int, int], Samples]
"""Samples of a range, zeros where it leaves the signal."""


class Offset(NamedTuple):
    """An offset of a stem, and how sure it is.

    Attributes
    ----------
    samples : int
        By which the stem is late; negative when it is early.
    agreeing, parts : int
        Parts of the song that show this offset, and parts that were looked at.
    nearer_db : float
        By how much less the stem leaves of what it is compared with, once it is moved.
    left_db : float
        What it still leaves then.
    """

    samples: int
    agreeing: int
    parts: int
    nearer_db: float
    left_db: float

    @property
    def is_sure(self) -> bool:
        """Whether it is beyond doubt: at the same sample everywhere, or much nearer once moved.

        Phases of what bleeds into a stem look like an offset of few samples; such a one counts for a stem that is
        nearly what it is compared with. That a stem is in time needs less.
        """
        if self.samples == 0:
            return self.agreeing >= max(1, self.parts / 2) or self.nearer_db >= 0.1
        if self.agreeing < max(1, self.parts / 2):
            return False
        if abs(self.samples) < FEW:
            return self.nearer_db >= 1.0 and self.left_db < -10.0
        return self.nearer_db >= 1.0 or (self.parts >= 3 and self.agreeing >= 0.8 * self.parts and self.nearer_db > 0)

    def __str__(self) -> str:
        side = "late" if self.samples > 0 else "early"
        count = f"{abs(self.samples)} sample{'s' if abs(self.samples) != 1 else ''} {side}"
        return f"{count} (seen in {self.agreeing} of {self.parts} parts; {max(self.nearer_db, 0):.1f} dB nearer moved)"


def find_offset(target: Signal, stem: ReadPart, start: int, size: int, search: int) -> int | None:
    """Samples by which a stem is late, in a part of a song; None where the peak is not distinct.

    The highest peak of the generalised cross-correlation with phase transform (Knapp and Carter 1976).

    Parameters
    ----------
    target : Signal
        What the stem is compared with.
    stem : callable
        ``stem(start, stop)`` gives its samples.
    start, size, search : int
        Part of the stem, and how far it may be off, in samples.
    """
    heights = _heights(target, stem, start, size, search)
    peak = int(heights.argmax())
    away = np.abs(np.arange(len(heights)) - peak) > target.rate // 1000
    return search - peak if heights[away].max(initial=0.0) < heights[peak] / 1.5 else None


def confirm(
    samples: int, expected: int, target: Signal, stem: ReadPart, starts: Sequence[int], size: int, search: int
) -> Offset:
    """Look for an offset in several parts of a song.

    Parameters
    ----------
    samples, expected : int
        The offset that was found, and the one that the stem should have.
    target, stem, size, search
        See `find_offset`.
    starts : sequence of int
        Where the parts begin.
    """
    agreeing, energy = 0, np.zeros((2, 3))
    for start in starts:
        heights = _heights(target, stem, start, size, search)
        agreeing += abs(search - int(heights.argmax()) - samples) <= (abs(samples) >= FEW)
        stop = min(start + size, target.length)
        truth = target.read(start, stop).astype(np.float64)
        for row, late in enumerate((expected, samples)):
            moved = stem(start + late, stop + late).astype(np.float64)
            energy[row] += (truth * moved).sum(), np.square(truth).sum(), np.square(moved).sum()
    left = 1 - energy[:, 0] ** 2 / np.maximum(energy[:, 1] * energy[:, 2], 1e-300)
    before, after = np.maximum(left, 1e-15)
    before_db, after_db = 10 * np.log10([before, after])
    return Offset(samples, agreeing, len(starts), float(before_db - after_db), float(after_db))


def _heights(target: Signal, stem: ReadPart, start: int, size: int, search: int) -> NDArray[np.float64]:
    """Height of the correlation's phase transform at every offset, from `search` samples late to as many early."""
    stop = min(start + size, target.length)
    # tapered, as edges at the same place in both would correlate
    part = stem(start, stop).astype(np.float64) * np.hanning(stop - start)
    around = read_clipped(target, start - search, stop + search)
    count = 1 << (around.shape[1] - 1).bit_length()
    cross = (np.fft.rfft(around, count) * np.fft.rfft(part, count).conj()).sum(0)
    # bins with almost no energy are noise: their phase counts less
    magnitude = np.abs(cross) + 0.01 * np.abs(cross).mean() + 1e-300
    heights: NDArray[np.float64] = np.abs(np.fft.irfft(cross / magnitude, count)[: 2 * search + 1])
    return heights
