"""safetensors: a format without programs; its notes are JSON within bounds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal

from stemfuse.separators.errors import StemfuseError
from stemfuse.separators.optional import import_optional

from .documents import parse_object
from .table import ForeignFileError


@contextlib.contextmanager
def open_safe_tensors(
    path: str | os.PathLike[str], extra: str, framework: Literal["pt", "numpy"] = "pt"
) -> Iterator[Any]:
    """A file of safetensors; whatever is wrong with it, also later in the block, becomes one kind of error.

    The format's own reader compares all offsets and shapes with the file before anything is read.

    Parameters
    ----------
    path : path-like
        The file.
    extra : str
        Optional part of stemfuse that installs the package.
    framework : str
        What tensors are read as, on the CPU.

    Yields
    ------
    safe_open
        The package's own reader.

    Raises
    ------
    ForeignFileError
        It is none, or damaged.
    OSError
        The file is missing or cannot be read.
    """
    safetensors = import_optional("safetensors", extra, str(path))
    try:
        with safetensors.safe_open(os.fspath(path), framework=framework, device="cpu") as file:
            yield file
    # what the block itself finds wrong is no damage of the file
    except StemfuseError:
        raise
    # a type that the framework does not have is an AttributeError or a KeyError
    except (
        safetensors.SafetensorError,
        AttributeError,
        LookupError,
        MemoryError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise ForeignFileError(f"is no safetensors file or a damaged one ({type(error).__name__}: {reason})") from error


def file_notes(file: Any, key: str) -> dict[str, Any]:
    """The notes in JSON that a file has under a key of its metadata; empty where there are none.

    Raises
    ------
    ForeignFileError
        They are no JSON object.
    """
    return parse_object((file.metadata() or {}).get(key, "{}"))
