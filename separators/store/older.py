"""Stores of the first schema, ``STORE/<separator>/<subset>/<track>``, moved to where they are found now."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from stemfuse.separators.audio.whole_files import write_whole
from stemfuse.separators.errors import StoreError
from stemfuse.separators.names import name_fault

from .contents import Contents, file_stamp
from .entry import SCHEMA, content_of, files_of, mixture_of, read_record, sealed
from .layout import RECORD, SONGS, Places, beside, check_links, name_of, older_entries


class Moved(NamedTuple):
    """What `move_store` did: entries with their new folders, and entries that stayed, with the reason."""

    entries: dict[Path, Path]
    left: dict[Path, str]


def move_store(root: str | os.PathLike[str]) -> Moved:
    """Move the entries of an older store to ``STORE/<data>/<separator>/<subset>/<track>``; no audio is read or written.

    Every entry moves in one step, so a command that is killed goes on when it is run again. Checksums that were
    compared before need not be compared again, and the statistics of the tracks stay where they are. A damaged entry
    moves too: it is still found as damaged.

    Parameters
    ----------
    root : path-like
        The store. One of today's schema is left as it is.

    Raises
    ------
    StoreError
        There is no such folder, or it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> move_store(tempfile.mkdtemp())
    Moved(entries={}, left={})
    """
    root = Path(root)
    if not root.is_dir():
        raise StoreError(f"{root}: no such folder, expected a stem store")
    moved = Moved({}, {})
    for path in list(older_entries(root)):
        try:
            check_links(root, path)
            target = _place(root, path)
            if target is None:
                moved.left[path] = f"{path}: its place has another folder already; move that one away and try again"
                continue
            _move(root, path, target)
        except StoreError as error:
            moved.left[path] = str(error)
            continue
        except OSError as error:
            raise StoreError(f"{path}: cannot be moved ({error.strerror or error}); make the store writable") from error
        moved.entries[path] = target
    for path in moved.entries:
        for folder in (path.parent, path.parent.parent):
            # other people's files keep their folders
            with contextlib.suppress(OSError):
                folder.rmdir()
    return moved


def _place(root: Path, path: Path) -> Path | None:
    """The new folder of an entry; None where another folder has it."""
    separator, subset, name = path.parts[-3:]
    try:
        record = read_record(path, (1, SCHEMA))
    except StoreError:
        target = root / SONGS / separator / subset / name
        return None if target.exists() else target
    data = str(record.get("data") or SONGS)
    # single songs were data sets of their own
    if subset == SONGS or data.startswith(".") or name_fault(data):
        data = SONGS
    target = root / data / separator / subset / name
    check_links(root, target)
    if target.exists() and mixture_of(target) != record["mixture"]["sha256"]:
        target = beside(target, record["mixture"]["sha256"])
    return None if target.exists() else target


def _move(root: Path, path: Path, target: Path) -> None:
    contents, known = Contents(root / ".contents"), None
    try:
        record = read_record(path, (1, SCHEMA))
    except StoreError:
        record = {}
    if record:
        # what was copied or moved by hand before does not become good by this
        separator = path.parts[-3]
        key = record.get("key", separator if record["separator"].get("name") in _names(separator) else "")
        known = contents.recall(name_of(root, path), files_of(path, record))
        record |= {"schema": SCHEMA, "data": target.parts[-4], "key": key}
        text = sealed(record)
        write_whole(path / RECORD, lambda file: file.write(text.encode()), StoreError)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    if record:
        Places(root).keep(record["key"], record["mixture"]["sha256"], target)
        if known == content_of(record):
            files = files_of(target, record)
            contents.keep(name_of(root, target), files, known, [file_stamp(file) for file in files])


def _names(separator: str) -> tuple[str, str]:
    """What the first records called a separator: its folder, or its name."""
    return separator, separator.rpartition("-")[0]
