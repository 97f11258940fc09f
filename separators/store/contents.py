"""What audio is by its content: digests of signals and files, remembered as long as no file's stamp changes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.audio.whole_files import write_whole
from stemfuse.separators.errors import WriteError
from stemfuse.separators.foreign.documents import read_object
from stemfuse.separators.separator import digest
from stemfuse.separators.track import signal_sha256

Stamp = list[int]
"""Size, times of the last changes of content and of state in ns, and inode of a file."""


def file_stamp(path: Path) -> Stamp:
    """The stamp of a file: writing to it, replacing it, or setting its times gives it another one."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


class Contents:
    """Digests that are kept in a folder, each with the stamps of the files that it was computed from.

    They name contents, so that what depends on audio is never stale. They only spare reading: a digest whose files have
    another stamp, or that is itself damaged, is computed again.

    Parameters
    ----------
    folder : Path
        Made when the first digest is kept; where it cannot be written, or is a link, nothing is remembered.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from stemfuse.separators import ArraySignal, FileSignal, write_audio
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path, samples = Path(folder, "a.wav"), np.ones((1, 2, 100), np.float32)
    ...     write_audio([path], [samples], 44_100, 2)
    ...     Contents(Path(folder)).sha256(FileSignal(path)) == signal_sha256(ArraySignal(samples[0]))
    True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sha256(self, signal: Signal) -> str:
        """`signal_sha256` of a signal; read only when it is not remembered."""
        what, files = _describe(signal), signal.files
        found = self.recall(what, files)
        if found is None:
            before = [file_stamp(file) for file in files]
            found = signal_sha256(signal)
            self.keep(what, files, found, before)
        return found

    def knows(self, signal: Signal) -> bool:
        """Whether a signal's digest is remembered."""
        return self.recall(_describe(signal), signal.files) is not None

    def recall(self, what: Any, files: Sequence[Path]) -> str | None:
        """The digest that was kept, if the files have not changed since."""
        try:
            kept = {} if self.folder.is_symlink() else read_object(self._path(what))
            if not files or kept["seal"] != digest({**kept, "seal": ""}) or kept["what"] != what:
                return None
            found: str = kept["sha256"]
            return found if kept["stamps"] == [file_stamp(file) for file in files] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, what: Any, files: Sequence[Path], sha256: str, stamps: Sequence[Stamp]) -> None:
        """Remember a digest of files, unless one has changed since ``stamps`` were taken; audio in memory is not."""
        if not files or list(stamps) != [file_stamp(file) for file in files] or self.folder.is_symlink():
            return
        kept = {"what": what, "stamps": list(stamps), "sha256": sha256, "seal": ""}
        kept["seal"] = digest(kept)
        with contextlib.suppress(WriteError):
            write_whole(self._path(what), lambda file: file.write(json.dumps(kept).encode()))

    def forget(self, what: Any) -> None:
        """Remember a digest no longer, so that the files are read again."""
        with contextlib.suppress(OSError):
            self._path(what).unlink()

    def forget_signal(self, signal: Signal) -> None:
        """Remember the digest of a signal no longer."""
        self.forget(_describe(signal))

    def _path(self, what: Any) -> Path:
        return self.folder / f"{digest({'what': what})[:32]}.json"


def _describe(signal: Signal) -> list[Any]:
    """How a signal comes from its files, as far as it is known unread."""
    path = None if signal.path is None else str(signal.path.absolute())
    form = [type(signal).__name__, path, signal.stream, signal.rate, signal.channels, signal.length]
    return [*form, [_describe(part) for part in signal.parts]]
