"""Files that one process at a time holds: the system lets go of them when the process ends, however that happens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def hold(path: Path, lock: Callable[[int], bool]) -> int | None:
    """Open and lock a file, which is made when missing.

    Parameters
    ----------
    path : Path
        The file; a link is not followed.
    lock : callable
        Locks an open file by its descriptor; whether it could.

    Returns
    -------
    int or None
        The descriptor, for `let_go`; None when another process holds the file.

    Raises
    ------
    OSError
        The file cannot be opened.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            if not lock(descriptor):
                os.close(descriptor)
                return None
            # the one who held it may have deleted it just before it was locked here
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def let_go(path: Path, descriptor: int) -> None:
    """Delete and close a file that this process holds."""
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(descriptor)
