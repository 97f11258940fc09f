"""Commands that are stopped by signals: which stage they were in, what they printed, and what lives on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
"""Exit code that each signal has to end in."""

NOISE = re.compile(
    r"Traceback|leaked|resource_tracker|Exception ignored|unforeseen|Fatal Python|core dumped|BrokenPipe|Error:"
)
"""What nobody wants to read after a signal."""

ORPHAN = re.compile(r"^Traceback.*\n(?:  .*\n)*EOFError: Ran out of input\n", re.MULTILINE)
"""What Python says in a worker whose parent is killed with -9 before it has told the worker what to do."""

HANG_S = 240
ENDING_S = 40
"""How long a command may take to its next stage, and after a signal to its end, on a machine that is busy."""


class Victim:
    """``stemfuse ...`` in a session of its own, all that it prints in one file."""

    def __init__(self, arguments, folder, log):
        self.log = Path(log)
        command = [sys.executable, "-m", "stemfuse", *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=file, stderr=file, start_new_session=True, env=environment
            )
        self.started = time.monotonic()

    def printed(self):
        """All that was printed until now."""
        return self.log.read_text("utf-8", "replace")

    def labels(self):
        """Names of the stages that have begun, in their order."""
        return re.findall(r"^(.+): \d+ to do(?:, .+ done)?$", self.printed(), re.MULTILINE)

    def runs(self):
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait_for(self, reached):
        """Until ``reached()`` or the end; whether it still runs."""
        until = time.monotonic() + HANG_S
        while self.runs() and not reached():
            assert time.monotonic() < until, f"hangs: {self.printed()}"
            time.sleep(0.002)
        return self.runs()

    def listens(self):
        """Whether it has come as far as its own handlers of signals; before that Python itself answers."""
        return catches(self.process, signal.SIGTERM)

    def stop(self, number):
        """Send a signal and wait for the end; whether it was the signal that ended it."""
        self.process.send_signal(number)
        try:
            code = self.process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"goes on after signal {number}: {self.printed()}") from None
        if code == 0:
            return False
        assert code == CODES[number], f"got exit code {code} after signal {number}: {self.printed()}"
        return True

    def check_quiet(self):
        """Nothing of its session lives on, and it said nothing that it should not."""
        until = time.monotonic() + ENDING_S
        while left := members(self.process.pid):
            assert time.monotonic() < until, f"live on: {left}"
            time.sleep(0.02)
        printed = ORPHAN.sub("", self.printed()) if self.process.returncode == -signal.SIGKILL else self.printed()
        assert NOISE.search(printed) is None, self.printed()

    def finish(self):
        """Let it come to its end undisturbed."""
        try:
            code = self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"hangs: {self.printed()}") from None
        assert code == 0, self.printed()
        self.check_quiet()


def catches(process, number):
    """Whether a process has a handler for the signal."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    caught = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(caught) and bool(int(caught[0], 16) >> (number - 1) & 1)


def members(session):
    """Processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found
