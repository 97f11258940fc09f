"""Ctrl-C and SIGTERM: what is done is kept, workers end, and the exit codes are 130 and 143."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

GRACE_S = 10.0
"""How long it may take to end in order; files are written whole or not at all, so that nothing is lost by ending."""


AGAIN_S = 0.01
"""How long after a signal that was swallowed it is raised again."""


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
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_raise_again, hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(other) is _stop:
            signal.signal(other, _end_at_once)
    # a library may hold on to it
    timer = threading.Timer(GRACE_S, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()
    raise Stopped(128 + number)


def _raise_again(before: Callable[[sys.UnraisableHookArgs], Any], lost: sys.UnraisableHookArgs) -> None:
    """Where a destructor or a callback of C swallowed `Stopped`, raise it once more, outside of it."""
    if not isinstance(lost.exc_value, Stopped):
        before(lost)
        return
    number = int(lost.exc_value.code or 0) - 128
    signal.signal(number, _stop)
    # it is handled in the main thread, whoever raises it
    timer = threading.Timer(AGAIN_S, signal.raise_signal, (number,))
    timer.daemon = True
    timer.start()


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
