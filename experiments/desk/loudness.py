"""K-weighted second moments: from them, the loudness of any mix of a song's channels follows without audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

SETTLE_S = 0.5
"""What is filtered before a passage, so that its first frame has no start of the filter in it."""


def k_weighting(rate: int) -> NDArray[np.float64]:
    """The two filters of ITU-R BS.1770 at any rate, as second-order sections.

    A shelf of 4 dB above 1.7 kHz for the head, and a high-pass at 38 Hz; their analogue forms are those of the
    recommendation's coefficients at 48 kHz, which the bilinear transform gives back.

    Examples
    --------
    >>> k_weighting(48_000).round(6)[0, :3].tolist(), k_weighting(48_000).round(6)[1, 4:].tolist()
    ([1.535125, -2.691696, 1.198393], [-1.990047, 0.990072])
    """
    # head: gain 3.99984 dB, quality 0.70718, frequency 1681.974 Hz
    gain = 10 ** (3.999843853973347 / 20)
    boost, slope = gain**0.4996667741545416, np.tan(np.pi * 1681.974450955533 / rate)
    quality = slope / 0.7071752369554196
    scale = 1 + quality + slope**2
    head = [
        (gain + boost * quality + slope**2) / scale,
        2 * (slope**2 - gain) / scale,
        (gain - boost * quality + slope**2) / scale,
        1.0,
        2 * (slope**2 - 1) / scale,
        (1 - quality + slope**2) / scale,
    ]
    slope = np.tan(np.pi * 38.13547087602444 / rate)
    quality = slope / 0.5003270373238773
    scale = 1 + quality + slope**2
    low = [1.0, -2.0, 1.0, 1.0, 2 * (slope**2 - 1) / scale, (1 - quality + slope**2) / scale]
    return np.array([head, low])


def weighted_moments(
    read: Callable[[int, int], Sequence[NDArray[np.float32]]], frames: Sequence[tuple[int, int]], rate: int
) -> NDArray[np.float64]:
    """Second moments of all channels after K-weighting, frame by frame.

    Parameters
    ----------
    read : callable
        Called as ``read(start, stop)``; gives blocks (channel, time), whose channels are taken in order.
    frames : sequence of (start, stop)
        In samples, one after the other.
    rate : int
        In Hz.

    Returns
    -------
    ndarray, shape (frame, channel, channel), float64
        Divided by the length of the frame, so that the loudness of weights v is -0.691 + 10 log10 v' M v in LUFS,
        summed over the channels that are heard and not gated.
    """
    from scipy.signal import sosfilt

    sections, moments = k_weighting(rate), []
    state, position = None, max(frames[0][0] - round(SETTLE_S * rate), 0) if frames else 0
    for start, stop in frames:
        samples = np.concatenate(read(position, stop)).astype(np.float64)
        if state is None:
            state = np.zeros((len(sections), len(samples), 2))
        filtered, state = sosfilt(sections, samples, zi=state)
        filtered = filtered[:, start - position :]
        moments.append(filtered @ filtered.T / max(stop - start, 1))
        position = stop
    return np.array(moments)
