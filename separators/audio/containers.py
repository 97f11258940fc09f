"""Audio that libsndfile cannot read exactly, read through PyAV: stem.mp4, M4A, WebM, MP3, Opus."""

from __future__ import annotations

import os
import zlib
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stemfuse.separators.errors import AudioError, UnreadableError

from .chunks import data_fault
from .decoder import DECODE_BLOCK, Decoder, Mark, audio_errors, frame_format, last_frame, look_into, promised_s, scan
from .signals import FileSignal, Samples, Signal

if TYPE_CHECKING:
    from av.container import InputContainer

OPEN_FILES = 32
"""Decoders that a process keeps open between reads; the least recently used is closed first."""

LIBSNDFILE_SUFFIXES = frozenset({".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".aif", ".aiff", ".caf"})
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

    The signal is the full decode: what a decoder yields that starts at the beginning of the file, after the
    container's edit list and skipped samples. A read that continues the last one goes on decoding. Any other read jumps
    to a packet somewhat before its range, and the checksum of every block that follows is compared with the full
    decode's. Where they differ, the file is decoded from its beginning instead; this happens with Opus, inexact time
    stamps, and AAC that replaces bands by noise. So every range is, bit for bit, the slice of the full decode,
    whatever was read before. The checksums are made in one pass over the file, before its first jump.

    A signal can be sent to other processes, and read by several threads and by forked processes.

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

    path: Path

    def __init__(self, path: str | os.PathLike[str], stream: int = 0) -> None:
        with look_into(Path(path)) as container:
            self._measure(Path(path), stream, container)

    @classmethod
    def all_streams(cls, path: str | os.PathLike[str]) -> tuple[ContainerSignal, ...]:
        """All audio streams of a file; its header is read once."""
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
            raise AudioError(f"{path}: got audio stream {number}, expected one of the file's {len(streams)}, from 0")
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
        # edit lists and WebM round to milliseconds, encoders to whole codec frames
        if self.length < promised - self.rate / 10:
            raise AudioError(
                f"{path}: ends at sample {self.length}, expected {promised:.0f} as in its header: "
                "the file is truncated, copy or export it again"
            )

    def _read(self, start: int, stop: int) -> Samples:
        samples = np.empty((self.channels, stop - start), np.float32)
        with audio_errors(self.path):
            decoder = _decoder(self, os.getpid())
        with decoder.lock, audio_errors(self.path):
            for number in range(start // DECODE_BLOCK, -(-stop // DECODE_BLOCK)):
                begin = number * DECODE_BLOCK
                first, last = max(start, begin), min(stop, begin + DECODE_BLOCK)
                block = self._block(decoder, number)
                if block.shape != (self.channels, min(DECODE_BLOCK, self.length - begin)):
                    raise self._damaged(begin + block.shape[1])
                samples[:, first - start : last - start] = block[:, first - begin : last - begin]
        return samples

    def _block(self, decoder: Decoder, number: int) -> Samples:
        """A block of the full decode, by the shortest way that is known to give it."""
        if number == decoder.position - 1:
            return decoder.block
        if number == 0:
            return decoder.run(0)
        elsewhere = number < decoder.position or (number > decoder.position and self._marks is not None)
        if elsewhere and self._jumps_are_exact:
            decoder.jump(number, self._index()[number])
        if decoder.jumped:
            if decoder.position == number and zlib.crc32(decoder.next_block().data) == self._index()[number].checksum:
                return decoder.block
            self._jumps_are_exact = False
        return decoder.run(number)

    def _index(self) -> tuple[Mark, ...]:
        """The marks of all blocks, from one decode of the file when they are first needed."""
        if self._marks is None:
            _, length, marks = scan(self.path, self.stream)
            if length != self.length:
                raise self._damaged(length)
            self._marks = marks
        return self._marks

    def _damaged(self, length: int) -> AudioError:
        return AudioError(
            f"{self}: decodes to {length} samples, expected {self.length} as in its time stamps: "
            "the file is damaged, copy or export it again"
        )

    def __str__(self) -> str:
        return str(self.path) if self.stream == 0 else f"{self.path} (audio stream {self.stream})"


@lru_cache(maxsize=OPEN_FILES)
def _decoder(signal: ContainerSignal, process: int) -> Decoder:
    """The open decoder of a signal in this process: a forked child would share its file position, so it has its own."""
    return Decoder(signal.path, signal.stream)


def open_signal(path: str | os.PathLike[str], stream: int | None = None) -> Signal:
    """Open an audio file with the reader that reads it exactly.

    WAV, FLAC, Ogg Vorbis and AIFF are read by libsndfile, what it refuses and everything else through PyAV: libsndfile
    cannot read M4A and the like, guesses the length of MP3 files without a Xing frame, and reads other Opus samples
    after a seek.

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
        try:
            signal = FileSignal(path)
        except UnreadableError as refused:
            return _otherwise(Path(path), refused)
        if signal.subtype not in INEXACT_SUBTYPES:
            return signal
    return ContainerSignal(path, stream or 0)


def _otherwise(path: Path, refused: UnreadableError) -> ContainerSignal:
    """A file that libsndfile refuses, such as a WAV with a codec that it does not know, through PyAV."""
    try:
        if fault := data_fault(path):
            raise AudioError(f"{path}: {fault}")
        return ContainerSignal(path)
    except AudioError as error:
        # what only the first reader says is of no use where the second one says what is wrong
        raise (error if "header promises" in str(error) else refused) from error
