"""Decoding one audio stream of a file through PyAV, block by block, with a way back to each block."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stemfuse.separators.errors import AudioError, UnreadableError

from .signals import Samples

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

DECODE_BLOCK = 1 << 16
"""Samples that are decoded at a time: 1.5 s."""

PREROLL = 1 << 13
"""Samples decoded and dropped before the block that is jumped to: eight AAC frames, more than MP3's bit reservoir."""

DEMUXERS = "mov,matroska,ogg,mp3,aac,asf,ac3,eac3,flac,wav,w64,aiff,caf,au,ape,wv,tta,avi,flv,mpeg,mpegts"
"""The containers that are opened: ffmpeg's libraries also know playlists, which would read other files."""


class Mark(NamedTuple):
    """How a block is found again: the codec frame that it begins in, the samples before it there, its checksum."""

    time: int | None
    offset: int
    checksum: int


class Decoder:
    """An open file, and the place up to which one of its streams is decoded, block after block."""

    def __init__(self, path: Path, stream: int) -> None:
        self.path, self.number = path, stream
        self.lock = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Open the file anew: only a fresh decoder begins as the first one did."""
        container = open_container(self.path)
        self.close()
        self.container = container
        self.stream = self.container.streams.audio[self.number]
        # a decoder's threads would not survive a fork
        self.stream.codec_context.thread_count = 1
        self.position, self.jumped = 0, False
        self.source = self.container.decode(self.stream)
        first = next(self.source, None)
        if first is None:
            raise UnreadableError(f"{self.path}: audio stream {self.number} has no samples; export it again")
        self.format = frame_format(first)
        self.block = self.rest = self._take(first)

    def close(self) -> None:
        """Close the file: PyAV's objects refer to each other, so it would stay open until garbage is collected."""
        # there is none where the file could not be opened
        container = vars(self).get("container")
        if container is not None:
            container.close()

    __del__ = close

    def run(self, number: int) -> Samples:
        """Decode from the beginning up to a block, and return it."""
        if self.jumped or self.position > number:
            self.restart()
        while self.position <= number:
            self.next_block()
        return self.block

    def jump(self, number: int, mark: Mark) -> None:
        """Go to the beginning of a block if that is possible; what is decoded from there has to be checked."""
        import av

        self.position, self.jumped = -1, True
        if mark.time is None or self.stream.time_base is None:
            return
        ticks = round(PREROLL / self.format[0] / self.stream.time_base)
        # errors of a codec after a seek do not mean that the file is damaged
        with contextlib.suppress(av.FFmpegError):
            self.container.seek(max(mark.time - ticks, 0), stream=self.stream)
            self.source = self.container.decode(self.stream)
            for frame in self.source:
                if frame.pts == mark.time:
                    self.rest, self.position = self._take(frame)[:, mark.offset :], number
                if frame.pts is None or frame.pts >= mark.time:
                    return

    def next_block(self) -> Samples:
        """Decode the next block: shorter at the end of the stream, empty after it."""
        position, jumped = self.position, self.jumped
        # no position, in case the decoder fails
        self.position, self.jumped = -1, True
        parts, count = [self.rest], self.rest.shape[1]
        # one sample more than the block, so that `mark` knows the codec frame that the next one begins in
        while count <= DECODE_BLOCK and (frame := next(self.source, None)) is not None:
            parts.append(self._take(frame))
            count += frame.samples
        samples = np.concatenate(parts, axis=1)
        self.block, self.rest = np.ascontiguousarray(samples[:, :DECODE_BLOCK]), samples[:, DECODE_BLOCK:]
        self.position, self.jumped = position + 1, jumped
        return self.block

    def mark(self) -> tuple[int | None, int]:
        """Where the next block begins: the time stamp of the codec frame, and the samples before the block in it."""
        return self.last.pts, self.last.samples - self.rest.shape[1]

    def _take(self, frame: AudioFrame) -> Samples:
        if frame_format(frame) != self.format:
            raise UnreadableError(
                f"{self.path}: changes from {self.format} to {frame_format(frame)} Hz and channels in the middle; "
                "expected one format: export it again"
            )
        self.last = frame
        return frame_samples(frame)


def scan(path: Path, stream: int) -> tuple[tuple[int, int], int, tuple[Mark, ...]]:
    """Decode everything once: rate and channels, the length in samples, and where each block begins."""
    decoder = Decoder(path, stream)
    marks, length = [], 0
    while decoder.rest.size:
        time, offset = decoder.mark()
        samples = decoder.next_block()
        marks.append(Mark(time, offset, zlib.crc32(samples.data)))
        length += samples.shape[1]
    return decoder.format, length, tuple(marks)


def frame_format(frame: AudioFrame) -> tuple[int, int]:
    """Sample rate in Hz and number of channels."""
    return frame.sample_rate, len(frame.layout.channels)


def frame_samples(frame: AudioFrame) -> Samples:
    """A codec frame as float32 (channel, time), full scale 1."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(frame.samples, -1).T
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    full_scale = np.float32(2 ** (8 * array.dtype.itemsize - 1))
    middle = full_scale if array.dtype.kind == "u" else np.float32(0)
    return (array.astype(np.float32) - middle) / full_scale


def last_frame(container: InputContainer, stream: AudioStream) -> AudioFrame | None:
    """The last codec frame, found by the container's table of packets; None where there is no table.

    A quarter of a second is decoded.
    """
    if not (stream.frames and stream.duration and stream.time_base):
        return None
    end = (stream.start_time or 0) + stream.duration
    container.seek(max(end - round(0.25 / stream.time_base), 0), stream=stream)
    last = None
    for frame in container.decode(stream):
        last = frame
    return last


def promised_s(container: InputContainer, stream: AudioStream) -> float:
    """The length that a header promises in seconds; 0 where there is none or only ffmpeg's guess."""
    name = container.format.name
    if stream.duration and stream.time_base and ("mp4" in name or (name == "mp3" and stream.start_time)):
        return float(stream.duration * stream.time_base)
    if container.duration and "matroska" in name and all(other.type == "audio" for other in container.streams):
        return container.duration / 1e6
    return 0.0


def open_container(path: Path) -> InputContainer:
    """Open a file, and nothing but this file."""
    import av

    # the prefix keeps a colon in a name from being a protocol
    return av.open(f"file:{path}", options={"protocol_whitelist": "file", "format_whitelist": DEMUXERS})


@contextlib.contextmanager
def look_into(path: Path) -> Iterator[InputContainer]:
    """Open a file to read its header."""
    if not path.is_file():
        raise AudioError(f"{path}: no such file")
    with audio_errors(path), open_container(path) as container:
        yield container


@contextlib.contextmanager
def audio_errors(path: Path) -> Iterator[None]:
    """Errors of ffmpeg's libraries become an AudioError that says what to do."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        size = path.stat().st_size if path.exists() else 0
        raise UnreadableError(
            f"{path}: {size} bytes that cannot be decoded ({error.strerror}); expected WAV, FLAC, MP3, OGG, M4A or "
            "stem.mp4: the file is truncated, damaged or no audio, copy or export it again"
        ) from error
