"""Songs on disk in the layout of MUSDB18-HQ: each is written whole or not at all, and never twice."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from stemfuse.separators import RATE, SOURCES, AudioError, FileSignal, TrackError, WriteError
from stemfuse.separators.audio.whole_files import HOST, is_alive

from .composition import compose, length_of
from .mixing import mix
from .widening import mix_widely

SUBSET_PATTERN = ("train", "test", "valid", "train")
"""Subsets of songs 0, 1, 2, 3, then again: half train, a quarter each valid and test, and early ones of each."""

FILES = ("mixture", *SOURCES)


def track_name(seed: int, index: int, wide: bool = False) -> str:
    """Name of a song: it holds the seed and the index that the song is made from, and whether it was widened.

    Examples
    --------
    >>> track_name(7, 3)
    'Synth Band 0007 - 003'
    """
    return f"{'Wide' if wide else 'Synth'} Band {seed:04d} - {index:03d}"


def plan_tracks(tracks: int | Mapping[str, int], subset: str | None = None) -> list[tuple[str, int]]:
    """List the songs to make: (subset, index) in the order of the indices.

    The index alone decides the subset, by `SUBSET_PATTERN`. So no song is ever in two subsets of a tree, even if the
    tree is extended later with other counts.

    Parameters
    ----------
    tracks : int or mapping of str to int
        Number of songs, or numbers per subset.
    subset : str, optional
        With a number: all songs are of this subset.

    Raises
    ------
    TrackError
        A number is negative, all are 0, or a subset is unknown.

    Examples
    --------
    >>> plan_tracks(5)
    [('train', 0), ('test', 1), ('valid', 2), ('train', 3), ('train', 4)]
    >>> plan_tracks({"train": 1, "test": 2})
    [('train', 0), ('test', 1), ('test', 5)]
    """
    if isinstance(tracks, Mapping) and subset is not None:
        raise TrackError(f"got numbers per subset and subset {subset!r}, expected one of the two")
    counts = dict(tracks) if isinstance(tracks, Mapping) else {subset: tracks}
    if min(counts.values(), default=0) < 0 or not any(counts.values()):
        raise TrackError(f"got {tracks} tracks, expected one or more")
    planned: list[tuple[str, int]] = []
    for name, count in counts.items():
        if name is not None and name not in SUBSET_PATTERN:
            raise TrackError(f"got subset {name!r}, expected train, valid or test")
        everything = ((SUBSET_PATTERN[index % len(SUBSET_PATTERN)], index) for index in itertools.count())
        planned += itertools.islice((song for song in everything if name in (None, song[0])), count)
    return sorted(planned, key=lambda song: song[1])


def _is_complete(folder: Path, length: int) -> bool:
    """Whether a song is there already; one that is damaged or of another length is an error, never overwritten."""
    if not folder.exists():
        return False
    remedy = "delete the folder and run again, or choose another directory"
    for name in FILES:
        try:
            signal = FileSignal(folder / f"{name}.wav")
        except AudioError as error:
            raise TrackError(f"{folder}: the track is not complete ({error}); {remedy}") from error
        if (signal.length, signal.rate, signal.channels) != (length, RATE, 2):
            raise TrackError(
                f"{signal}: {signal.length} samples, {signal.channels} channels at {signal.rate} Hz, "
                f"expected {length}, 2 and {RATE}; {remedy}"
            )
    return True


def write_song(folder: Path, stems: NDArray[np.int16]) -> None:
    """Write five files as 16-bit WAV: four stems (source, channel, time), and the mixture, their integer sum."""
    for name, samples in zip(FILES, (stems.sum(0, dtype=np.int16), *stems), strict=True):
        # libsndfile would put the time of day into the header of some formats; these files depend on the seed alone
        wavfile.write(folder / f"{name}.wav", RATE, samples.T)


@contextlib.contextmanager
def _appearing(directory: Path, folder: Path) -> Iterator[Path]:
    """A temporary folder that takes its place in one step when the block ends well, and is gone otherwise.

    It lies at the top of the tree, where it cannot be read as a track, and its name holds host and process, so that the
    next call can remove what a killed one left.
    """
    temporary = directory / f".writing-{HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary.mkdir()
    try:
        yield temporary
        # another process may have been first; its song has the same bytes
        if not folder.exists():
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def provide(directory: Path, folder: Path, seconds: float, make: Callable[[], NDArray[np.int16]]) -> None:
    """Make the song of a folder of a tree unless it is there already, whole or not at all.

    Parameters
    ----------
    directory, folder : Path
        Root of the tree and the song's own folder in it.
    seconds : float
        Length of the song.
    make : callable
        Gives its stems, (source, channel, time).

    Raises
    ------
    TrackError
        The folder holds something else.
    WriteError
        The disk is full or the folder cannot be written.
    """
    try:
        if not _is_complete(folder, length_of(seconds)):
            with _appearing(directory, folder) as temporary:
                write_song(temporary, make())
    except OSError as error:
        raise WriteError(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or choose another directory"
        ) from error


def synthesize(
    directory: str | os.PathLike[str],
    tracks: int | Mapping[str, int] = 8,
    seconds: float = 30.0,
    seed: int = 0,
    subset: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    wide: bool = False,
) -> list[Path]:
    """Make songs of the synthetic band as a data set in the layout of MUSDB18-HQ.

    Songs are ``<directory>/<subset>/<track name>/{mixture,drums,bass,other,vocals}.wav``, 16 bit, stereo, 44 100 Hz;
    read as float32 the mixture is exactly the sum of the four stems. A song depends on seed, index and length alone,
    not on how many others there are. With the same versions of numpy and scipy on the same kind of processor its files
    have the same bytes. Each song appears whole or not at all. Songs that are there already are left alone, so that
    the same call continues an interrupted one.

    Parameters
    ----------
    directory : path-like
        Where the tree is; made when missing.
    tracks : int or mapping of str to int
        Number of songs, of which about half are for training, a quarter each for validation and test (see
        `plan_tracks`), or numbers per subset: ``{"train": 20, "valid": 4, "test": 10}``.
    seconds : float
        Length of each song in seconds.
    seed : int
        Another seed is another band. Its songs have other names, so that one tree can hold both.
    subset : str, optional
        ``"train"``, ``"valid"`` or ``"test"``: all songs are of it.
    progress : callable, optional
        Called as ``progress(done, total)`` after each song.
    wide : bool
        Songs to train on: each stem at another speed, through filters, rooms, overdrive and a lossy codec, at wider
        levels, see `mix_widely`. They have other names. Songs without it are what they always were.

    Returns
    -------
    list of Path
        The folder of each song, in the order of the indices.

    Raises
    ------
    TrackError
        A number, length, seed or subset is out of range, or a folder of that name holds something else.
    WriteError
        The disk is full or the directory cannot be written; no part of a song is left.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     made = synthesize(directory, tracks=2, seconds=2.0, seed=7)
    ...     [str(path.relative_to(directory)) for path in made]
    ['train/Synth Band 0007 - 000', 'test/Synth Band 0007 - 001']
    """
    directory = Path(directory)
    planned = plan_tracks(tracks, subset)
    for remains in directory.glob(".writing-*-*-*"):
        if not is_alive(remains):
            shutil.rmtree(remains, ignore_errors=True)
    folders = [directory / part / track_name(seed, index, wide) for part, index in planned]

    def make(index: int) -> NDArray[np.int16]:
        return mix_widely((seed, index), seconds) if wide else mix(compose((seed, index), seconds))

    for done, ((_, index), folder) in enumerate(zip(planned, folders, strict=True), start=1):
        provide(directory, folder, seconds, functools.partial(make, index))
        if progress is not None:
            progress(done, len(planned))
    return folders
