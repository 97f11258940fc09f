"""Commands of stem stores: reading everything in one, to find what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stemfuse.experiments.errors import RunError

from .console import Json, messages, results

app = typer.Typer(no_args_is_help=True, help="Check a stem store.")


@app.callback()
def store() -> None:
    """Check a stem store."""


@app.command(epilog="Example: stemfuse store verify stems")
def verify(
    path: Annotated[Path, typer.Argument(metavar="STORE", help="stem store", show_default=False)],
    as_json: Json = False,
) -> None:
    """Read every file of a store and compare its checksum; exit code 1 when something is damaged."""
    from stemfuse.separators import StemStore

    if not path.is_dir():
        raise RunError(f"{path}: no such folder, expected a stem store")
    checked = StemStore(path)
    problems = checked.verify()
    if as_json:
        print(json.dumps([{"path": str(problem.entry), "reason": problem.reason} for problem in problems], indent=1))
    else:
        for problem in problems:
            results.print(problem.reason)
    keys = checked.keys()
    entries = sum(len(checked.tracks_of(key)) for key in keys)
    messages.print(f"{entries} entries read, {len(problems)} problems", markup=False)
    if problems:
        raise typer.Exit(1)
