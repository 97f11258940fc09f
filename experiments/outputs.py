"""New files of commands: whether they can be written is checked before any work, and none replaces another unasked."""

from __future__ import annotations

import filecmp
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stemfuse.separators import StemfuseError
from stemfuse.separators.audio.whole_files import set_aside, whole_file, whole_folder

from .errors import ConfigError

log = logging.getLogger(__name__)


def check_output(path: Path, option: str = "--out", is_folder: bool = False) -> None:
    """Raise where a file, or a folder, cannot be written, before anything is computed for it.

    Raises
    ------
    ConfigError
        It is a folder, or its folder cannot be made or written.

    Examples
    --------
    >>> check_output(Path("/dev/null/blend.npz"))
    Traceback (most recent call last):
    ...
    stemfuse.experiments.errors.ConfigError: ...: cannot be written, /dev/null is no folder; choose another --out
    """
    if is_folder and path.is_file():
        raise ConfigError(f"{path}: got a file, expected the name of a new folder; choose another {option}")
    if path.is_dir() and not is_folder:
        raise ConfigError(f"{path}: got a folder, expected the name of a new file; add one to {option}")
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise ConfigError(f"{path}: cannot be written, {folder} is no folder; choose another {option}")
    try:
        # rights alone do not say it: root has them all, and some file systems take no files
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "is read-only" if not os.access(folder, os.W_OK) else f"takes no files ({error.strerror or error})"
        raise ConfigError(f"{path}: cannot be written, {folder} {reason}; choose another {option}") from error


def check_store(path: Path) -> None:
    """Raise where a stem store is a file, or is not there and cannot be made.

    Raises
    ------
    ConfigError
        The message says which.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: got a file, expected the folder of a stem store; choose another --store")
    if not path.exists():
        check_output(path, "--store", is_folder=True)


@contextmanager
def room_for(path: Path, replace: bool, beside: Iterable[str] = ()) -> Iterator[None]:
    """Keep a file that is there under another name while the block writes the new one, with a line that says so.

    Where the new files are the same, as when a command that had ended is called again, nothing is kept. Where the block
    fails, the old ones have their names again.

    Parameters
    ----------
    path : Path
        The new file.
    replace : bool
        Whether the file that is there may be lost: nothing is kept then.
    beside : iterable of str
        Suffixes of files that belong to it.
    """
    kept = None if replace else set_aside(path, beside)
    if kept is None:
        yield
        return
    moved = {kept: path} | {kept.with_suffix(suffix): path.with_suffix(suffix) for suffix in beside}
    moved = {old: new for old, new in moved.items() if old.exists()}
    try:
        yield
    except BaseException:
        for old, new in moved.items():
            old.replace(new)
        raise
    if all(new.is_file() and filecmp.cmp(old, new, shallow=False) for old, new in moved.items()):
        for old in moved:
            old.unlink()
    else:
        log.warning("%s was there already: it is kept as %s (--replace overwrites it)", path, kept.name)


@contextmanager
def new_file(path: Path, replace: bool) -> Iterator[Path]:
    """A temporary file that becomes the new one when the block ends well; see `room_for` for one that is there.

    Errors of the block name the new file, not the temporary one.
    """
    with ExitStack() as stack:
        temporary = stack.enter_context(whole_file(path))
        try:
            yield temporary
        except StemfuseError as error:
            error.args = tuple(str(part).replace(str(temporary), str(path)) for part in error.args)
            raise
        with room_for(path, replace):
            stack.close()


@contextmanager
def new_folder(path: Path, replace: bool) -> Iterator[Path]:
    """The name of a temporary folder, made in the block, that becomes the new one; an old one is kept as by `room_for`.

    With ``replace`` it is lost, but only where it has no other files than the new one: it may be anybody's.
    """

    def place(temporary: Path, path: Path) -> None:
        kept = set_aside(path)
        (temporary / path.name).rename(path)
        if kept is None:
            return
        new = {file.relative_to(path) for file in path.rglob("*")}
        old = {file.relative_to(kept) for file in kept.rglob("*")}
        same = new == old and not filecmp.cmpfiles(kept, path, [*map(str, new)], shallow=False)[1]
        if kept.is_dir() and (same or (replace and old <= new)):
            shutil.rmtree(kept)
        else:
            log.warning("%s was there already: it is kept as %s", path, kept.name)

    with whole_folder(path, place=place) as temporary:
        inside = temporary / path.name
        try:
            yield inside
        except StemfuseError as error:
            error.args = tuple(str(part).replace(str(inside), str(path)) for part in error.args)
            raise
