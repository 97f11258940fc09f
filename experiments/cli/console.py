"""What all commands share: options, messages on stderr, results on stdout, progress with the time left."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.printed import PrintedTable
from stemfuse.experiments.workers import Progress, silent
from stemfuse.separators.names import did_you_mean, shown


class NamesConsole(Console):
    """A console on which names cannot steer the terminal: in all text, only line ends and tabs are left as they are."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text as it is shown, within tables too."""
        return super().render_str(shown(text, keep="\n\t"), **options)


class EscapedLines(logging.Formatter):
    """Log messages of one line each, in which names cannot steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The message alone."""
        return shown(record.getMessage().strip())


def replace_unencodable() -> None:
    """Escape what the encoding of stdout and stderr does not have, instead of failing there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def json_text(value: Any) -> str:
    """JSON to print, in which names cannot steer the terminal: what is not visible is escaped as JSON does it."""
    return escape_json(json.dumps(value, ensure_ascii=False, indent=1))


def escape_json(text: str) -> str:
    """JSON with escapes in place of what is not visible, except line ends."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)


messages = NamesConsole(stderr=True, soft_wrap=True, highlight=False)
results = NamesConsole(soft_wrap=True, highlight=False, markup=False)

Json = Annotated[bool, typer.Option("--json", help="print JSON for programs to read")]
Store = Annotated[Path, typer.Option("--store", help="stem store", show_default=False)]
Option = Annotated[list[str], typer.Option("--option", metavar="KEY=VALUE", help="an argument of it; may be repeated")]
Trust = Annotated[
    bool, typer.Option("--trust", help="run programs, or code in files, that separators stand for; know what they are")
]
Convert = Annotated[bool, typer.Option("--convert", help="resample and copy mono to stereo where needed, and back")]
Shift = Annotated[bool, typer.Option("--shift", help="correct offsets of stems that are found")]
AsIs = Annotated[bool, typer.Option("--as-is", help="take stems unchanged, whatever is found")]
Models = Annotated[
    list[str],
    typer.Option(
        "--model", metavar="LABEL=MODEL", help="whose stems, where a folder has some by several models; may be repeated"
    ),
]
Sources = Annotated[
    str | None,
    typer.Option(
        "--sources", help="sources to pick or sum up: vocals,accompaniment=drums+bass+other [all]", show_default=False
    ),
]
NamedSources = Annotated[
    str | None,
    typer.Option(
        "--sources", help="names of files that are sources, where nobody knows them: lead,backing", show_default=False
    ),
]
Mixture = Annotated[
    str, typer.Option("--mixture", help="sum: add up the sources where a track has no mixture file; else file")
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="processes [one per core]", show_default=False)]
Replace = Annotated[bool, typer.Option("--replace", help="overwrite a file that is there, which is kept otherwise")]


def check_choice(given: str, option: str, known: Iterable[str]) -> None:
    """A ConfigError for a word that is none of those that an option takes."""
    known = list(known)
    if given not in known:
        raise ConfigError(f"got {option} {given}, expected one of {', '.join(known)}{did_you_mean(given, known)}")


Said = Literal["quiet", "normal", "verbose"]
LEVELS = {"quiet": logging.ERROR, "normal": logging.WARNING, "verbose": logging.INFO}

_said: Said = "normal"


def say(much: Said) -> None:
    """How much is told on stderr beside errors."""
    global _said
    _said = much
    logging.getLogger().setLevel(LEVELS[much])
    messages.quiet = much == "quiet"
    logging.getLogger("stemfuse").setLevel(LEVELS[much] if much == "verbose" else logging.NOTSET)


def said() -> Said:
    """How much is told on stderr beside errors."""
    return _said


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on stderr with the time left, one per stage; lines with counts and time left where it is no terminal."""
    if _said == "quiet":
        yield silent
    elif messages.is_terminal:
        with _bars() as show:
            yield show
    else:
        with progress_lines(lambda line: messages.print(line, markup=False)) as show:
            yield show


@contextmanager
def _bars() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=messages) as bars:
        known: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total)
            bars.update(known[stage], completed=done, total=total)

        yield show


@dataclass
class _Stage:
    """One stage as lines tell of it."""

    started: float
    first: int
    done: int
    total: int
    told: bool = False
    over: bool = False
    """A stage that began before it has gone on: this one, within it, ended before all was done."""

    def line(self, name: str, now: float) -> str:
        """How far it is, and how long it takes."""
        taken = now - self.started
        text = f"{name}: {self.done} of {self.total}, {duration(taken)} so far"
        if self.done > self.first:
            left = taken / (self.done - self.first) * (self.total - self.done)
            text += f", about {duration(left)} left"
        return text


@contextmanager
def progress_lines(tell: Callable[[str], None], every_s: float = 60.0) -> Iterator[Progress]:
    """Lines for logs: what there is to do, then every minute how far it is, even while a single task takes long.

    Parameters
    ----------
    tell : callable
        Takes a line.
    every_s : float
        Seconds between lines.
    """
    stages: dict[str, _Stage] = {}
    lock, ended = threading.Lock(), threading.Event()

    def show(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        with lock:
            if stage not in stages or done < stages[stage].done:
                # the same stage of another part begins anew, and is the last one
                stages.pop(stage, None)
                stages[stage] = _Stage(now, done, done, total)
                if done < total:
                    tell(f"{stage}: {total - done} to do" + (f", {done} of {total} are done" if done else ""))
                elif total:
                    tell(f"{stage}: all {total} done")
                return
            known = stages[stage]
            for later in list(stages.values())[list(stages).index(stage) :]:
                later.over = later is not known
            was, known.done, known.total = known.done, done, total
            if known.told and was < total <= done:
                tell(f"{stage}: all {total} done in {duration(now - known.started)}")

    def remind() -> None:
        while not ended.wait(every_s):
            with lock:
                for name, stage in stages.items():
                    if stage.done < stage.total and not stage.over:
                        stage.told = True
                        tell(stage.line(name, time.monotonic()))

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield show
    finally:
        ended.set()
        reminder.join()


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Examples
    --------
    >>> duration(8.2), duration(150), duration(3700)
    ('8 s', '2 min 30 s', '1 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 and whole < 600 else "")
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def how_to_take(shift: bool, as_is: bool) -> Literal["refuse", "shift", "as-is"]:
    """What to do with stems that are offset against their mixture, from two options of which one may be given."""
    if shift and as_is:
        raise ConfigError("got both --shift and --as-is, choose one")
    return "shift" if shift else "as-is" if as_is else "refuse"


def given_sources(text: str | None) -> dict[str, tuple[str, ...]] | None:
    """Sources that the command line picks or sums up; None where it does not say."""
    from stemfuse.separators.sources import parse_sources

    if text is None:
        return None
    try:
        return parse_sources(text)
    except ValueError as error:
        raise ConfigError(f"--sources: {error}") from error


def one_of(option: str, given: str, known: Sequence[str]) -> Any:
    """A word that an option takes; a ConfigError names those that there are."""
    if given not in known:
        raise ConfigError(f"got {option} {given}, expected {' or '.join(known)}{did_you_mean(given, known)}")
    return given


def parse_options(given: Sequence[str], made: Callable[..., Any] | None = None) -> dict[str, Any]:
    """``key=value`` pairs with YAML values, or as they stand where ``made`` takes nothing but text.

    Examples
    --------
    >>> parse_options(["shifts=2", "model=mdx"])
    {'shifts': 2, 'model': 'mdx'}
    >>> def program(version: str, rate: int): ...
    >>> parse_options(["version=1.10", "rate=48000"], program)
    {'version': '1.10', 'rate': 48000}
    """
    from stemfuse.separators.foreign.documents import parse_yaml

    options = {}
    for option in given:
        key, equals, text = option.partition("=")
        if not equals or not key:
            raise ConfigError(f"got option {option!r}, expected key=value")
        try:
            options[key] = text if _is_text(made, key, text) else parse_yaml(text)
        except ValueError as error:
            raise ConfigError(
                f"option {option[:200]!r} {error}; write a value in quotes where signs mean something in YAML"
            ) from error
    return options


def _is_text(made: Callable[..., Any] | None, key: str, written: str) -> bool:
    """Whether signs are the text that they are: numbers and dates would lose how they were written."""
    from stemfuse.separators import takes_text_alone

    is_plain = bool(written) and not written.startswith(("'", '"', "[", "{")) and written.lower() not in ("null", "~")
    return is_plain and made is not None and takes_text_alone(made, key)


def separator_options(name: str, given: Sequence[str]) -> dict[str, Any]:
    """``--option`` of a separator, see `parse_options`.

    Examples
    --------
    >>> separator_options("command", ["version=1.10", "channels=1"])
    {'version': '1.10', 'channels': 1}
    """
    from stemfuse.separators import separator_class

    return parse_options(given, separator_class(name)) if given else {}


def print_table(table: PrintedTable) -> None:
    """Print a whole table, whatever the terminal's width: cut numbers are worse than long lines."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    for line in zip(*columns, strict=True):
        padded = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        results.print(
            line[0] + padded[0] + "".join("  " + pad + cell for pad, cell in zip(padded[1:], line[1:], strict=True))
        )


def named_songs(songs: Sequence[str], most: int = 20) -> str:
    """A line that names the songs of a table.

    Examples
    --------
    >>> named_songs(["test/a", "test/b"])
    '2 songs: test/a, test/b'
    """
    from stemfuse.separators import listed

    return f"{len(songs)} song{'s' * (len(songs) != 1)}: {listed(songs, most)}"


def show_entries(entries: Sequence[Mapping[str, str]], as_json: bool) -> None:
    """Print store entries, one line or one JSON object each."""
    if as_json:
        print(json_text(list(entries)))
        return
    for entry in entries:
        results.print("  ".join(entry.values()))
