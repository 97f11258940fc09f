"""TensorFlow's checkpoints: a sorted table of names and places, and the tensors' bytes in a file beside it."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.optional import import_optional

from .table import BUNDLE_INDEX_BYTES, BUNDLE_TENSORS, DEPTH, TEXT, ForeignFileError

DATA = ".data-00000-of-00001"
"""Ending of the file that has the bytes; it takes the place of ``.index``."""

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5
"""Bytes after a block: its compression, and a checksum."""

_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
"""TensorFlow's numbers of types that networks have."""


@dataclass(frozen=True)
class _Place:
    """What the table says of one tensor."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


def read_tensor_bundle(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All tensors of numbers in a TensorFlow checkpoint, by name.

    Parameters
    ----------
    path : path-like
        The ``.index`` of a checkpoint of one part (version 2, since TensorFlow 0.12); the ``.data-00000-of-00001`` lies
        beside it. The graph (``.meta``) is not read.

    Raises
    ------
    ForeignFileError
        It is none, damaged, of several parts, or the tensors are larger than their file.
    OSError
        One of the two files is missing or cannot be read.

    References
    ----------
    TensorFlow, ``tensor_bundle.proto``; LevelDB, "table_format.md", for the table. Checksums are CRC-32C
    (RFC 3720), rotated and shifted.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > BUNDLE_INDEX_BYTES:
        raise ForeignFileError(f"has {size} bytes, expected at most {BUNDLE_INDEX_BYTES}")
    checksum = import_optional("google_crc32c", "networks", str(path)).value
    data = path.with_suffix(DATA)
    left = held = data.stat().st_size
    places = _places(path.read_bytes(), checksum)
    tensors: dict[str, NDArray[Any]] = {}
    with data.open("rb") as file:
        for name, place in places.items():
            # tensors that share bytes could be far larger than the file
            left -= place.size
            if left < 0:
                raise ForeignFileError(f"its tensors are larger than {data.name}")
            file.seek(min(place.offset, held))
            content = bytearray(file.read(place.size))
            if len(content) != place.size or _masked(checksum(bytes(content))) != place.checksum:
                raise ForeignFileError(f"is damaged: the tensor {name!r} in {data.name} is not what was written")
            tensors[name] = np.frombuffer(content, place.dtype).reshape(place.shape)
    return tensors


def _places(table: bytes, checksum: Any) -> dict[str, _Place]:
    """What a table says of each tensor; its own header is checked."""
    if len(table) < _FOOTER or int.from_bytes(table[-8:], "little") != _MAGIC:
        raise ForeignFileError("is no checkpoint of TensorFlow (its end is another)")
    footer = _Bytes(table[-_FOOTER:])
    _, _, start, size = (footer.varint() for _ in range(4))
    found: dict[str, _Place] = {}
    seen = 0
    for _, handle in _entries(_block(table, start, size, checksum)):
        block = _Bytes(handle)
        for name, value in _entries(_block(table, block.varint(), block.varint(), checksum)):
            seen += 1
            if seen > BUNDLE_TENSORS:
                raise ForeignFileError(f"has more than {BUNDLE_TENSORS} tensors")
            if not name:
                _check_header(value)
            elif place := _place(name, value):
                found[name.decode("utf-8", "replace")] = place
    return found


def _block(table: bytes, start: int, size: int, checksum: Any) -> bytes:
    """The entries of a block, whose checksum is right."""
    stop = start + size
    if stop + _TRAILER > len(table):
        raise ForeignFileError("is damaged: a block lies beyond its end")
    if table[stop]:
        raise ForeignFileError("is compressed, expected a checkpoint as TensorFlow writes it")
    if _masked(checksum(table[start : stop + 1])) != int.from_bytes(table[stop + 1 : stop + _TRAILER], "little"):
        raise ForeignFileError("is damaged: a block is not what was written")
    restarts = int.from_bytes(table[stop - 4 : stop], "little") if size >= 4 else 0
    entries = stop - 4 * (restarts + 1)
    if size < 4 or entries < start:
        raise ForeignFileError("is damaged: a block has no end")
    return table[start:entries]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values; each name begins as the one before."""
    content = _Bytes(block)
    name = b""
    while content.position < len(block):
        shared, more, size = content.varint(), content.varint(), content.varint()
        if shared > len(name) or shared + more > TEXT:
            raise ForeignFileError(f"is damaged, or has names of more than {TEXT} characters")
        name = name[:shared] + content.take(more)
        yield name, content.take(size)


class _Bytes:
    """Bytes that are read from the beginning to the end."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        stop = self.position + count
        if stop > len(self.content):
            raise ForeignFileError("is damaged: it ends early")
        part = self.content[self.position : stop]
        self.position = stop
        return part

    def varint(self) -> int:
        """The next number, seven bits in a byte, of at most 64 bits."""
        value = 0
        for shift in range(0, 64, 7):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ForeignFileError("is damaged: a number has too many digits")


def _fields(message: bytes) -> dict[int, list[Any]]:
    """A message of protobuf: by field its numbers and bytes."""
    content = _Bytes(message)
    fields: dict[int, list[Any]] = {}
    while content.position < len(message):
        key = content.varint()
        kind = key & 7
        if kind == 0:
            value: Any = content.varint()
        elif kind == 1:
            value = int.from_bytes(content.take(8), "little")
        elif kind == 2:
            value = content.take(content.varint())
        elif kind == 5:
            (value,) = struct.unpack("<I", content.take(4))
        else:
            raise ForeignFileError("is damaged: a message of an unknown kind")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _number(fields: dict[int, list[Any]], key: int) -> int:
    """A number of a message; absent ones are zero."""
    value = fields.get(key, [0])[-1]
    if type(value) is not int:
        raise ForeignFileError("is damaged: a message has bytes where a number is expected")
    return value


def _messages(fields: dict[int, list[Any]], key: int) -> Iterator[dict[int, list[Any]]]:
    for value in fields.get(key, []):
        if not isinstance(value, bytes):
            raise ForeignFileError("is damaged: a message has a number where bytes are expected")
        yield _fields(value)


def _check_header(value: bytes) -> None:
    header = _fields(value)
    if (shards := _number(header, 1)) != 1:
        raise ForeignFileError(f"is a checkpoint of {shards} parts, expected one")
    if _number(header, 2):
        raise ForeignFileError("was written by a machine of another byte order")


def _place(name: bytes, value: bytes) -> _Place | None:
    """What an entry says: type 1, shape 2, part 3, offset 4, size 5, checksum 6, slices 7; None for other things."""
    fields = _fields(value)
    label = name[:80].decode("utf-8", "replace")
    kind = _number(fields, 1)
    # text, for instance: a description of the program that was trained
    if kind not in _TYPES:
        return None
    if _number(fields, 3) or 7 in fields:
        raise ForeignFileError(f"has a tensor {label!r} in slices or another part")
    dtype = np.dtype(_TYPES[kind])
    shape = tuple(_number(size, 1) for sizes in _messages(fields, 2) for size in _messages(sizes, 2))
    size = _number(fields, 5)
    if len(shape) > DEPTH or math.prod(shape) * dtype.itemsize != size:
        raise ForeignFileError(f"has a tensor {label!r} of shape {str(shape)[:80]} with {size} bytes")
    return _Place(dtype, shape, _number(fields, 4), size, _number(fields, 6))


def _masked(checksum: int) -> int:
    """A checksum as it is stored: it is not that of the bytes themselves, which may hold checksums."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF
