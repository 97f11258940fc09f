"""The reference packages, ``museval`` and ``musdb``, importable where no ffmpeg program is installed.

Both import ``stempeg``, whose ``cmds`` module raises at import when the programs ffmpeg and ffprobe are not on the
PATH. stemfuse decodes by PyAV and calls neither program, so museval can work without them. Here stempeg is imported
once while its two look-ups (``shutil.which``) return the bare names. Programs that are on the PATH are found as usual,
and ``shutil.which`` is restored before the import returns. Where the programs are missing, only the functions of
stempeg and musdb that start them fail, with a ``FileNotFoundError``, when they are called.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_PROGRAMS = ("ffmpeg", "ffprobe")
_IMPORTING = threading.RLock()


def import_museval() -> ModuleType:
    """Import museval, with or without an ffmpeg program.

    Returns
    -------
    module
        ``museval``, as ``import museval`` gives it where ffmpeg is installed.

    Examples
    --------
    >>> import_museval().__name__
    'museval'
    """
    return _import("museval")


def import_musdb() -> ModuleType:
    """Import musdb, with or without an ffmpeg program.

    Returns
    -------
    module
        ``musdb``, as ``import musdb`` gives it where ffmpeg is installed. Without ffmpeg its track lists and folders
        work; reading the audio of a ``.stem.mp4`` by musdb itself does not.

    Examples
    --------
    >>> import_musdb().__name__
    'musdb'
    """
    return _import("musdb")


def _import(name: str) -> ModuleType:
    with _IMPORTING:
        # a package that was imported before needs no help; a failed import leaves nothing in sys.modules
        if "stempeg" not in sys.modules:
            with _programs_found():
                importlib.import_module("stempeg")
        return importlib.import_module(name)


@contextmanager
def _programs_found() -> Iterator[None]:
    """Let this thread's ``shutil.which`` return the bare name of a missing ffmpeg or ffprobe."""
    which, importer = shutil.which, threading.get_ident()

    def which_or_name(cmd: Any, *arguments: Any, **options: Any) -> Any:
        found = which(cmd, *arguments, **options)
        if found is None and cmd in _PROGRAMS and threading.get_ident() == importer:
            return cmd
        return found

    shutil.which = which_or_name
    try:
        yield
    finally:
        shutil.which = which
