"""NumPy archives: every header is compared with its entry before an array is made."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .archives import check_stored, open_archive
from .table import ARRAYS, ForeignFileError

_KINDS = "biufcU"
"""Kinds of types that are read: numbers, truth values and text."""


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` as ``np.savez`` writes it.

    Arrays together are never larger than the file, because compressed entries are refused.

    Raises
    ------
    ForeignFileError
        It is none, damaged, or has arrays of objects, compressed arrays, or arrays of other sizes than their entries.
    OSError
        The file is missing or cannot be read.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with open_archive(path) as archive:
        entries = archive.infolist()
        if len(entries) > ARRAYS:
            raise ForeignFileError(f"has {len(entries)} arrays, expected at most {ARRAYS}")
        left = Path(path).stat().st_size
        for entry in entries:
            check_stored(archive, entry)
            left -= entry.file_size
            if left < 0:
                raise ForeignFileError("its entries are larger than the file")
            arrays[entry.filename.removesuffix(".npy")] = _read(archive, entry)
    return arrays


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ForeignFileError(f"{entry.filename!r} has version {version} of the format, expected 1.0 or 2.0")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, kind = read_header(file)
        count: int = math.prod(map(int, shape))
        if kind.kind not in _KINDS or (kind.itemsize == 0 and count):
            raise ForeignFileError(f"{entry.filename!r} has values of the type {kind}, expected numbers or text")
        expected = count * kind.itemsize
        held = entry.file_size - file.tell()
        if any(size < 0 for size in shape) or expected != held:
            raise ForeignFileError(
                f"{entry.filename!r} has {held} bytes for {kind} of shape {str(shape)[:80]}, expected {expected}"
            )
        values = np.frombuffer(bytearray(file.read()), kind) if expected else np.zeros(0, kind)
        array: NDArray[Any] = values.reshape(shape, order="F" if fortran else "C")
        return array
