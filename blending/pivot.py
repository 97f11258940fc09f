"""Weights as people read them: one number per source and separator, with the structure of the channels summed up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.labels import ChannelLabel

from .weights import MixingWeights

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-6
"""Weights below this are rounding."""

Array = NDArray[np.float64]


def source_pivot(weights: MixingWeights) -> pd.DataFrame:
    """Weight of every separator in every source: its stem of this source, same channel to same channel.

    Parameters
    ----------
    weights : MixingWeights
        Any ones; of several segments the mean is shown.

    Returns
    -------
    DataFrame
        One row per source; a column per separator, NaN where it gives no such stem; ``mixture`` where the mixture is an
        input; ``sum`` of these; and, where there are such inputs, ``other stems``, the largest weight on a stem of
        another source, with its sign.

    Examples
    --------
    >>> blend = MixingWeights.same_source({"vocals": {"a": 0.75, "b": 0.5}, "bass": {"a": 1.0}})
    >>> source_pivot(blend).to_dict("index")["vocals"]
    {'a': 0.75, 'b': 0.5, 'sum': 1.25}
    """
    import pandas as pd

    matrix: Array = weights.matrix.astype(np.float64).mean(0)
    inputs = [ChannelLabel.parse(label) for label in weights.inputs]
    outputs = [ChannelLabel.parse(label) for label in weights.outputs]
    rows: dict[str, dict[str, float]] = {}
    for source in weights.sources:
        row = {name: _same(matrix, outputs, inputs, source, name) for name in weights.separators}
        if any(label.is_mixture for label in inputs):
            row["mixture"] = _same(matrix, outputs, inputs, source, None)
        row["sum"] = float(np.nansum(list(row.values())))
        foreign = _foreign(matrix, outputs, inputs, source)
        if foreign.size:
            row["other stems"] = float(foreign[np.abs(foreign).argmax()])
        rows[source] = {name: round(value, 12) for name, value in row.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("weights")


def channel_structure(weights: MixingWeights) -> list[str]:
    """What the pivot does not show, in words: crossing, differences between channels, signs, change over time.

    Examples
    --------
    >>> channel_structure(MixingWeights.same_source({"bass": {"a": 1.5, "b": -0.5}}))
    ['the same weights in all channels, none from one channel to another', 'negative: b in bass']
    """
    matrix: Array = weights.matrix.astype(np.float64)
    inputs = [ChannelLabel.parse(label) for label in weights.inputs]
    outputs = [ChannelLabel.parse(label) for label in weights.outputs]
    across = np.array([[given.channel != wanted.channel for given in inputs] for wanted in outputs])
    crossing, mean = float(np.abs(matrix[:, across]).max(initial=0.0)), matrix.mean(0)
    spread = _spread(mean, outputs, inputs)
    if crossing <= ROUNDING and spread <= ROUNDING:
        lines = ["the same weights in all channels, none from one channel to another"]
    else:
        lines = [
            f"weights from one channel to another: up to {crossing:.3g}",
            f"difference between channels: up to {spread:.3g}",
        ]
    negative = [
        f"{'mixture' if name is None else name} in {source}"
        for source in weights.sources
        for name in (*weights.separators, None)
        if _same(mean, outputs, inputs, source, name) < -ROUNDING
    ]
    lines += [f"negative: {', '.join(negative)}"] if negative else []
    if len(matrix) > 1:
        lines.append(
            f"{len(matrix)} segments: their mean is shown, a weight's standard deviation over time is up to "
            f"{float(matrix.std(0).max()):.3g}"
        )
    return lines


def describe_weights(weights: MixingWeights) -> dict[str, Any]:
    """The pivot and the structure as JSON takes them: ``weights`` by source and input, ``channels`` in words."""
    table = source_pivot(weights)
    named = {
        str(source): {str(name): float(value) for name, value in row.items() if not np.isnan(value)}
        for source, row in table.to_dict("index").items()
    }
    return {"weights": named, "channels": channel_structure(weights)}


def _same(
    matrix: Array, outputs: list[ChannelLabel], inputs: list[ChannelLabel], source: str, separator: str | None
) -> float:
    """Mean weight of a separator's stem of a source, or of the mixture, from each channel to the same; NaN without."""
    found = [
        matrix[row, column]
        for row, wanted in enumerate(outputs)
        for column, given in enumerate(inputs)
        if wanted.signal == source and wanted.channel == given.channel and _is_input(given, source, separator)
    ]
    return float(np.mean(found)) if found else float("nan")


def _is_input(label: ChannelLabel, source: str, separator: str | None) -> bool:
    if separator is None:
        return label.is_mixture
    return label.is_stem and label.separator == separator and label.source == source


def _foreign(matrix: Array, outputs: list[ChannelLabel], inputs: list[ChannelLabel], source: str) -> Array:
    """Weights of a source on stems of other sources."""
    rows = [row for row, wanted in enumerate(outputs) if wanted.signal == source]
    columns = [column for column, given in enumerate(inputs) if given.is_stem and given.source != source]
    foreign: Array = matrix[np.ix_(rows, columns)].ravel()
    return foreign[np.abs(foreign) > ROUNDING] if foreign.size else foreign


def _spread(matrix: Array, outputs: list[ChannelLabel], inputs: list[ChannelLabel]) -> float:
    """How much the weights from each channel to the same one differ between channels, at most."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row, wanted in enumerate(outputs):
        for column, given in enumerate(inputs):
            if wanted.channel == given.channel:
                groups.setdefault((wanted.signal, given.separator, given.signal), []).append(float(matrix[row, column]))
    return max((max(group) - min(group) for group in groups.values()), default=0.0)
