"""Audio that libsndfile does not read, or not to the sample: stem.mp4, M4A, WebM, MP3, Opus, through PyAV."""

from __future__ import annotations

import os
import zlib
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stemfuse.separators.errors import AudioError

from .decoder import CHUNK, Decoder, Mark, audio_errors, frame_format, last_frame, look_into, promised_s, scan
from .signals import FileSignal, Samples, Signal

if TYPE_CHECKING:
    from av.container import InputContainer

OPEN_FILES = 32
"""Decoders that a process keeps open between reads; the one that rested longest is closed first."""

LIBSNDFILE_SUFFIXES = frozenset({".wav", ".wave", ".rf64", ".flac", ".ogg", ".oga", ".aif", ".aiff", ".caf"})
"""Files that `open_signal` gives to libsndfile."""

PYAV_SUFFIXES = frozenset(
    {".mp3", ".m4a", ".mp4", ".m4b", ".mov", ".aac", ".opus", ".webm", ".mka", ".mkv", ".wma", ".ac3", ".au"}
)
"""Files that `open_signal` gives to PyAV, as any other suffix; listed to tell songs from other files in a folder."""

# libsndfile guesses the length of an MP3 without a Xing frame (8.9 million samples where there are 1.6), and what it
# reads of Opus after a seek differs in the last bit from what it reads on the way
INEXACT_SUBTYPES = frozenset({"OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"})


class ContainerSignal(Signal):
    """One audio stream of a file that PyAV decodes; the program ffmpeg is not needed.

    The signal is what a decoder yields that starts at the beginning of the file, after the container's edit list
    and skipped samples. A read that continues the last one goes on decoding; one that goes elsewhere jumps to a packet
    somewhat before its range, and every chunk that follows is compared with a checksum. Where they differ, as with AAC
    that substitutes noise for bands, Opus, or inexact time stamps, the file is decoded from its beginning instead. So
    every range is, bit for bit, the slice of the full decode, whatever was read before. The checksums come from one
    pass over the file, made before its first jump.

    A signal can be pickled, and read by several threads and by forked processes.

    Parameters
    ----------
    path : path-like
        The file.
    stream : int
        Which of its audio streams, from 0.

    Raises
    ------
    AudioError
        No such file, no audio or no such stream in it, or a truncated file.

    Notes
    -----
    The length of MP4 and its relatives comes from the time stamp of their last frame, since their headers are rounded
    to milliseconds; that of other formats from one decode when the file is opened, 0.5 s for a song of four minutes.

    Examples
    --------
    >>> import soundfile, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/song.mp3", np.zeros((50_000, 2)), 44_100)
    ...     song = ContainerSignal(f"{folder}/song.mp3")
    ...     song.length, song.read(20_000, 20_004).shape
    (50000, (2, 4))
    """

    def __init__(self, path: str | os.PathLike[str], stream: int = 0) -> None:
        with look_into(Path(path)) as container:
            self._measure(Path(path), stream, container)

    @classmethod
    def all_streams(cls, path: str | os.PathLike[str]) -> tuple[ContainerSignal, ...]:
        """Every audio stream of a file, for one reading of its header."""
        signals = []
        with look_into(Path(path)) as container:
            for stream in range(len(container.streams.audio)):
                signal = cls.__new__(cls)
                signal._measure(Path(path), stream, container)
                signals.append(signal)
        return tuple(signals)

    def _measure(self, path: Path, number: int, container: InputContainer) -> None:
        streams = container.streams.audio
        if not 0 <= number < len(streams):
            raise AudioError(f"{path}: audio stream {number} was asked for, the file has {len(streams)} (from 0)")
        self.path, self.stream = path, number
        self._marks: tuple[Mark, ...] | None = None
        self._jumps_are_exact = True
        stream = streams[number]
        last = last_frame(container, stream)
        if last is not None and last.pts is not None and last.time_base == Fraction(1, last.sample_rate):
            self.rate, self.channels = frame_format(last)
            self.length = last.pts + last.samples - (stream.start_time or 0)
        else:
            (self.rate, self.channels), self.length, self._marks = scan(path, number)
        promised = promised_s(container, stream) * self.rate
        # edit lists and WebM round to milliseconds, encoders to whole frames
        if self.length < promised - self.rate / 10:
            raise AudioError(
                f"{path}: ends at sample {self.length}, its header says {promised:.0f}: "
                "the file is truncated, copy or export it again"
            )

    def _read(self, start: int, stop: int) -> Samples:
        samples = np.empty((self.channels, stop - start), np.float32)
        with audio_errors(self.path):
            decoder = _decoder(self, os.getpid())
        with decoder.lock, audio_errors(self.path):
            for number in range(start // CHUNK, -(-stop // CHUNK)):
                begin = number * CHUNK
                first, last = max(start, begin), min(stop, begin + CHUNK)
                chunk = self._chunk(decoder, number)
                if chunk.shape != (self.channels, min(CHUNK, self.length - begin)):
                    raise self._damaged(begin + chunk.shape[1])
                samples[:, first - start : last - start] = chunk[:, first - begin : last - begin]
        return samples

    def _chunk(self, decoder: Decoder, number: int) -> Samples:
        """A chunk as the decode from the beginning has it, by the shortest way that is proven."""
        if number == decoder.position - 1:
            return decoder.chunk
        if number == 0:
            return decoder.run(0)
        elsewhere = number < decoder.position or (number > decoder.position and self._marks is not None)
        if elsewhere and self._jumps_are_exact:
            decoder.jump(number, self._index()[number])
        if decoder.jumped:
            if decoder.position == number and zlib.crc32(decoder.next_chunk().data) == self._index()[number].checksum:
                return decoder.chunk
            self._jumps_are_exact = False
        return decoder.run(number)

    def _index(self) -> tuple[Mark, ...]:
        """The marks of all chunks, from one decode of the file when they are first asked for."""
        if self._marks is None:
            _, length, marks = scan(self.path, self.stream)
            if length != self.length:
                raise self._damaged(length)
            self._marks = marks
        return self._marks

    def _damaged(self, length: int) -> AudioError:
        return AudioError(
            f"{self}: decodes to {length} samples, its time stamps say {self.length}: "
            "the file is damaged, copy or export it again"
        )

    def __str__(self) -> str:
        return str(self.path) if self.stream == 0 else f"{self.path} (audio stream {self.stream})"


@lru_cache(maxsize=OPEN_FILES)
def _decoder(signal: ContainerSignal, process: int) -> Decoder:
    """The open decoder of a signal in this process: a forked child shares file positions, so it needs its own."""
    return Decoder(signal.path, signal.stream)


def open_signal(path: str | os.PathLike[str], stream: int | None = None) -> Signal:
    """Open an audio file with the reader that is exact for it.

    WAV, FLAC, Ogg Vorbis and AIFF are read by libsndfile, everything else through PyAV: libsndfile cannot read M4A and
    its kin, it guesses the length of MP3 files without a Xing frame, and its Opus is not the same after a seek.

    Parameters
    ----------
    path : path-like
        The file.
    stream : int, optional
        Which audio stream of a file that has several, from 0; the first when not given.

    Returns
    -------
    Signal
        A `FileSignal` or a `ContainerSignal`.

    Raises
    ------
    AudioError
        No such file, no audio in it, no samples, or a truncated file.

    Examples
    --------
    >>> import soundfile, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/song.flac", np.zeros((50_000, 2)), 44_100)
    ...     open_signal(f"{folder}/song.flac").length
    50000
    """
    if stream is None and Path(path).suffix.lower() in LIBSNDFILE_SUFFIXES:
        signal = FileSignal(path)
        if signal.subtype not in INEXACT_SUBTYPES:
            return signal
    return ContainerSignal(path, stream or 0)
