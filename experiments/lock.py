"""The lock of a run's folder: one process works in it at a time, and a process that was killed does not keep it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stemfuse.separators.held_files import hold, let_go

from .errors import RunError

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows: there the process named in the file decides
    fcntl = None

LOCK = ".lock"
"""The file in the run's folder; it names host, process and when that began, and is gone when the run ends."""


@contextlib.contextmanager
def run_lock(
    folder: str | os.PathLike[str], advice: str = "wait until that ends, or choose another folder with out="
) -> Iterator[None]:
    """Hold a run's folder until the block ends.

    The system itself locks the file, and unlocks it when the process ends, however that happens: a file that a killed
    process left is taken over. Where a file system has no locks, the process that the file names decides.

    Parameters
    ----------
    folder : path-like
        The run's folder; made when missing.
    advice : str
        What to do when another process works in it, for the message.

    Raises
    ------
    RunError
        Another process works in the folder; the message says which.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with run_lock(folder), run_lock(folder):
    ...     pass
    Traceback (most recent call last):
    ...
    stemfuse.experiments.errors.RunError: ... is in use by process ...
    """
    path = Path(folder, LOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = hold(path, _lock)
    except OSError as problem:
        # a finished run can be looked at where nothing can be written; whatever writes says so itself
        if problem.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise RunError(
                f"{folder}: cannot be written ({problem.strerror or problem}); choose another folder with out="
            ) from problem
        yield
        return
    if descriptor is None:
        raise RunError(f"{folder}: is in use by {_holder(path)}; {advice}")
    try:
        os.ftruncate(descriptor, 0)
        # a full disk takes the names away, not the lock
        with contextlib.suppress(OSError):
            os.write(descriptor, json.dumps(_this_process()).encode())
        yield
    finally:
        let_go(path, descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file; False when another process holds it."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return not _is_running(_read(os.pread(descriptor, 4096, 0)))
        return True
    return not _is_running(_read(os.read(descriptor, 4096)))


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "began": _began(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _began(pid: int) -> str | None:
    """When a process began, in the system's own count: another process may have its number later."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _is_running(holder: dict[str, Any]) -> bool:
    """Whether the process that a lock names still runs; of other hosts nobody knows, so True."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return holder.get("began") == _began(pid)


def _read(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _holder(path: Path) -> str:
    try:
        found = _read(path.read_bytes()[:4096])
    except OSError:
        found = {}
    if not found:
        return "another process"
    return f"process {found.get('pid')!r} on {found.get('host')!r} since {found.get('since')!r}".replace("'", "")
