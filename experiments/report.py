"""The report: one page per run, made from the run folder alone, that opens from disk without a network."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stemfuse.analysis.figures import GRID, INK, MUTED, PAPER, largest_weight, plot_weights
from stemfuse.analysis.score_figures import FUSION_COLOUR, SEPARATOR_COLOUR, plot_gains, plot_scores
from stemfuse.analysis.significance import FEWEST_TRACKS
from stemfuse.blending import MixingWeights
from stemfuse.separators import StemfuseError

from .players import read_players, safe_name, write_players
from .report_fusions import bound_tables, searches, shares, traces
from .report_tables import (
    DataSetScores,
    ScoreTable,
    comparisons,
    counted,
    decibels,
    dropped_frames,
    score_tables,
    scored_data,
)
from .run import Run, RunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["score_tables", "write_players", "write_report"]

PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    SEPARATOR_COLOUR: "var(--separator)",
    FUSION_COLOUR: "var(--fusion)",
}
"""What the figures' colours become inside the page, which is light or dark."""


def write_report(run_folder: str | os.PathLike[str]) -> Path:
    """Write ``report/index.html`` and the figures of a run, from what lies in its folder.

    Results on real and on synthetic data are listed apart; all methods of a data set are scored on the same frames,
    see `common_mask`. What the folder lacks (scores, weights, players) is left out of the page, which says so.

    Parameters
    ----------
    run_folder : path-like
        A run's folder; only ``record.json`` has to be there.

    Returns
    -------
    Path
        The page. It holds its figures, style and script; audio lies beside it. The same folder gives the same page.

    Raises
    ------
    RunError
        The folder is no run, or a file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader

    run = Run.open(run_folder)
    record = run.record()
    figures = _Figures(run.path / "figures")
    notes: list[str] = []
    try:
        data_sets = [_data_set(data, figures) for data in scored_data(run)]
        view = {
            "record": record,
            "data_sets": data_sets,
            "matrices": list(_matrices(run, record, figures, notes)),
            "traces": _traces(run, record, figures, notes),
            "bounds": bound_tables(run),
            "searches": list(_searches(run, record, figures, notes)),
            "songs": list(_songs(run, record, data_sets, notes)),
            "notes": notes,
            "config": _config(run),
            "fewest_tracks": FEWEST_TRACKS,
            "files": [name for name in ("config.yaml", "record.json", "scores.parquet") if (run.path / name).is_file()],
        }
    except OSError as error:
        raise RunError(f"{error.filename}: cannot be written ({error.strerror}); free some space") from error
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"db": decibels, "clock": _clock, "counted": counted, "url": quote}
    run.write_text("report/index.html", environment.get_template("report.html.j2").render(view))
    return run.report_path


def _data_set(data: DataSetScores, figures: _Figures) -> dict[str, Any]:
    """Tables and figures of one data set."""
    metric, suffix = data.metrics[0], f"-{safe_name(data.label)}" if data.label else ""
    drawn = plot_scores(data.masked, metric, data.methods, data.fusions)
    gains = []
    for number, against in enumerate(comparisons(data), start=1):
        title = f"{metric} above {against.baseline}, with intervals"
        gains.append((against, figures.add(f"gains-{number}{suffix}", plot_gains(against.rows, data.fusions), title)))
    return {
        "scores": data,
        "tables": [ScoreTable.of(data, metric) for metric in data.metrics],
        "figure": figures.add(f"scores{suffix}", drawn, f"{metric} of every track by method and source"),
        "comparisons": gains,
        "dropped": list(dropped_frames(data)),
    }


def _matrices(run: Run, record: Mapping[str, Any], figures: _Figures, notes: list[str]) -> Iterator[dict[str, Any]]:
    """Heat maps of all linear fusions on one colour scale."""
    weights, kinds = {}, {}
    for label, fusion in record.get("fusions", {}).items():
        if not fusion.get("linear", True):
            notes.append(f"{label}: no mixing matrix, the fusion is not linear")
            continue
        songs = fusion.get("songs", {})
        files = {f"{label}, {song}": kept["file"] for song, kept in songs.items()} or {label: fusion.get("file", "")}
        for name, file in files.items():
            try:
                weights[name] = MixingWeights.load(run.path / file)
                kinds[name] = fusion.get("kind", "")
            except StemfuseError as error:
                notes.append(f"{name}: no mixing matrix to show ({error})")
    scale = largest_weight(weights)
    for label, matrix in weights.items():
        segments, outputs, inputs = matrix.matrix.shape
        figure = plot_weights(matrix, scale=scale or None)
        yield {
            "label": label,
            "kind": kinds[label],
            "segments": segments,
            "outputs": outputs,
            "inputs": inputs,
            "figure": figures.add(f"weights-{safe_name(label)}", figure, f"mixing matrix of {label}"),
            "shares": shares(matrix),
        }


def _traces(run: Run, record: Mapping[str, Any], figures: _Figures, notes: list[str]) -> list[dict[str, Any]]:
    """Weights over the time of songs, and training curves."""
    return [
        figures.add(safe_name(f"{kind}-{name}"), figure, f"{kind} of {name}")
        for kind, name, figure in traces(run, record, notes)
    ]


def _searches(
    run: Run, record: Mapping[str, Any], figures: _Figures, notes: list[str]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Figures of every search by its label."""
    drawn: dict[str, list[dict[str, Any]]] = {}
    for label, source, name, figure in searches(run, record, notes):
        stem = f"search-{safe_name(label)}-{source}-{name}"
        drawn.setdefault(label, []).append(figures.add(stem, figure, f"{name} of the search {label}, {source}"))
    yield from drawn.items()


def _songs(
    run: Run, record: Mapping[str, Any], data_sets: Sequence[Mapping[str, Any]], notes: list[str]
) -> Iterator[dict[str, Any]]:
    """Songs that can be heard, each as a grid of method by source."""
    labels = {track["name"]: track.get("data", "") for track in record.get("tracks", [])}
    values: dict[tuple[str, str, str], float] = {}
    for shown in data_sets:
        values |= shown["scores"].by_track()
    for entry in read_players(run.path):
        files = [file for file in entry["files"] if (run.path / "report" / file["path"]).is_file()]
        if len(files) < len(entry["files"]):
            notes.append(f"{entry['track']}: {len(entry['files']) - len(files)} audio files of its players are gone")
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for file in files:
            kind, method = file["kind"], file["method"]
            fused = kind == "method" and method in record.get("fusions", {})
            row = rows.setdefault((kind, method), {"kind": kind, "method": method, "is_fusion": fused, "files": {}})
            value = values.get((entry["track"], method, file["source"])) if kind == "method" else None
            row["files"][file["source"]] = file | {"value": value}
        sources = list(dict.fromkeys(file["source"] for file in files if file["kind"] != "mixture"))
        if rows:
            yield entry | {"data": labels.get(entry["track"], ""), "sources": sources, "rows": list(rows.values())}


class _Figures:
    """Saves figures as PNG and SVG and hands them to the page as inline SVG in the page's own colours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, figure: Figure, title: str) -> dict[str, Any]:
        """Save as ``<name>.png`` and ``<name>.svg``; nothing in the files depends on time or chance."""
        from markupsafe import Markup, escape
        from matplotlib import rc_context

        self.folder.mkdir(parents=True, exist_ok=True)
        picture = io.StringIO()
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # in the PNG only; SVG keeps text
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # the layout is found once, not for each file
            figure.savefig(self.folder / f"{name}.png", dpi=150)
            figure.savefig(picture, format="svg", metadata={"Date": None})
        (self.folder / f"{name}.svg").write_text(picture.getvalue(), encoding="utf-8")
        svg = re.sub("<metadata>.*?</metadata>", "", picture.getvalue(), flags=re.DOTALL)
        svg = svg[svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
        svg = re.sub(r'( id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
        for colour, on_page in PAGE_COLOURS.items():
            svg = svg.replace(colour, on_page)
        return {"title": title, "name": name, "svg": Markup(svg)}


def _config(run: Run) -> str:
    path = run.path / "config.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _clock(seconds: float) -> str:
    """Minutes and seconds, as a player shows them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
