"""Signals: audio as float32 (channel, time), read by time range from memory or files, and written to files."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from stemfuse.separators.errors import AudioError, UnreadableError, WriteError

from .chunks import clear_time, data_fault
from .levels import Levels, check_subtype
from .whole_files import whole_file

RATE = 44_100
"""The papers' sample rate, in Hz."""

BLOCK = 1 << 18
"""Samples read at a time when a song is streamed: 6 s, a few MB per stereo signal."""

SURROUND = 8
"""So many channels are taken for channels, and sources for sources, however short the audio is."""

LENGTH_PER_BYTE = 10_000
"""Most samples that a byte of a file stands for: silence in FLAC takes some bytes for thousands of samples."""

Samples = NDArray[np.float32]

FULL_SCALES = {np.dtype(np.int16): (0, 1 << 15), np.dtype(np.int32): (0, 1 << 31), np.dtype(np.uint8): (128, 128)}
"""Zero and full scale of the integers that audio files are read as."""


class Signal(ABC):
    """Audio that is read by time range, so that no song has to fit into memory.

    Attributes
    ----------
    rate : int
        Sample rate in Hz.
    channels : int
        Number of channels.
    length : int
        Number of samples.
    path : Path, optional
        The file that holds the samples as they are read; None where there is no such file.
    stream : int
        Which of the file's audio streams, from 0.
    """

    rate: int
    channels: int
    length: int
    path: Path | None = None
    stream: int = 0

    @property
    def parts(self) -> tuple[Signal, ...]:
        """The signals that this one is computed from; none where it is read itself."""
        return ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the samples are computed from; empty for audio in memory."""
        if self.path is not None:
            return (self.path,)
        files = [part.files for part in self.parts]
        return tuple(file for part in files for file in part) if all(files) else ()

    @abstractmethod
    def _read(self, start: int, stop: int) -> Samples:
        """Samples of a range that `read` has checked to be inside the signal."""

    def read(self, start: int = 0, stop: int | None = None) -> Samples:
        """Read samples ``start`` to ``stop``.

        Parameters
        ----------
        start, stop : int
            Range in samples, with 0 <= start <= stop <= length; ``stop`` is the end when not given.

        Returns
        -------
        ndarray, shape (channel, time), float32
            Full scale is 1.

        Raises
        ------
        AudioError
            The range is not inside the signal, the file is damaged, or a sample is NaN or infinite.
        """
        stop = self.length if stop is None else stop
        if not 0 <= start <= stop <= self.length:
            raise AudioError(
                f"{self}: got a range of samples {start} to {stop}, expected one within 0 to {self.length}"
            )
        samples = self._read(start, stop)
        if not np.isfinite(samples).all():
            channel, time = np.argwhere(~np.isfinite(samples))[0]
            raise AudioError(
                f"{self}: sample {start + int(time)} of channel {int(channel)} is {samples[channel, time]}; "
                "expected finite numbers: export the audio again or repair it"
            )
        return samples

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, Samples]]:
        """Yield ``(start, samples)`` from the beginning to the end, ``size`` samples at a time."""
        for start in range(0, self.length, size):
            yield start, self.read(start, min(start + size, self.length))

    def __repr__(self) -> str:
        return f"<{self}: {self.channels} x {self.length} at {self.rate} Hz>"

    def __str__(self) -> str:
        return type(self).__name__


def channels_in_words(channels: int) -> str:
    """A number of channels in words.

    Examples
    --------
    >>> channels_in_words(1), channels_in_words(2), channels_in_words(6)
    ('mono', 'stereo', '6 channels')
    """
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def by_hand(channels: int, wanted: int, mean: bool = False) -> str:
    """What to do with audio of so many channels that is not converted here; empty where it is.

    Mono is copied to any number of channels; with ``mean`` stereo becomes mono.

    Examples
    --------
    >>> by_hand(6, 2), by_hand(2, 6), by_hand(1, 2)
    ('mix it down to stereo in an editor first', 'export it as 6 channels first', '')
    """
    if channels in (1, wanted) or (mean and (channels, wanted) == (2, 1)):
        return ""
    words = channels_in_words(wanted)
    return f"mix it down to {words} in an editor first" if channels > wanted else f"export it as {words} first"


def swapped_axes(shape: tuple[int, ...]) -> str:
    """What to do with an array whose axes seem to be (time, channel), as ``soundfile`` reads them; empty otherwise.

    Examples
    --------
    >>> swapped_axes((44100, 2)), swapped_axes((2, 44100)), swapped_axes((6, 1))
    ('time and channel seem swapped, give audio.T', '', '')
    """
    is_swapped = len(shape) == 2 and shape[0] > SURROUND and shape[1] in (1, 2)
    return "time and channel seem swapped, give audio.T" if is_swapped else ""


def as_samples(array: Any) -> Samples:
    """An array as float32 of full scale 1; integers of files are scaled by their type.

    Parameters
    ----------
    array : array_like
        Real numbers, or 16-bit, 32-bit or unsigned 8-bit integers, as ``soundfile`` and ``scipy.io.wavfile`` read them.

    Raises
    ------
    AudioError
        Numbers of another type: their full scale is not known.

    Examples
    --------
    >>> as_samples(np.array([[16384, -32768]], np.int16)), as_samples(np.array([[192]], np.uint8))
    (array([[ 0.5, -1. ]], dtype=float32), array([[0.5]], dtype=float32))
    """
    samples = np.asarray(array)
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype not in FULL_SCALES:
        raise AudioError(
            f"got samples of type {samples.dtype}, expected floats of full scale 1, or int16, int32 or uint8, which "
            "are scaled by their type: divide them by their full scale first"
        )
    middle, full_scale = FULL_SCALES[samples.dtype]
    return ((samples.astype(np.float64) - middle) / full_scale).astype(np.float32)


class ArraySignal(Signal):
    """A signal in memory.

    Parameters
    ----------
    samples : array_like, shape (channel, time)
        Converted to float32 by `as_samples`.
    rate : int
        Sample rate in Hz.

    Examples
    --------
    >>> import numpy as np
    >>> ArraySignal(np.zeros((2, 44100))).read(10, 14).shape
    (2, 4)
    """

    def __init__(self, samples: NDArray[np.floating] | Samples, rate: int = RATE) -> None:
        array = as_samples(samples)
        if array.ndim != 2:
            raise AudioError(f"got audio of shape {array.shape}, expected (channel, time)")
        if advice := swapped_axes(array.shape):
            raise AudioError(f"got audio of shape {array.shape}, expected (channel, time): {advice}")
        self.samples = array
        self.rate = int(rate)
        self.channels, self.length = array.shape

    def _read(self, start: int, stop: int) -> Samples:
        return self.samples[:, start:stop]

    def __str__(self) -> str:
        return "audio in memory"


class FileSignal(Signal):
    """A signal in a WAV, FLAC, MP3 or OGG file, read by libsndfile when asked for.

    Parameters
    ----------
    path : path-like
        The file. Its header is read at once, its samples only when asked for.

    Raises
    ------
    AudioError
        No such file, no audio in it, or no samples.
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise AudioError(f"{self.path}: no such file")
        try:
            info = sf.info(str(self.path))
        except (sf.SoundFileError, RuntimeError) as error:
            size = self.path.stat().st_size
            raise UnreadableError(
                f"{self.path}: {size} bytes that are not readable audio ({error}); expected WAV, FLAC, MP3, OGG, "
                "M4A or stem.mp4: export the file again"
            ) from error
        self.rate, self.channels, self.length = int(info.samplerate), int(info.channels), int(info.frames)
        self.subtype = str(info.subtype)
        if fault := data_fault(self.path):
            raise AudioError(f"{self.path}: {fault}")
        most = LENGTH_PER_BYTE * self.path.stat().st_size
        if self.length > most:
            raise AudioError(
                f"{self.path}: its header claims {self.length} samples, expected at most {most} in a file of its size: "
                "it is damaged, export it again"
            )
        if self.length == 0:
            raise AudioError(f"{self.path}: the file has no samples; export it again")

    def _read(self, start: int, stop: int) -> Samples:
        try:
            with sf.SoundFile(str(self.path)) as file:
                file.seek(start)
                samples = file.read(stop - start, dtype="float32", always_2d=True)
        except (sf.SoundFileError, RuntimeError) as error:
            raise UnreadableError(f"{self.path}: cannot be read ({error}); export the file again") from error
        if len(samples) != stop - start:
            raise UnreadableError(
                f"{self.path}: ends at sample {start + len(samples)}, expected {self.length} as in its header: "
                "the file is truncated, copy or export it again"
            )
        return np.ascontiguousarray(samples.T)

    def __str__(self) -> str:
        return str(self.path)


def write_audio(
    paths: Sequence[str | os.PathLike[str]],
    blocks: Iterable[Samples],
    rate: int,
    channels: int,
    subtype: str = "FLOAT",
    shown: Sequence[str | os.PathLike[str]] | None = None,
) -> None:
    """Write blocks into files as they are made, one file per entry of the first axis, each whole or not at all.

    The same samples are the same bytes, whenever they are written.

    Parameters
    ----------
    paths : sequence of path-like
        The suffix sets the format (``.wav``, ``.flac``); the folders must exist.
    blocks : iterable of ndarray, shape (file, channel, time)
        Written one after the other.
    rate : int
        Sample rate in Hz.
    channels : int
        Number of channels.
    subtype : str
        libsndfile's sample format; float32 unless asked otherwise. Formats of integers cannot hold samples beyond full
        scale: these are clipped, and a warning says how many there were, and the peak.
    shown : sequence of path-like, optional
        What warnings call the files, where they are renamed later.

    Raises
    ------
    AudioError
        Files of this suffix do not have such samples; see `check_subtype`.
    WriteError
        The disk is full or a folder cannot be written; nothing is left behind.
    """
    advice = "free some space or choose another folder"
    subtype = check_subtype(Path(paths[0]), subtype) if paths else subtype
    for folder in {Path(path).parent for path in paths}:
        if not folder.is_dir():
            raise WriteError(f"{folder}: no such folder; make it or choose another folder")
    try:
        with contextlib.ExitStack() as stack:
            files = []
            for path in paths:
                temporary = stack.enter_context(whole_file(path, advice))
                stack.push(partial(_clear_time, temporary))
                opened = sf.SoundFile(temporary, "w", samplerate=rate, channels=channels, subtype=subtype)
                files.append(stack.enter_context(opened))
            levels = [Levels(Path(path), subtype) for path in shown or paths]
            for block in blocks:
                for file, level, samples in zip(files, levels, block, strict=True):
                    level.add(samples)
                    try:
                        file.write(samples.T)
                    except sf.SoundFileError:
                        _raise_reason(Path(file.name))
                        raise
        for level in levels:
            level.report()
    except sf.SoundFileError as error:
        where = paths[0] if len(paths) == 1 else Path(paths[0]).parent
        raise WriteError(f"{where}: cannot be written ({error}); {advice}") from error


def _clear_time(file: Path, error: type[BaseException] | None, *_: object) -> None:
    """Called when a file is closed, well or not."""
    if error is None:
        clear_time(file)


def _raise_reason(file: Path) -> None:
    """Raise the OSError that keeps a file from growing; libsndfile only says "System error"."""
    with file.open("ab", buffering=0) as opened:
        opened.write(bytes(1 << 16))
