"""The command that looks inside separators: layers, sizes, cost and reach as text, TDF layers and blocks as figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.printed import PrintedTable

from .completion import names
from .console import Json, Option, Replace, Trust, json_text, one_of, print_table, results, separator_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stemfuse.separators.networks.inspection import Inspection, Network

app = typer.Typer()


@app.command(epilog="Example: stemfuse inspect tfc_tdf_small --out pictures")
def inspect(
    separator: Annotated[
        str,
        typer.Argument(
            metavar="SEPARATOR",
            help="one of stemfuse list separators, or a saved fusion",
            show_default=False,
            autocompletion=names("separators"),
        ),
    ],
    option: Option = [],  # noqa: B006  (typer reads the default, nobody changes it)
    out: Annotated[
        Path | None, typer.Option("--out", help="new folder for pictures: TDF layers, blocks", show_default=False)
    ] = None,
    form: Annotated[str, typer.Option("--format", help="of the pictures: png, svg or pdf")] = "png",
    blocks: Annotated[
        Path | None,
        typer.Option(
            "--blocks",
            metavar="CSV",
            help="a study of blocks, to be drawn as well: columns block, sdr_db, parameters, operations",
            show_default=False,
        ),
    ] = None,
    trust: Trust = False,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Look inside a separator: layers, sizes, operations per second of music, reach, TDF layers as pictures."""
    from stemfuse.experiments.outputs import check_output, new_folder
    from stemfuse.separators import load_separator
    from stemfuse.separators.optional import require_packages

    suffix = one_of("--format", form, ("png", "svg", "pdf"))
    if blocks is not None and out is None:
        raise ConfigError("got --blocks without --out, expected the folder that its picture is for")
    if out is not None:
        check_output(out, is_folder=True)
    study = None if blocks is None else _study(blocks)
    # even methods without networks are looked at by torch's counter
    require_packages({"torch": "torch"}, "inspect", ConfigError)
    made = load_separator(separator, **separator_options(separator, option))
    from stemfuse.separators.networks.inspection import inspect_separator

    found = inspect_separator(made, trusted=trust)
    if as_json:
        print(json_text(found.record()))
    else:
        _show(found)
    if out is not None:
        with new_folder(out, replace) as folder:
            folder.mkdir()
            for name, figure in _figures(found, study):
                figure.savefig(folder / f"{name}.{suffix}", format=suffix, bbox_inches="tight", dpi=150)
        if not as_json:
            results.print(str(out))


def _study(file: Path) -> Figure:
    """The figure of a study of blocks."""
    import pandas as pd

    from stemfuse.analysis.figures import plot_blocks
    from stemfuse.separators import StemfuseError

    try:
        return plot_blocks(pd.read_csv(file), "which block?")
    except (OSError, ValueError, TypeError, StemfuseError) as error:
        raise ConfigError(f"{file}: {error}; expected CSV with a row for each network") from error


def _show(found: Inspection, label: str = "") -> None:
    """Everything as text: what is asked most at the beginning, each network with its blocks."""
    from stemfuse.analysis.figures import short_number

    named = found.name if label in ("", found.name) else f"{label}: {found.name}"
    if found.opaque:
        time = f"{found.seconds:.2f} s here for a second of music"
        results.print(f"{named}: {', '.join(found.sources)}; cannot be looked into ({found.opaque}); {time}")
        return
    size = f"{found.parameters:,} parameters, " if found.parameters else "no parameters, "
    cost = f"{short_number(found.operations)} operations" if found.operations else "operations not counted"
    cost += f" (without {', '.join(found.unseen)})" if found.unseen else ""
    results.print(
        f"{named}: {', '.join(found.sources)}; {size}{cost} and {found.seconds:.2f} s here for a second of music"
    )
    for name, network in found.networks.items():
        results.print(f"\n{name}: {network.kind}, {network.parameters:,} parameters, {network.bytes / 1e6:.1f} MB")
        results.print(_reach(network))
        print_table(_table(network))
        matrices = ", ".join(f"{layer} ({len(matrix)} bins)" for layer, matrix in network.matrices.items())
        results.print(f"fully connected over frequency (TDF): {matrices or 'no layer'}")
    for member, inside in found.members.items():
        results.print()
        _show(inside, member)


def _reach(network: Network) -> str:
    if network.is_recurrent:
        return "hears: all of what it is given at a time (recurrent layers)"
    parts = [
        f"{before} {axis} before and {after} after" + (f", all {of}" if before + after + 1 >= of else "")
        for axis, (before, after, of) in network.reach.items()
    ]
    return f"hears: {'; '.join(parts) or 'not measured'}"


def _table(network: Network) -> PrintedTable:
    from stemfuse.analysis.figures import short_number

    rows = [
        [
            layer.name,
            layer.kind,
            f"{layer.parameters:,}",
            f"{short_number(layer.operations)}/s",
            " x ".join(map(str, layer.output)),
        ]
        for layer in network.blocks()
    ]
    return PrintedTable("", ["block", "kind", "parameters", "operations", "output"], rows, [])


def _figures(found: Inspection, study: Figure | None) -> Iterator[tuple[str, Figure]]:
    """Names and figures: TDF layers of each network, the widest of all beside each other, and blocks."""
    from stemfuse.analysis.figures import plot_frequency_maps

    matrices, bands = found.matrices(), found.bands()
    for name, layers in matrices.items():
        yield f"tdf-{_file(name)}", plot_frequency_maps(layers, bands[name], f"{found.name}, {name}: TDF layers")
    if len(matrices) > 1:
        # one scale of frequency for all targets, so that their patterns can be compared
        highest = {bands[name] for name in matrices}
        widest = {name: max(layers.values(), key=len) for name, layers in matrices.items()}
        one = highest.pop() if len(highest) == 1 else None
        yield "tdf-targets", plot_frequency_maps(widest, one, f"{found.name}: the widest TDF layer of each target")
    yield from _layer_figures(found)
    if study is not None:
        yield "which-block", study


def _layer_figures(found: Inspection, label: str = "") -> Iterator[tuple[str, Figure]]:
    import pandas as pd

    from stemfuse.analysis.figures import plot_layers

    for name, network in found.networks.items():
        rows = [(layer.name, layer.parameters, layer.operations) for layer in network.blocks()]
        title = f"{label} {name}".strip() if label not in ("", name) else name
        if rows:
            yield (
                f"blocks-{_file(title)}",
                plot_layers(pd.DataFrame(rows, columns=["block", "parameters", "operations"]), f"{found.name}, {name}"),
            )
    members: Mapping[str, Inspection] = found.members
    for member, inside in members.items():
        yield from _layer_figures(inside, f"{label} {member}".strip())


def _file(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in name)
