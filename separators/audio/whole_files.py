"""Files and folders that appear whole or not at all: the one place that writes so."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from stemfuse.separators.errors import StemfuseError, WriteError

PREFIX = ".writing-"
"""How the names of temporary files and folders begin: whatever bears it was left by a process that was killed."""

ADVICE = "free some space or choose another place"


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str], advice: str = ADVICE, error: type[StemfuseError] = WriteError
) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well, and is gone otherwise.

    Parameters
    ----------
    path : path-like
        The file; its folder is made when missing. An older file stays until the new one is whole.
    advice : str
        What to do when it cannot be written, for the message.
    error : type
        What is raised then.

    Yields
    ------
    Path
        Where to write; it ends in the suffix of ``path``.

    Raises
    ------
    WriteError
        Or ``error``: the disk is full or the folder cannot be written; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "new", "notes.txt")
    >>> with whole_file(path) as temporary:
    ...     _ = temporary.write_text("whole")
    ...     path.exists()
    False
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('whole', 1)
    """
    path = Path(path)
    temporary = _beside(path, path.suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as problem:
        raise error(_message(path, problem, advice)) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike[str], advice: str = ADVICE, error: type[StemfuseError] = WriteError
) -> Iterator[Path]:
    """A temporary folder beside ``path``, which is not there yet, that takes its name when the block ends well.

    Parameters, errors and the folder that is yielded are as for `whole_file`.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(path)
    except OSError as problem:
        raise error(_message(path, problem, advice)) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_whole(
    path: str | os.PathLike[str], write: Callable[[BinaryIO], object], error: type[StemfuseError] = WriteError
) -> None:
    """Call ``write(file)`` on a temporary binary file that then takes its place; see `whole_file`."""
    with whole_file(path, error=error) as temporary, temporary.open("wb") as file:
        write(file)


def _beside(path: Path, suffix: str = "") -> Path:
    # not of the file's own name: with a prefix it could be longer than names may be
    return path.with_name(f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}{suffix}")


def _message(path: Path, problem: OSError, advice: str) -> str:
    return f"{path}: cannot be written ({problem.strerror or problem}); {advice}"
