"""Remixes: new songs to fit on, mixed of sources of different songs, kept as a small data set beside the stem store."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stemfuse.separators import (
    ArraySignal,
    FileSignal,
    Samples,
    StemfuseError,
    Stems,
    StemStore,
    Track,
    digest,
    listed,
    write_audio,
    write_whole,
)
from stemfuse.separators.audio.whole_files import whole_folder
from stemfuse.separators.foreign.documents import read_object
from stemfuse.separators.store.entry import discard
from stemfuse.separators.track import signal_sha256

from .config import AugmentConfig
from .contents import read_contents
from .errors import ConfigError
from .stored_separators import StoredSeparator
from .workers import Progress, silent

log = logging.getLogger(__name__)

RECORD = "remix.json"
"""Beside a remix's audio: what it is mixed of, and the digest of every file's samples."""

FORM = 1
"""Raised when remixes are drawn in another way: those of before are then others."""


class Part(NamedTuple):
    """Where one source of a remix is from."""

    source: str
    song: int
    start: int


@dataclass(frozen=True)
class Remixes:
    """A set of remixes: everything about one follows from the songs, the length, the seed and its number.

    Parameters
    ----------
    songs : sequence of Track
        With references of the same sources, at one rate, with the same channels.
    length : int
        Of a remix, in samples; shorter songs are not drawn.
    seed : int
        Of all random draws.

    References
    ----------
    S. Uhlich et al., ICASSP 2017, section 2.2: mixing instruments of different songs. M. Kim, W. Choi, J. Chung, D.
    Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing", MDX workshop at ISMIR 2021.

    Examples
    --------
    >>> audio = np.ones((4, 2, 44_100))
    >>> songs = [Track.from_arrays(name, audio.sum(0), audio) for name in "abcde"]
    >>> remix = Remixes(songs, 1000, seed=0).drawn(7)
    >>> [part.source for part in remix], len({part.song for part in remix})
    (['drums', 'bass', 'other', 'vocals'], 4)
    """

    songs: Sequence[Track]
    length: int
    seed: int = 0

    def drawn(self, number: int) -> list[Part]:
        """The parts of a remix: each source from another song while there are enough, and from a place of its own."""
        generator = np.random.default_rng([self.seed, number])
        sources = self.songs[0].required_references().sources
        songs = np.resize(generator.permutation(len(self.songs)), len(sources)).tolist()
        return [
            Part(source, song, int(generator.integers(self.songs[song].length - self.length + 1)))
            for source, song in zip(sources, songs, strict=True)
        ]

    def read(self, parts: Sequence[Part]) -> dict[str, Samples]:
        """Audio (channel, time) of the mixture, which is the sum of all parts, and of every source."""
        songs = [self.songs[part.song].required_references() for part in parts]
        audio = {
            part.source: song[part.source].read(part.start, part.start + self.length)
            for song, part in zip(songs, parts, strict=True)
        }
        return {"mixture": np.sum(list(audio.values()), axis=0, dtype=np.float32), **audio}

    def record(self, parts: Sequence[Part]) -> dict[str, object]:
        """What a remix is mixed of, in words."""
        rate = self.songs[0].rate
        said = [f"{part.source} of {self.songs[part.song].name} from {part.start / rate:.1f} s" for part in parts]
        return {"mixed of": ", ".join(said)}


def remixed_tracks(
    songs: Sequence[Track],
    augment: AugmentConfig,
    store: StemStore,
    separators: Sequence[StoredSeparator],
    subset: str = "train",
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
) -> list[Track]:
    """New tracks to fit on, mixed of sources of these songs; those that were written before are used again.

    They lie in ``<store>-remixes/remixes-<digest>/<subset>/remix <number>``, each whole or not at all, as any data set
    does: float32 WAV, and the mixture is the sum of the sources. The digest is that of the songs' audio, the length and
    the seed, not of how many are asked for. So more of them begin with those that there are.

    Parameters
    ----------
    songs : sequence of Track
        Those that are fitted on, with references.
    augment : AugmentConfig
        How many, how long, and perhaps the seed.
    store : StemStore
        Where their stems will be, and what is known of audio.
    separators : sequence of StoredSeparator
        That are going to separate them.
    subset : str
        Their subset.
    seed : int
        Where ``augment`` has none.
    workers : int
        Threads that read the songs.
    progress : callable
        Called as ``progress("remix", done, total)``.

    Raises
    ------
    ConfigError
        A separator's stems were adopted or are only stored, so that it cannot separate new songs; or the songs are too
        few, too short or not alike.
    WriteError
        The folder cannot be written.
    """
    every = [part for separator in separators for part in (separator, *separator.all_parts())]
    if stored := list(dict.fromkeys(separator.label for separator in every if separator.stored)):
        raise ConfigError(
            f"augment: {listed(stored)}: only stored stems are at hand, and new songs have to be separated; give the "
            "separator with its options in a recipe, or leave out augment"
        )
    chosen = _alike(songs, augment)
    read_contents(chosen, store, workers, progress)
    remixes = Remixes(chosen, round(augment.seconds * chosen[0].rate), seed if augment.seed is None else augment.seed)
    audio = [_content(store, song) for song in chosen]
    identity = {"form": FORM, "length": remixes.length, "seed": remixes.seed, "songs": audio}
    root = store.root.with_name(f"{store.root.name}-remixes") / f"remixes-{digest(identity)[:8]}"
    made = []
    for number in range(augment.separate):
        progress("remix", number, augment.separate)
        place, parts = root / subset / f"remix {number:04d}", remixes.drawn(number)
        record = remixes.record(parts)
        if not _is_whole(place, store, record):
            _write(place, remixes.read(parts), chosen[0].rate, record)
        made.append(_open(place, chosen[0], record))
    progress("remix", augment.separate, augment.separate)
    return made


def _alike(songs: Sequence[Track], augment: AugmentConfig) -> list[Track]:
    """The songs that can be remixed with each other."""
    long_enough = [song for song in songs if song.references and song.duration_s >= augment.seconds]
    if len(long_enough) < 2:
        raise ConfigError(
            f"augment: {len(long_enough)} of {len(songs)} songs to fit on have references and {augment.seconds:g} s, "
            "expected at least two; set a smaller augment.seconds"
        )
    forms = dict.fromkeys((song.rate, song.channels, song.required_references().sources) for song in long_enough)
    if len(forms) > 1:
        said = " or ".join(f"{rate} Hz, {channels} channels, {', '.join(names)}" for rate, channels, names in forms)
        raise ConfigError(
            f"augment: the songs to fit on have {said}; expected songs that are alike: convert some first"
        )
    return long_enough


def _content(store: StemStore, song: Track) -> list[list[str]]:
    references = song.required_references()
    return [[source, store.contents.sha256(references[source])] for source in references.sources]


def _is_whole(place: Path, store: StemStore, record: Mapping[str, object]) -> bool:
    """Whether a remix lies there as it is drawn; one that is damaged or has changed is said, and taken away."""
    if not place.is_dir():
        return False
    try:
        kept = read_object(place / RECORD)
        now = {name: store.contents.sha256(FileSignal(place / f"{name}.wav")) for name in kept["sha256"]}
        if kept == {**record, "sha256": now}:
            return True
    except (OSError, ValueError, LookupError, TypeError, StemfuseError):
        pass
    log.warning("%s: damaged or changed, made again", place)
    discard(place)
    return False


def _write(place: Path, audio: Mapping[str, Samples], rate: int, record: Mapping[str, object]) -> None:
    with whole_folder(place) as folder:
        for name, samples in audio.items():
            write_audio([folder / f"{name}.wav"], [samples[None]], rate, len(samples))
        digests = {name: signal_sha256(ArraySignal(samples, rate)) for name, samples in audio.items()}
        text = json.dumps({**record, "sha256": digests}, ensure_ascii=False, indent=1)
        write_whole(folder / RECORD, lambda file: file.write(text.encode()))


def _open(place: Path, song: Track, record: Mapping[str, object]) -> Track:
    """A remix as a track, of the data set that its parts are from: who was trained on them was trained on it."""
    references = Stems.from_signals(
        {source: FileSignal(place / f"{source}.wav") for source in song.required_references().sources}
    )
    return Track(
        place.name,
        FileSignal(place / "mixture.wav"),
        place.parent.name,
        references,
        notes=(f"mixed of {record['mixed of']}",),
        data=song.data,
        data_set=place.parent.parent.name,
    )
