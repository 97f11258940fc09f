"""Training a network: from tracks to a file of weights that its separator loads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stemfuse.separators.errors import TrainingError
from stemfuse.separators.stems import Stems
from stemfuse.separators.track import Track
from stemfuse.separators.training.audio_contents import audio_contents
from stemfuse.separators.training.execution import Execution, History, Recipe
from stemfuse.separators.training.loop import run_training
from stemfuse.separators.weights.folder import read_notes
from stemfuse.separators.weights.tensors import load_strictly, save_state

from .chunks import Augmentation, FixedChunks, RandomChunks
from .trainable import TrainableNetwork

MEASURED = 64
"""Chunks that initial scales are measured on, see `TrainableNetwork.prepare`."""


def fit_network(
    trainable: TrainableNetwork,
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
    """Train a network and save its best epoch.

    Parameters
    ----------
    trainable : TrainableNetwork
        Which network, and its sizes.
    train, valid : sequence of Track
        With references, stereo. Validation tracks choose the epoch by their SDR; without any the last one is kept.
    out : path-like
        The file of weights.
    recipe, execution
        See `stemfuse.separators.training`. When the execution's folder has a checkpoint, the training goes on from it.
    chunks : int
        Random chunks in an epoch.
    valid_chunks : int
        Chunks of each validation track.
    augmentation : Augmentation, optional
        Of the random chunks.
    copies : sequence of sequence of Stems, optional
        Of each training track, see `stretched_copies`.
    initial : path-like, optional
        Weights to start from, of the same sizes, in any published form.
    half : bool
        Save in half precision.
    trained_on : sequence of str
        Data that it was trained on, for the notes in the file; what the initial weights were trained on is added.

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
        objective = trainable.objective()
    length, standardise = trainable.length, trainable.standardise
    data = RandomChunks(train, length, chunks, augmentation, copies, standardise, recipe.seed)
    validation = FixedChunks(valid, length, valid_chunks, standardise) if valid else None
    if initial is None:
        trainable.prepare(objective, data, min(MEASURED, chunks))
    else:
        path = Path(initial).expanduser()
        if not path.is_file():
            raise TrainingError(f"{path} is missing: correct initial=, or leave it out")
        load_strictly(objective.network, trainable.state(path), path).requires_grad_(True)
    identity = {
        "separator": trainable.separator,
        # the key is part of checkpoints
        "system": trainable.model_dump(),
        "chunks": [chunks, valid_chunks, [len(some) for some in data.copies]],
        "augmentation": data.augmentation.identity(),
        "initial": None if initial is None else hashlib.sha256(path.read_bytes()).hexdigest(),
        "tracks": [[[track.name, track.length] for track in part] for part in (train, valid)],
        "contents": [audio_contents(part, execution.checkpoints) for part in (train, valid)],
    }
    history = run_training(objective, data, validation, recipe, execution, identity, drawn=True)
    # what the initial weights learnt from is not forgotten
    before = read_notes(path).get("trained_on", ()) if initial is not None else ()
    notes: dict[str, Any] = {**trainable.notes(), "trained_on": list(dict.fromkeys([*before, *trained_on]))}
    save_state(objective.network, Path(out), half, **notes)
    return history
