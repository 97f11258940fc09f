"""Runs one program, and ends it with all that it started when its caller lets go; a script that imports nothing else.

Its standard input is a pipe that only the caller holds. However the caller ends, be it killed with -9, the pipe closes,
and the program ends.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

ENDING_S = 2.0
"""How long the program may take to end in order."""

NOT_STARTED = 127
"""Exit code where the program cannot be started, as shells have it."""


def main(arguments: list[str]) -> int:
    """Run the program in a group of its own; its exit code, or 128 and the number of the signal that ended it."""
    try:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        print(f"{arguments[0]}: {error.strerror}", file=sys.stderr)
        return NOT_STARTED
    threading.Thread(target=end_with_caller, args=(process,), daemon=True).start()
    code = process.wait()
    # what it left in the background
    end_group(process, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def end_with_caller(process: "subprocess.Popen[bytes]") -> None:
    """Wait until the pipe closes, then end the program, and kill it when it does not."""
    # not by sys.stdin, whose lock would be held when the interpreter ends
    while os.read(0, 1):
        pass
    end_group(process, signal.SIGTERM)
    time.sleep(ENDING_S)
    end_group(process, signal.SIGKILL)


def end_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to the program and to all that it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
