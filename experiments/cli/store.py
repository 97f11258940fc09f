"""Commands of stem stores: reading everything in one, to find what is damaged; moving one of an older stemfuse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemfuse.experiments.errors import RunError

from .console import Json, json_text, messages, results, show_entries

app = typer.Typer(no_args_is_help=True, help="List or check a stem store, or move an older one.")


@app.callback()
def store() -> None:
    """List or check a stem store, or move an older one."""


@app.command("list", epilog="Example: stemfuse store list stems --json")
def list_entries(
    path: Annotated[Path, typer.Argument(metavar="STORE", help="stem store", show_default=False)],
    as_json: Json = False,
) -> None:
    """List the songs of a store whose stems are there: separator, subset, song and folder; nothing is read."""
    from stemfuse.separators import StemStore

    if not path.is_dir():
        raise RunError(f"{path}: no such folder, expected a stem store")
    store = StemStore(path)
    keys = store.keys()
    entries = [
        {"separator": key, "subset": folder.parent.name, "track": folder.name, "path": str(folder)}
        for key in keys
        for folder in store.entries(key)
    ]
    show_entries(entries, as_json)
    messages.print(f"{len(entries)} entries by {len(keys)} separators", markup=False)


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
        print(json_text([{"path": str(problem.entry), "reason": problem.reason} for problem in problems]))
    else:
        for problem in problems:
            results.print(problem.reason)
    keys = checked.keys()
    entries = sum(len(checked.entries(key)) for key in keys)
    messages.print(f"{entries} entries read, {len(problems)} problems", markup=False)
    if problems:
        raise typer.Exit(1)


@app.command(epilog="Example: stemfuse store move stems")
def move(
    path: Annotated[Path, typer.Argument(metavar="STORE", help="stem store of an older stemfuse", show_default=False)],
    as_json: Json = False,
) -> None:
    """Move the entries of an older store to where they are looked for now; nothing is computed or copied."""
    from stemfuse.separators.store import move_store

    moved = move_store(path)
    if as_json:
        print(json_text([{"from": str(old), "to": str(new)} for old, new in moved.entries.items()]))
    else:
        for new in moved.entries.values():
            results.print(str(new))
    for reason in moved.left.values():
        messages.print(reason, markup=False)
    messages.print(f"{len(moved.entries)} entries moved, {len(moved.left)} left where they were", markup=False)
    if moved.left:
        raise typer.Exit(1)
