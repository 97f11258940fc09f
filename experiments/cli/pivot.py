"""The command that shows a fusion's weights, source by separator."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stemfuse.experiments.printed import PrintedTable

from .console import Json, json_text, messages, print_table, results

if TYPE_CHECKING:
    from stemfuse.blending import BaseFusion, MixingWeights

app = typer.Typer()


@app.command(epilog="Example: stemfuse show blend.npz")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="file that fit or fuse saved", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show the weights of a saved fusion, source by separator."""
    from stemfuse.blending import load_fusion

    fusion = load_fusion(file)
    if as_json:
        print(json_text({"kind": fusion.kind, "options": _plain(fusion)} | weights_of(fusion)))
        return
    options = ", ".join(f"{name}={value!r}" for name, value in _plain(fusion).items())
    messages.print(f"{fusion.kind}{options and f' ({options})'}", markup=False)
    _print(fusion)


def weights_of(fusion: BaseFusion) -> dict[str, Any]:
    """Weights of a fusion as JSON takes them: those of each band where there are bands, None where there are none."""
    from stemfuse.blending.bandwise import Bandwise
    from stemfuse.blending.pivot import describe_weights

    if isinstance(fusion, Bandwise):
        return {"bands_hz": {band: describe_weights(weights) for band, weights in fusion.band_weights.items()}}
    weights = fusion.constant_weights
    return describe_weights(weights) if weights is not None else {"weights": None}


def show_weights(file: Path) -> None:
    """Print the weights of the fusion that a file holds."""
    from stemfuse.blending import load_fusion

    results.print("")
    _print(load_fusion(file))


def _print(fusion: BaseFusion) -> None:
    from stemfuse.blending.bandwise import Bandwise

    weights = fusion.constant_weights
    if weights is not None:
        print_weights(weights)
    elif isinstance(fusion, Bandwise) and fusion.band_weights:
        for band, of_band in fusion.band_weights.items():
            results.print(f"{band} Hz")
            print_weights(of_band)
    elif fusion.is_linear:
        results.print(
            "its weights are predicted for each song: stemfuse fuse --save-weights writes those of a song, "
            "stemfuse show FILE shows them"
        )
    else:
        results.print(f"a {fusion.kind} fusion has no weights")


def print_weights(weights: MixingWeights) -> None:
    """Print weights as a table, and below it in words what the table does not show."""
    from stemfuse.blending.pivot import channel_structure, source_pivot

    table = source_pivot(weights)
    shown = table.map(lambda value: "" if math.isnan(value) else f"{value:+.3f}").reset_index()
    print_table(PrintedTable.of(shown))
    for line in channel_structure(weights):
        results.print(line)


def _plain(fusion: BaseFusion) -> dict[str, Any]:
    """Arguments as JSON takes them, but for weights, which the table shows."""
    from stemfuse.blending import MixingWeights

    return {name: value for name, value in fusion.arguments().items() if not isinstance(value, MixingWeights)}
