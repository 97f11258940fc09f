"""ZIP archives: opened, compared with what they may hold, and unpacked within these bounds."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from stemfuse.separators.errors import StemfuseError

from .table import DIRECTORY_BYTES, MEBI, UNPACKED, ForeignFileError

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    struct.error,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What Python's reader of archives raises for damaged or strange ones."""

_END = b"PK\x05\x06"
_END_SIZE = 22
_COMMENT = 1 << 16


@contextlib.contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """A ZIP archive; whatever is wrong with it, also later in the block, becomes one kind of error.

    Raises
    ------
    ForeignFileError
        It is none, or damaged, encrypted or compressed in an unknown way.
    OSError
        The file cannot be read.
    """
    try:
        _check_directory(Path(path))
        with zipfile.ZipFile(path) as archive:
            yield archive
    # what the block itself finds wrong is no damage of the archive
    except StemfuseError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ForeignFileError(f"is no archive or a damaged one ({reason})") from error


def _check_directory(path: Path) -> None:
    """The directory is read whole by Python, so its size is compared first."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - _END_SIZE - _COMMENT, 0))
        tail = file.read(_END_SIZE + _COMMENT)
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_SIZE:
        raise ForeignFileError("is no archive or a damaged one (its directory is missing)")
    entries, bytes_ = struct.unpack("<HI", tail[place + 10 : place + 16])
    # larger archives have these numbers elsewhere, and as many bytes for the directory as lie before its end
    if bytes_ == 0xFFFFFFFF or entries == 0xFFFF:
        raise ForeignFileError("is an archive of too many entries")
    if bytes_ > DIRECTORY_BYTES:
        raise ForeignFileError(f"its directory has {bytes_} bytes, expected at most {DIRECTORY_BYTES}")


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a ZIP archive does."""
    with Path(path).open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def read_entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of one entry.

    Parameters
    ----------
    archive : ZipFile
        Of `open_archive`.
    name : str
        Of the entry.
    most : int
        Bytes that it may have.

    Raises
    ------
    ForeignFileError
        It is missing or larger.
    """
    try:
        entry = archive.getinfo(name)
    except KeyError as error:
        raise ForeignFileError(f"the entry {name!r} is missing") from error
    if entry.file_size > most:
        raise ForeignFileError(f"the entry {name!r} has {entry.file_size} bytes, expected at most {most}")
    return archive.read(entry)


def check_stored(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise an error when an entry is compressed: an uncompressed one cannot be larger than its file.

    Raises
    ------
    ForeignFileError
        It is compressed.
    """
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ForeignFileError(f"the entry {entry.filename!r} is compressed, expected one that is not")


def unpack_known(path: str | os.PathLike[str], sizes: Mapping[str, Collection[int]], folder: Path) -> list[Path]:
    """Unpack the files of an archive that have a known name, and a known size where there is one.

    Parameters
    ----------
    path : path-like
        The archive.
    sizes : mapping of str to collection of int
        Sizes of the files of each name, each as often as it may be there; an empty collection stands for any.
    folder : Path
        Where they are put, numbered, so that no name in the archive can lead out of it.

    Returns
    -------
    list of Path
        The files, with the names that the archive has for them.

    Raises
    ------
    ForeignFileError
        It is no archive; or a file of a known name has another size, is there too often, encrypted or damaged.
    OSError
        Something cannot be read or written.
    """
    found: list[Path] = []
    remaining = {name: list(counts) for name, counts in sizes.items()}
    left = UNPACKED * Path(path).stat().st_size
    with open_archive(path) as archive:
        for entry in archive.infolist():
            name = PurePosixPath(entry.filename).name
            if entry.is_dir() or name not in sizes:
                continue
            expected = sizes[name]
            if expected and entry.file_size not in expected:
                listed = " or ".join(str(size) for size in sorted(expected))
                raise ForeignFileError(f"{name!r} has {entry.file_size} bytes, the published file has {listed}")
            if expected and entry.file_size not in remaining[name]:
                raise ForeignFileError(f"{name!r} is there more often than it is published: unpack it, and add one")
            if expected:
                remaining[name].remove(entry.file_size)
            left -= 0 if expected else entry.file_size
            if left < 0:
                raise ForeignFileError(f"is unpacked to more than {UNPACKED} times its size, more than weights are")
            place = folder / str(len(found)) / name
            place.parent.mkdir(parents=True)
            _copy(archive, entry, place)
            found.append(place)
    return found


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path) -> None:
    with archive.open(entry) as source, place.open("wb") as target:
        while block := source.read(MEBI):
            target.write(block)
