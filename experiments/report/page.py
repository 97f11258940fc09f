"""The page of the report: made from the run's folder alone, and opens from disk without a network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from stemfuse.analysis.figures.scores import plot_gains, plot_scores
from stemfuse.analysis.significance import FEWEST_TRACKS, fewest_tracks_to_prove
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.printed import tables_as_json
from stemfuse.experiments.record import RunRecord
from stemfuse.experiments.run import DESK, TABLES, Run
from stemfuse.experiments.workers import run_tasks
from stemfuse.separators import StemfuseError
from stemfuse.separators.foreign.documents import read_text
from stemfuse.separators.foreign.table import DOCUMENT_BYTES, ForeignFileError
from stemfuse.separators.names import shown as shown_name

from .answer import answer_on
from .charts import dot_rows, interval_bars
from .data_sets import DataSetScores, scored_data, shown_fusions
from .figures import Figures
from .fusions import bound_tables, fusion_view, weight_scale
from .players import read_players, safe_name, write_players
from .songs import song_rows
from .studies import printed_tables, study_tables
from .tables import ScoreTable, comparisons, counted, decibels, dropped_frames

__all__ = ["write_players", "write_report"]


class _Part(NamedTuple):
    """What is drawn at once; travels to another process."""

    run: Path
    what: DataSetScores | str
    scale: float


def write_report(run_folder: str | os.PathLike[str], workers: int = 1) -> Path:
    """Write ``report/index.html`` and the figures of a run, from what lies in its folder.

    Results on real and on synthetic data are listed apart; all methods of a data set are scored on the same frames,
    see `common_mask`. Scores, weights or players that are missing are left out of the page, with a note.

    Parameters
    ----------
    run_folder : path-like
        A run's folder; only ``record.json`` has to be there.
    workers : int
        Processes that draw figures.

    Returns
    -------
    Path
        The page. It holds its figures, style and script; audio lies beside it. The same folder gives the same page.

    Raises
    ------
    RunError
        The folder is no run, a file has changed since it was written, or one cannot be written.
    """
    run = Run.open(run_folder)
    record, scored = run.record(), list(scored_data(run))
    fusions = shown_fusions(run, scored)
    scale = weight_scale(run, record, fusions)
    whats: list[DataSetScores | str] = [*scored, *fusions]
    parts = [_Part(run.path, what, scale) for what in whats]
    try:
        drawn = _drawn(parts, workers)
        data_sets, views = drawn[: len(scored)], drawn[len(scored) :]
        notes = [note for view in views for note in view["notes"]]
        songs = list(_songs(run, record, data_sets, notes))
        view = {
            "record": record,
            "shown": fusions,
            "data_sets": data_sets,
            "studies": [table.printed() for table in study_tables(run, scored=scored)],
            "matrices": [matrix for view in views for matrix in view["matrices"]],
            "traces": [figure for view in views for figure in view["traces"]],
            "bounds": bound_tables(run),
            "searches": [
                (label, view["searches"]) for label, view in zip(fusions, views, strict=True) if view["searches"]
            ],
            "songs": songs,
            "listen": {song["track"]: song for song in songs},
            "notes": notes,
            "config": _config(run),
            "fewest_tracks": FEWEST_TRACKS,
            "files": [name for name in ("config.yaml", "record.json", "scores.parquet") if (run.path / name).is_file()],
        }
    except OSError as error:
        raise RunError(f"{error.filename}: cannot be written ({error.strerror}); free some space") from error
    run.write_text(TABLES, tables_as_json(printed_tables(run, scored)))
    run.write_text("report/index.html", rendered("page.html.j2", view))
    return run.report_path


def write_waiting_page(run_folder: str | os.PathLike[str]) -> None:
    """Write ``report/index.html`` of a run that has no report yet: served, it shows how far the run is."""
    Run(run_folder).write_text("report/index.html", rendered("waiting.html.j2", {}))


def rendered(template: str, view: Mapping[str, Any]) -> str:
    """A page of one of the templates; every text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader([folder / "templates", folder / "vendored"]),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"db": decibels, "clock": clock, "counted": counted, "url": quote, "p": p_value}
    return environment.get_template(template).render(view)


def _drawn(parts: Sequence[_Part], workers: int) -> list[dict[str, Any]]:
    """Views of all parts in their order."""
    views: dict[_Part, dict[str, Any]] = {}
    for part, view in run_tasks(_draw, parts, workers):
        if isinstance(view, Exception):
            raise view
        views[part] = view
    return [views[part] for part in parts]


def _draw(part: _Part) -> dict[str, Any]:
    """What the page shows of a data set or of a fusion."""
    run, figures = Run(part.run), Figures(part.run / "figures")
    if isinstance(part.what, DataSetScores):
        return _data_set(run, part.what, figures)
    return fusion_view(run, part.what, figures, part.scale)


def _data_set(run: Run, data: DataSetScores, figures: Figures) -> dict[str, Any]:
    """Answer, tables and figures of one data set."""
    metric, suffix = data.metrics[0], f"-{safe_name(data.label)}" if data.label else ""
    tables, compared = [ScoreTable.of(data, metric) for metric in data.metrics], comparisons(data)
    drawn = plot_scores(data.masked, metric, data.methods, data.fusions)
    gains = []
    for number, against in enumerate(compared, start=1):
        title = f"{metric} above {against.baseline}, with intervals"
        figure = figures.add(f"gains-{number}{suffix}", plot_gains(against.rows, data.fusions), title)
        rows = {"means": interval_bars(against.means), "sources": interval_bars(against.sources)}
        gains.append({"baseline": against.baseline, "figure": figure["name"], **rows})
    answer = answer_on(run, run.record(), data, compared)
    bars = interval_bars(answer.gains) if answer.gains else []
    best, second = tables[0].best_two
    return {
        "scores": data,
        "answer": answer,
        "answer_bars": bars,
        "tables": tables,
        "dots": dot_rows(data, metric),
        "figure": figures.add(f"scores{suffix}", drawn, f"{metric} of every track by method and source")["name"],
        "comparisons": gains,
        "can_prove": fewest_tracks_to_prove(len(data.fusions)) if data.fusions else 0,
        "songs": song_rows(data, tables[0].sources, best, (tables[0].best_single, second), _hop_s(run)) if best else [],
        "best": best,
        "second": second,
        "dropped": list(dropped_frames(data)),
    }


def _hop_s(run: Run) -> float:
    """Time between frames; a second where the recipe cannot be read."""
    try:
        return run.config.score.hop_s
    except (StemfuseError, OSError):
        return 1.0


def _songs(
    run: Run, record: RunRecord, data_sets: Sequence[Mapping[str, Any]], notes: list[str]
) -> Iterator[dict[str, Any]]:
    """Songs that have players, each as a grid of method by source."""
    labels = {track.shown: track.data for track in record.tracks}
    values: dict[tuple[str, str, str], float] = {}
    for shown in data_sets:
        values |= shown["scores"].by_track()
    for entry in read_players(run.path):
        files = [file for file in entry["files"] if (run.path / "report" / file["path"]).is_file()]
        if len(files) < len(entry["files"]):
            notes.append(f"{entry['track']}: {len(entry['files']) - len(files)} audio files of its players are missing")
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for file in files:
            kind, method = file["kind"], file["method"]
            fused = kind == "method" and method in record.fusions
            row = rows.setdefault((kind, method), {"kind": kind, "method": method, "is_fusion": fused, "files": {}})
            value = values.get((entry["track"], method, file["source"])) if kind == "method" else None
            row["files"][file["source"]] = file | {"value": value}
        sources = list(dict.fromkeys(file["source"] for file in files if file["kind"] != "mixture"))
        if rows:
            desk = f"{DESK}/{safe_name(entry['track'])}.html"
            yield entry | {
                "anchor": f"listen-{safe_name(entry['track'])}",
                "data": labels.get(entry["track"], ""),
                "sources": sources,
                "rows": list(rows.values()),
                "desk": Path(desk).relative_to("report").as_posix() if (run.path / desk).is_file() else "",
            }


def _config(run: Run) -> str:
    path = run.path / "config.yaml"
    if not path.is_file():
        return ""
    whole = run.checksums.require(path.name)
    try:
        return read_text(whole, DOCUMENT_BYTES)
    except ForeignFileError as error:
        raise RunError(f"{path}: damaged ({error}); run again with the recipe") from error


def _shown(value: Any) -> Any:
    """Names on the page, which cannot change how it is read; drawings are not escaped."""
    return shown_name(value, keep="\n\t") if type(value) is str else value


def p_value(value: float) -> str:
    """A p-value as it is printed.

    Examples
    --------
    >>> p_value(0.01234), p_value(0.00001), p_value(float("nan"))
    ('0.012', '< 0.001', '–')
    """
    if value != value:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def clock(seconds: float) -> str:
    """Minutes and seconds, as a player shows them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
