"""Audio that is made block by block, read by ranges that move forward, so that no song has to lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .audio.signals import Samples, Signal
from .errors import SeparatorError


class ForwardReader:
    """Consecutive blocks as one array, of which ranges are read that move forward.

    Blocks are made when a range needs them. What lies before the beginning of the last range is forgotten, so that
    memory holds little more than a range.

    Parameters
    ----------
    blocks : iterable of ndarray
        Of one shape but for the axis that they follow one another along.
    axis : int
        That axis.

    Examples
    --------
    >>> ramp = ForwardReader(np.arange(start, start + 5) for start in range(0, 100, 5))
    >>> ramp.read(3, 12)
    array([ 3,  4,  5,  6,  7,  8,  9, 10, 11])
    >>> ramp.read(8, 14)
    array([ 8,  9, 10, 11, 12, 13])
    """

    def __init__(self, blocks: Iterable[NDArray[Any]], axis: int = -1) -> None:
        self._blocks, self._axis = iter(blocks), axis
        self._held: NDArray[Any] | None = None
        self.first = 0
        """Where the earliest range begins that can still be read."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Entries ``start`` to ``stop``, which may be a view.

        Raises
        ------
        SeparatorError
            The range begins before the last one, or the blocks end before it does.
        """
        if not self.first <= start <= stop:
            raise SeparatorError(f"got a range of {start} to {stop}, expected one that begins at {self.first} or later")
        parts = [] if self._held is None else [self._held]
        end = self.first + sum(part.shape[self._axis] for part in parts)
        while not parts or end < stop:
            block = next(self._blocks, None)
            if block is None:
                raise SeparatorError(f"got blocks that end at {end}, expected at least {stop}")
            parts.append(block)
            end += block.shape[self._axis]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=self._axis)
        self._held, self.first = self._cut(joined, start - self.first, end - self.first), start
        return self._cut(self._held, 0, stop - start)

    def _cut(self, array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        return array[(slice(None),) * (self._axis % array.ndim) + (slice(start, stop),)]


class ReadInOrder:
    """What reads stems that are made block by block: in order once, from the beginning again for an earlier range.

    Parameters
    ----------
    blocks : callable
        Makes the blocks, (source, channel, time), from the beginning; picklable when the stems have to be.
    """

    def __init__(self, blocks: Callable[[], Iterator[Samples]]) -> None:
        self._blocks = blocks
        self._reader: ForwardReader | None = None

    def __call__(self, start: int, stop: int) -> Samples:
        """Samples ``start`` to ``stop``."""
        if self._reader is None or start < self._reader.first:
            self._reader = ForwardReader(self._blocks())
        samples: Samples = self._reader.read(start, stop)
        return samples

    def __getstate__(self) -> dict[str, Any]:
        # other processes begin anew
        return {"_blocks": self._blocks, "_reader": None}


def whole(mixture: Signal) -> Samples:
    """All samples of a song, (channel, time), in one array; they grow by 21 MB a minute of stereo at 44.1 kHz."""
    samples = np.empty((mixture.channels, mixture.length), np.float32)
    for start, block in mixture.blocks():
        samples[:, start : start + block.shape[1]] = block
    return samples


def joined(blocks: Iterable[Samples], length: int) -> Samples:
    """All blocks, (source, channel, time), in one array of ``length`` samples."""
    audio: Samples | None = None
    stop = 0
    for block in blocks:
        if audio is None:
            audio = np.empty((*block.shape[:-1], length), np.float32)
        start, stop = stop, stop + block.shape[-1]
        audio[..., start:stop] = block
    if audio is None or stop != length:
        raise SeparatorError(f"got blocks of {stop} samples in all, expected {length}")
    return audio
