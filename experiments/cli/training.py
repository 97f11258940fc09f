"""The command that trains separators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completion import names
from .console import messages, print_table, progress_bars, results

TRAINABLE = "d3net, demucs_danna, demucs_v2, ismir2020, resunet143_subband, tfc_tdf_v2, unet_danna or xumx"
"""As `list_trainable` has them, which needs pydantic: the help is shown without it."""

app = typer.Typer()


@app.command(
    epilog="Example: stemfuse train xumx xumx data=MUSDB18-HQ recipe.epochs=100, "
    "or small on a CPU: stemfuse train xumx xumx data=synth"
)
def train(
    separator: Annotated[
        str,
        typer.Argument(metavar="SEPARATOR", help=TRAINABLE, show_default=False, autocompletion=names("separators")),
    ],
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG.yaml", help="the recipe: a file, or the name of one of the package", show_default=False
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="changes to the recipe", show_default=False)
    ] = None,
) -> None:
    """Train a separator on a data set; run it again and it goes on where it stopped.

    A recipe with a grid or seeds is a study: every choice is trained and scored.
    """
    from stemfuse.experiments.recipes import read_training
    from stemfuse.experiments.stages.train import TrainConfig, train_separator
    from stemfuse.experiments.stages.training_study import STUDY, train_study

    def show(row: dict[str, float]) -> None:
        messages.print(
            f"epoch {row['epoch']:.0f}, step {row['step']:.0f}: loss {row['train_loss']:.4g}, "
            f"validation SDR {-row['valid_loss']:.2f} dB, {row['seconds']:.0f} s"
        )

    recipe = read_training(TrainConfig, config, overrides or [])
    with progress_bars() as progress:
        if recipe.is_study:
            tables = [train_study(separator, recipe, progress, messages.print).printed()]
            path = recipe.out / STUDY
        else:
            tables, path = [], train_separator(separator, recipe, progress, show)
    for table in tables:
        print_table(table)
    results.print(str(path))
