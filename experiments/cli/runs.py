"""Commands of whole runs: demo, run, report, serve."""

from __future__ import annotations

import shlex
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.printed import PrintedTable

from .console import (
    AsIs,
    Convert,
    Json,
    Models,
    Shift,
    Sources,
    Trust,
    Workers,
    given_sources,
    how_to_take,
    json_text,
    messages,
    named_songs,
    one_of,
    print_table,
    progress_bars,
    results,
)
from .pivot import print_weights

if TYPE_CHECKING:
    from stemfuse.experiments.run import Run

app = typer.Typer()


@app.command(epilog="Example: stemfuse demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for data, store and run")] = Path("demo"),
    workers: Workers = None,
) -> None:
    """Show the whole pipeline on embedded data: no GPU, no ffmpeg; Spleeter joins if it can be fetched quickly."""
    from stemfuse.experiments.demo import run_demo

    with progress_bars() as progress:
        finished = run_demo(out, workers, progress)
    show_run(finished)


@app.command(
    epilog="Examples: stemfuse run recipe.yaml workers=4;  stemfuse run mdx_mixer data=synth;  "
    "stemfuse run benchmark real=FOLDER"
)
def run(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG.yaml", help="the recipe, or the name of a paper's", show_default=False),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="changes to the recipe", show_default=False)
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="read all files again, changed or not")] = False,
    cells: Annotated[
        str | None, typer.Option("--cells", metavar="K/N", help="only this share of the fusions, for several machines")
    ] = None,
    trust: Trust = False,
) -> None:
    """Run a recipe on your data; run it again and it goes on where it stopped."""
    from stemfuse.experiments.benchmark import is_benchmark
    from stemfuse.experiments.errors import UnfittedError
    from stemfuse.experiments.pipeline import run as run_config
    from stemfuse.experiments.recipes import load_config
    from stemfuse.experiments.run import Run
    from stemfuse.experiments.shares import Share
    from stemfuse.experiments.stored_separators import trusting

    if is_benchmark(config):
        _run_benchmark(config, overrides or [], {"--verify": verify, "--cells": cells})
        return
    checked = load_config(config, overrides or [])
    share = None if cells is None else Share.parse(cells)
    try:
        with progress_bars() as progress, trusting(trust):
            finished = run_config(checked, progress, verify, share=share)
    except UnfittedError:
        if share is None:
            show_run(Run.open(checked.out))
        raise
    if share is None:
        show_run(finished)
    else:
        results.print(
            f"{finished.path}: share {share.number} of {share.size} is done; when all are, run without --cells"
        )


def _run_benchmark(path: Path, overrides: Sequence[str], options: Mapping[str, object]) -> None:
    """Run the benchmark, say beforehand how long it takes, and show what it wrote."""
    from stemfuse.experiments.benchmark import load_benchmark, numbers_tables, run_benchmark

    if given := [option for option, value in options.items() if value]:
        raise ConfigError(f"{given[0]} is for recipes of runs; a benchmark takes key=value alone, such as real=FOLDER")
    benchmark = load_benchmark(path, overrides)
    with progress_bars() as progress:
        numbers = run_benchmark(benchmark, progress, lambda line: messages.print(line, markup=False))
    for entry in numbers_tables(numbers):
        _show_table(entry)
    results.print(f"\ndocument: {benchmark.place / 'benchmark.md'}", markup=False)


@app.command(epilog="Example: stemfuse compare my-songs mdx=separated/mdx demucs=separated/htdemucs --out comparison")
def compare(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="songs with their sources", show_default=False)],
    stems: Annotated[
        list[str], typer.Argument(metavar="NAME=DIR...", help="stems that a tool made of them", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="folder of store and run; goes on where it stopped")] = Path(
        "comparison"
    ),
    sources: Sources = None,
    mixture: Annotated[
        str, typer.Option("--mixture", help="sum: add up the sources where a song has no mixture file; else file")
    ] = "sum",
    shift: Shift = False,
    as_is: AsIs = False,
    missing: Annotated[
        str,
        typer.Option(
            "--missing", help="songs that a tool has no stems of: skip them, refit without the tool, or error"
        ),
    ] = "error",
    convert: Convert = False,
    model: Models = [],  # noqa: B006  (typer reads the default, nobody changes it)
    fusion: Annotated[
        list[str],
        typer.Option(
            "--fusion", metavar="NAME", help="one more fusion to compare; may be repeated", show_default=False
        ),
    ] = [],  # noqa: B006
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """From folders of stems to the verdict: which weights, how much better than the best tool, and how sure."""
    from stemfuse.experiments.comparison import compare_stems
    from stemfuse.experiments.stages.song_stems import parse_models, parse_stems

    how, methods = how_to_take(shift, as_is), parse_stems(stems)
    with progress_bars() as progress:
        finished = compare_stems(
            data,
            methods,
            out,
            one_of("--mixture", mixture, ("file", "sum")),
            given_sources(sources),
            how,
            convert,
            one_of("--missing", missing, ("error", "skip", "refit")),
            workers,
            progress,
            parse_models(model, methods),
            fusion,
        )
    # a new song's stems come as these did
    repeated = {"--shift": shift, "--as-is": as_is, "--convert": convert}
    options = [option for option, is_given in repeated.items() if is_given]
    show_comparison(finished, stems, options, model, as_json)


def show_comparison(
    finished: Run, stems: Sequence[str], options: Sequence[str], models: Sequence[str], as_json: bool
) -> None:
    """Print what a comparison found: tables, weights, the verdict, and the commands that come next.

    ``options`` are those that the stems were taken with, ``models`` as they were given.
    """
    from stemfuse.blending.pivot import describe_weights
    from stemfuse.experiments.comparison import BLEND
    from stemfuse.experiments.verdict import best_fusion, verdicts, without_verdict

    found, weights = verdicts(finished), finished.fusion(BLEND).constant_weights
    if as_json:
        shown: dict[str, Any] = {"verdicts": [verdict.to_dict() for verdict in found], "run": str(finished.path)}
        print(json_text(shown | (describe_weights(weights) if weights is not None else {})))
        return
    show_run(finished)
    results.print(f"\nweights of {BLEND}, source by separator")
    if weights is not None:
        print_weights(weights)
    for verdict in found:
        results.print("")
        for line in verdict.lines():
            results.print(line, markup=False)
    for reason in without_verdict(finished):
        results.print(f"\n{reason}", markup=False)
    best = next((verdict.best for verdict in found), best_fusion(finished) or BLEND)
    file = finished.path / finished.record().fusions[best].file
    # a tool that was left out of the comparison is no input of the fusion
    labels = finished.fusion(best).separators_
    taken, chosen = ([text for text in texts if text.partition("=")[0] in labels] for texts in (stems, models))
    given = [f"--stems {shlex.quote(text)}" for text in taken]
    given += [*options, *(f"--model {shlex.quote(text)}" for text in chosen)]
    results.print("\nnext:")
    results.print(f"  stemfuse fuse {shlex.quote(str(file))} SONG {' '.join(given)} --out fused", markup=False)
    blend = finished.path / finished.record().fusions[BLEND].file
    results.print(f"  stemfuse export {shlex.quote(str(blend))} --as msst --out ensemble.sh", markup=False)


def show_run(finished: Run) -> None:
    """Print a run's score tables, one per data set, and where its report lies."""
    tables = finished.tables()
    if not tables:
        from stemfuse.experiments.report import printed_tables

        tables = printed_tables(finished)
    for table in tables:
        _show_table(table)
    for note in finished.record().notes:
        results.print(f"\nnote: {note}", markup=False)
    results.print(f"\nreport: {finished.report_path}")


def _show_table(table: PrintedTable) -> None:
    results.print(f"\n{table.title}", markup=False)
    print_table(table)
    if table.songs:
        results.print(named_songs(table.songs), markup=False)


@app.command(
    epilog="Examples: stemfuse table mdx_mixer/run --like mdx-mixer --as latex;  "
    "stemfuse table benchmark.json --against old.json"
)
def table(
    path: Annotated[
        Path, typer.Argument(metavar="RUN", help="run folder, or the benchmark.json of a benchmark", show_default=False)
    ],
    like: Annotated[
        str | None, typer.Option("--like", metavar="PAPER", help="as a paper has it: mdx-mixer, kuielab, danna-sep")
    ] = None,
    form: Annotated[str, typer.Option("--as", help="text, csv, latex or html")] = "text",
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE", help="of a benchmark: what has changed since this one")
    ] = None,
) -> None:
    """Print the scores of a run: studies summed up over seeds, or the tables of a paper beside its own figures."""
    if against is not None or path.suffix == ".json":
        _show_benchmark(path, against, {"--like": like, "--as": form if form != "text" else None})
        return
    from stemfuse.experiments.recipes import paper_tables
    from stemfuse.experiments.report import printed_tables, study_tables, tables_as
    from stemfuse.experiments.run import Run

    wanted = one_of("--as", form, ("text", "csv", "latex", "html"))
    run, paper = Run.open(path), None if like is None else paper_tables(like)
    shown = printed_tables(run) if paper is None else [entry.printed() for entry in study_tables(run, paper)]
    if not shown:
        scored = ", ".join(run.record().fusions) or "none"
        what = "scores" if paper is None else f"row of the tables of {paper.title}"
        raise ConfigError(f"{path}: has no {what}; its fusions are {scored}")
    if wanted != "text":
        print(tables_as(run, wanted, paper))
        return
    for entry in shown:
        _show_table(entry)


def _show_benchmark(path: Path, against: Path | None, options: Mapping[str, str | None]) -> None:
    """Print the numbers of a benchmark, or what has changed since another one."""
    from stemfuse.experiments.benchmark import changes_table, numbers_tables, read_numbers

    if given := [option for option, value in options.items() if value]:
        raise ConfigError(f"{given[0]} is for runs, {path} is a benchmark's")
    numbers = read_numbers(path)
    for entry in numbers_tables(numbers) if against is None else [changes_table(read_numbers(against), numbers)]:
        _show_table(entry)


@app.command(
    epilog="Examples: stemfuse report runs/first --open;  stemfuse report runs/first runs/second --out both.html"
)
def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="run folder; of several, what differs", show_default=False),
    ],
    open_it: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="of several runs: the page [comparison.html]", show_default=False)
    ] = None,
) -> None:
    """Write the report of a run again from its folder; of several runs, a page that compares them."""
    from stemfuse.experiments.lock import run_lock
    from stemfuse.experiments.report import write_comparison, write_report
    from stemfuse.experiments.run import Run
    from stemfuse.experiments.workers import cores

    if len(paths) > 1:
        page = write_comparison(paths, out or Path("comparison.html"))
    else:
        if out is not None:
            raise ConfigError("--out is for the comparison of several runs; a run's report lies in its folder")
        run = Run.open(paths[0])
        with run_lock(run.path, "wait until that ends: it writes the report"):
            page = write_report(run.path, cores())
    results.print(str(page), markup=False, soft_wrap=True)
    if open_it:
        webbrowser.open(page.resolve().as_uri())


@app.command(epilog="Example: stemfuse serve runs/first --port 8000")
def serve(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="run folder", show_default=False)],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one")] = 8000,
) -> None:
    """Serve a run's report and its mixing desk on this machine until Ctrl-C."""
    from stemfuse.experiments.desk import desk_routes
    from stemfuse.experiments.report.server import serve_folder
    from stemfuse.experiments.run import Run

    def ready(taken: int) -> None:
        messages.print(f"report  http://127.0.0.1:{taken}/report/")
        messages.print(f"desk    http://127.0.0.1:{taken}/desk/  (Ctrl-C ends)")

    run = Run.open(path)
    serve_folder(run.path, port, ready, desk_routes(run.path))
