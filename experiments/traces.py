"""What a run keeps of how its fusions learnt and of weights that follow a song, for the report to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemfuse.separators import Track

from .players import safe_name
from .run import Run
from .workers import Progress


def watch(fusion: Any, label: str, progress: Progress, checkpoints: Path | None = None) -> None:
    """Show the trials of a search or the epochs of a training, which goes on from its checkpoints when killed."""
    if hasattr(fusion, "progress"):
        fusion.progress = lambda source, trial, trials: progress(f"{label}: {source}", trial, trials)
    if hasattr(fusion, "execution"):

        def show(row: Mapping[str, float]) -> None:
            if "epoch" in row:  # a solver's passes have no number that is known before
                progress(label, int(row["epoch"]), fusion.epochs)

        fusion.execution = replace(fusion.execution, checkpoints=checkpoints, progress=show)


def keep_history(result: Run, label: str, fusion: Any) -> str:
    """Write the rows of a training as CSV; the file's name, empty where nothing was trained."""
    import pandas as pd

    if not getattr(fusion, "history_", None):
        return ""
    file = f"fusions/{label}-history.csv"
    result.write_text(file, pd.DataFrame(fusion.history_).to_csv(index=False))
    return file


def keep_song(result: Run, label: str, fusion: Any, track: Track) -> dict[str, Any]:
    """Keep the weights that a fusion finds for one song, beside how loud its sources are, for the report."""
    file = f"fusions/{label}-{safe_name(track.name)}.npz"
    fusion.weights(track).save(result.path / file)
    levels = {}
    for source in track.references.sources if track.references is not None else ():
        signal = track.true_stems()[source]
        seconds = [signal.read(s, min(s + track.rate, track.frames)) for s in range(0, track.frames, track.rate)]
        energies = [float(np.mean(np.square(part, dtype=np.float64))) for part in seconds]
        levels[source] = [round(10 * float(np.log10(max(energy, 1e-10))), 1) for energy in energies]
    return {"file": file, "levels_db": levels}
