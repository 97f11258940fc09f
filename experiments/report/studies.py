"""Tables of studies: mean and spread over seeds, and over what a paper averages, beside the paper's own figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from stemfuse.analysis.aggregates import MEAN, common_sources
from stemfuse.experiments.config import SEPARATORS
from stemfuse.experiments.printed import PrintedTable
from stemfuse.experiments.recipes.papers import BEST_OF, BEST_PICK, BEST_SINGLE, Paper, PaperTable
from stemfuse.experiments.record import FusionRecord
from stemfuse.experiments.run import Run

from .data_sets import DataSetScores, score_grid, score_values, scored_data
from .tables import score_tables


class StudyRow(NamedTuple):
    """One row: what it is about, and its score of every source."""

    keys: tuple[str, ...]
    size: int
    """Fusions that it sums up."""
    values: Mapping[str, float]
    """By source, and the mean of them, in dB."""
    spreads: Mapping[str, float]
    """Standard deviations over these fusions; NaN for one."""
    paper: Mapping[str, float] = {}
    """What the paper prints."""


@dataclass(frozen=True)
class StudyTable:
    """Rows of methods, or of cells that differ in what the columns say.

    Attributes
    ----------
    title : str
        What it shows, and of which songs.
    keys : tuple of str
        Columns before the scores.
    sources : tuple of str
        Columns of scores; the last is their mean.
    rows : list of StudyRow
        From top to bottom.
    """

    title: str
    keys: tuple[str, ...]
    sources: tuple[str, ...]
    rows: list[StudyRow] = field(default_factory=list)

    def to_frame(self) -> pd.DataFrame:
        """All numbers: of each source the mean and its spread, and the paper's figure and how far ours is above it."""
        lines = []
        for row in self.rows:
            line: dict[str, Any] = {**dict(zip(self.keys, row.keys, strict=True)), "fusions": row.size}
            for source in self.sources:
                line |= {source: row.values.get(source, np.nan), f"{source} spread": row.spreads.get(source, np.nan)}
                if any(source in other.paper for other in self.rows):
                    figure = row.paper.get(source, np.nan)
                    line |= {f"{source} paper": figure, f"{source} above paper": line[source] - figure}
            lines.append(line)
        return pd.DataFrame(lines)

    def printed(self) -> PrintedTable:
        """The table as it is read: ``6.21 ± 0.03``, with two lines more where the paper has figures."""
        rows = []
        for row in self.rows:
            scores = [
                _with_spread(row.values.get(name, np.nan), row.spreads.get(name, np.nan)) for name in self.sources
            ]
            rows.append([*row.keys, str(row.size), *scores])
            if row.paper:
                figures = [row.paper.get(source, np.nan) for source in self.sources]
                above = [row.values.get(source, np.nan) - row.paper.get(source, np.nan) for source in self.sources]
                blank = [""] * (len(self.keys) - 1)
                rows.append(["  in the paper", *blank, "", *(_number(value) for value in figures)])
                rows.append(["  ours above it", *blank, "", *(_number(value, signed=True) for value in above)])
        return PrintedTable(self.title, [*self.keys, "fusions", *self.sources], rows, [])


def study_tables(
    run: Run, paper: Paper | None = None, scored: Iterable[DataSetScores] | None = None
) -> list[StudyTable]:
    """Tables of all studies of a run, or those of a paper, for every data set.

    Parameters
    ----------
    run : Run
        With scores.
    paper : Paper, optional
        Whose tables they are to be like; each study on its own when not given.
    scored : iterable of DataSetScores, optional
        The run's scores, where they have been read already.

    Returns
    -------
    list of StudyTable
        Medians over frames, then tracks, as in the papers. The mean is over the sources that all cells have. A table of
        which the run has no row is left out.
    """
    tables = []
    for data in scored_data(run) if scored is None else scored:
        if paper is None and not data.cells:
            continue
        scores = _Scores.of(data)
        wanted = _own_tables(data) if paper is None else paper.tables
        about = f"{data.label or 'scores'}{f' ({data.kind})' if data.kind else ''}: {data.metrics[0]} in dB"
        for table in wanted:
            sources = scores.sources if paper is None else [name for name in paper.sources if name in scores.sources]
            rows = list(scores.rows(table))
            if rows:
                keys = ("method",) if table.rows else table.by
                tables.append(StudyTable(f"{table.title}; {about}", keys, (*sources, MEAN), rows))
    return tables


def printed_tables(run: Run, scored: Sequence[DataSetScores] | None = None) -> list[PrintedTable]:
    """The tables that a command prints of a run: scores of every data set, and studies."""
    scored = list(scored_data(run)) if scored is None else scored
    scores = [PrintedTable.of(table, title) for title, table in score_tables(run.path, scored)]
    return [*scores, *(table.printed() for table in study_tables(run, scored=scored))]


def tables_as(run: Run, form: Literal["csv", "latex", "html"], paper: Paper | None = None) -> str:
    """Tables of studies, those of a paper, or of a run without studies its scores, for other programs.

    Parameters
    ----------
    run : Run
        With scores.
    form : {"csv", "latex", "html"}
        CSV has every number in full, one column names the table; the others are as they are printed.
    paper : Paper, optional
        See `study_tables`.
    """
    studies = study_tables(run, paper)
    if form == "csv":
        frames = [table.to_frame().assign(table=table.title) for table in studies]
        if not frames and paper is None:
            frames = [table.assign(table=title) for title, table in score_tables(run.path)]
        return pd.concat(frames, ignore_index=True).to_csv(index=False) if frames else ""
    printed = [table.printed() for table in studies]
    if not printed and paper is None:
        printed = printed_tables(run)
    parts = []
    for table in printed:
        frame = pd.DataFrame(table.rows, columns=table.columns)
        if form == "latex":
            parts.append(frame.to_latex(index=False, escape=True, caption=_for_latex(table.title)))
        else:
            parts.append(f"<h3>{escape(table.title)}</h3>\n{frame.to_html(index=False, border=0)}")
    return "\n".join(parts)


def _own_tables(data: DataSetScores) -> Iterator[PaperTable]:
    """One table per study: every cell, seeds summed up."""
    for study in dict.fromkeys(cell.study for cell in data.cells.values()):
        cells = [cell for cell in data.cells.values() if cell.study == study]
        varied = dict.fromkeys(option for cell in cells for option in cell.varied)
        by_separators = [SEPARATORS] if len({_words(cell, SEPARATORS) for cell in cells}) > 1 else []
        yield PaperTable(title=study, study=study, by=(*by_separators, *varied) or (SEPARATORS,))


@dataclass(frozen=True)
class _Scores:
    """Scores of all methods of a data set by label, in the columns of the cells' sources and their mean."""

    grid: pd.DataFrame
    singles: tuple[str, ...]
    cells: Mapping[str, FusionRecord]
    sources: tuple[str, ...]

    @classmethod
    def of(cls, data: DataSetScores) -> _Scores:
        rows = data.masked[data.masked["metric"] == data.metrics[0]]
        singles = tuple(method for method in data.methods if method not in data.fusions)
        fused = [label for label in rows["fusion"].unique() if label not in singles]
        values = score_values(rows[rows["fusion"].isin(fused or singles)], data.metrics[0])
        sources = common_sources(values)
        grid = score_grid(rows, [*singles, *fused], data.metrics[0], sources)
        return cls(grid.reindex(columns=[*sources, MEAN]), singles, data.cells, sources)

    def rows(self, table: PaperTable) -> Iterator[StudyRow]:
        """Rows of a table that the run has."""
        for row in table.rows:
            values = self._method(row.method)
            if values is not None:
                yield StudyRow((row.name,), 1, _finite(values), {}, row.figures)
        groups: dict[tuple[str, ...], list[str]] = {}
        for label, cell in self.cells.items():
            if cell.study == table.study and all(cell.options.get(key) == value for key, value in table.where.items()):
                groups.setdefault(tuple(_words(cell, key) for key in table.by), []).append(label)
        for keys, labels in groups.items():
            own = self.grid.loc[labels]
            yield StudyRow(keys, len(labels), _finite(own.mean().to_dict()), _finite(own.std(ddof=1).to_dict()))

    def _method(self, name: str) -> dict[str, float] | None:
        """Scores of a method; None where the run has none."""
        if name == BEST_PICK:
            best = {source: float(self.grid.reindex(self.singles)[source].max()) for source in self.sources}
            return best | {MEAN: float(np.mean(list(best.values())))}
        labels = [name]
        if name == BEST_SINGLE:
            labels = list(self.singles)
        elif name.startswith(BEST_OF):
            labels = [label for label, cell in self.cells.items() if cell.study == name.removeprefix(BEST_OF)]
        known = self.grid[self.grid.index.isin(labels)]
        if len(known) > 1:
            known = known[known[MEAN] == known[MEAN].max()]
        return None if known.empty else dict(zip(map(str, known), known.to_numpy()[0].tolist(), strict=True))


def _words(cell: FusionRecord, key: str) -> str:
    """What a cell has of an option, or its separators, as a table shows it."""
    if key == SEPARATORS:
        return "all" if cell.separators is None else " + ".join(cell.separators) or "mixture alone"
    return str(cell.options.get(key, ""))


def _for_latex(text: str) -> str:
    return re.sub(r"([&%$#_{}^])", r"\\\1", text)


def _finite(values: Mapping[Any, float]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items() if np.isfinite(value)}


def _number(value: float, signed: bool = False) -> str:
    return "" if np.isnan(value) else format(value, "+z.2f" if signed else "z.2f")


def _with_spread(value: float, spread: float) -> str:
    return _number(value) if np.isnan(spread) else f"{_number(value)} ± {spread:.2f}"
