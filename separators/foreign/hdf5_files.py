"""HDF5: files of arrays that lie in the file as they are, without filters, links or parts in other files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.errors import StemfuseError
from stemfuse.separators.optional import import_optional

from .table import BUNDLE_TENSORS, DEPTH, TEXT, ForeignFileError


def read_hdf5(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All arrays of numbers in an HDF5 file, by their path in it.

    Parameters
    ----------
    path : path-like
        The file, as nnabla writes parameters.

    Raises
    ------
    ForeignFileError
        It is none, damaged, has arrays that are compressed or in other files, or arrays larger than the file.
    OSError
        The file is missing or cannot be read.
    """
    h5py = import_optional("h5py", "networks", str(path))
    left = Path(path).stat().st_size
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with h5py.File(os.fspath(path), "r") as file:
            remaining: list[tuple[str, Any, int]] = [("", file, 0)]
            seen = 0
            while remaining:
                prefix, group, depth = remaining.pop()
                for name in group:
                    seen += 1
                    label = f"{prefix}{name}"
                    if seen > BUNDLE_TENSORS or depth > DEPTH or len(label) > TEXT:
                        raise ForeignFileError(f"has more than {BUNDLE_TENSORS} arrays, or names without end")
                    # soft and external links could lead anywhere
                    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                        raise ForeignFileError(f"has a link {label[:80]!r}, expected arrays")
                    part = group[name]
                    if isinstance(part, h5py.Group):
                        remaining.append((f"{label}/", part, depth + 1))
                        continue
                    _check(h5py, part, label)
                    left -= part.nbytes
                    if left < 0:
                        raise ForeignFileError("its arrays are larger than the file")
                    arrays[label] = np.asarray(part[()])
    except StemfuseError:
        raise
    # the library's errors have no common base, and those of damaged files are OSErrors, too
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ForeignFileError(f"is no HDF5 file or a damaged one ({reason})") from error
    return arrays


def _check(h5py: Any, part: Any, label: str) -> None:
    if not isinstance(part, h5py.Dataset) or part.dtype.kind not in "iuf":
        raise ForeignFileError(f"has {label[:80]!r}, which is no array of numbers")
    made = part.id.get_create_plist()
    plain = made.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    # filters are programs that the library would look for on this machine
    if not plain or made.get_nfilters() or made.get_external_count():
        raise ForeignFileError(f"has an array {label[:80]!r} that is compressed, in pieces or in another file")
