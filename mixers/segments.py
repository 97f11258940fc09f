"""What mixers are trained on: inputs and references of tracks, normalised, in blocks or segments, read from disk."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending import BaseFusion, FusionError, input_labels, output_labels, read_inputs
from stemfuse.separators import ChannelLabel, Samples, Signal, Track, in_order, listed
from stemfuse.separators.training import audio_contents, mean_and_deviation

from .buffers import Buffers

BLOCK = 1 << 16
"""Number of samples read at a time: 9 MB with 26 inputs and 8 references."""


@dataclass(frozen=True)
class Normalisation:
    """Scale of one track, on which its mixture has the mean 0 and the standard deviation 1.

    Parameters
    ----------
    deviation : float
        Standard deviation of the mixture, over all channels; 1 for a silent mixture.
    mean : float
        Mean of the mixture, over all channels.

    Examples
    --------
    >>> from stemfuse.separators import ArraySignal
    >>> scale = Normalisation.of(ArraySignal(np.array([[1.0, 3.0], [5.0, 7.0]])))
    >>> scale.mean, round(scale.deviation, 4), scale.apply(np.full((1, 2), 4.0, "float32")).tolist()
    (4.0, 2.2361, [[0.0, 0.0]])
    """

    deviation: float = 1.0
    mean: float = 0.0

    @classmethod
    def of(cls, mixture: Signal) -> Self:
        """Scale of a mixture, which is read once, block by block."""
        mean, deviation = mean_and_deviation(mixture)
        return cls(deviation, mean)

    def apply(self, samples: Samples) -> Samples:
        """Samples from the track's own scale to the one that mixers are trained on."""
        scaled: Samples = (samples - np.float32(self.mean)) / np.float32(self.deviation)
        return scaled

    def invert(self, samples: Samples) -> Samples:
        """Samples from the scale that mixers are trained on to the track's own."""
        original: Samples = samples * np.float32(self.deviation) + np.float32(self.mean)
        return original


def normalisation_of(track: Track, centred: bool = False) -> Normalisation:
    """Scale of a track.

    Parameters
    ----------
    track : Track
        Its mixture is read once.
    centred : bool
        Whether the mixture's mean is subtracted from all channels, as in the papers. A mix without bias cannot
        add it again, and in music it is only 1e-5 of full scale. When it is not subtracted, the weights are the same
        on every scale.
    """
    scale = Normalisation.of(track.mixture)
    return scale if centred else Normalisation(scale.deviation)


class TrackBlocks:
    """Normalised inputs and references of several tracks, read in blocks or in any other range.

    Parameters
    ----------
    tracks : sequence of Track
        With references, and stems of the same separators. A source that is not in a song, so that it has no reference
        and no stem of it there, is silent.
    mixture : bool
        Whether the mixture is one of the inputs.
    centred : bool
        See `normalisation_of`.
    like : TrackBlocks, optional
        Whose inputs, outputs and rate they have; those of all the tracks when not given.

    Raises
    ------
    FusionError
        There is no track, or they differ in their inputs, outputs or sample rate.
    TrackError
        A track has no references.

    Notes
    -----
    No audio is kept: memory does not grow with the number or length of tracks.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> audio = generator.normal(0, 0.1, (4, 2, 1000))
    >>> blocks = TrackBlocks([Track.from_arrays("song", audio.sum(0), audio, {"a": audio})])
    >>> inputs, references = blocks.read(0, 100, 150)
    >>> inputs.shape, references.shape, blocks.inputs[2]
    ((50, 10), (50, 8), 'a.drums.left')
    """

    def __init__(
        self, tracks: Sequence[Track], mixture: bool = True, centred: bool = False, like: Self | None = None
    ) -> None:
        if not tracks:
            raise FusionError("got no track, expected at least one with stems and references")
        self.tracks = list(tracks)
        first = self.tracks[0]
        self.inputs: tuple[str, ...] = (
            like.inputs if like else _every([input_labels(track, mixture) for track in self.tracks])
        )
        self.outputs: tuple[str, ...] = like.outputs if like else _every([_outputs_of(track) for track in self.tracks])
        self.rate: int = like.rate if like else first.rate
        self.mixture = mixture
        if not self.inputs:
            raise FusionError(
                f"track {first.name!r} has no stems, and the mixture is no input; "
                "attach stems, or take --option mixture=true"
            )
        for track in self.tracks:
            if found := self._misfit(track):
                raise FusionError(
                    f"{'validation ' if like else ''}track {track.name!r} has {found}; all need the same stems, "
                    "references and rate"
                )
        self.scales = [normalisation_of(track, centred) for track in self.tracks]

    def _misfit(self, track: Track) -> str:
        """In which inputs, outputs or rate a track differs, but for sources that are not in it; empty when it fits."""
        sources = track.required_references().sources
        inputs, outputs = input_labels(track, self.mixture), _outputs_of(track)
        missing = [label for label in map(ChannelLabel.parse, self.inputs) if str(label) not in inputs]
        lost = [str(label) for label in missing if label.is_mixture or label.source in sources]
        added = [*(set(inputs) - set(self.inputs)), *(set(outputs) - set(self.outputs))]
        if track.rate != self.rate:
            return f"{track.rate} Hz, the others {self.rate} Hz"
        if lost:
            return f"no {listed(lost)}, others have"
        return f"{listed(sorted(added))}, others have not" if added else ""

    def only(self, index: int) -> Self:
        """One of the tracks, with all inputs and outputs and its own scale; no audio is read."""
        one = copy.copy(self)
        one.tracks, one.scales = [self.tracks[index]], [self.scales[index]]
        return one

    @property
    def lengths(self) -> tuple[int, ...]:
        """Length of every track in samples."""
        return tuple(track.length for track in self.tracks)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of all channels, as float32."""
        return 4 * (len(self.inputs) + len(self.outputs))

    @property
    def length(self) -> int:
        """Length of all tracks in samples."""
        return sum(self.lengths)

    def read(self, index: int, start: int, stop: int) -> tuple[Samples, Samples]:
        """Samples ``start`` to ``stop`` of a track: inputs (time, input) and references (time, output)."""
        track, scale = self.tracks[index], self.scales[index]
        references = track.required_references().read(start, stop).reshape(-1, stop - start)
        if not np.isfinite(references).all():
            for source in track.required_references().sources:
                track.required_references()[source].read(start, stop)  # raises, and names the sample
        if len(references) < len(self.outputs):
            own, references = references, np.zeros((len(self.outputs), stop - start), np.float32)
            references[[self.outputs.index(label) for label in _outputs_of(track)]] = own
        inputs = read_inputs(track, self.inputs, start, stop)
        return scale.apply(np.ascontiguousarray(inputs.T)), scale.apply(np.ascontiguousarray(references.T))

    def read_into(self, index: int, start: int, stop: int, out: Samples) -> None:
        """Copy samples ``start`` to ``stop`` of a track, inputs then references, into (time, channel)."""
        out[:, : len(self.inputs)], out[:, len(self.inputs) :] = self.read(index, start, stop)

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[Samples, Samples]]:
        """Yield every sample of every track once, in blocks; the next one is read while the caller works."""
        with ThreadPoolExecutor(1) as reader:
            following: Future[tuple[Samples, Samples]] | None = None
            for index, track in enumerate(self.tracks):
                for start in range(0, track.length, size):
                    stop = min(start + size, track.length)
                    present, following = following, reader.submit(self.read, index, start, stop)
                    if present is not None:
                        yield present.result()
            if following is not None:
                yield following.result()

    def sample(self, rows: int, seed: int = 0, block: int = 4096, stride: int = 32) -> tuple[Samples, Samples]:
        """About ``rows`` samples, spread evenly over all tracks.

        Parameters
        ----------
        rows : int
            How many; all samples are taken when there are no more.
        seed : int
            Decides the places.
        block, stride : int
            A block of so many samples is read at each of many random places, and every ``stride``-th sample of it is
            taken, because neighbours are too alike to add much. Short data are read whole instead, with a smaller
            stride.

        Returns
        -------
        inputs : ndarray, shape (row, input)
        references : ndarray, shape (row, output)
        """
        parts = []
        if self.length <= rows * stride:
            stride = -(-self.length // rows)
            parts = [(inputs[::stride], references[::stride]) for inputs, references in self.blocks()]
        else:
            generator = np.random.default_rng(seed)
            ends = np.cumsum([track.length for track in self.tracks])
            count = max(1, rows * stride // block)
            places = ((np.arange(count) + generator.random(count)) * (self.length / count)).astype(np.int64)
            for place in places.tolist():
                index = int(np.searchsorted(ends, place, side="right"))
                length = self.tracks[index].length
                start = max(0, min(place - int(ends[index]) + length, length - block))
                inputs, references = self.read(index, start, min(start + block, length))
                parts.append((inputs[::stride], references[::stride]))
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _outputs_of(track: Track) -> tuple[str, ...]:
    return output_labels(track.required_references().sources, track.channels)


def _every(given: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The labels of all tracks: the mixture, then of each separator all sources in order."""
    if len(set(given)) == 1:
        return given[0]
    labels = [ChannelLabel.parse(label) for label in dict.fromkeys(label for labels in given for label in labels)]
    order = in_order(label.source or label.signal for label in labels if not label.is_mixture)
    separators = list(dict.fromkeys(label.separator for label in labels))

    def place(label: ChannelLabel) -> tuple[int, int]:
        return separators.index(label.separator), order.index(label.source or label.signal)

    mixture = [label for label in labels if label.is_mixture]
    # channels keep their order
    return tuple(map(str, [*mixture, *sorted((label for label in labels if not label.is_mixture), key=place)]))


class PackedAudio(Protocol):
    """What segments are read from: `TrackBlocks`, or `stemfuse.mixers.TrainingPack` of its tracks."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Length of every track in samples."""
        ...

    @property
    def sample_bytes(self) -> int:
        """Bytes that are read for one sample of all channels."""
        ...

    def read_into(self, index: int, start: int, stop: int, out: Samples) -> None:
        """Copy samples of a track, inputs then references, into (time, channel)."""
        ...


class Segments:
    """Segments of tracks in random access, for a torch ``DataLoader`` with any number of workers.

    Parameters
    ----------
    blocks : TrackBlocks or TrainingPack
        The tracks.
    length, shift : int
        T and S, in samples: a segment starts every S samples.
    tails : bool
        Whether the last segment of a song may reach past its end; otherwise only whole segments are taken, except
        that a song shorter than T is one segment. Inputs and references past the end are zero, where every mix is
        without error. ``shift=length, tails=True`` covers every sample once.

    Examples
    --------
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 1000))
    >>> blocks = TrackBlocks([Track.from_arrays("song", audio.sum(0), audio, {"a": audio})])
    >>> segments = Segments(blocks, 256, 128)
    >>> len(segments), segments[5][0].shape, segments.__getitems__([0, 3])[1].shape
    (6, (256, 10), (2, 256, 8))
    """

    def __init__(self, blocks: PackedAudio, length: int, shift: int, tails: bool = False) -> None:
        if length < 1 or shift < 1:
            raise FusionError(f"got segments of {length} samples, one every {shift}, expected at least 1 each")
        self.blocks, self.length, self.shift = blocks, length, shift
        counts = [len(segment_starts(song, length, shift, tails)) for song in blocks.lengths]
        self._ends, self._buffers = np.cumsum(counts), Buffers()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def bytes(self) -> int:
        """Bytes that are read for one epoch."""
        return len(self) * self.length * self.blocks.sample_bytes

    def __getitem__(self, index: int) -> tuple[Samples, Samples]:
        inputs, references = self.__getitems__([index])
        return inputs[0], references[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Samples, Samples]:
        """Several segments at once: inputs (segment, time, input), references (segment, time, output)."""
        count = len(self.blocks.inputs)
        both = self._buffers.take((len(indices), self.length, count + len(self.blocks.outputs)))
        for row, index in enumerate(indices):
            if not 0 <= index < len(self):
                raise IndexError(f"got segment {index}, there are {len(self)} segments")
            track = int(np.searchsorted(self._ends, index, side="right"))
            before = int(self._ends[track - 1]) if track else 0
            start = (int(index) - before) * self.shift
            stop = min(start + self.length, self.blocks.lengths[track])
            self.blocks.read_into(track, start, stop, both[row, : stop - start])
            both[row, stop - start :] = 0
        return both[..., :count], both[..., count:]


def segment_starts(length: int, segment: int, shift: int, tails: bool = True) -> NDArray[np.int64]:
    """Where segments of a song start, in samples.

    Parameters
    ----------
    length : int
        Of the song.
    segment, shift : int
        Length of a segment, and how far apart they start.
    tails : bool
        Whether the last segment may reach past the end, so that every sample is covered.

    Returns
    -------
    ndarray, shape (segment,)
        At least one.

    Examples
    --------
    >>> segment_starts(1000, 400, 200).tolist(), segment_starts(1001, 400, 200).tolist()
    ([0, 200, 400, 600], [0, 200, 400, 600, 800])
    >>> segment_starts(1001, 400, 200, tails=False).tolist(), segment_starts(10, 400, 200, tails=False).tolist()
    ([0, 200, 400, 600], [0])
    """
    beyond = max(0, length - segment)
    count = 1 + (-(-beyond // shift) if tails else beyond // shift)
    return np.arange(count, dtype=np.int64) * shift


def training_blocks(
    train: Sequence[Track], valid: Sequence[Track] | None, mixture: bool, centred: bool = False
) -> tuple[TrackBlocks, TrackBlocks | None]:
    """Training tracks and, when given, validation tracks, with the same inputs and outputs.

    Raises
    ------
    FusionError
        There is no training track, or tracks differ in their inputs, outputs or sample rate.
    """
    blocks = TrackBlocks(train, mixture, centred)
    held_out = TrackBlocks(valid, mixture, centred, like=blocks) if valid else None
    return blocks, held_out


def identity_of(mixer: BaseFusion, blocks: TrackBlocks, held_out: TrackBlocks | None) -> dict[str, Any]:
    """What a checkpoint has to agree with to be resumed: the mixer's kind and arguments, the tracks and their audio."""
    arguments = {name: value for name, value in mixer.arguments().items() if name not in ("epochs", "patience")}
    parts = [part.tracks for part in (blocks, held_out) if part]
    folder = None if mixer.execution is None else mixer.execution.checkpoints
    return {
        "kind": mixer.kind,
        "arguments": arguments,
        "inputs": blocks.inputs,
        "tracks": [[[track.name, track.length] for track in part] for part in parts],
        "contents": [audio_contents(part, folder) for part in parts],
    }
