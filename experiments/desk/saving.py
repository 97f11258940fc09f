"""Fusions that the desk saves: what a page may send, checked, and the file that ``stemfuse fuse`` runs."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from stemfuse.blending import MixingWeights, make_fusion
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.outputs import new_file
from stemfuse.experiments.report import safe_name
from stemfuse.experiments.run import Run
from stemfuse.separators.foreign.documents import parse_object
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.labels import ChannelLabel

from .song import DeskSong

FOLDER = "desk"
"""Of a run, where the desk's fusions are saved."""

SEGMENTS = 20_000
"""More than any song has."""

LARGEST = 1000.0
"""A weight beyond this is a mistake."""


class SavedWeights(BaseModel):
    """What a page sends to be saved; the labels are the song's own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    starts: Annotated[list[FiniteFloat], Field(min_length=1, max_length=SEGMENTS)]
    duration: FiniteFloat | None = None
    matrix: str


def save_blend(run: Run, song: DeskSong, text: str) -> Path:
    """Write the weights that a page sends as a fusion into the run's folder ``desk``.

    Parameters
    ----------
    run : Run
        Its record describes the separators, so that ``stemfuse fuse`` can make missing stems by the same ones.
    song : DeskSong
        Whose inputs and outputs the weights have.
    text : str
        JSON of `SavedWeights`.

    Returns
    -------
    Path
        The file; one of its name that was there is kept under another name.

    Raises
    ------
    RunError
        What was sent are no weights of this song.
    """
    try:
        sent = SavedWeights.model_validate(parse_object(text))
        flat = np.frombuffer(base64.b64decode(sent.matrix, validate=True), "<f4")
        matrix = flat.reshape(len(sent.starts), len(song.outputs), len(song.inputs))
    except (ForeignFileError, ValidationError, binascii.Error, ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise RunError(f"got no weights of this song ({reason}); open the desk again and save once more") from error
    if not (np.abs(matrix) <= LARGEST).all():
        raise RunError(f"got weights beyond {LARGEST:g}, or that are no numbers; move them back and save once more")
    weights = MixingWeights(matrix, song.inputs, song.outputs, np.array(sent.starts), sent.duration)
    path = run.path / FOLDER / f"{safe_name(sent.name)}.npz"
    with new_file(path, replace=False) as temporary:
        _write(run, weights, temporary)
    return path


def _write(run: Run, weights: MixingWeights, path: Path) -> None:
    weights = only_used(weights)
    if len(weights.matrix) > 1:
        # weights of one song: bare, for no separators have to be made for another one
        weights.save(path)
        return
    separators = run.record().separators
    fusion: Any = make_fusion("fixed", blend=_own_levels(weights))
    fusion.weights_ = weights
    fusion.separators_ = {label: separators[label].describe for label in weights.separators if label in separators}
    fusion.save(path)


def only_used(weights: MixingWeights) -> MixingWeights:
    """Weights without the separators of which no stem has any: nobody has to make their stems."""
    any_used = np.asarray(weights.matrix.any(axis=(0, 1)))
    used = dict(zip(weights.inputs, any_used.tolist(), strict=True))
    labels = [ChannelLabel.parse(label) for label in weights.inputs]
    heard = {label.separator for label in labels if used[str(label)]}
    columns = [column for column, label in enumerate(labels) if label.separator in heard]
    if not columns:
        return weights
    inputs = tuple(weights.inputs[column] for column in columns)
    return MixingWeights(weights.matrix[:, :, columns], inputs, weights.outputs, weights.starts_s, weights.duration_s)


def _own_levels(weights: MixingWeights) -> dict[str, dict[str, float]]:
    """By source and separator, the mean weight of its own stem: what the file says of itself beside the matrix."""
    levels: dict[str, dict[str, float]] = {}
    for source in weights.sources:
        rows = [row for row, label in enumerate(weights.outputs) if label.rpartition(".")[0] == source]
        levels[source] = {}
        for separator in weights.separators:
            places = [
                (row, weights.inputs.index(label))
                for row in rows
                if (label := f"{separator}.{weights.outputs[row]}") in weights.inputs
            ]
            if places:
                levels[source][separator] = float(np.mean([weights.matrix[0][place] for place in places]))
    return levels
