"""Chunks of stems: random ones, mixed anew and changed, to train on; fixed ones to validate by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stemfuse.separators.audio.signals import RATE, Samples
from stemfuse.separators.errors import TrainingError
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import Track
from stemfuse.separators.training.standardisation import mean_and_deviation


@dataclass(frozen=True)
class Augmentation:
    """How chunks differ from the stems on disk; the defaults are Danna-Sep's.

    Parameters
    ----------
    remix : float
        Probability that each stem of a chunk is taken from a song and a place of its own.
    gain : tuple of float
        Smallest and largest factor of a stem.
    swap : float
        Probability that a stem's channels are swapped.
    flip : float
        Probability that a stem's sign is flipped.
    stretched : float
        Probability that a stem is taken from a stretched copy of its song, if it has any; else from the original. With
        n copies, n / (n + 1) draws all versions alike, and 1 never draws the original.
    summed : int
        How many stems of a source each stem is the sum of ("mix-audio"). All but the first come from songs and places
        of their own; each is changed by itself, and none is made quieter.

    References
    ----------
    S. Uhlich et al., ICASSP 2017, section 2.2: gain, swap and remix. A. Défossez et al., 2019: signs. C.-Y. Yu, K.-W.
    Cheuk, "Danna-Sep: unite to separate them all", MDX workshop at ISMIR 2021: all of them, and the numbers. Q. Kong et
    al., ISMIR 2021: sums of two stems.

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
    summed: int = 1

    def __post_init__(self) -> None:
        chances = {"remix": self.remix, "swap": self.swap, "flip": self.flip, "stretched": self.stretched}
        if any(not 0 <= chance <= 1 for chance in chances.values()):
            raise TrainingError(f"got {chances}, expected probabilities from 0 to 1")
        if not 0 < self.gain[0] <= self.gain[1] < float("inf"):
            raise TrainingError(f"got gain={self.gain}, expected two positive factors, the smaller first")
        if self.summed < 1:
            raise TrainingError(f"got summed={self.summed}, expected at least one stem")

    def identity(self) -> dict[str, Any]:
        """The fields, without those at their defaults that older trainings did not have."""
        fields = asdict(self)
        return fields if self.summed > 1 else {name: value for name, value in fields.items() if name != "summed"}


def checked_tracks(tracks: Sequence[Track], length: int) -> list[Track]:
    """Tracks that chunks of some length can be cut from.

    Parameters
    ----------
    tracks : sequence of Track
        With references.
    length : int
        Of the chunks.

    Raises
    ------
    TrainingError
        There is no track, or one is too short, or is not stereo at the networks' sample rate with all four sources.
    """
    if not tracks:
        raise TrainingError("got no tracks, expected at least one with references")
    for track in tracks:
        if set(track.required_references().sources) != set(SOURCES) or (track.rate, track.channels) != (RATE, 2):
            raise TrainingError(
                f"track {track.name!r}: got {', '.join(track.required_references().sources)} at {track.rate} Hz with "
                f"{track.channels} channels, expected {', '.join(SOURCES)} at {RATE} Hz in stereo: convert it"
            )
    shortest = min(tracks, key=lambda track: track.length)
    if shortest.length < length:
        raise TrainingError(
            f"track {shortest.name!r} has {shortest.length} samples, chunks have {length}: leave the track out or "
            "choose shorter chunks"
        )
    return list(tracks)


def _scales(tracks: Sequence[Track], standardise: bool) -> list[float]:
    return [1 / mean_and_deviation(track.mixture)[1] if standardise else 1.0 for track in tracks]


class RandomChunks:
    """Chunks of stems, (source, channel, time) in the order of `SOURCES`, drawn by number.

    A chunk depends on seed and number alone, so that a resumed training, or one on several processes, has the same
    chunks. Only the part of a file that a chunk needs is read.

    Parameters
    ----------
    tracks : sequence of Track
        With references; stereo.
    length : int
        Of a chunk.
    count : int
        Chunks in an epoch.
    augmentation : Augmentation
        How stems are mixed and changed.
    copies : sequence of sequence of Stems, optional
        Stretched copies of each track.
    standardise : bool
        Every song is divided by the standard deviation of its mixture.
    seed : int
        Of all random draws.

    Examples
    --------
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44_100))
    >>> chunks = RandomChunks([Track.from_arrays("song", audio.sum(0), audio)], length=1000, count=8)
    >>> (stems,) = chunks.__getitems__([3, 11])
    >>> stems.shape, bool((stems[0] == chunks.__getitems__([3])[0][0]).all())
    ((2, 4, 2, 1000), True)
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        length: int,
        count: int,
        augmentation: Augmentation | None = None,
        copies: Sequence[Sequence[Stems]] = (),
        standardise: bool = False,
        seed: int = 0,
    ) -> None:
        self.tracks = checked_tracks(tracks, length)
        self.length, self.count, self.seed = length, count, seed
        self.augmentation = augmentation or Augmentation()
        usable = [[copy for copy in some if copy.length >= length] for some in copies]
        self.copies = usable or [[] for _ in self.tracks]
        self.scales = _scales(self.tracks, standardise)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Samples:
        generator = np.random.default_rng([self.seed, number])
        place = self._place(generator)
        stems = []
        for source in SOURCES:
            if generator.random() < self.augmentation.remix:
                place = self._place(generator)
            stem = self._drawn(place, source, generator)
            for _ in range(1, self.augmentation.summed):
                stem = stem + self._drawn(self._place(generator), source, generator)
            stems.append(stem)
        return np.stack(stems)

    def __getitems__(self, numbers: Sequence[int]) -> tuple[Samples]:
        return (np.stack([self[number] for number in numbers]),)

    def _place(self, generator: np.random.Generator) -> tuple[Stems, int, np.float32]:
        """A song or a stretched copy of it, the beginning of a chunk in it, and the song's scale."""
        index = int(generator.integers(len(self.tracks)))
        copies = self.copies[index]
        stretched = generator.random() < self.augmentation.stretched and bool(copies)
        song = copies[int(generator.integers(len(copies)))] if stretched else self.tracks[index].required_references()
        return song, int(generator.integers(song.length - self.length + 1)), np.float32(self.scales[index])

    def _drawn(self, place: tuple[Stems, int, np.float32], source: str, generator: np.random.Generator) -> Samples:
        song, start, scale = place
        return self._changed(song[source].read(start, start + self.length) * scale, generator)

    def _changed(self, stem: Samples, generator: np.random.Generator) -> Samples:
        gain = generator.uniform(*self.augmentation.gain)
        swapped, flipped = generator.random(2) < (self.augmentation.swap, self.augmentation.flip)
        changed: Samples = (stem[::-1] if swapped else stem) * np.float32(-gain if flipped else gain)
        return changed


class FixedChunks:
    """Chunks of songs as they are, spread evenly over each: they validate an epoch.

    Parameters
    ----------
    tracks : sequence of Track
        With references; stereo.
    length : int
        Of a chunk.
    count : int
        Chunks of each track, or as many as fit.
    standardise : bool
        As in `RandomChunks`.

    Examples
    --------
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44_100))
    >>> chunks = FixedChunks([Track.from_arrays("song", audio.sum(0), audio)], length=10_000, count=3)
    >>> len(chunks), chunks.places
    (3, [(0, 0), (0, 17050), (0, 34100)])
    """

    def __init__(self, tracks: Sequence[Track], length: int, count: int = 4, standardise: bool = False) -> None:
        self.tracks, self.length = checked_tracks(tracks, length), length
        self.scales = _scales(self.tracks, standardise)
        self.places = [
            (index, int(start))
            for index, track in enumerate(self.tracks)
            for start in np.linspace(0, track.length - length, min(count, track.length // length)).round()
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Samples:
        index, start = self.places[number]
        song = self.tracks[index].required_references()
        stems = np.stack([song[source].read(start, start + self.length) for source in SOURCES])
        return np.asarray(stems * np.float32(self.scales[index]))

    def __getitems__(self, numbers: Sequence[int]) -> tuple[Samples]:
        return (np.stack([self[number] for number in numbers]),)
