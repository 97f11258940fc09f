"""The command that trains separators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import messages, progress_bars, results

app = typer.Typer()


@app.command(epilog="Example: stemfuse train xumx recipe.yaml data=MUSDB18-HQ recipe.epochs=100")
def train(
    separator: Annotated[
        str, typer.Argument(metavar="SEPARATOR", help="tfc_tdf_v2, xumx or demucs_v2", show_default=False)
    ],
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="the recipe", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="changes to the recipe", show_default=False)
    ] = None,
) -> None:
    """Train a separator on a data set; run it again and it goes on where it stopped."""
    from stemfuse.experiments.recipes import read_config
    from stemfuse.experiments.stages.train import TrainConfig, train_separator

    def show(row: dict[str, float]) -> None:
        messages.print(
            f"epoch {row['epoch']:.0f}, step {row['step']:.0f}: loss {row['train_loss']:.4g}, "
            f"validation SDR {-row['valid_loss']:.2f} dB, {row['seconds']:.0f} s"
        )

    with progress_bars() as progress:
        path = train_separator(separator, read_config(TrainConfig, config, overrides or []), progress, show)
    results.print(str(path))
