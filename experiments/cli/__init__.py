"""The command line: messages on stderr, results on stdout, exit code 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import typer
from rich.logging import RichHandler

from stemfuse.experiments.errors import ConfigError
from stemfuse.separators import StemfuseError

from . import fusions, runs, stems, store, training, weights
from .console import messages

__all__ = ["app", "main"]

app = typer.Typer(
    name="stemfuse",
    help="Fuse the outputs of several music separators: cache stems, find weights, score, explain, apply.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (runs, stems, fusions, training):
    app.registered_commands += part.app.registered_commands
app.add_typer(weights.app, name="weights")
app.add_typer(store.app, name="store")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    handler = RichHandler(console=messages, show_time=False, show_path=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.captureWarnings(True)
    try:
        app(args=None if arguments is None else list(arguments), prog_name="stemfuse")
    except ConfigError as error:
        _fail(str(error), 2)
    except StemfuseError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", 1)


def _fail(message: str, code: int) -> None:
    messages.print(f"stemfuse: {message}", markup=False)
    sys.exit(code)
