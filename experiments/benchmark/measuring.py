"""What a finished run says of its part: figures, gains, bounds and claims, as they are kept for the next release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stemfuse.analysis.aggregates import MEAN, source_order
from stemfuse.blending import BaseFusion, fusion_class, make_fusion
from stemfuse.experiments.config import RunConfig
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.report.data_sets import scored_data
from stemfuse.experiments.run import BOUNDS, Run
from stemfuse.experiments.stages.measure import sdr_scores
from stemfuse.separators.errors import StemfuseError
from stemfuse.separators.labels import BEST_PER_SOURCE

from .claims import LEAK, judged, ranking
from .definition import LEAST_SQUARES, PartConfig
from .learning import songs_needed
from .units import CONVENTIONS, Convention, Gain, Units, rounded

if TYPE_CHECKING:
    from stemfuse.experiments.report.data_sets import DataSetScores

BEST_SINGLE_BOUND = "best single"
"""Bound of the best separator of each source, in the run's table of bounds."""


def measured(
    part: PartConfig, run: Run, config: RunConfig, failed: Mapping[str, str], listed: Sequence[str]
) -> dict[str, Any]:
    """All figures of a part, as JSON takes them; nothing in them depends on the time or the machine.

    Parameters
    ----------
    part : PartConfig
        The part.
    run : Run
        With scores.
    config : RunConfig
        Its recipe, which the songs are opened by once more.
    failed : mapping of str to str
        By label, fusions that could not be fitted, with the reason.
    listed : sequence of str
        Labels of the definition's list: the others are there for claims alone, and are not ranked.
    """
    (data,) = scored_data(run)
    masked = _with_leak(data, config)
    singles = [method for method in data.methods if method not in data.fusions]
    units = {name: Units.of(masked, singles, name) for name in CONVENTIONS}
    sources = source_order(str(name) for name in units["median"].values() if name != MEAN)
    bounds = _bounds(run)
    record = run.record()
    methods: dict[str, Any] = {}
    for label in (*singles, *data.fusions):
        methods[label] = _figures(label, units) | {"is_single": label in singles}
        if label in data.fusions:
            fitted = record.fusions[label]
            methods[label] |= _gains(label, units) | _size(run.path, fitted.files, fitted.kind)
            methods[label]["closed"] = _closed(label, units["median"], bounds, sources)
    return {
        "title": part.title,
        "songs": [track.shown for track in data.tracks],
        "sources": sources,
        "frames": int(data.dropped[data.dropped["metric"] == "SDR"].groupby(["track"])["kept"].max().sum()),
        "separators": {label: own.fingerprint for label, own in record.separators.items()},
        "best_single": {name: own.best_single for name, own in units.items()},
        "best_pick": {name: _pick(own) for name, own in units.items()},
        "methods": methods,
        "bounds": bounds,
        "left_out": dict(part.left_out) | dict(failed),
        "claims": judged(part, units),
        "needed": songs_needed(config, part.order),
        "ranking": ranking(units, [label for label in data.fusions if label in listed]),
    }


def _figures(label: str, units: Mapping[Convention, Units]) -> dict[str, Any]:
    """Of one method: figures in every convention."""
    figures = {
        name: {str(source): rounded(float(value)) for source, value in own.values().loc[label].to_dict().items()}
        for name, own in units.items()
    }
    return {"values": figures}


def _gains(label: str, units: Mapping[Convention, Units]) -> dict[str, Any]:
    """Of one fusion: gain over the best separator, and over the best one of each source."""
    return {
        "over_best_single": {name: own.gain(label, own.best_single).to_dict() for name, own in units.items()},
        "over_best_pick": {name: own.gain(label, BEST_PER_SOURCE).to_dict() for name, own in units.items()},
    }


def _pick(units: Units) -> dict[str, str]:
    """By source, the best separator."""
    values = units.values().reindex(units.singles).drop(columns=MEAN)
    return {str(source): str(values[source].idxmax()) for source in values if values[source].notna().any()}


def _bounds(run: Run) -> dict[str, dict[str, float | None]]:
    """By bound, its SDR per source and in the mean."""
    file = run.path / BOUNDS
    if not file.is_file():
        return {}
    table = pd.read_csv(file)
    return {
        str(bound): {str(source): rounded(value) for source, value in zip(rows["source"], rows["sdr_db"], strict=True)}
        for bound, rows in table.groupby("bound", sort=False)
    }


def _closed(
    label: str, units: Units, bounds: Mapping[str, Mapping[str, float | None]], sources: list[str]
) -> dict[str, float | None]:
    """By oracle, which share of the way to it from the best separator of each source a fusion has gone."""
    values = units.values()
    start = bounds.get(BEST_SINGLE_BOUND, {})
    gained = np.mean([values.loc[label, name] - values.loc[list(units.singles), name].max() for name in sources])
    shares = {}
    for bound, reached in bounds.items():
        if not bound.startswith("oracle"):
            continue
        way = np.mean([(reached.get(name) or np.nan) - (start.get(name) or np.nan) for name in sources])
        shares[bound] = rounded(gained / way) if way > 0 else None
    return shares


def _size(folder: Path, files: list[str], kind: str) -> dict[str, Any]:
    """Weights that were learnt and are not 0, and bytes of all arrays; those of songs left out do not count."""
    from safetensors.numpy import load_file

    count, size = 0, 0
    for name in files:
        file = folder / name
        if file.parent != folder / "fusions" or file.suffix not in (".npz", ".safetensors"):
            continue
        arrays = load_file(file) if file.suffix == ".safetensors" else dict(np.load(file, allow_pickle=False))
        numbers = [array for key, array in arrays.items() if array.dtype.kind == "f" and key != "starts_s"]
        count += sum(int(np.count_nonzero(array)) for array in numbers)
        size += sum(array.nbytes for array in numbers)
    return {"parameters": count if fusion_class(kind).learns else 0, "bytes": size}


def _with_leak(data: DataSetScores, config: RunConfig) -> pd.DataFrame:
    """The part's scores on common frames, with those of least squares fitted to the tested songs themselves."""
    masked = data.masked
    if LEAST_SQUARES not in data.fusions:
        return masked
    plan = plan_run(config)
    tracks = [plan.attach(entry.track) for entry in plan.tested() if entry.track.references is not None]
    cell = next(cell for cell in plan.fusions if cell.label == LEAST_SQUARES)
    fusion = _fitted_to(make_fusion(cell.name, **cell.options), tracks)
    if fusion is None:
        return masked
    scores = sdr_scores(fusion, tracks)
    names = {f"{entry.track.subset}/{entry.track.name}": plan.labels[entry.track] for entry in plan.tested()}
    called = dict(zip(scores["track"].unique(), (names[song] for song in scores.attrs["songs"]), strict=True))
    own = scores[scores["fusion"] == fusion.kind].assign(fusion=LEAK)
    own = own.assign(track=own["track"].map(called))
    # the same frames as all others
    honest = masked[masked["fusion"] == LEAST_SQUARES]
    keys = ["track", "source", "metric", "frame"]
    kept = own.merge(honest.loc[honest["value"].notna(), keys], on=keys)
    return pd.concat([masked, kept[masked.columns]], ignore_index=True)


def _fitted_to(fusion: BaseFusion, tracks: list[Any]) -> BaseFusion | None:
    try:
        return fusion.fit(tracks)
    except StemfuseError:
        # the run has said why it cannot be fitted
        return None


def gain_of(kept: Mapping[str, Any]) -> Gain:
    """A gain as it was kept.

    Examples
    --------
    >>> gain_of({"gain_db": 0.2, "low_db": None, "high_db": None, "songs": 2}).songs
    2
    """
    gain, low, high = (np.nan if kept[name] is None else kept[name] for name in ("gain_db", "low_db", "high_db"))
    return Gain(gain, low, high, kept["songs"])
