"""Small charts of the page, as positions in percent: intervals of gains, and a dot for every track's score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stemfuse.analysis.aggregates import MEAN

from .data_sets import DataSetScores

LEAST_DB = 1.0
"""A scale shows at least so much, so that a hundredth does not look like a difference."""


class Scale:
    """Where values of some dB are between 0 and 100 %.

    Examples
    --------
    >>> scale = Scale([-1.0, 3.0])
    >>> scale.low, scale.high, scale(0.0)
    (-1.2, 3.2, 27.3)
    """

    def __init__(self, values: Iterable[float]) -> None:
        finite = [value for value in values if np.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        added = max(0.05 * (high - low), (LEAST_DB - (high - low)) / 2)
        self.low, self.high = round(low - added, 2), round(high + added, 2)

    def __call__(self, value: float) -> float:
        """Where a value is."""
        return round(100 * (value - self.low) / (self.high - self.low), 1)


def interval_bars(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `compare` with the places of their intervals on one scale that holds 0; None without a number."""
    scale = Scale([0.0, *(float(row[name]) for row in rows for name in ("difference", "low", "high"))])
    placed = []
    for row in rows:
        known = {name: float(row[name]) for name in ("difference", "low", "high") if np.isfinite(row[name])}
        bar = {"zero": scale(0.0)} | {name: scale(value) for name, value in known.items()}
        placed.append({**row, "bar": bar if "difference" in known else None})
    return placed


def dot_rows(data: DataSetScores, metric: str) -> dict[str, Any]:
    """Scores of every track as dots: ``columns`` with the ends of their scales, and by method ``cells``.

    A cell has ``median`` and ``dots`` as places, with the track's name and value for those who point at one.
    """
    values: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for (track, method, source), value in data.by_track().items():
        if np.isfinite(value):
            values.setdefault((method, source), []).append((track, value))
    sources = [source for source in data.sources(metric) if source != MEAN]
    scales = {
        source: Scale(value for (_, own), pairs in values.items() if own == source for _, value in pairs)
        for source in sources
    }
    rows = []
    for method in data.methods:
        cells = []
        for source in sources:
            pairs = values.get((method, source), [])
            middle = float(np.median([value for _, value in pairs])) if pairs else float("nan")
            dots = [(scales[source](value), track, value) for track, value in pairs]
            cells.append({"dots": dots, "median_db": middle, "median": scales[source](middle) if pairs else None})
        rows.append((method, cells))
    return {"columns": [(source, scales[source].low, scales[source].high) for source in sources], "rows": rows}
