"""The command line, in this process where its output matters, in one of its own where the process does."""

import logging
import subprocess
import sys
import warnings
from contextlib import chdir, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

from stemfuse.experiments.cli import main


@dataclass(frozen=True)
class Done:
    """What a command has left."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments, cwd=None):
    """Run ``stemfuse ...`` in this process: exit code, results and messages."""
    stdout, stderr = StringIO(), StringIO()
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        with (
            chdir(cwd) if cwd else nullcontext(),
            warnings.catch_warnings(),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        root.handlers = handlers
        logging.captureWarnings(False)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def process(*arguments, **options):
    """Run ``stemfuse ...`` in a process of its own."""
    program = [sys.executable, "-m", "stemfuse", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, timeout=300, check=False, **options)
