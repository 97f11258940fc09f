"""The benchmark's figures: how far every fusion is above the best separator of each source, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stemfuse.analysis.aggregates import MEAN
from stemfuse.analysis.figures import plot_gains
from stemfuse.experiments.report.figures import Figures
from stemfuse.separators.labels import BEST_PER_SOURCE

from .units import rounded


def draw(numbers: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write a figure for every part; by part, the name of its file.

    Parameters
    ----------
    numbers : mapping
        As `measured` gave them, by part.
    folder : Path
        Where the document lies.
    """
    drawn = {}
    for name, part in numbers["parts"].items():
        rows = pd.DataFrame(
            {
                "fusion": label,
                "source": MEAN,
                "metric": "SDR",
                "baseline": BEST_PER_SOURCE,
                "difference": _number(gain["gain_db"]),
                "low": _number(gain["low_db"]),
                "high": _number(gain["high_db"]),
            }
            for label, gain in by_gain(part)
        )
        if rows.empty:
            continue
        Figures(folder).add(f"benchmark-{name}", plot_gains(rows, set(rows["fusion"])), part["title"])
        drawn[name] = f"benchmark-{name}.svg"
    return drawn


def by_gain(part: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Fusions of the list with their gain over the best separator of each source, the best first.

    Examples
    --------
    >>> gain = {"over_best_pick": {"median": {"gain_db": 0.5}}}
    >>> by_gain({"ranking": {"orders": {"median": ["mean"]}}, "methods": {"mean": gain}})
    [('mean', {'gain_db': 0.5})]
    """
    order = part["ranking"]["orders"]["median"]
    return [(label, part["methods"][label]["over_best_pick"]["median"]) for label in order]


def _number(value: float | None) -> float:
    return float("nan") if value is None or rounded(value) is None else value
