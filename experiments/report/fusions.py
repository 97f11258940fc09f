"""What the report shows of fusions beside their scores: bounds, mixing matrices, searches, trainings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import pandas as pd

from stemfuse.analysis.figures.matrices import largest_weight
from stemfuse.blending import MixingWeights, decompose, open_studies
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.record import FusionRecord, RunRecord
from stemfuse.experiments.run import BOUNDS, LEAVE_ONE_OUT, Run
from stemfuse.separators import StemfuseError
from stemfuse.separators.foreign.documents import read_text
from stemfuse.separators.foreign.table import DOCUMENT_BYTES
from stemfuse.separators.names import name_fault

from .figures import Figures
from .matrices import matrix_view
from .players import safe_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


BEST_SINGLE, BEST_OF_EACH = "best single", "best of each source"
"""A bound's name in files, and on the page: there the best separator is the one with the best mean over sources."""


def bound_tables(run: Run) -> dict[str, dict[str, Any]]:
    """By data set, a grid of bounds and one of what separators are worth; None where not computed.

    Raises
    ------
    RunError
        A file has changed since it was written, or is no such table.
    """
    grids: dict[str, dict[str, Any]] = {}
    for file, kind, row, value in (
        (BOUNDS, "bounds", "bound", "sdr_db"),
        (LEAVE_ONE_OUT, "worth", "without", "loss_db"),
    ):
        path = run.path / file
        if not path.is_file():
            continue
        whole = run.checksums.require(file)
        try:
            table = pd.read_csv(StringIO(read_text(whole, DOCUMENT_BYTES)), keep_default_na=False)
            if lacking := [name for name in ("data", "source", row, value) if name not in table]:
                raise RunError(
                    f"{path}: got the columns {', '.join(map(str, table))}, expected {lacking[0]} too; delete it and "
                    "run again"
                )
            for data, rows in table.groupby("data", sort=False):
                if kind == "bounds":
                    rows = rows.replace({row: {BEST_SINGLE: BEST_OF_EACH}})
                entry = grids.setdefault(str(data), {"bounds": None, "worth": None, "weights": {}})
                entry[kind] = _grid(rows, row, value)
                if kind == "bounds":
                    of_mean = rows[(rows["source"] == "mean") & (rows[row] != "")]
                    entry["weights"] = of_mean.set_index("bound")["weights"].astype(float).to_dict()
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path}: damaged ({' '.join(str(error).split())[:200]}); delete it and run again"
            ) from error
    return grids


def _grid(rows: pd.DataFrame, row: str, value: str) -> pd.DataFrame:
    # a loss is not known, and its cell empty, where a mix is perfect with and without a separator
    rows = rows[rows[row] != ""].assign(**{value: lambda part: pd.to_numeric(part[value], "coerce")})
    grid = rows.pivot(index=row, columns="source", values=value)
    return grid.loc[list(dict.fromkeys(rows[row])), list(dict.fromkeys(rows["source"]))]


def fusion_view(run: Run, label: str, figures: Figures, scale: float) -> dict[str, Any]:
    """What the page shows of a fusion: its matrices, its weights over time and its training, its search.

    Parameters
    ----------
    run : Run
        Its folder.
    label : str
        Of the fusion.
    figures : Figures
        Where figures are drawn.
    scale : float
        The largest weight of the colours; see `weight_scale`.

    Returns
    -------
    dict
        Lists ``matrices``, ``traces`` and ``searches``, and ``notes`` on what cannot be shown.
    """
    notes: list[str] = []
    described = run.record().fusions[label]
    if not described.linear:
        notes.append(f"{label}: no mixing matrix, the fusion is not linear")
    matrices = []
    for name, weights in _matrices(run, label, described, notes):
        segments, outputs, inputs = weights.matrix.shape
        sizes = {"segments": segments, "outputs": outputs, "inputs": inputs}
        shown = {"label": name, "kind": described.kind, "fusion": label, "file": described.file, **sizes}
        matrices.append({**shown, **matrix_view(weights, scale), "shares": _shares(weights)})
    traces = [
        figures.add(safe_name(f"{kind}-{name}"), figure, f"{kind} of {name}")
        for kind, name, figure in _traces(run, label, described, notes)
    ]
    searches = list(_searches(run, label, described, notes))
    return {"matrices": matrices, "traces": traces, "searches": searches, "notes": notes}


def weight_scale(run: Run, record: RunRecord, shown: Sequence[str]) -> float:
    """The largest weight of all mixing matrices that are shown: one colour scale on which they can be compared."""
    matrices = (pair for label in shown for pair in _matrices(run, label, record.fusions[label], []))
    return largest_weight(dict(matrices))


def _matrices(run: Run, label: str, described: FusionRecord, notes: list[str]) -> Iterator[tuple[str, MixingWeights]]:
    """The matrix of a linear fusion, or those that it has for each song, by name."""
    if not described.linear:
        return
    songs = {f"{label}, {song}": kept.file for song, kept in described.songs.items()}
    files = songs or {label: described.file}
    for name, file in files.items():
        try:
            yield name, MixingWeights.load(run.checksums.require(file))
        except StemfuseError as error:
            notes.append(f"{name}: no mixing matrix to show ({error})")


def _shares(weights: MixingWeights) -> list[dict[str, Any]]:
    """How much of a constant matrix each part explains, per source and in all; empty where it cannot be decomposed.

    See `stemfuse.blending.decompose`.
    """
    try:
        table = decompose(weights).to_frame()
    except StemfuseError:
        return []
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _searches(run: Run, label: str, described: FusionRecord, notes: list[str]) -> Iterator[dict[str, Any]]:
    """What each search of a fusion has found: source, trials, the first and the best value; figures are on request."""
    # older records do not name the file; labels that could lead out of the folder are none of ours
    if not described.studies or (name_fault(label) and not described.journal):
        return
    try:
        journal = described.journal or f"fusions/{label}.journal"
        for source, study in open_studies(str(run.path / journal), described.studies).items():
            trials = [trial for trial in study.trials if trial.state.name == "COMPLETE" and trial.values]
            found = {"source": source, "trials": len(trials), "journal": journal, "first": None, "best": None}
            if trials and len(trials[0].values) == 1:
                values = [trial.values[0] for trial in trials]
                found |= {"first": values[0], "best": max(values)}
            elif trials:
                found["front"] = len(study.best_trials)
            yield found
    except (StemfuseError, ImportError) as error:
        notes.append(f"{label}: the search's trials cannot be shown ({error})")


def _traces(run: Run, label: str, described: FusionRecord, notes: list[str]) -> Iterator[tuple[str, str, Figure]]:
    """Weights over the time of a song and training curves: what it is, of what, and the figure."""
    from stemfuse.analysis import plot_training, plot_weights_over_time

    try:
        for song, kept in described.songs.items():
            weights = MixingWeights.load(run.checksums.require(kept.file))
            if len(weights.matrix) > 1:
                name = f"{label}, {song}"
                yield "weights over time", name, plot_weights_over_time(weights, kept.levels_db)
        if described.history:
            text = read_text(run.checksums.require(described.history), DOCUMENT_BYTES)
            rows = pd.read_csv(StringIO(text)).to_dict("records")
            if rows and "epoch" in rows[0]:
                history = [{str(key): float(value) for key, value in row.items()} for row in rows]
                yield "training", label, plot_training(history, label)
    except (StemfuseError, OSError, ValueError, LookupError, TypeError) as error:
        notes.append(f"{label}: some of its weights over time or its training cannot be shown ({error})")
