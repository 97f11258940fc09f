"""Commands of weights: list what is published and what is on this machine, add files, download them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from .console import Json, NamesConsole, json_text, messages, progress_bars, results

if TYPE_CHECKING:
    from stemfuse.separators.weights.placing import FiledWeights

app = typer.Typer(
    help="Weights of separators: list what is published, add files, fetch them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", epilog="Example: stemfuse weights list xumx")
def list_weights(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="of a system or a separator", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """List every published file: size, licence, expected SDR, where it is published, whether it is here."""
    from .catalogue import published_weights

    rows = published_weights(name)
    if as_json:
        print(json_text(rows))
        return
    shown = Table("file", "size", "SDR in dB", "here", "licence", "published at", box=None, pad_edge=False)
    for column in shown.columns[:4]:
        column.no_wrap = True
    for row in rows:
        size = decimal(row["bytes"]) if row["bytes"] else ""
        figures = " ".join(f"{source[0]} {value:.2f}" for source, value in row["sdr_db"].items())
        here = ", ".join(dict.fromkeys(row["here"].values()))
        origin = row["origin"] if row["url"] else f"{row['origin']}; no direct address"
        shown.add_row(f"{row['system']}/{row['name']}", size, figures, here, row["licence"], origin)
    wide = NamesConsole(width=220, markup=False, highlight=False)
    (results if results.is_terminal else wide).print(shown)


@app.command(epilog="Example: stemfuse weights add onnx_A.zip mixer.ckpt")
def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="files, folders or .zip archives", show_default=False)
    ],
    separator: Annotated[
        str, typer.Option("--as", help="for weights of your own: SEPARATOR, or SEPARATOR/SOURCE", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """Verify files of weights and copy them into the weights folder; published ones are recognised by their digest."""
    from stemfuse.separators.weights.filing import add_weights

    filed = [place for file in files for place in add_weights(file, separator)]
    _show(filed, as_json)


@app.command(epilog="Example: stemfuse weights get kuielab_mdx")
def get(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="a file, SYSTEM/FILE, or a separator: all of its files that are missing"
        ),
    ],
    as_json: Json = False,
) -> None:
    """Download published files and verify them; run it again, it goes on where it stopped."""
    from stemfuse.separators.weights.download import fetch_weights, find_rows

    rows = [row for name in names for row in find_rows(name)]
    for licence in dict.fromkeys(f"{row.system}: {row.licence}" for row in rows):
        messages.print(f"licence of {licence}", markup=False)
    with progress_bars() as progress:
        filed = [place for row in rows for place in fetch_weights(row, lambda n, d, t: progress(f"{n} (MB)", d, t))]
    _show(filed, as_json)


def _show(filed: list[FiledWeights], as_json: bool) -> None:
    """Print paths on stdout, and on stderr what each file was recognised as."""
    lines = (
        ("filed: " if place.is_new else "was there already: ")
        + (f"{row.system}/{row.name} as published ({row.licence})" if row else "weights of your own")
        for place in filed
        for row in [place.published]
    )
    for line in dict.fromkeys(lines) or ["nothing is missing"]:
        messages.print(line, markup=False)
    if as_json:
        entries: list[dict[str, Any]] = [
            {
                "path": str(place.path),
                "is_new": place.is_new,
                "published": place.published and dataclasses.asdict(place.published),
            }
            for place in filed
        ]
        print(json_text(entries))
        return
    for place in filed:
        results.print(str(place.path))
