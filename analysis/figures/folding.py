"""Matrices of many rows, folded: both sides of a stem become one row, and stems of other sources go where all are 0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import ChannelLabel, WeightsLike

FEW_ROWS, MANY_ROWS = 12, 26
"""Up to so many rows a matrix is drawn as it is; with more than that it is folded even where this loses something."""

ROUNDING = 1e-6

Array = NDArray[np.float64]


class Folded(NamedTuple):
    """Weights as they are drawn."""

    matrix: Array
    """(segment, output, input)"""
    inputs: tuple[ChannelLabel, ...]
    """Without a channel where both sides are one row."""
    outputs: tuple[ChannelLabel, ...]
    note: str
    """What the rows are, and what they do not show; empty where nothing is folded."""


def unfolded(weights: WeightsLike) -> Folded:
    """All rows and columns."""
    inputs, outputs = (tuple(map(ChannelLabel.parse, labels)) for labels in (weights.inputs, weights.outputs))
    return Folded(np.asarray(weights.matrix, np.float64), inputs, outputs, "")


def fold(weights: WeightsLike, wanted: bool | None = None) -> Folded:
    """Fold a matrix by side, and by source where a source takes nothing from other sources' stems.

    Parameters
    ----------
    weights : WeightsLike
        Of any inputs and outputs.
    wanted : bool, optional
        Fold or not; when not given, matrices of more than `FEW_ROWS` rows are folded where this loses nothing, those of
        more than `MANY_ROWS` always.

    Returns
    -------
    Folded
        A cell is the mean of the weights from each channel to the same one.
    """
    whole = unfolded(weights)
    if wanted is False or (wanted is None and len(whole.inputs) <= FEW_ROWS):
        return whole
    folded, loss = _by_side(whole)
    if wanted is None and loss and len(whole.inputs) <= MANY_ROWS:
        return whole
    own = _by_source(folded)
    note = "each stem of its own source, both sides alike" if own else "both sides alike"
    return (own or folded)._replace(note=loss or note)


def fold_alike(weights: Iterable[WeightsLike], wanted: bool | None = None) -> list[Folded]:
    """Fold matrices that are drawn beside each other: all of them, or where one of few rows would lose by it none."""
    several = list(weights)
    found = [fold(one, wanted) for one in several]
    if len({bool(one.note) for one in found}) == 2:
        all_fold = any(len(one.inputs) > MANY_ROWS for one in several)
        found = [fold(one, all_fold) for one in several]
    return found


def _by_side(whole: Folded) -> tuple[Folded, str]:
    """One row per signal and one column per source, and what they lose in words."""
    inputs, outputs = (
        tuple(dict.fromkeys(label._replace(channel="") for label in labels)) for labels in (whole.inputs, whole.outputs)
    )
    same = np.array([[given.channel == out.channel for given in whole.inputs] for out in whole.outputs])
    rows = np.array([inputs.index(label._replace(channel="")) for label in whole.inputs])
    columns = np.array([outputs.index(label._replace(channel="")) for label in whole.outputs])
    matrix, spread = (np.zeros((len(whole.matrix), len(outputs), len(inputs))) for _ in range(2))
    for column in range(len(outputs)):
        for row in range(len(inputs)):
            cells = same & (columns == column)[:, None] & (rows == row)
            if cells.any():
                values = whole.matrix[:, cells]
                matrix[:, column, row] = values.mean(1)
                spread[:, column, row] = np.ptp(values, axis=1)
    crossing, apart = float(np.abs(whole.matrix[:, ~same]).max(initial=0.0)), float(spread.max(initial=0.0))
    lost = [f"sides differ by up to {apart:.2g}"] if apart > ROUNDING else []
    lost += [f"from side to side up to {crossing:.2g}"] if crossing > ROUNDING else []
    return Folded(matrix, inputs, outputs, ""), f"mean of both sides; {', '.join(lost)}" if lost else ""


def _by_source(folded: Folded) -> Folded | None:
    """One row per separator, its stem of the column's source; None where other sources' stems have weights."""
    foreign = np.array(
        [[given.is_stem and given.source != out.signal for given in folded.inputs] for out in folded.outputs]
    )
    separators = tuple(dict.fromkeys(label.separator for label in folded.inputs if label.is_stem))
    if not separators or float(np.abs(folded.matrix[:, foreign]).max(initial=0.0)) > ROUNDING:
        return None
    inputs = [label for label in folded.inputs if label.is_mixture]
    inputs += [ChannelLabel("own stems", separator, "") for separator in separators]
    matrix = np.full((len(folded.matrix), len(folded.outputs), len(inputs)), np.nan)
    for row, label in enumerate(inputs):
        for column, out in enumerate(folded.outputs):
            wanted = label if label.is_mixture else ChannelLabel(label.source, out.signal, "")
            if wanted in folded.inputs:
                matrix[:, column, row] = folded.matrix[:, column, folded.inputs.index(wanted)]
    return Folded(matrix, tuple(inputs), folded.outputs, "")
