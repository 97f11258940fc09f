"""The command that draws weights: matrices, mean and spread, over time, decomposed, or the difference of two."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stemfuse.experiments.errors import ConfigError

from .console import Convert, Replace, one_of, progress_bars, results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stemfuse.blending import MixingWeights

app = typer.Typer()

FORMATS = (".png", ".svg", ".pdf")


@app.command(epilog="Example: stemfuse plot mixer.safetensors --song song.wav --store stems --segment 3 --out w.png")
def plot(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE [FILE]", help="a fusion or its weights; of two the difference", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="the figure: .png, .svg or .pdf", show_default=False)],
    how: Annotated[
        str, typer.Option("--how", help="matrix (of several segments: mean and spread), time, or parts: decomposed")
    ] = "matrix",
    segment: Annotated[
        list[int], typer.Option("--segment", help="this segment alone; may be repeated", show_default=False)
    ] = [],  # noqa: B006  (typer reads the default, nobody changes it)
    song: Annotated[
        Path | None, typer.Option("--song", help="song that the weights are predicted for", show_default=False)
    ] = None,
    store: Annotated[Path | None, typer.Option("--store", help="stem store of the song", show_default=False)] = None,
    stems: Annotated[
        list[str],
        typer.Option("--stems", metavar="LABEL=DIR", help="the song's stems by another tool; may be repeated"),
    ] = [],  # noqa: B006
    convert: Convert = False,
    replace: Replace = False,
) -> None:
    """Draw the weights of a fusion, as the MDX-Mixer paper does."""
    from stemfuse.experiments.outputs import check_output, new_file
    from stemfuse.experiments.stages.song_stems import parse_stems

    wanted = one_of("--how", how, ("matrix", "time", "parts"))
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"{out}: got the suffix {out.suffix or 'none'}, expected one of {', '.join(FORMATS)}")
    if len(files) > 2 or (len(files) == 2 and (segment or wanted != "matrix")):
        raise ConfigError("expected one FILE, or two of which the difference is drawn without --how and --segment")
    if segment and wanted != "matrix":
        raise ConfigError(f"got --segment and --how {wanted}: segments are drawn as matrices; leave one out")
    check_output(out)
    found = [_weights(file, song, store, parse_stems(stems, "--stems"), convert) for file in files]
    drawn = _draw(found, wanted, segment, " minus ".join(file.name for file in reversed(files)))
    with new_file(out, replace) as temporary:
        drawn.savefig(temporary, format=out.suffix[1:].lower(), bbox_inches="tight", dpi=200)
    results.print(str(out))


def _weights(file: Path, song: Path | None, store: Path | None, stems: dict[str, Path], convert: bool) -> MixingWeights:
    """Weights of a file: those that hold for all songs, or those that are predicted for the song."""
    from stemfuse.blending import MixingWeights, load_fusion

    fusion = load_fusion(file)
    if not fusion.is_linear:
        raise ConfigError(f"{file}: a {fusion.kind} fusion has no weights to draw")
    if (constant := fusion.constant_weights) is not None:
        return constant
    if song is None:
        raise ConfigError(f"{file}: its weights are predicted for each song; name one with --song, and its --store")
    from stemfuse.experiments.stages.fuse import fuse_paths

    with tempfile.TemporaryDirectory() as folder, progress_bars() as progress:
        made = fuse_paths(
            file, [song], Path(folder), store, save_weights=True, progress=progress, convert=convert, stems=stems
        )
        weights = [found for place in made for found in sorted(place.glob("weights*.npz"))]
        if len(weights) != 1:
            raise ConfigError(f"{song}: has weights of {len(weights)} songs or channels, expected one: name one song")
        return MixingWeights.load(weights[0])


def _draw(weights: list[MixingWeights], how: str, segments: list[int], title: str) -> Figure:
    """The figure that is asked for."""
    from stemfuse.analysis.figures import plot_difference, plot_weights, plot_weights_grid, plot_weights_over_time
    from stemfuse.blending import decompose

    if len(weights) == 2:
        return plot_difference(weights[0], weights[1], title=title)
    if how == "time":
        return plot_weights_over_time(weights[0], title=title)
    if how == "parts":
        return plot_weights_grid(decompose(weights[0]).parts(), title=title)
    return plot_weights(weights[0], segments or None, title=title)
