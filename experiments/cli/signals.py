"""Ctrl-C and SIGTERM: what is done is kept, workers end, and the exit codes are 130 and 143."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

GRACE_S = 10.0
"""How long it may take to end in order; files are written whole or not at all, so that nothing is lost by ending."""


class Stopped(SystemExit):
    """A signal ends the process; its code is the exit code."""


@contextlib.contextmanager
def stopping_signals() -> Iterator[None]:
    """Until the block ends a signal raises `Stopped` in it; a second one ends the process at once.

    Only the main thread can be interrupted so; in others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(other) is _stop:
            signal.signal(other, _end_at_once)
    # an exception in a destructor is swallowed, and a library may hold on to it
    timer = threading.Timer(GRACE_S, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()
    raise Stopped(128 + number)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
