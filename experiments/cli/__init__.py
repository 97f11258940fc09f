"""The command line: messages on stderr, results on stdout, exit code 0 done, 1 failed, 2 wrong usage, 130 stopped."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import typer
from rich.logging import RichHandler

from stemfuse.experiments.errors import SeveralProblemsError, UnusableTracksError
from stemfuse.experiments.workers import NO_MEMORY
from stemfuse.separators import StemfuseError
from stemfuse.separators.names import shown

from . import figures, fusions, inspection, pivot, runs, stems, store, training, weights
from .console import EscapedLines, messages, replace_unencodable
from .crashes import crash_message
from .signals import Stopped, stopping_signals

__all__ = ["app", "main"]

app = typer.Typer(
    name="stemfuse",
    help="Fuse the outputs of several music separators: cache stems, find weights, score, explain, apply.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (runs, stems, fusions, pivot, figures, inspection, training):
    app.registered_commands += part.app.registered_commands
app.add_typer(weights.app, name="weights")
app.add_typer(store.app, name="store")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    replace_unencodable()
    handler = RichHandler(console=messages, show_time=False, show_path=False, markup=False)
    handler.setFormatter(EscapedLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # how large a training is and how long it takes is worth a line of its own
    logging.getLogger("stemfuse.mixers.estimate").setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.showwarning = _show_warning
    with stopping_signals():
        _run(arguments)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Where a warning of this package was raised is of no interest to those who read it."""
    is_own = category.__module__.partition(".")[0] == "stemfuse"
    text = str(message) if is_own else warnings.formatwarning(message, category, filename, lineno)
    logging.getLogger("py.warnings").warning("%s", text)


def _run(arguments: Sequence[str] | None) -> None:
    try:
        app(args=None if arguments is None else list(arguments), prog_name="stemfuse")
    except Stopped:
        messages.print("stemfuse: stopped; what is done is kept, the same command goes on from here", markup=False)
        raise
    except (SeveralProblemsError, UnusableTracksError) as error:
        _fail(error.heading, 2 if error.is_usage else 1, *error.problems)
    except StemfuseError as error:
        _fail(str(error), 2 if error.is_usage else 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", 1)
    except MemoryError:
        _fail(NO_MEMORY, 1)
    # the last net: nothing that nobody foresaw shows a traceback
    except Exception as error:
        _fail(crash_message(error), 1)


def _fail(message: str, code: int, *more: str) -> None:
    # names in it are data: they cannot steer the terminal, and each stays one line
    messages.print(f"stemfuse: {shown(message)}", markup=False)
    for line in more:
        messages.print(f"  {shown(line)}", markup=False)
    sys.exit(code)
