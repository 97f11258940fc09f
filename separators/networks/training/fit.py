"""Training a separator: from tracks to a file of weights that its separator loads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from stemfuse.separators.errors import TrainingError
from stemfuse.separators.stems import Stems
from stemfuse.separators.track import Track
from stemfuse.separators.training.execution import Execution, History, Recipe
from stemfuse.separators.training.loop import minimise
from stemfuse.separators.weights.tensors import load_strictly, save_state

from .chunks import Augmentation, FixedChunks, RandomChunks
from .trainable import System

CHOSEN = 64
"""Pieces that an X-UMX' initial scales are measured on."""


def train_separator(
    system: System,
    train: Sequence[Track],
    valid: Sequence[Track],
    out: str | os.PathLike[str],
    recipe: Recipe,
    execution: Execution,
    *,
    chunks: int = 1000,
    valid_chunks: int = 4,
    augmentation: Augmentation | None = None,
    copies: Sequence[Sequence[Stems]] = (),
    initial: str | os.PathLike[str] | None = None,
    half: bool = False,
    trained_on: Sequence[str] = (),
) -> History:
    """Train a separator and save its best epoch.

    Parameters
    ----------
    system : System
        Which, and of what size.
    train, valid : sequence of Track
        With references, stereo. Validation tracks choose the epoch by their SDR; without any the last one is kept.
    out : path-like
        The file of weights.
    recipe, execution
        See `stemfuse.separators.training`. Where the execution's folder has a checkpoint, it goes on from there.
    chunks : int
        Random pieces in an epoch.
    valid_chunks : int
        Pieces of each validation track.
    augmentation : Augmentation, optional
        Of the random pieces.
    copies : sequence of sequence of Stems, optional
        Of each training track, see `stretched_copies`.
    initial : path-like, optional
        Weights to start from, of the same sizes, in any published form.
    half : bool
        Save in half precision.
    trained_on : sequence of str
        What the file says that it was trained on.

    Returns
    -------
    list of dict
        Rows of the training; ``valid_loss`` is minus the mean SDR in dB.

    Raises
    ------
    TrainingError
        Tracks do not fit, sizes do not, the loss is not finite, or a checkpoint is of another training.
    """
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        objective = system.objective()
    data = RandomChunks(train, system.samples, chunks, augmentation, copies, system.standardise, recipe.seed)
    judges = FixedChunks(valid, system.samples, valid_chunks, system.standardise) if valid else None
    if initial is None:
        system.prepare(objective, data, min(CHOSEN, chunks))
    else:
        path = Path(initial).expanduser()
        if not path.is_file():
            raise TrainingError(f"{path} is not there: correct initial=, or leave it out")
        load_strictly(objective.network, system.state(path), path).requires_grad_(True)
    identity = {
        "separator": system.separator,
        "system": system.model_dump(),
        "chunks": [chunks, valid_chunks, [len(some) for some in data.copies]],
        "augmentation": asdict(data.augmentation),
        "initial": None if initial is None else hashlib.sha256(path.read_bytes()).hexdigest(),
        "tracks": [[[track.name, track.length] for track in part] for part in (train, valid)],
    }
    history = minimise(objective, data, judges, recipe, execution, identity)
    notes: dict[str, Any] = {**system.notes(), "trained_on": list(trained_on)}
    save_state(objective.network, Path(out), half, **notes)
    return history
