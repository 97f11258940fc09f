"""What the report says first of a data set: which fusion, how much better, is it sure, what to do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from stemfuse.analysis.aggregates import MEAN
from stemfuse.blending import FusionError, MixingWeights, weighted_average
from stemfuse.blending.pivot import source_pivot
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.record import FusionRecord, RunRecord
from stemfuse.experiments.run import Run
from stemfuse.experiments.verdict import Verdict, judge
from stemfuse.separators import StemfuseError

from .data_sets import DataSetScores
from .tables import Comparison, ScoreTable, counted, decibels


@dataclass(frozen=True)
class Answer:
    """The first paragraph on a data set, and what stands beside it.

    Attributes
    ----------
    verdict : Verdict, optional
        None where nothing can be compared; ``sentences`` say why.
    method : str
        What to use: the best fusion, or the best separator where no fusion is better.
    sentences : tuple of str
        Plain words, the first is the answer.
    weights : DataFrame, optional
        Of the fusion: one row per source, one column per separator; None where it has no matrix.
    gains : tuple of dict
        Rows of `compare`, of each source and of their mean.
    commands : mapping of str to str
        By what it does; ``RUN`` stands for the run's folder.
    """

    verdict: Verdict | None
    method: str
    sentences: tuple[str, ...]
    weights: pd.DataFrame | None = None
    gains: tuple[dict[str, Any], ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)


def answer_on(run: Run, record: RunRecord, data: DataSetScores, compared: list[Comparison]) -> Answer:
    """The answer that the scores of one data set give."""
    verdict = judge(data)
    if isinstance(verdict, str):
        return Answer(None, "", (f"No answer: {verdict}.",))
    fusion = record.fusions[verdict.best]
    rows = next((against.rows for against in compared if against.baseline == verdict.best_single), pd.DataFrame())
    own = rows[(rows["fusion"] == verdict.best) & rows["difference"].notna()].to_dict("records") if len(rows) else []
    gains: list[dict[Hashable, Any]] = own or list(_bare_gains(data, verdict))
    is_better = verdict.gain_db > 0
    return Answer(
        verdict,
        verdict.best if is_better else verdict.best_single,
        tuple(_sentences(verdict, fusion)),
        _pivot(run, verdict.best, fusion) if is_better else None,
        tuple({str(name): value for name, value in row.items()} for row in gains),
        dict(_commands(run, record, data, verdict)) if is_better else {},
    )


def _bare_gains(data: DataSetScores, verdict: Verdict) -> Iterator[dict[Hashable, Any]]:
    """Gains of each source without intervals, for which there are too few songs."""
    table = ScoreTable.of(data, data.metrics[0])
    if verdict.picks or verdict.best in table.partial or verdict.best_single in table.partial:
        return
    apart = table.grid.loc[verdict.best] - table.grid.loc[verdict.best_single]
    unknown: dict[Hashable, Any] = dict.fromkeys(("low", "high", "p_holm"), math.nan)
    for source, value in apart.dropna().astype(float).items():
        yield {"source": str(source), "difference": value, **unknown, "proven": False}


def _sentences(verdict: Verdict, fusion: FusionRecord) -> Iterator[str]:
    yield _headline(verdict)
    if verdict.picks:
        yield (
            "No separator gives all sources; the fusion is compared with the best of each source: "
            f"{'; '.join(f'{source} by {name}' for source, name in verdict.picks.items())}."
        )
    if verdict.is_sure and verdict.gain_db > 0:
        of = f", corrected for {verdict.fusions} fusions" if verdict.fusions > 1 else ""
        yield f"Proven: the interval excludes 0, and p = {verdict.p:.2g} (Wilcoxon{of})."
    elif verdict.gain_db > 0:
        needed = f"; about {verdict.songs_needed} songs would tell, if the gain stays" if verdict.songs_needed else ""
        yield f"Not proven: {verdict.doubt}{needed}."
    if verdict.fusions > 1:
        yield from _how_picked(verdict)
    if fusion.folds:
        yield "Each song is fused by weights that were fitted without it; the saved ones are fitted on all songs."
    elif fusion.note:
        yield f"Mind: {fusion.note}."
    yield f"Next: {_next(verdict)}"


def _headline(verdict: Verdict) -> str:
    """Which one to use, and how much better it is."""
    over = "the best of each source" if verdict.picks else verdict.best_single
    if not verdict.gain_db > 0:
        return (
            f"Use {over}: no fusion is better. The best one, {verdict.best}, is {decibels(verdict.gain_db, True)} dB "
            f"from it on {counted(verdict.songs, 'song')}."
        )
    gain = f"{decibels(verdict.gain_db, True)} dB over {over}"
    if math.isfinite(verdict.low_db):
        gain += f" [{decibels(verdict.low_db, True)}, {decibels(verdict.high_db, True)}]"
    use = "Use" if math.isfinite(verdict.low_db) else "Try"
    return f"{use} {verdict.best}: {gain}, better on {verdict.won:g} of {counted(verdict.songs, 'song')}."


def _how_picked(verdict: Verdict) -> Iterator[str]:
    """That the winner was picked on these songs, and what it gains where it was not."""
    if math.isfinite(verdict.picked_db):
        yield (
            f"It is the best of {verdict.fusions} fusions on these very songs. With the one that the other songs would "
            f"pick, song by song, the gain is {decibels(verdict.picked_db, True)} dB: expect that on new songs."
        )
    else:
        yield (f"It is the best of {verdict.fusions} fusions, picked on these very songs: expect less on new ones.")


def _next(verdict: Verdict) -> str:
    if not verdict.gain_db > 0:
        return "add separators that are as good as the best one; fusing pays between peers."
    if verdict.is_sure:
        return "fuse new songs by the command below, and listen where it differs most."
    if verdict.songs < 5:
        return "listen to it, and score more songs before you trust the number."
    return "score more songs, or listen where it differs most; it is the best guess so far."


def _pivot(run: Run, label: str, fusion: FusionRecord) -> pd.DataFrame | None:
    """Its weights of every source and separator; of one that varies, the mean over the first song that is kept."""
    file = fusion.file
    if fusion.songs:
        file = next(iter(fusion.songs.values())).file
    if not fusion.linear or not file.endswith(".npz"):
        return None
    try:
        return source_pivot(MixingWeights.load(run.checksums.require(file)))
    except StemfuseError:
        return None


def _commands(run: Run, record: RunRecord, data: DataSetScores, verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Commands that use the answer: fuse new songs, export the weights, draw them."""
    fusion = record.fusions[verdict.best]
    mixed = fusion.mixed_of(record.separators) or tuple(record.separators)
    stored = _stored(run)
    stems = " ".join(f"--stems {shlex.quote(f'{label}=DIR')}" for label in mixed if label in stored)
    yield "fuse a song", " ".join(filter(None, ("stemfuse fuse", _file(fusion), "SONG", stems, "--out fused")))
    means = ScoreTable.of(data, data.metrics[0]).grid[MEAN]
    for label in sorted(data.fusions, key=lambda name: -float(means.get(name, math.nan))):
        described = record.fusions[label]
        if _is_plain(run, described):
            what = "export it" if label == verdict.best else f"export {label}, the best plain blend"
            yield what, f"stemfuse export {_file(described)} --as msst --out ensemble.sh"
            break
    if fusion.linear:
        yield "draw its matrix", f"stemfuse plot {_file(fusion)} --out matrix.pdf"


def _file(fusion: FusionRecord) -> str:
    return f"RUN/{shlex.quote(fusion.file)}"


def _is_plain(run: Run, fusion: FusionRecord) -> bool:
    """Whether it is a weighted average of each source's own stems, which other programs can do."""
    if not fusion.linear or not fusion.file.endswith(".npz"):
        return False
    try:
        weighted_average(MixingWeights.load(run.checksums.require(fusion.file)))
    except (FusionError, StemfuseError):
        return False
    return True


def _stored(run: Run) -> set[str]:
    """Separators whose stems other tools made; none where the recipe cannot be read."""
    try:
        return {entry.label or entry.name for entry in run.config.separators if entry.stored}
    except (ConfigError, StemfuseError, OSError):
        return set()
