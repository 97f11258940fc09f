"""The command line: messages on stderr, results on stdout, exit code 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import json
import logging
import os
import sys
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from stemfuse.separators import SOURCES, StemfuseError

from .config import ConfigError
from .run import RunError
from .workers import Progress

app = typer.Typer(
    name="stemfuse",
    help="Fuse the outputs of several music separators: cache stems, find weights, score, explain, apply.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
messages = Console(stderr=True, soft_wrap=True, highlight=False)
results = Console(soft_wrap=True, highlight=False, markup=False)

Json = Annotated[bool, typer.Option("--json", help="print JSON for programs to read")]
Store = Annotated[Path, typer.Option("--store", help="stem store", show_default=False)]
Option = Annotated[list[str], typer.Option("--option", metavar="KEY=VALUE", help="an argument; may be repeated")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="processes [one per core]", show_default=False)]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on stderr with the time left, one per stage; nothing where stderr is no terminal."""
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=messages, disable=not messages.is_terminal) as bars:
        known: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total)
                if not messages.is_terminal and total:
                    messages.print(f"{stage}: {total} to do")
            bars.update(known[stage], completed=done, total=total)

        try:
            yield show
        except KeyboardInterrupt:
            raise RunError("stopped; what is done is kept, the same command goes on from here") from None


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs with YAML values.

    Examples
    --------
    >>> parse_options(["shifts=2", "model=mdx"])
    {'shifts': 2, 'model': 'mdx'}
    """
    import yaml

    options = {}
    for option in given:
        key, equals, text = option.partition("=")
        if not equals or not key:
            raise ConfigError(f"option {option!r} came, expected key=value")
        options[key] = yaml.safe_load(text)
    return options


@app.command(epilog="Example: stemfuse demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for data, store and run")] = Path("demo"),
    workers: Workers = None,
) -> None:
    """Show the whole pipeline on embedded data: no network, no GPU, no ffmpeg."""
    from .demo import run_demo

    with progress_bars() as progress:
        finished = run_demo(out, workers, progress)
    show_run(finished)


@app.command(epilog="Example: stemfuse run recipe.yaml workers=4 score.backend=museval")
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="the recipe", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="changes to it", show_default=False)
    ] = None,
) -> None:
    """Run a recipe on your data; run it again and it goes on where it stopped."""
    from .config import load_config
    from .pipeline import run as run_config

    checked = load_config(config, overrides or [])
    with progress_bars() as progress:
        finished = run_config(checked, progress)
    show_run(finished)


def show_run(finished: Any) -> None:
    """Print a run's score tables, one per data set, and where its report lies."""
    from .report import score_tables

    for title, table in score_tables(finished.path):
        results.print(f"\n{title}")
        print_table(table)
    results.print(f"\nreport: {finished.report_path}")


def print_table(table: Any) -> None:
    """Print a DataFrame whole, whatever the terminal's width: cut numbers are worse than long lines."""
    cells = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy()]
    columns = list(zip(map(str, table.columns), *cells, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    for line in zip(*columns, strict=True):
        padded = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        results.print(
            line[0] + padded[0] + "".join("  " + pad + cell for pad, cell in zip(padded[1:], line[1:], strict=True))
        )


@app.command(epilog="Example: stemfuse separate songs/ --separator demucs --option model=mdx --store stems")
def separate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="data sets or songs", show_default=False)],
    separator: Annotated[str, typer.Option("--separator", help="one of stemfuse list separators", show_default=False)],
    store: Store,
    option: Option = [],  # noqa: B006  (typer reads the default, nobody changes it)
    convert: Annotated[bool, typer.Option("--convert", help="resample and make mono stereo where needed")] = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Separate songs or data sets into a stem store; what is there already is left alone."""
    from .songs import separate_paths

    with progress_bars() as progress:
        entries = separate_paths(paths, separator, parse_options(option), store, convert, workers, progress)
    show_entries(entries, as_json)


@app.command(epilog="Example: stemfuse adopt separated/mdx --as mdx --data MUSDB18-HQ --store stems")
def adopt(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="stems another tool made", show_default=False)],
    name: Annotated[str, typer.Option("--as", help="the separator's name", show_default=False)],
    data: Annotated[Path, typer.Option("--data", help="the data set or song they belong to", show_default=False)],
    store: Store,
    shift: Annotated[bool, typer.Option("--shift", help="undo the offset that was found")] = False,
    as_is: Annotated[bool, typer.Option("--as-is", help="take stems as they lie, whatever was found")] = False,
    model: Annotated[str | None, typer.Option("--model", help="which one, where several lie mixed")] = None,
    sources: Annotated[str, typer.Option("--sources", help="those to take in")] = ",".join(SOURCES),
    replace: Annotated[bool, typer.Option("--replace", help="replace stems adopted before")] = False,
    as_json: Json = False,
) -> None:
    """Take in stems that another tool made: museval trees, demucs, MSST, audio-separator, UVR."""
    from .songs import adopt_folder

    if shift and as_is:
        raise ConfigError("--shift and --as-is came together; choose one")
    unknown = [source for source in sources.split(",") if source not in SOURCES]
    if unknown:
        raise ConfigError(f"--sources {sources} came, expected some of {','.join(SOURCES)}")

    def say(text: str) -> None:
        messages.print(text, markup=False)

    how: Literal["refuse", "shift", "as-is"] = "shift" if shift else "as-is" if as_is else "refuse"
    entries = adopt_folder(folder, name, data, store, how, model, sources.split(","), replace, say)
    show_entries(entries, as_json)


def show_entries(entries: Sequence[Mapping[str, str]], as_json: bool) -> None:
    """Print store entries, one line or one JSON object each."""
    if as_json:
        print(json.dumps(list(entries), ensure_ascii=False, indent=1))
        return
    for entry in entries:
        results.print("  ".join(entry.values()))


@app.command(epilog="Example: stemfuse combine a/vocals.wav b/vocals.wav --how avg_wave --weights 2,1 --out vocals.wav")
def combine(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="one stem by several separators")],
    how: Annotated[str, typer.Option("--how", help="avg_wave, median_fft, max_fft, crossover, ...")],
    out: Annotated[Path, typer.Option("--out", help="the new file, .wav or .flac")],
    weights: Annotated[str, typer.Option("--weights", help="one per file, for the averages: w1,w2,...")] = "",
    option: Option = [],  # noqa: B006  (typer reads the default, nobody changes it)
) -> None:
    """Combine files of one stem by a classical rule, streaming from file to file."""
    from stemfuse.blending import combine_files

    try:
        given = [float(weight) for weight in weights.split(",")] if weights else None
    except ValueError as error:
        raise ConfigError(f"--weights {weights} came, expected numbers such as 2,1") from error
    results.print(str(combine_files(files, how, out, given, **parse_options(option))))


@app.command(epilog="Example: stemfuse score --references MUSDB18-HQ --estimates mdx --estimates demucs --out scores")
def score(
    references: Annotated[Path, typer.Option("--references", help="data set, or one folder of sources")],
    estimates: Annotated[
        list[Path], typer.Option("--estimates", help="museval tree, or one folder; repeat to compare")
    ],
    backend: Annotated[str, typer.Option("--backend", help="fast or museval: the same values")] = "fast",
    window: Annotated[float, typer.Option("--window", min=0.01, help="frame length in seconds")] = 1.0,
    hop: Annotated[float, typer.Option("--hop", min=0.01, help="frame distance in seconds")] = 1.0,
    metrics: Annotated[str, typer.Option("--metrics", help="also SI_SDR,bleedless,fullness,L1_frequency")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="folder for scores; goes on where it stopped")] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Score estimates as museval does, several methods on the same frames."""
    from .config import ScoreConfig, parse_part
    from .scoring import score_folders

    options = parse_part(
        ScoreConfig,
        {
            "window_s": window,
            "hop_s": hop,
            "backend": backend,
            "metrics": [name for name in metrics.split(",") if name],
        },
    )
    with progress_bars() as progress:
        table = score_folders(references, estimates, options, out, workers, progress)
    if as_json:
        print(table.to_json(orient="records", indent=1, force_ascii=False))
    else:
        print_table(table)


@app.command(epilog="Example: stemfuse report runs/first --open")
def report(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="run folder", show_default=False)],
    open_it: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
) -> None:
    """Write the report of a run anew from its folder."""
    from .report import write_report
    from .run import Run

    page = write_report(Run.open(path).path)
    results.print(str(page))
    if open_it:
        webbrowser.open(page.resolve().as_uri())


@app.command(epilog="Example: stemfuse serve runs/first --port 8000")
def serve(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="run folder", show_default=False)],
    port: Annotated[int, typer.Option("--port", help="0 takes a free one")] = 8000,
) -> None:
    """Serve a run's report on this machine until Ctrl-C."""
    import contextlib
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from .run import Run

    folder = Run.open(path).path
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        messages.print(f"http://127.0.0.1:{server.server_port}/report/  (Ctrl-C ends)")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@app.command(epilog="Example: stemfuse synth band --tracks 12 --seconds 30 --seed 1")
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="new data set", show_default=False)],
    tracks: Annotated[int, typer.Option("--tracks", min=1, help="number of songs")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="length of each")] = 30.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="same seed, same bytes")] = 0,
    subset: Annotated[str | None, typer.Option("--subset", help="put all into one subset")] = None,
) -> None:
    """Make songs of the synthetic band in the layout of MUSDB18-HQ."""
    from .band import synthesize

    with progress_bars() as progress:
        made = synthesize(folder, tracks, seconds, seed, subset=subset, progress=lambda d, t: progress("synth", d, t))
    for path in made:
        results.print(str(path))


@app.command("list", epilog="Example: stemfuse list separators")
def list_what(
    what: Annotated[str, typer.Argument(metavar="separators|fusions|datasets|presets", show_default=False)],
    as_json: Json = False,
) -> None:
    """List what can be named: separators, fusions, data set layouts, presets."""
    from .catalogue import CATALOGUES

    if what not in CATALOGUES:
        raise ConfigError(f"list {what} came, expected one of {', '.join(CATALOGUES)}")
    entries = CATALOGUES[what]()
    if as_json:
        print(json.dumps(entries, ensure_ascii=False, indent=1))
        return
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(no_wrap=True)
    shown.add_column()
    for name, meaning in entries.items():
        shown.add_row(name, meaning)
    (results if results.is_terminal else Console(width=160, markup=False, highlight=False)).print(shown)


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
