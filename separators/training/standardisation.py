"""Mean and standard deviation of a whole song, which networks and mixers are given music by."""

from __future__ import annotations

import numpy as np

from stemfuse.separators.audio.signals import Signal


def mean_and_deviation(mixture: Signal) -> tuple[float, float]:
    """Mean and standard deviation of all samples of a song, over all channels, read block by block.

    Parameters
    ----------
    mixture : Signal
        The song.

    Returns
    -------
    mean : float
    deviation : float
        1 for a silent song, so that one may divide by it.

    Examples
    --------
    >>> from stemfuse.separators import ArraySignal
    >>> mean_and_deviation(ArraySignal(np.array([[1.0, 3.0], [1.0, 3.0]])))
    (2.0, 1.0)
    """
    total = energy = 0.0
    for _, block in mixture.blocks():
        total += float(block.sum(dtype=np.float64))
        energy += float(np.square(block, dtype=np.float64).sum())
    count = mixture.channels * mixture.length
    mean = total / count
    variance = energy / count - mean**2
    return mean, float(np.sqrt(variance)) if variance > 0 else 1.0
