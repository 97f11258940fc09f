"""Commands of whole runs: demo, run, report, serve."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Workers, messages, named_songs, print_table, progress_bars, results

app = typer.Typer()


@app.command(epilog="Example: stemfuse demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for data, store and run")] = Path("demo"),
    workers: Workers = None,
) -> None:
    """Show the whole pipeline on embedded data: no network, no GPU, no ffmpeg."""
    from stemfuse.experiments.demo import run_demo

    with progress_bars() as progress:
        finished = run_demo(out, workers, progress)
    show_run(finished)


@app.command(epilog="Example: stemfuse run recipe.yaml workers=4 score.backend=museval")
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="the recipe", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="changes to the recipe", show_default=False)
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="read all files again, changed or not")] = False,
) -> None:
    """Run a recipe on your data; run it again and it goes on where it stopped."""
    from stemfuse.experiments.config import load_config
    from stemfuse.experiments.pipeline import run as run_config

    checked = load_config(config, overrides or [])
    with progress_bars() as progress:
        finished = run_config(checked, progress, verify)
    show_run(finished)


def show_run(finished: Any) -> None:
    """Print a run's score tables, one per data set, and where its report lies."""
    from stemfuse.experiments.report import score_tables

    for title, table in score_tables(finished.path):
        results.print(f"\n{title}")
        print_table(table)
        results.print(named_songs(table.attrs["songs"]))
    results.print(f"\nreport: {finished.report_path}")


@app.command(epilog="Example: stemfuse report runs/first --open")
def report(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="run folder", show_default=False)],
    open_it: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
) -> None:
    """Write the report of a run again from its folder."""
    from stemfuse.experiments.report import write_report
    from stemfuse.experiments.run import Run

    page = write_report(Run.open(path).path)
    results.print(str(page))
    if open_it:
        webbrowser.open(page.resolve().as_uri())


@app.command(epilog="Example: stemfuse serve runs/first --port 8000")
def serve(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="run folder", show_default=False)],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one")] = 8000,
) -> None:
    """Serve a run's report on this machine until Ctrl-C."""
    from stemfuse.experiments.report.server import serve_folder
    from stemfuse.experiments.run import Run

    serve_folder(
        Run.open(path).path,
        port,
        lambda taken: messages.print(f"http://127.0.0.1:{taken}/report/  (Ctrl-C ends)"),
    )
