"""Programs of others: run to their end or ended, with all that they started, and a folder that goes with them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from stemfuse.separators.audio.whole_files import clear_remains, temporary_in
from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.names import shown

from .supervisor import ENDING_S

SUPERVISOR = Path(__file__).with_name("supervisor.py")

KEPT_BYTES = 4096
"""Of what a program prints, so many bytes of the end are kept."""

SUPERVISOR_S = 30.0
"""How long the supervisor may take to end a program; on a machine that is busy it may have to wait itself."""

LAST_CHARACTERS = 200
"""Most characters of its last line in a message."""


def run_program(arguments: Sequence[str], timeout_s: float, what: str) -> None:
    """Run a program to its end; no shell reads the arguments, and nothing answers its questions.

    The program, and all that it started in its group, ends with this process, whatever ends it.

    Parameters
    ----------
    arguments : sequence of str
        The program and its arguments.
    timeout_s : float
        How long it may take, in seconds.
    what : str
        What runs it, for messages.

    Raises
    ------
    SeparatorError
        It cannot be started, does not end in time, or ends with another exit code than 0; the message has the last
        line that it printed.

    Examples
    --------
    >>> run_program([sys.executable, "-c", "raise SystemExit('no such model')"], 60, "command")
    Traceback (most recent call last):
    ...
    stemfuse.separators.errors.SeparatorError: command: ... ended with exit code 1: no such model
    """
    name = shown(Path(arguments[0]).name)
    if os.name != "posix":
        raise SeparatorError(
            f"{what}: programs are run on Linux and macOS alone, where groups of processes can be ended"
        )
    # isolated, without site: it starts in a few hundredths of a second, and takes nothing from this process
    command = [sys.executable, "-I", "-S", str(SUPERVISOR), *arguments]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process alone, which ends the program
            start_new_session=True,
        )
    # arguments with a null character, or too many
    except (OSError, ValueError) as error:
        raise SeparatorError(f"{what}: {name} cannot be started ({error})") from error
    printed = _Printed(process.stdout)
    code = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        try:
            code = process.wait(timeout_s)
        finally:
            _end(process)
    said = printed.last_line()
    if code is None:
        raise SeparatorError(
            f"{what}: {name} took more than {timeout_s:g} s and was ended; set timeout_s to more{said}"
        )
    if code:
        raise SeparatorError(f"{what}: {name} ended with exit code {code}{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let the supervisor go, which ends the program, and wait until it has."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(SUPERVISOR_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Printed:
    """The end of what a program prints, read all the time so that it never has to wait."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream, self._kept = stream, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        if self._stream is None:
            return
        while part := os.read(self._stream.fileno(), KEPT_BYTES):
            self._kept = (self._kept + part)[-KEPT_BYTES:]
        self._stream.close()

    def last_line(self) -> str:
        """The last line for a message; empty where nothing was printed."""
        # what it left running in a session of its own may hold the pipe
        self._thread.join(ENDING_S)
        lines = [line.strip() for line in self._kept.decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {shown(lines[-1])[-LAST_CHARACTERS:]}" if lines else ""


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """A folder for a program's files, which is gone when the block ends; those of killed processes go first."""
    place = Path(tempfile.gettempdir())
    clear_remains(place)
    folder = temporary_in(place)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SeparatorError(f"{place}: cannot be written ({error.strerror}); set TMPDIR to another folder") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
