"""The run folder: a place from which every figure and table can be rebuilt."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.blending import BaseFusion, load_fusion
from stemfuse.separators import StemfuseError, whole_file
from stemfuse.separators.errors import wrong_usage

from .checksums import Checksums
from .config import RunConfig
from .errors import RunError
from .printed import PrintedTable, read_tables
from .recipes import dump_config, load_config
from .record import RunRecord

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BOUNDS, LEAVE_ONE_OUT = "bounds.csv", "leave_one_out.csv"
FOLDS = "folds"
"""Below ``fusions``: what was fitted without some songs, to fuse these."""

ESTIMATES = "estimates"

AUDIO, PLAYERS = "report/audio", "players.json"
"""Folder of a run with what the report plays, and the list in it."""

DESK = "report/desk"
"""Folder of a run with the mixing desk of single songs, each a page with an excerpt in it."""

TABLES = "report/tables.json"
"""The tables that a command prints of a run, so that a finished one is shown without computing them again."""

LOGS = "tensorboard"
"""Folder of a run with curves of its trainings, where they are asked for; ``tensorboard --logdir`` takes it."""

PARTS = ".parts"
"""Folder of a run with the scores of single tracks and methods, from which an interrupted run goes on."""


class Run:
    """A run folder, ``RUN/``.

    It holds ``config.yaml`` (the resolved recipe), ``record.json`` (versions, commit, seed, machine, times,
    data, separators' fingerprints), ``checksums.json``, ``fusions/``, ``bounds.csv``,
    ``leave_one_out.csv``, ``scores.parquet``, ``museval/``, ``figures/``, ``report/`` and, when asked for,
    ``estimates/`` and ``tensorboard/``.

    Parameters
    ----------
    path : path-like
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """A run that exists.

        Raises
        ------
        RunError
            The folder has no ``record.json``.
        """
        run = cls(path)
        if not run.record_path.is_file():
            raise wrong_usage(
                RunError(f"{path}: no run folder, record.json is missing; make one with stemfuse run CONFIG.yaml")
            )
        return run

    @property
    def record_path(self) -> Path:
        """``record.json``."""
        return self.path / "record.json"

    @property
    def report_path(self) -> Path:
        """``report/index.html``."""
        return self.path / "report" / "index.html"

    @property
    def scores_path(self) -> Path:
        """``scores.parquet``."""
        return self.path / "scores.parquet"

    @cached_property
    def config(self) -> RunConfig:
        """The resolved recipe."""
        return load_config(self.path / "config.yaml")

    def record(self) -> RunRecord:
        """What is on record; an empty record where nothing is.

        Raises
        ------
        RunError
            ``record.json`` is damaged, or is no record of a run.
        """
        return RunRecord.read(self.record_path)

    @property
    def checksums(self) -> Checksums:
        """Checksums of the files that the run has written."""
        return Checksums(self.path)

    def results(self) -> list[Path]:
        """All files that a finished run has written, but for its records, estimates and what it resumes from."""
        folders = [self.path / name for name in ("fusions", "museval", "figures", "report")]
        files = [self.path / name for name in ("config.yaml", BOUNDS, LEAVE_ONE_OUT, self.scores_path.name)]
        found = [*files, *(file for folder in folders for file in folder.rglob("*"))]
        return sorted(file for file in found if file.is_file() and not file.name.startswith("."))

    def scores(self) -> pd.DataFrame:
        """All scores: track, fusion, source, frame, metric, value.

        Raises
        ------
        StemfuseError
            They are missing or damaged.
        """
        from stemfuse.analysis import read_scores

        return read_scores(self.checksums.require(self.scores_path.name))

    def fusion(self, label: str, refit: int | None = None) -> BaseFusion:
        """A fitted fusion by its label; with the number of a refit, the one that was fitted for some of the songs."""
        fusions = self.record().fusions
        if label not in fusions:
            raise RunError(f"{self.path}: no fusion {label!r}, expected one of {', '.join(fusions) or 'none'}")
        fitted = fusions[label]
        return load_fusion(self.checksums.require(fitted.file_of(refit)))

    def tables(self) -> list[PrintedTable]:
        """The tables of scores that were written with the report; none where they are not as they were written."""
        changed = self.checksums.sha256(TABLES) is None or TABLES in self.checksums.changed()
        return [] if changed else read_tables(self.path / TABLES)

    def write_config(self, config: RunConfig) -> None:
        """Write ``config.yaml``."""
        self.write_text("config.yaml", dump_config(config))

    def write_record(self, record: RunRecord) -> None:
        """Write ``record.json``."""
        self.write_text("record.json", record.to_json())

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run whole or not at all."""
        with whole_file(self.path / name, "choose another folder with out=", RunError) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def plot(self, how: str | None = None, fusion: str = "", title: str = "", **wanted: Any) -> Figure:
        """Draw the run, or one of its fusions.

        Parameters
        ----------
        how : str, optional
            ``"scores"``, ``"gains"``, ``"bounds"`` or ``"matrix"``; of a fusion ``"matrix"``, ``"time"``, ``"parts"``,
            ``"training"``, or a figure of its search. The first that there is when not given.
        fusion : str
            Label of the fusion.
        title : str
            Above the figure.
        **wanted
            Other fields of `stemfuse.experiments.drawings.Wanted`: ``metric="SIR"``, ``source="drums"``, ...

        Returns
        -------
        matplotlib.figure.Figure
            With a canvas, so that ``savefig`` works; notebooks show it.

        Raises
        ------
        StemfuseError
            It cannot be drawn; the message lists what can.
        """
        from .drawings import Wanted, drawings_of

        return drawings_of(self.path, Wanted(fusion=fusion, title=title, **wanted)).draw(how)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from stemfuse.separators.faces import html_facts

        facts: dict[str, object] = {}
        tables: list[PrintedTable] = []
        try:
            record = self.record()
            facts = {"separators": ", ".join(record.separators), "fusions": ", ".join(record.fusions)}
            facts["songs"] = len(record.tracks) or ""
            tables = self.tables()
            facts["report"] = self.report_path if self.report_path.is_file() else "not yet: the run has not ended"
        except StemfuseError as error:  # a damaged run is shown as such
            facts["problem"] = error
        return html_facts(f"Run {self.path}", facts) + "".join(table._repr_html_() for table in tables)
