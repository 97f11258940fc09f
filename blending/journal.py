"""Optuna's journal of a search, opened so that a run always goes on: dead locks are cleared, torn ends are cut off."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from .errors import FusionError

log = logging.getLogger(__name__)

PATIENCE_S = 3.0
"""A lock is held while one line is written; one that stays the same for this long belongs to nobody any more."""


class JournalLock:
    """Optuna's lock of a journal, a symbolic link beside it, which a killed process cannot keep.

    Optuna looks at the file that the link names, and waits for ever when there is none; this looks at the link itself.

    Parameters
    ----------
    file : Path
        The journal; absolute, because its link lies in its own folder.
    """

    def __init__(self, file: Path) -> None:
        self._target, self._link = str(file), Path(f"{file}.lock")

    def acquire(self) -> bool:
        """Wait for the lock; one that nobody holds any more is cleared, with a line that says so."""
        seen, since, pause_s = self._stamp(), time.monotonic(), 0.001
        while True:
            try:
                self._link.symlink_to(self._target)
            except FileExistsError:
                if (stamp := self._stamp()) != seen:
                    seen, since, pause_s = stamp, time.monotonic(), 0.001
                elif time.monotonic() - since > PATIENCE_S:
                    log.warning("%s: the lock of a process that was killed is cleared", self._link)
                    self.release()
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 0.1)
            else:
                return True

    def release(self) -> None:
        """Give the lock back; nothing happens when another process has cleared it."""
        with contextlib.suppress(FileNotFoundError):
            self._link.unlink()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = os.lstat(self._link)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


def open_journal(path: str | os.PathLike[str], writing: bool) -> JournalStorage:
    """Optuna's storage in a journal file.

    Parameters
    ----------
    path : path-like
        The file; made when missing.
    writing : bool
        Whether trials will be added: a torn end is then cut off, and a journal that cannot be read is put aside.

    Raises
    ------
    FusionError
        The file cannot be read or written, or is no journal.
    """
    file = Path(path).absolute()
    lock = JournalLock(file)
    try:
        if writing:
            file.parent.mkdir(parents=True, exist_ok=True)
            _mend(file, lock)
        return JournalStorage(JournalFileBackend(str(file), lock))  # type: ignore[arg-type]  # Optuna's base is private
    except OSError as error:
        raise FusionError(
            f"{path}: no search can be kept there ({error.strerror or error}); free some space or name another file"
        ) from error
    except FusionError:
        raise
    except Exception as error:  # Optuna replays every line, and what a damaged one does to it has no bounds
        if not writing:
            raise FusionError(f"{path}: damaged, its trials cannot be read; fit again") from error
        aside = file.with_name(f"{file.name}.damaged")
        file.replace(aside)
        log.warning("%s: damaged; it is put aside as %s, and the search begins again", file, aside.name)
        return JournalStorage(JournalFileBackend(str(file), lock))  # type: ignore[arg-type]


def _mend(file: Path, lock: JournalLock) -> None:
    """Cut a journal back to its last whole line; what is no journal is refused and stays as it is."""
    if not file.is_file() or _whole_bytes(file) == file.stat().st_size:
        return
    lock.acquire()
    try:
        size, whole = file.stat().st_size, _whole_bytes(file)
        if not whole and not _begins_like_a_journal(file):
            raise FusionError(f"{file}: no search can be kept there, it is no journal of Optuna; name another file")
        if whole < size:
            os.truncate(file, whole)
            log.warning("%s: torn, the last %d bytes are cut off; trials in them are made again", file, size - whole)
    finally:
        lock.release()


def _whole_bytes(file: Path) -> int:
    """How many bytes of a journal are whole lines."""
    whole = 0
    with file.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n") or not _is_entry(line):
                break
            whole += len(line)
    return whole


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and isinstance(entry.get("op_code"), int)


def _begins_like_a_journal(file: Path) -> bool:
    """Whether a file without a whole line is the beginning of a journal, or a journal whose first line is damaged."""
    first = b'{"op_code":'
    with file.open("rb") as lines:
        begin = lines.readline()
        return first.startswith(begin[: len(first)]) or any(_is_entry(line) for line in lines)
