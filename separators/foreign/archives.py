"""Archives: opened, compared with what they may hold, and unpacked within these bounds."""

from __future__ import annotations

import contextlib
import gzip
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any

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


PACKED = (".zip", ".whl", ".tar.gz", ".tgz")
"""Endings of archives that are unpacked."""


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of an archive or a wheel.

    Examples
    --------
    >>> is_packed("2stems.tar.gz"), is_packed("model.index")
    (True, False)
    """
    return Path(path).name.lower().endswith(PACKED)


def unpack_known(
    path: str | os.PathLike[str],
    sizes: Mapping[str, Collection[int]],
    folder: Path,
    folders: Collection[str] = (),
) -> list[Path]:
    """Unpack the files of an archive that have a known name, and a known size where there is one.

    Parameters
    ----------
    path : path-like
        The archive: ZIP, a wheel, or tar compressed by gzip.
    sizes : mapping of str to collection of int
        Sizes of the files of each name, each as often as it may be there; an empty collection stands for any.
    folder : Path
        Where they are put, numbered, so that no name in the archive can lead out of it.
    folders : collection of str
        Names of folders that are kept: that of a file's folder in the archive, or the archive's own name.

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
    own = Path(path).name.partition(".")[0]
    with _members(Path(path)) as members:
        for member in members:
            whole = PurePosixPath(member.name)
            name = whole.name
            if name not in sizes:
                continue
            expected = sizes[name]
            if expected and member.size not in expected:
                listed = " or ".join(str(size) for size in sorted(expected))
                raise ForeignFileError(f"{name!r} has {member.size} bytes, the published file has {listed}")
            if expected and member.size not in remaining[name]:
                raise ForeignFileError(f"{name!r} is there more often than it is published: unpack it, and add one")
            if expected:
                remaining[name].remove(member.size)
            left -= 0 if expected else member.size
            if left < 0:
                raise ForeignFileError(f"is unpacked to more than {UNPACKED} times its size, more than weights are")
            kept = next((part for part in (whole.parent.name, own) if part in folders), "")
            place = folder / str(len(found)) / kept / name
            place.parent.mkdir(parents=True)
            with member.open() as source:
                _copy(source, place, member.size)
            found.append(place)
    return found


@dataclass(frozen=True)
class _Member:
    """A file in an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


@contextlib.contextmanager
def _members(path: Path) -> Iterator[Iterator[_Member]]:
    """The files of an archive, each to be read before the next; what is wrong with it becomes one kind of error."""
    if not path.name.lower().endswith((".tar.gz", ".tgz")):
        with open_archive(path) as archive:
            yield (
                _Member(entry.filename, entry.file_size, partial(archive.open, entry))
                for entry in archive.infolist()
                if not entry.is_dir()
            )
        return
    try:
        with gzip.open(path) as unpacked:
            bounded: Any = _Bounded(unpacked, path)
            with tarfile.open(fileobj=bounded, mode="r|") as tape:
                yield _regular(tape)
            # the checksum is behind the last byte
            while bounded.read(MEBI):
                pass
    except StemfuseError:
        raise
    except (tarfile.TarError, gzip.BadGzipFile, *_DAMAGE) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ForeignFileError(f"is no archive or a damaged one ({reason})") from error


class _Bounded:
    """What an archive is unpacked to, up to a bound: also a header, or a file that is passed over, can be large."""

    def __init__(self, source: gzip.GzipFile, path: Path) -> None:
        self.source = source
        self.left = UNPACKED * path.stat().st_size + MEBI

    def read(self, size: int) -> bytes:
        """The next bytes."""
        content = self.source.read(min(size, self.left + 1))
        self.left -= len(content)
        if self.left < 0:
            raise ForeignFileError(f"is unpacked to more than {UNPACKED} times its size, more than weights are")
        return content


def _regular(tape: tarfile.TarFile) -> Iterator[_Member]:
    """The regular files of a tape: no links, no devices; their headers may be no more than a directory has."""
    for number, entry in enumerate(tape):
        if number * tarfile.BLOCKSIZE > DIRECTORY_BYTES:
            raise ForeignFileError("is an archive of too many entries")
        if entry.isreg():
            yield _Member(entry.name, entry.size, partial(_content, tape, entry))


def _content(tape: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tape.extractfile(entry)
    if content is None:
        raise ForeignFileError(f"{entry.name!r} is no file")
    return content


def _copy(source: IO[bytes], place: Path, size: int) -> None:
    """Copy as many bytes as there should be."""
    with place.open("wb") as target:
        while block := source.read(MEBI):
            target.write(block)
            if target.tell() > size:
                break
        if target.tell() != size:
            raise ForeignFileError(f"{place.name!r} has other bytes than its archive says")
