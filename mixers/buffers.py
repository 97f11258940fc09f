"""Memory of batches that is used again: new pages, which the system has to clear, cost more than the copy itself."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np

from stemfuse.separators import Samples

KEPT = 4
"""Buffers that wait at most: two batches that are read ahead, the one that is used and the one that is filled."""


class Buffers:
    """Arrays whose memory is taken again as soon as neither they nor any view or tensor of them is left.

    Examples
    --------
    >>> buffers = Buffers()
    >>> array = buffers.take((2, 3))
    >>> place, view = array.ctypes.data, array[:, 1:]
    >>> del array
    >>> buffers.take((2, 3)).ctypes.data == place
    False
    >>> del view
    >>> buffers.take((1, 3)).ctypes.data == place
    True
    """

    def __init__(self) -> None:
        self._free: deque[Samples] = deque(maxlen=KEPT)

    def __reduce__(self) -> tuple[Any, ...]:
        # another process has memory of its own
        return Buffers, ()

    def take(self, shape: tuple[int, ...]) -> Samples:
        """A float32 array with any content."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(0, np.float32)
        if memory.size < size:
            memory = np.empty(size, np.float32)
        # numpy lets all views of an array over a memoryview hold this array, not what is below
        lent = np.frombuffer(memory.data[:size], np.float32)
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return lent.reshape(shape)
