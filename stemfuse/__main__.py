"""``python -m stemfuse`` and the command ``stemfuse``: signals are answered before anything is imported."""

from __future__ import annotations

import atexit
import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line and exit."""
    # registered first, called last: all is done then
    atexit.register(ignore_signals)
    for number in (signal.SIGINT, signal.SIGTERM):
        # what was ignored when this began stays so, as nohup and shells in the background want it
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end_at_once)
    from stemfuse.experiments.cli import main as run

    run()


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End this process without a traceback: while it starts or ends there is nothing to put in order."""
    os._exit(128 + number)


def ignore_signals() -> None:
    """Let nothing change the exit code while the interpreter ends, which would restore the system's own handlers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
