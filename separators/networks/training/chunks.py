"""Pieces of stems: drawn at random, mixed anew and changed to train on, and fixed ones to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemfuse.separators.audio.signals import BLOCK, RATE, Samples, Signal
from stemfuse.separators.errors import TrainingError
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import Track


@dataclass(frozen=True)
class Augmentation:
    """How pieces differ from what lies on disk; the defaults are Danna-Sep's.

    Parameters
    ----------
    remix : float
        Probability that each stem of a piece comes from a song and a place of its own.
    gain : tuple of float
        Smallest and largest factor of a stem.
    swap : float
        Probability that a stem's channels are swapped.
    flip : float
        Probability that a stem's sign is flipped.
    stretched : float
        Probability that a stem comes from a stretched copy of its song, where there are such.

    References
    ----------
    S. Uhlich et al., ICASSP 2017, section 2.2: gain, swap and remix. A. Défossez et al., 2019: signs. C.-Y. Yu, K.-W.
    Cheuk, "Danna-Sep: unite to separate them all", MDX workshop at ISMIR 2021: all of them, and the numbers.

    Examples
    --------
    >>> Augmentation(gain=(1.0, 1.0)).swap
    0.5
    """

    remix: float = 1.0
    gain: tuple[float, float] = (0.25, 1.25)
    swap: float = 0.5
    flip: float = 0.5
    stretched: float = 0.2

    def __post_init__(self) -> None:
        chances = {name: getattr(self, name) for name in ("remix", "swap", "flip", "stretched")}
        if any(not 0 <= chance <= 1 for chance in chances.values()):
            raise TrainingError(f"{chances} came, expected probabilities from 0 to 1")
        if not 0 < self.gain[0] <= self.gain[1] < float("inf"):
            raise TrainingError(f"gain={self.gain} came, expected two positive factors, the smaller first")


def checked_tracks(tracks: Sequence[Track], samples: int) -> list[Track]:
    """Tracks that pieces of some length can be cut from.

    Raises
    ------
    TrainingError
        There is none, or one is too short, or is not stereo at the networks' sample rate with all four sources.
    """
    if not tracks:
        raise TrainingError("no track came, expected at least one with references")
    for track in tracks:
        if set(track.required_references().sources) != set(SOURCES) or (track.rate, track.channels) != (RATE, 2):
            raise TrainingError(
                f"track {track.name!r}: {', '.join(track.required_references().sources)} at {track.rate} Hz with "
                f"{track.channels} channels came, expected {', '.join(SOURCES)} at {RATE} Hz in stereo: convert it"
            )
    shortest = min(tracks, key=lambda track: track.length)
    if shortest.length < samples:
        raise TrainingError(
            f"track {shortest.name!r} has {shortest.length} samples, pieces have {samples}: leave the track out or "
            "choose shorter pieces"
        )
    return list(tracks)


def deviation(mixture: Signal) -> float:
    """Standard deviation of all samples of a song, read block by block; 1 for a silent one.

    Examples
    --------
    >>> from stemfuse.separators import ArraySignal
    >>> deviation(ArraySignal(np.array([[1.0, 3.0], [1.0, 3.0]])))
    1.0
    """
    total = energy = 0.0
    for _, block in mixture.blocks(BLOCK):
        total += float(block.sum(dtype=np.float64))
        energy += float(np.square(block, dtype=np.float64).sum())
    count = mixture.channels * mixture.length
    variance = energy / count - (total / count) ** 2
    return float(np.sqrt(variance)) if variance > 0 else 1.0


class RandomChunks:
    """Pieces of stems, (source, channel, time) in the order of `SOURCES`, drawn by number.

    All about a piece is drawn from seed and number, so that a resumed training, or one on several processes, meets the
    same pieces. Files are read where they lie.

    Parameters
    ----------
    tracks : sequence of Track
        With references; stereo.
    samples : int
        Length of a piece.
    count : int
        Pieces in an epoch.
    augmentation : Augmentation
        How stems are mixed and changed.
    copies : sequence of sequence of Stems, optional
        Stretched copies of each track.
    standardise : bool
        Every song is divided by the standard deviation of its mixture.
    seed : int
        Of all that is drawn.

    Examples
    --------
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44_100))
    >>> chunks = RandomChunks([Track.from_arrays("song", audio.sum(0), audio)], samples=1000, count=8)
    >>> (stems,) = chunks.__getitems__([3, 11])
    >>> stems.shape, bool((stems[0] == chunks.__getitems__([3])[0][0]).all())
    ((2, 4, 2, 1000), True)
    """

    drawn = True

    def __init__(
        self,
        tracks: Sequence[Track],
        samples: int,
        count: int,
        augmentation: Augmentation | None = None,
        copies: Sequence[Sequence[Stems]] = (),
        standardise: bool = False,
        seed: int = 0,
    ) -> None:
        self.tracks = checked_tracks(tracks, samples)
        self.samples, self.count, self.seed = samples, count, seed
        self.augmentation = augmentation or Augmentation()
        usable = [[copy for copy in some if copy.length >= samples] for some in copies]
        self.copies = usable or [[] for _ in self.tracks]
        self.scales = [1 / deviation(track.mixture) if standardise else 1.0 for track in self.tracks]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Samples:
        generator = np.random.default_rng([self.seed, number])
        place = self._place(generator)
        stems = []
        for source in SOURCES:
            if generator.random() < self.augmentation.remix:
                place = self._place(generator)
            song, start, scale = place
            stems.append(self._changed(song[source].read(start, start + self.samples) * scale, generator))
        return np.stack(stems)

    def __getitems__(self, numbers: Sequence[int]) -> tuple[Samples]:
        return (np.stack([self[number] for number in numbers]),)

    def _place(self, generator: np.random.Generator) -> tuple[Stems, int, np.float32]:
        """A song or a stretched copy of it, where in it a piece begins, and the song's scale."""
        index = int(generator.integers(len(self.tracks)))
        copies = self.copies[index]
        stretched = generator.random() < self.augmentation.stretched and bool(copies)
        song = copies[int(generator.integers(len(copies)))] if stretched else self.tracks[index].required_references()
        return song, int(generator.integers(song.length - self.samples + 1)), np.float32(self.scales[index])

    def _changed(self, stem: Samples, generator: np.random.Generator) -> Samples:
        gain = generator.uniform(*self.augmentation.gain)
        swapped, flipped = generator.random(2) < (self.augmentation.swap, self.augmentation.flip)
        changed: Samples = (stem[::-1] if swapped else stem) * np.float32(-gain if flipped else gain)
        return changed


class FixedChunks:
    """Pieces of songs as they are, spread evenly over each: what an epoch is judged by.

    Parameters
    ----------
    tracks : sequence of Track
        With references; stereo.
    samples : int
        Length of a piece.
    count : int
        Pieces of each track, or as many as fit.
    standardise : bool
        As in `RandomChunks`.

    Examples
    --------
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44_100))
    >>> chunks = FixedChunks([Track.from_arrays("song", audio.sum(0), audio)], samples=10_000, count=3)
    >>> len(chunks), chunks.places
    (3, [(0, 0), (0, 17050), (0, 34100)])
    """

    def __init__(self, tracks: Sequence[Track], samples: int, count: int = 4, standardise: bool = False) -> None:
        self.tracks, self.samples = checked_tracks(tracks, samples), samples
        self.scales = [1 / deviation(track.mixture) if standardise else 1.0 for track in self.tracks]
        self.places = [
            (index, int(start))
            for index, track in enumerate(self.tracks)
            for start in np.linspace(0, track.length - samples, min(count, track.length // samples)).round()
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Samples:
        index, start = self.places[number]
        song = self.tracks[index].required_references()
        stems = np.stack([song[source].read(start, start + self.samples) for source in SOURCES])
        return np.asarray(stems * np.float32(self.scales[index]))

    def __getitems__(self, numbers: Sequence[int]) -> tuple[Samples]:
        return (np.stack([self[number] for number in numbers]),)
