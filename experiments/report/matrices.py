"""Mixing matrices on the page: folded by source and side as a table, and whole as numbers that its script unfolds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.analysis.figures.folding import Folded, fold, unfolded
from stemfuse.analysis.figures.matrices import NEGATIVE, POSITIVE, SPREAD
from stemfuse.blending import MixingWeights

DIGITS = 3
FULL = 1.0
"""The weight with the full colour, also where some are larger: else all others would be pale."""

OWN_STEMS = "own stems"
"""What a folded row has in the place of its separator, where it stands for the stem of each column's source."""

SHADE = 75
"""Opacity in percent of the largest weight's cell: text stays readable on it, in light and dark."""


def matrix_view(weights: MixingWeights, scale: float) -> dict[str, Any]:
    """What the page shows of a matrix; of several segments it is their mean, and their spread.

    Parameters
    ----------
    weights : MixingWeights
        Any ones.
    scale : float
        The largest weight of all matrices that are compared; it has the full colour, up to `FULL`.

    Returns
    -------
    dict
        ``columns``, ``rows`` (name and cells of `cell`), ``note`` on what folding hides, ``spread`` (the same rows,
        of standard deviations; empty for one segment), and ``whole``, all numbers as JSON.

    Examples
    --------
    >>> view = matrix_view(MixingWeights.same_source({"bass": {"a": 0.75, "b": 0.25}}), 1.0)
    >>> view["columns"], [(name, [cell["text"] for cell in cells]) for name, cells in view["rows"]]
    (['bass'], [('a', ['0.75']), ('b', ['0.25'])])
    """
    folded, scale = fold(weights, True), min(scale, FULL) or FULL
    mean, spread = folded.matrix.mean(0), folded.matrix.std(0)
    varies = len(folded.matrix) > 1
    return {
        "columns": [label.signal for label in folded.outputs],
        "rows": _rows(folded, mean, scale, (POSITIVE, NEGATIVE)),
        "spread": _rows(folded, spread, float(np.nanmax(spread, initial=0)) or 1.0, (SPREAD, SPREAD)) if varies else [],
        "note": folded.note,
        "whole": whole_numbers(weights, scale),
    }


def whole_numbers(weights: MixingWeights, scale: float) -> str:
    """All weights as JSON for the page's script: inputs, outputs, rows by input, the weight with the full colour."""
    whole = unfolded(weights)
    numbers = np.round(whole.matrix.mean(0).T, DIGITS) + 0.0
    return json.dumps(
        {
            "inputs": [str(label) for label in whole.inputs],
            "outputs": [str(label) for label in whole.outputs],
            "rows": [[None if np.isnan(value) else float(value) for value in row] for row in numbers],
            "scale": scale or 1.0,
        },
        separators=(",", ":"),
    )


def _rows(
    folded: Folded, values: NDArray[np.float64], scale: float, colours: tuple[str, str]
) -> list[tuple[str, list[dict[str, str]]]]:
    rows = []
    for place, label in enumerate(folded.inputs):
        name = label.source or label.separator  # the mixture has the one or the other
        if label.is_stem and label.separator != OWN_STEMS:
            name = f"{label.separator}: {label.source}"
        rows.append((name, [cell(value, scale, colours) for value in values[:, place]]))
    return rows


def cell(value: float, scale: float, colours: tuple[str, str] = (POSITIVE, NEGATIVE)) -> dict[str, str]:
    """How a weight is printed, and the colour behind it.

    Examples
    --------
    >>> cell(-0.25, 0.5)
    {'text': '−0.25', 'sort': '-0.250', 'ground': 'color-mix(in srgb, #b2182b 38%, transparent)'}
    """
    if np.isnan(value):
        return {"text": "–", "sort": "", "ground": "none"}
    share = round(SHADE * min(1.0, abs(value) / (scale or 1.0)))
    text = f"{value:z.2f}".replace("-", "−") if value else "0"
    ground = f"color-mix(in srgb, {colours[int(value < 0)]} {share}%, transparent)" if share else "none"
    return {"text": text, "sort": f"{value:z.3f}", "ground": ground}
