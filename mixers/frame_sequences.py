"""What mixers of frames are trained on: features and second moments of all frames, in sequences, in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.analysis import GramStatistics
from stemfuse.blending import FusionError
from stemfuse.separators import Track

from .features import signals_of
from .second_moments import pseudo_inverse
from .segments import TrackBlocks, segment_starts

Describe = Callable[[Track, int, float], NDArray[np.float32]]

STEPS, STILL = 50, 1e-6
"""Most steps of reweighting, and the gain in the mean logarithm of the SDR below which it ends."""


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
        self.size, self.outputs = size, blocks.outputs
        songs = [self._song(blocks, index, frame, describe) for index in range(len(blocks.tracks))]
        self._join([np.concatenate(parts) for parts in zip(*songs, strict=True)], [len(song[0]) for song in songs])

    def _join(self, parts: list[NDArray[Any]], counts: list[int]) -> None:
        """Take the frames of all songs, one song after the other."""
        self._parts, self._counts = parts, counts
        self.mean, self.deviation = parts[0].mean(0), np.maximum(parts[0].std(0), 1e-3)
        self._ranges = [
            (int(end) - count + int(start), min(int(end), int(end) - count + int(start) + self.size))
            for count, end in zip(counts, np.cumsum(counts), strict=True)
            for start in segment_starts(count, self.size, self.size)
        ]

    @property
    def songs(self) -> int:
        """Number of songs."""
        return len(self._counts)

    def of(self, songs: Sequence[int]) -> Self:
        """The sequences of some songs; nothing is read."""
        ends = np.cumsum(self._counts)
        rows = np.concatenate([np.arange(ends[song] - self._counts[song], ends[song]) for song in songs])
        some = copy.copy(self)
        some._join([part[rows] for part in self._parts], [self._counts[song] for song in songs])
        return some

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

    def least_squares(self, floor: float | None = None) -> NDArray[np.float32]:
        """Constant weights of the least squared error over all frames, (output, input).

        Parameters
        ----------
        floor : float, optional
            Frames are reweighted by one over their error until the mean of their SDR no longer rises, so that loud
            frames count no more than others. This is added to energies and errors, which are relative to the mixture's.
        """
        weights = self._solved(np.ones(len(self._parts[0])), slice(None))
        for place, channels in enumerate(signals_of(self.outputs).values() if floor is not None else ()):
            sounding = self._parts[4][:, place]
            if sounding.any():
                weights[channels] = self._by_sdr(channels, sounding, floor or 1e-12)
        return np.asarray(weights, np.float32)

    def _solved(self, counts: NDArray[np.float64], rows: Any) -> NDArray[np.float64]:
        """Least squares of some outputs, each frame counting so much."""
        moments, cross = (np.tensordot(counts, part, 1) for part in (self._parts[1], self._parts[2][:, rows]))
        # the moments are in single precision, so that smaller eigenvalues are rounding errors
        solved: NDArray[np.float64] = cross @ pseudo_inverse(moments, 1e-7)
        return solved

    def _by_sdr(self, channels: Sequence[int], sounding: NDArray[np.bool_], floor: float) -> NDArray[np.float64]:
        """Weights of a source's channels for the mean SDR: majorise and minimise, from the better of two starts."""
        energies = np.where(sounding, self._parts[3][:, channels].sum(1, dtype=np.float64), 0.0)
        reached: list[tuple[float, NDArray[np.float64]]] = []
        for start in (1.0 * sounding, sounding / (energies + floor)):
            counts = np.asarray(start, np.float64)
            for _ in range(STEPS):
                weights = self._solved(counts, channels)
                errors = self._errors(weights, channels)
                figure = float(np.log((energies + floor) / (errors + floor))[sounding].mean())
                still = len(reached) > 0 and abs(figure - reached[-1][0]) < STILL
                reached.append((figure, weights))
                if still:
                    break
                counts = sounding / (errors + floor)
        return max(reached, key=lambda pair: pair[0])[1]

    def _errors(self, weights: NDArray[np.float64], channels: Sequence[int]) -> NDArray[np.float64]:
        """Squared error of a source in every frame."""
        half = np.einsum("ci,fij->fcj", weights, self._parts[1], optimize=True) - 2 * self._parts[2][:, channels]
        summed = np.einsum("fcj,cj->f", half, weights) + self._parts[3][:, channels].sum(1)
        return np.asarray(np.maximum(summed, 0.0), np.float64)

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
