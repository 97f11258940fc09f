"""What nobody foresaw: kept in a file for a report, and said in one line."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PREFIX = "stemfuse-crash-"
"""How the names of crash files begin, in the folder for temporary files."""


def crash_message(error: BaseException) -> str:
    """One line about an unforeseen error, with the path of a file that has the traceback."""
    reason = " ".join(str(error).split())[:200]
    said = ", ".join([f"{type(error).__name__}: {reason}" if reason else type(error).__name__, *_notes(error)])
    try:
        return f"unforeseen error ({said}); please report it with the file {_write(error)}"
    except OSError:
        return f"unforeseen error ({said}); please report it"


def _notes(error: BaseException) -> list[str]:
    """What was done when it happened, such as the stage and the song."""
    return [" ".join(str(note).split())[:200] for note in getattr(error, "__notes__", [])]


def _write(error: BaseException) -> Path:
    try:
        own = version("stemfuse")
    except PackageNotFoundError:
        own = "not installed"
    lines = [
        f"stemfuse {own}, Python {platform.python_version()}, {platform.platform()}",
        f"arguments: {sys.argv[1:]!a}",
        *traceback.format_exception(error),
    ]
    with tempfile.NamedTemporaryFile("wb", prefix=PREFIX, suffix=".txt", delete=False) as file:
        file.write("\n".join(lines).encode("utf-8", "backslashreplace"))
    return Path(file.name)
