"""Chunks of WAV, Wave64 and AIFF files: whether the samples that a header promises are all that the file has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

SPARE = 1 << 12
"""Bytes after the samples that are no chunk and tell nothing: padding, old tags."""

TAGS = (b"ID3", b"TAG", b"APE", b"LYR")
"""How tags begin that programs put after the samples."""

W64 = bytes.fromhex("2e91cf11a5d628db04c10000"), bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""What follows the name ``riff`` at the beginning of a Sony Wave64 file, and the names of its chunks."""

Order = Literal["little", "big"]


def data_fault(path: Path) -> str:
    """What is wrong with the size that a WAV, Wave64 or AIFF header gives its samples; empty when nothing is.

    libsndfile silently reads what the header says, or what there is. A size beyond 4 GiB that was written into 32 bits
    comes out smaller than it is, and a program that was killed leaves 0.

    Parameters
    ----------
    path : Path
        A file; those of other kinds have no fault.

    Examples
    --------
    >>> import tempfile
    >>> import soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "song.wav")
    ...     soundfile.write(path, [0.1] * 9000, 44_100)
    ...     whole, content = data_fault(path), path.read_bytes()
    ...     size = content.index(b"data") + 4
    ...     _ = path.write_bytes(content[:size] + (100).to_bytes(4, "little") + content[size + 4 :])
    ...     whole, data_fault(path)
    ('', 'its header promises 100 bytes of samples, but 17900 more follow: ...')
    """
    with path.open("rb") as file:
        long_size = 0
        for kind, name, size, order in _chunks(file):
            if name in (b"data", b"SSND"):
                is_long = kind == b"riff" or (kind in (b"RF64", b"BW64") and size == 0xFFFFFFFF)
                if kind == b"riff":
                    long_size = size
                    # libsndfile takes all that follows for samples
                    if _is_followed(file, size):
                        return "chunks follow its samples, which is not read exactly: export it again"
                return _fault(file, long_size if is_long else size, order, is_long)
            if name == b"ds64":
                long_size = int.from_bytes(file.read(16)[8:], "little")
    return ""


def clear_time(path: Path) -> None:
    """Write zeros over the time in a file's PEAK chunk, so that the same samples are the same bytes on any day.

    libsndfile puts one before samples that are floats: version, time of writing, then value and place of each channel's
    largest sample.

    Parameters
    ----------
    path : Path
        A file; those without such a chunk stay as they are.

    Examples
    --------
    >>> import tempfile
    >>> import soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "song.wav")
    ...     soundfile.write(path, [0.5, -1.5], 44_100, subtype="FLOAT")
    ...     clear_time(path)
    ...     content = path.read_bytes()
    ...     content[content.index(b"PEAK") :][8:16].hex(), soundfile.read(path)[0].tolist()
    ('0100000000000000', [0.5, -1.5])
    """
    with path.open("r+b") as file:
        for _, name, size, _ in _chunks(file):
            if name in (b"data", b"SSND"):
                return
            if name == b"PEAK" and size >= 8:
                file.seek(4, os.SEEK_CUR)
                file.write(bytes(4))
                return


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes, int, Order]]:
    """Kind of the file, name and size of every chunk, and the order of bytes; the file is read where a chunk begins."""
    begins = file.read(12)
    kind = begins[:4]
    if kind == b"riff" and begins[4:] == W64[0][:8]:
        yield from _long_chunks(file)
    if kind not in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM"):
        return
    order: Order = "big" if kind in (b"RIFX", b"FORM") else "little"
    while len(head := file.read(8)) == 8:
        begin, size = file.tell(), int.from_bytes(head[4:], order)
        yield kind, head[:4], size, order
        file.seek(begin + size + size % 2)


def _long_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes, int, Order]]:
    """The same of Wave64: names of 16 bytes, sizes of 8 with the 24 bytes of both; chunks begin at multiples of 8."""
    file.seek(40)
    while len(head := file.read(24)) == 24 and head[4:16] == W64[1]:
        begin, size = file.tell(), int.from_bytes(head[16:], "little") - 24
        yield b"riff", head[:4], max(size, 0), "little"
        file.seek(begin + max(size, 0) + -size % 8)


def _is_followed(file: BinaryIO, size: int) -> bool:
    """Whether a chunk of Wave64 follows the one that begins here, where the file is left."""
    begin = file.tell()
    file.seek(begin + size + -size % 8)
    name = file.read(16)
    file.seek(begin)
    return name[4:] == W64[1]


def _fault(file: BinaryIO, size: int, order: Order, is_long: bool) -> str:
    """The fault of a chunk of samples that begins here."""
    there = os.fstat(file.fileno()).st_size - file.tell()
    # programs that write into a pipe put one of these in place of a size they cannot know
    unknown = not is_long and (0x7FFFF000 <= size <= 0x7FFFFFFF or 0xFFFFF000 <= size <= 0xFFFFFFFF)
    if unknown and there < 1 << 32:
        return ""
    if size > there and not unknown:
        return (
            f"its header promises {size - there} bytes of samples more than the file has: it is truncated, copy or "
            "export it again"
        )
    more = there - size
    if more >= 1 << 32 or (more > SPARE and not _is_known(file, size, more, order)):
        why = "its size is beyond 4 GiB, which WAV cannot say" if more >= 1 << 31 else "its size was never written"
        return (
            f"its header promises {size} bytes of samples, but {more} more follow: {why}; export it again, as RF64, "
            "W64 or FLAC where it is that long"
        )
    return ""


def _is_known(file: BinaryIO, size: int, more: int, order: Order) -> bool:
    """Whether what follows the samples is chunks up to the end of the file, a tag, or nothing but zeros."""
    begin = file.tell() + size
    file.seek(begin)
    first = file.read(1 << 16)
    if first.startswith(TAGS) or (more <= len(first) and not any(first)):
        return True
    place, end = begin + size % 2, begin + more
    while place + 8 <= end:
        file.seek(place)
        head = file.read(8)
        length = int.from_bytes(head[4:], order)
        if not all(32 <= sign < 127 for sign in head[:4]) or place + 8 + length > end:
            return False
        place += 8 + length + length % 2
    return end - place <= SPARE
