"""Commands of songs and stems: separate, adopt, synth, list."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from stemfuse.experiments.errors import ConfigError
from stemfuse.separators.names import check_name

from .completion import names
from .console import (
    AsIs,
    Convert,
    Json,
    Mixture,
    NamedSources,
    NamesConsole,
    Option,
    Shift,
    Store,
    Trust,
    Workers,
    check_choice,
    given_sources,
    how_to_take,
    json_text,
    messages,
    one_of,
    progress_bars,
    results,
    separator_options,
    show_entries,
)

app = typer.Typer()

LARGEST_SEED = (1 << 32) - 1


@app.command(epilog="Example: stemfuse separate songs/ --separator demucs --option model=mdx --store stems")
def separate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="data sets or songs", show_default=False)],
    separator: Annotated[
        str,
        typer.Option(
            "--separator",
            help="one of stemfuse list separators",
            show_default=False,
            autocompletion=names("separators"),
        ),
    ],
    store: Store,
    option: Option = [],  # noqa: B006  (typer reads the default, nobody changes it)
    convert: Convert = False,
    mixture: Mixture = "file",
    sources: NamedSources = None,
    trust: Trust = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Separate songs or data sets into a stem store; stems that are there already are kept."""
    from stemfuse.experiments.stages.separate import separate_paths
    from stemfuse.experiments.stored_separators import trusting

    with progress_bars() as progress, trusting(trust):
        rule = one_of("--mixture", mixture, ("file", "sum"))
        named = given_sources(sources)
        entries = separate_paths(
            paths, separator, separator_options(separator, option), store, convert, workers, progress, rule, named
        )
    show_entries(entries, as_json)


@app.command(epilog="Example: stemfuse adopt separated/mdx --as mdx --data MUSDB18-HQ --store stems")
def adopt(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="stems that another tool made", show_default=False)],
    name: Annotated[str, typer.Option("--as", help="the separator's name", show_default=False)],
    data: Annotated[Path, typer.Option("--data", help="the data set or song they belong to", show_default=False)],
    store: Store,
    shift: Shift = False,
    as_is: AsIs = False,
    model: Annotated[
        str | None, typer.Option("--model", help="which one, where the folder has stems by several models")
    ] = None,
    sources: Annotated[
        str | None,
        typer.Option(
            "--sources", help="sources to take in, or to sum up: drums,other=other+kazoo [all]", show_default=False
        ),
    ] = None,
    mixture: Mixture = "file",
    replace: Annotated[bool, typer.Option("--replace", help="replace stems adopted before")] = False,
    convert: Convert = False,
    as_json: Json = False,
) -> None:
    """Take stems that another tool made into a store: museval trees, demucs, MSST, audio-separator, UVR."""
    from stemfuse.experiments.stages.separate import adopt_folder

    check_name(name, "separator", ConfigError)
    how = how_to_take(shift, as_is)
    wanted = given_sources(sources)
    rule = one_of("--mixture", mixture, ("file", "sum"))

    def show(text: str) -> None:
        messages.print(text, markup=False)

    entries = adopt_folder(folder, name, data, store, how, model, wanted, replace, show, rule, convert)
    show_entries(entries, as_json)


@app.command(epilog="Example: stemfuse synth band --tracks 12 --seconds 30 --seed 1")
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder of the new data set", show_default=False)],
    tracks: Annotated[int, typer.Option("--tracks", min=1, max=10_000, help="number of songs")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=36_000, help="length of each")] = 30.0,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="the same seed gives the same bytes")
    ] = 0,
    subset: Annotated[str | None, typer.Option("--subset", help="put all songs into this subset")] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="to train on: stems at other speeds, through filters, rooms and a codec")
    ] = False,
) -> None:
    """Make songs of the synthetic band in the layout of MUSDB18-HQ."""
    from stemfuse.experiments.band import synthesize

    if subset is not None:
        check_name(subset, "subset", ConfigError)
    if math.isnan(seconds):
        raise ConfigError("got --seconds nan, expected a number of seconds")

    with progress_bars() as progress:
        show = functools.partial(progress, "synth")
        made = synthesize(folder, tracks, seconds, seed, subset, show, wide)
    for path in made:
        results.print(str(path))


@app.command("list", epilog="Example: stemfuse list separators")
def list_what(
    what: Annotated[
        str,
        typer.Argument(
            metavar="separators|fusions|datasets|presets|recipes|weights",
            help="what there is of these",
            show_default=False,
            autocompletion=names("catalogues"),
        ),
    ],
    as_json: Json = False,
) -> None:
    """List separators, fusions, layouts of data sets, presets, recipes, or files of weights."""
    from .catalogue import CATALOGUES

    check_choice(what, "list", CATALOGUES)
    entries = CATALOGUES[what]()
    if as_json:
        print(json_text(entries))
        return
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(no_wrap=True)
    shown.add_column()
    for name, description in entries.items():
        shown.add_row(name, description)
    (results if results.is_terminal else NamesConsole(width=160, markup=False, highlight=False)).print(shown)
