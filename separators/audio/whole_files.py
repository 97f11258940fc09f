"""Files and folders that appear whole or not at all: the one place that writes so."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from stemfuse.separators.errors import StemfuseError, WriteError

PREFIX = ".writing-"
"""How the names of temporary files and folders begin; host and process follow, see `is_alive`."""

HOST = socket.gethostname().replace("-", "_")
ADVICE = "free some space or choose another place"

_CLEARED: set[str] = set()
"""Folders in which this process has looked for what killed writers left."""


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str], advice: str = ADVICE, error: type[StemfuseError] = WriteError
) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well, and is gone otherwise.

    What killed processes left in the folder is deleted when a process first writes there.

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
    temporary = temporary_in(path.parent, path.suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_once(path.parent)
        yield temporary
        temporary.replace(path)
    except OSError as problem:
        raise error(_message(path, problem, advice)) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike[str],
    advice: str = ADVICE,
    error: type[StemfuseError] = WriteError,
    within: str | os.PathLike[str] | None = None,
    place: Callable[[Path, Path], object] = Path.rename,
) -> Iterator[Path]:
    """A temporary folder that takes the name ``path`` when the block ends well, and is gone otherwise.

    Parameters
    ----------
    path : path-like
        The folder, which is not there yet; its parent is made when missing.
    advice, error
        As for `whole_file`.
    within : path-like, optional
        A folder above ``path`` where the temporary one is made; beside ``path`` when not given.
    place : callable
        ``place(temporary, path)`` gives the temporary folder its name, or leaves it to be deleted.

    Yields
    ------
    Path
        The temporary folder, empty.

    Raises
    ------
    WriteError
        Or ``error``: the disk is full or the folder cannot be written; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "new")
    >>> with whole_folder(path) as temporary:
    ...     _ = (temporary / "notes.txt").write_text("whole")
    >>> [file.name for file in path.iterdir()]
    ['notes.txt']
    """
    path = Path(path)
    temporary = temporary_in(path.parent if within is None else Path(within))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_once(temporary.parent)
        temporary.mkdir()
        yield temporary
        place(temporary, path)
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


def set_aside(path: str | os.PathLike[str], beside: Iterable[str] = ()) -> Path | None:
    """Give a file that is there another name, ``<stem>.<number><suffix>``, so that a new one does not replace it.

    Parameters
    ----------
    path : path-like
        The file that is going to be written.
    beside : iterable of str
        Suffixes of files of the same name that belong to it; they get the same number.

    Returns
    -------
    Path or None
        Its new name; None where there was none.

    Raises
    ------
    WriteError
        The folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "blend.npz")
    >>> _ = path.write_bytes(b"first")
    >>> set_aside(path).name, set_aside(path)
    ('blend.1.npz', None)
    """
    path = Path(path)
    if not os.path.lexists(path):
        return None
    # the number stands before the whole suffix: files that belong together are found by the name of the first
    suffixes = [suffix for suffix in (path.suffix, *beside) if os.path.lexists(path.with_suffix(suffix))]
    number = 1
    while any(os.path.lexists(path.with_suffix(f".{number}{suffix}")) for suffix in suffixes):
        number += 1
    try:
        for suffix in suffixes:
            path.with_suffix(suffix).rename(path.with_suffix(f".{number}{suffix}"))
    except OSError as problem:
        raise WriteError(_message(path, problem, ADVICE)) from problem
    return path.with_suffix(f".{number}{path.suffix}")


def temporary_in(folder: Path, suffix: str = "") -> Path:
    """A new name for a temporary file or folder, which `is_alive` can read; nothing is made on disk.

    It does not contain a file's own name: with a prefix, that could become too long.
    """
    return folder / f"{PREFIX}{HOST}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"


def is_alive(path: Path) -> bool:
    """Whether the process that writes a temporary file or folder still runs; of other hosts nobody knows, so True."""
    host, _, rest = path.name.removeprefix(PREFIX).partition("-")
    if host != HOST:
        return True
    pid = rest.partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return not _has_ended(pid)


def _has_ended(pid: str) -> bool:
    """Whether a process has ended and only its number is left, because nobody has asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return False


def remains_in(folder: Path) -> list[Path]:
    """Temporary files and folders that killed processes left in a folder, sorted."""
    return [path for path in sorted(folder.glob(f"{PREFIX}*")) if not is_alive(path)]


def remains_below(folder: Path) -> list[Path]:
    """What killed processes left in a folder and in all folders below it; links are not followed."""
    remains = []
    for place, folders, _ in os.walk(folder):
        remains += remains_in(Path(place))
        folders[:] = [name for name in folders if not name.startswith(PREFIX)]
    return remains


def clear_remains(folder: Path) -> None:
    """Delete what killed processes left in a folder."""
    _delete(remains_in(folder))


def clear_remains_below(folder: Path) -> None:
    """Delete what killed processes left in a folder and in all folders below it."""
    _delete(remains_below(folder))


def _clear_once(folder: Path) -> None:
    """Delete what killed processes left in a folder, unless this process has done so before."""
    place = str(folder.absolute())
    if place not in _CLEARED:
        _CLEARED.add(place)
        clear_remains(folder)


def _delete(remains: Iterable[Path]) -> None:
    for path in remains:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            # another process may have been first, or the folder be read-only
            with contextlib.suppress(OSError):
                path.unlink()


def _message(path: Path, problem: OSError, advice: str) -> str:
    return f"{path}: cannot be written ({problem.strerror or problem}); {advice}"
