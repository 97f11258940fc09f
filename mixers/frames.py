"""What GramMixer is trained on: features and second moments of all frames, in runs, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.analysis import GramStatistics
from stemfuse.blending import FusionError

from .features import frame_features
from .segments import TrackBlocks, segment_starts

Array = NDArray[np.float32]


class FrameRuns:
    """Runs of consecutive frames in random access: features, moments, and which frames count.

    Parameters
    ----------
    blocks : TrackBlocks
        The tracks; their scales are taken over.
    frame : int
        Length of a frame in samples; a frame starts every half of it.
    edges_hz : sequence of float
        Borders of the bands; see `stemfuse.mixers.features.band_energies`.
    run : int
        Frames in a run; the last one of a song is filled up with frames that do not count.

    Attributes
    ----------
    mean, deviation : ndarray, shape (feature,)
        Of all frames' features.

    Notes
    -----
    A frame with 26 inputs and 8 outputs takes 5 kB and a song of four minutes 2.4 MB: unlike audio, all lie in memory.

    Examples
    --------
    >>> from stemfuse.separators import Track
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 8000))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": audio}, rate=8000)
    >>> runs = FrameRuns(TrackBlocks([track]), 2000, [200, 800], run=4)
    >>> len(runs), [part.shape for part in runs.__getitems__([0])]
    (2, [(1, 4, 45), (1, 4, 10, 10), (1, 4, 8, 10), (1, 4, 8), (1, 4), (1, 4)])
    """

    def __init__(self, blocks: TrackBlocks, frame: int, edges_hz: Sequence[float], run: int) -> None:
        if frame < 2 or run < 1:
            raise FusionError(f"frames of {frame} samples in runs of {run} came, expected at least 2 and 1")
        songs = [self._song(blocks, index, frame, edges_hz) for index in range(len(blocks.tracks))]
        self.run = run
        self._parts = [np.concatenate([song[part] for song in songs]) for part in range(5)]
        self.mean, self.deviation = self._parts[0].mean(0), np.maximum(self._parts[0].std(0), 1e-3)
        ends = np.cumsum([len(song[0]) for song in songs])
        self._runs = [
            (int(end) - len(song[0]) + int(start), min(int(end), int(end) - len(song[0]) + int(start) + run))
            for song, end in zip(songs, ends, strict=True)
            for start in segment_starts(len(song[0]), run, run)
        ]

    @staticmethod
    def _song(blocks: TrackBlocks, index: int, frame: int, edges_hz: Sequence[float]) -> tuple[NDArray[Any], ...]:
        track, scale = blocks.tracks[index], blocks.scales[index].deviation
        gram = GramStatistics.of(track, frame, frame // 2).select(blocks.inputs)
        # the statistics have whole frames alone
        features = frame_features(track, blocks.inputs, frame, edges_hz, scale)[: len(gram.moments)]
        size = scale**2 * min(frame, track.length)
        moments = (gram.input_moments, gram.cross_moments, gram.reference_energies)
        return features, *((part / size).astype(np.float32) for part in moments), ~gram.silent

    def least_squares(self) -> Array:
        """Constant weights of the least squared error over all frames, (output, input)."""
        moments, cross = (part.sum(0, dtype=np.float64) for part in self._parts[1:3])
        sizes = np.sqrt(np.diagonal(moments))
        sizes = np.where(sizes > 0, sizes, 1)
        inverse = np.linalg.pinv(moments / np.outer(sizes, sizes), rcond=1e-7, hermitian=True)
        return np.asarray(cross @ (inverse / np.outer(sizes, sizes)), np.float32)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: int) -> Any:
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> tuple[NDArray[Any], ...]:
        """Several runs at once: features, moments, cross moments, energies, present, heard, each (run, frame, ...)."""
        stacked = [np.zeros((len(indices), self.run, *part.shape[1:]), part.dtype) for part in self._parts]
        present = np.zeros((len(indices), self.run), bool)
        for row, index in enumerate(indices):
            start, stop = self._runs[index]
            present[row, : stop - start] = True
            for whole, part in zip(stacked, self._parts, strict=True):
                whole[row, : stop - start] = part[start:stop]
        features, moments, cross, energies, heard = stacked
        return features, moments, cross, energies, present, heard
