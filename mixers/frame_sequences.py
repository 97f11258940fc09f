"""What mixers of frames are trained on: features and second moments of all frames, in sequences, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.analysis import GramStatistics
from stemfuse.blending import FusionError
from stemfuse.separators import Track

from .features import signals_of
from .second_moments import pseudo_inverse
from .segments import TrackBlocks, segment_starts

Describe = Callable[[Track, int, float], NDArray[np.float32]]


class FrameSequences:
    """Sequences of consecutive frames in random access: features, moments, and which frames count.

    Parameters
    ----------
    blocks : TrackBlocks
        The tracks, and the scale of each.
    frame : int
        Length of a frame in samples; a frame starts every half of it.
    size : int
        Number of frames in a sequence; the last one of a song is filled up with frames that do not count.
    describe : callable
        From a track, the length of a frame and the standard deviation of the track's mixture to the features of all
        frames, (frame, feature).

    Attributes
    ----------
    mean, deviation : ndarray, shape (feature,)
        Mean and standard deviation of each feature over all frames.

    Notes
    -----
    A frame with 26 inputs and 8 outputs takes 5 kB and a song of four minutes 2.4 MB: unlike audio, all are kept in
    memory.

    Examples
    --------
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 8000))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": audio}, rate=8000)
    >>> from functools import partial
    >>> from stemfuse.mixers.features import frame_features
    >>> blocks = TrackBlocks([track])
    >>> describe = partial(frame_features, labels=blocks.inputs, edges_hz=[200, 800])
    >>> sequences = FrameSequences(blocks, 2000, 4, describe)
    >>> len(sequences), [part.shape for part in sequences.__getitems__([0])]
    (2, [(1, 4, 45), (1, 4, 10, 10), (1, 4, 8, 10), (1, 4, 8), (1, 4), (1, 4, 4)])
    """

    def __init__(self, blocks: TrackBlocks, frame: int, size: int, describe: Describe) -> None:
        if frame < 2 or size < 1:
            raise FusionError(
                f"got frames of {frame} samples in sequences of {size}, expected at least 2 samples and 1 frame"
            )
        songs = [self._song(blocks, index, frame, describe) for index in range(len(blocks.tracks))]
        self.size = size
        self._parts = [np.concatenate([song[part] for song in songs]) for part in range(5)]
        self.mean, self.deviation = self._parts[0].mean(0), np.maximum(self._parts[0].std(0), 1e-3)
        ends = np.cumsum([len(song[0]) for song in songs])
        self._ranges = [
            (int(end) - len(song[0]) + int(start), min(int(end), int(end) - len(song[0]) + int(start) + size))
            for song, end in zip(songs, ends, strict=True)
            for start in segment_starts(len(song[0]), size, size)
        ]

    @staticmethod
    def _song(blocks: TrackBlocks, index: int, frame: int, describe: Describe) -> tuple[NDArray[Any], ...]:
        track, scale = blocks.tracks[index], blocks.scales[index].deviation
        gram = GramStatistics.of(track, frame, frame // 2).select(blocks.inputs)
        # the statistics have no frame that reaches past the end
        features = describe(track, frame, scale)[: len(gram.moments)]
        energy = scale**2 * min(frame, track.length)
        rows = [blocks.outputs.index(label) for label in gram.outputs]
        cross, energies = (
            _placed(part, rows, len(blocks.outputs)) for part in (gram.cross_moments, gram.reference_energies)
        )
        moments = ((part / energy).astype(np.float32) for part in (gram.input_moments, cross, energies))
        sources = signals_of(blocks.outputs)
        sounding = ~gram.silent[:, None] & np.isin(list(sources), gram.sources)
        return features, *moments, sounding

    def least_squares(self) -> NDArray[np.float32]:
        """Constant weights of the least squared error over all frames, (output, input)."""
        moments, cross = (part.sum(0, dtype=np.float64) for part in self._parts[1:3])
        # the moments are in single precision, so that smaller eigenvalues are rounding errors
        return np.asarray(cross @ pseudo_inverse(moments, 1e-7), np.float32)

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, index: int) -> Any:
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> tuple[NDArray[Any], ...]:
        """Several sequences at once, each part of shape (sequence, frame, ...).

        Parts are features, moments, cross moments, reference energies, whether there is such a frame, and for each
        source whether it is in the song and all references sound.
        """
        stacked = [np.zeros((len(indices), self.size, *part.shape[1:]), part.dtype) for part in self._parts]
        present = np.zeros((len(indices), self.size), bool)
        for row, index in enumerate(indices):
            start, stop = self._ranges[index]
            present[row, : stop - start] = True
            for whole, part in zip(stacked, self._parts, strict=True):
                whole[row, : stop - start] = part[start:stop]
        features, moments, cross, energies, sounding = stacked
        return features, moments, cross, energies, present, sounding


def _placed(part: NDArray[np.float64], rows: Sequence[int], count: int) -> NDArray[np.float64]:
    """Values (frame, output, ...) of some of the outputs among all; the others are zero."""
    if len(rows) == count:
        return part
    whole = np.zeros((len(part), count, *part.shape[2:]))
    whole[:, rows] = part
    return whole
