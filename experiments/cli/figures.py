"""The command that draws: weights, runs, searches, trainings and networks, for the screen and for papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stemfuse.experiments.errors import ConfigError

from .console import Convert, Option, Replace, Trust, one_of, parse_options, progress_bars, results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stemfuse.experiments.drawings import Wanted

app = typer.Typer()

FORMATS = (".png", ".svg", ".pdf")
DPI = {"screen": 200, "paper": 600}


@app.command(
    epilog="Examples: stemfuse plot blend.npz --out w.png;  stemfuse plot old.npz new.npz --out more.svg;  "
    "stemfuse plot comparison/run --how gains --style paper --out gains.pdf;  "
    "stemfuse plot mixer.safetensors --song song.wav --store stems --segment 0 --segment 3 --out w.png",
)
def plot(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE [FILE]",
            help="a fusion or its weights (of two the difference), a run, a search's .journal, a training's .csv, or "
            "the name of a separator",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="the figure: .png, .svg or .pdf", show_default=False)],
    how: Annotated[
        str | None,
        typer.Option(
            "--how",
            help="of weights: matrix (of several segments: mean and spread), time, parts (decomposed); of a run: "
            "scores, gains, bounds, matrix; of a search: history, importance, parallel, contour, front; training; "
            "of a separator: tdf, layers [the first of these]",
            show_default=False,
        ),
    ] = None,
    style: Annotated[
        str, typer.Option("--style", help="screen, or paper: for a column of 3.5 inches, no text below 6 points")
    ] = "screen",
    segment: Annotated[
        list[int], typer.Option("--segment", help="this segment alone; may be repeated", show_default=False)
    ] = [],  # noqa: B006  (typer reads the default, nobody changes it)
    folded: Annotated[
        bool | None,
        typer.Option(
            "--fold/--unfold",
            help="both sides of a stem in one row, or every row [folded where that loses nothing, or rows are many]",
            show_default=False,
        ),
    ] = None,
    fusion: Annotated[
        str, typer.Option("--fusion", help="of a run: the fusion to draw, by its label", show_default=False)
    ] = "",
    source: Annotated[str, typer.Option("--source", help="of a search: the source", show_default=False)] = "",
    metric: Annotated[str, typer.Option("--metric", help="of a run's scores")] = "SDR",
    title: Annotated[str, typer.Option("--title", help="in place of the file's name", show_default=False)] = "",
    song: Annotated[
        Path | None, typer.Option("--song", help="song that the weights are predicted for", show_default=False)
    ] = None,
    store: Annotated[Path | None, typer.Option("--store", help="stem store of the song", show_default=False)] = None,
    stems: Annotated[
        list[str],
        typer.Option("--stems", metavar="LABEL=DIR", help="the song's stems by another tool; may be repeated"),
    ] = [],  # noqa: B006
    option: Option = [],  # noqa: B006
    trust: Trust = False,
    convert: Convert = False,
    replace: Replace = False,
) -> None:
    """Draw weights, a run, a search, a training or a network, as a picture or for a paper."""
    from stemfuse.analysis.figures import figure_style
    from stemfuse.analysis.figures.style import STYLES
    from stemfuse.experiments.drawings import Wanted
    from stemfuse.experiments.outputs import check_output, new_file
    from stemfuse.experiments.stages.song_stems import parse_stems

    one_of("--style", style, tuple(STYLES))
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"{out}: got the suffix {out.suffix or 'none'}, expected one of {', '.join(FORMATS)}")
    if len(files) > 2 or (len(files) == 2 and (segment or how not in (None, "matrix"))):
        raise ConfigError("expected one FILE, or two of which the difference is drawn without --how and --segment")
    if segment and how not in (None, "matrix"):
        raise ConfigError(f"got --segment and --how {how}: segments are drawn as matrices; leave one out")
    check_output(out)
    given: dict[str, Any] = {"song": song, "store": store, "stems": parse_stems(stems, "--stems"), "convert": convert}
    given |= {"segments": segment, "fusion": fusion, "source": source, "metric": metric, "folded": folded}
    given |= {"options": parse_options(option), "trust": trust, "title": title}
    with figure_style(style):
        drawn = _drawn(files, how, Wanted(**given))
        with new_file(out, replace) as temporary:
            drawn.savefig(temporary, format=out.suffix[1:].lower(), dpi=DPI[style])
    results.print(str(out))


def _drawn(files: list[Path], how: str | None, wanted: Wanted) -> Figure:
    from stemfuse.experiments.drawings import draw_difference, drawings_of

    with progress_bars() as progress:
        if len(files) == 2:
            return draw_difference(files[0], files[1], wanted, progress)
        return drawings_of(files[0], wanted, progress).draw(how)
