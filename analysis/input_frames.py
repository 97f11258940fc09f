"""A track frame by frame: the samples of all inputs and references that statistics are computed from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stemfuse.separators import Samples, Track

from .bss_eval.framing import frame_slices


def frame_lengths(track: Track, window: int | None, hop: int | None) -> tuple[int, int]:
    """Length and distance of frames in samples: one second of the track where they are not given."""
    return track.rate if window is None else window, track.rate if hop is None else hop


def input_frames(track: Track, window: int, hop: int) -> Iterator[Samples]:
    """Samples (channel, time) of every frame: of the mixture, every stem and every reference, in this order.

    Parameters
    ----------
    track : Track
        With references; read once.
    window, hop : int
        Frame length and distance in samples.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 1000))
    >>> track = Track.from_arrays("song", noise.sum(0), noise, {"a": noise})
    >>> [frame.shape for frame in input_frames(track, 500, 500)]
    [(18, 500), (18, 500)]
    """
    for frame in frame_slices(track.length, window, hop):
        yield input_samples(track, frame)


def input_samples(track: Track, part: slice) -> Samples:
    """Samples (channel, time) of a part of a track: of the mixture, every stem and every reference, in this order."""
    references = track.required_references()
    stems = [given[source] for given in track.stems.values() for source in given.sources]
    signals = [track.mixture, *stems, *(references[source] for source in references.sources)]
    return np.concatenate([signal.read(part.start, part.stop) for signal in signals])
