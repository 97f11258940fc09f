"""The command line: messages on stderr, results on stdout, exit code 0 done, 1 failed, 2 wrong usage, 130 stopped."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer
from rich.logging import RichHandler

from stemfuse.experiments.errors import SeveralProblemsError, UnusableTracksError
from stemfuse.experiments.workers import NO_MEMORY
from stemfuse.separators import StemfuseError
from stemfuse.separators.names import shown

from . import figures, fusions, inspection, pivot, runs, stems, store, training, weights
from .console import EscapedLines, messages, replace_unencodable, said, say
from .crashes import crash_message
from .help import EscapedHelp, grouped
from .signals import Stopped, stopping_signals

__all__ = ["app", "main"]

HELP = """Fuse the outputs of several music separators: find weights, hear and score the result, see why it works.

New here? Three commands:

stemfuse demo : the whole way on songs that it makes itself, in three minutes

stemfuse compare SONGS mdx=DIR demucs=DIR : your stems, and the verdict on them

stemfuse fuse BLEND SONG --out DIR : a blend on a new song
"""

app = typer.Typer(
    name="stemfuse",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for part in (runs, stems, fusions, pivot, figures, inspection, training):
    app.registered_commands += part.app.registered_commands
app.registered_commands = grouped(app.registered_commands)
for name, group in (("weights", weights.app), ("store", store.app)):
    for command in group.registered_commands:
        command.cls = EscapedHelp
    app.add_typer(group, name=name, rich_help_panel="Names, files of weights, other programs")

ANYWHERE = ("--quiet", "--verbose")
"""Options of all commands: they may stand before or after a command's name."""


def _show_version(wanted: bool) -> None:
    if wanted:
        from stemfuse import __version__

        typer.echo(f"stemfuse {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_show_version, is_eager=True)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="results and errors alone; may stand anywhere")] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="also what is done and why, and where errors come from; may stand anywhere"),
    ] = False,
) -> None:
    """What holds for all commands."""
    if quiet and verbose:
        raise typer.BadParameter("got both --quiet and --verbose, choose one")
    say("quiet" if quiet else "verbose" if verbose else "normal")


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
        given = list(sys.argv[1:] if arguments is None else arguments)
        code = app(args=_ordered(given), prog_name="stemfuse", standalone_mode=False)
        if isinstance(code, int) and code:
            sys.exit(code)
    except Stopped:
        messages.quiet = False
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
    # the last net: nothing that nobody foresaw shows a traceback, unless one is asked for
    except Exception as error:
        _show_usage(error)
        if said() == "verbose":
            messages.print("".join(traceback.format_exception(error)), markup=False)
        _fail(crash_message(error), 1)


def _show_usage(error: Any) -> None:
    """End with the message of a wrong option or argument; the class of these errors is not public."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):
        error.show()
        sys.exit(error.exit_code)


def _ordered(arguments: Sequence[str]) -> list[str]:
    """Options that hold for all commands come first, wherever they were given.

    Examples
    --------
    >>> _ordered(["run", "a.yaml", "--quiet"])
    ['--quiet', 'run', 'a.yaml']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    common = [text for text in arguments[:end] if text in ANYWHERE]
    return [*common, *(text for text in arguments[:end] if text not in ANYWHERE), *arguments[end:]]


def _fail(message: str, code: int, *more: str) -> None:
    messages.quiet = False
    # names in it are data: they cannot steer the terminal, and each stays one line
    messages.print(f"stemfuse: {shown(message)}", markup=False)
    for line in more:
        messages.print(f"  {shown(line)}", markup=False)
    sys.exit(code)
