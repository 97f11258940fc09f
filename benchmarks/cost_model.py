"""What a run costs by the amount of music: measured at three sizes, a straight line for each stage, and extrapolated.

Run ``python benchmarks/cost_model.py [--songs 2 4 8] [--seconds 8] [--separators NAME ...] [--out FILE.json]``. Every
size is a run of its own on songs of the synthetic band, half of them fitted on and half tested. Counted is processor
time, all processes together, so that other work on the machine changes little; and the bytes of songs, store and run.
The lines are drawn through the three sizes by least squares; how far the points lie from them says whether cost grows
in proportion. Extrapolated are MUSDB18-HQ (150 songs of 4 minutes) and 100,000 songs: all are separated and measured,
and 50 are scored.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stemfuse.experiments import pipeline
from stemfuse.experiments.recipes import parse_config

FUSIONS = (
    "mean",
    {"name": "least_squares", "options": {"stems": "all", "mixture": True, "ridge": "auto"}},
    "gram_mixer",
)
SONG_S = 240.0
"""Of music in a song of a data set."""


def processor_s() -> float:
    """Of this process and those that it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measured(songs: int, seconds: float, separators: list[str], folder: Path) -> dict[str, float]:
    """Processor time of every stage, and bytes, of one run."""
    spent: dict[str, float] = {}

    def timed(name: str, stage: Callable[..., None]) -> Callable[..., None]:
        def run_it(*arguments: Any) -> None:
            before = processor_s()
            stage(*arguments)
            spent[name] = processor_s() - before

        return run_it

    band = {"songs": {"train": songs // 2, "test": songs - songs // 2}, "seconds": seconds, "seed": 7300}
    recipe = {
        "out": folder / "run",
        "store": folder / "store",
        "data": [{"path": folder / "data" / "band", "real": False, "band": band}],
        "separators": separators,
        "fusions": list(FUSIONS),
        "bounds": {"bands_hz": None},
        "players": {"tracks": 0},
        # one process: what it has spent is known when a stage ends
        "workers": 1,
    }
    stages, begun = pipeline.STAGES, processor_s()
    pipeline.STAGES = {name: timed(name, stage) for name, stage in stages.items()}
    try:
        pipeline.run(parse_config(recipe))
    finally:
        pipeline.STAGES = stages
    # plans, digests of files, songs that are made
    spent["rest"] = processor_s() - begun - sum(spent.values())
    return spent | {f"{name} bytes": float(size_of(folder / name)) for name in ("data", "store", "run")}


def lines(points: dict[float, dict[str, float]]) -> dict[str, dict[str, float]]:
    """By what was measured: cost of no music, of a second of music, and the largest distance of a point, as a share."""
    amounts = np.array(list(points))
    fitted = {}
    for name in next(iter(points.values())):
        values = np.array([point[name] for point in points.values()])
        slope, start = np.polyfit(amounts, values, 1)
        off = np.max(np.abs(start + slope * amounts - values) / np.maximum(values, 1e-9))
        fitted[name] = {"start": float(start), "each_s": float(slope), "off": float(off)}
    return fitted


def extrapolated(fitted: dict[str, dict[str, float]], songs: int, scored: int) -> dict[str, float]:
    """Core hours of separating and of all else, and GB on disk; half of the measured songs were scored."""
    music, tested = songs * SONG_S, scored * SONG_S
    separate = fitted["separate"]["each_s"] * music
    score = (fitted["score"]["each_s"] + fitted["bound"]["each_s"]) * 2 * tested
    others = sum(fitted[name]["each_s"] for name in ("fit", "rest")) * music + score
    return {
        "separate_core_h": separate / 3600,
        "others_core_h": others / 3600,
        "store_gb": fitted["store bytes"]["each_s"] * music / 1e9,
    }


def show(points: dict[float, dict[str, float]], fitted: dict[str, dict[str, float]], separators: list[str]) -> None:
    """Markdown."""
    print(f"\nseparators: {', '.join(separators)}\n")
    print("| | " + " | ".join(f"{amount:g} s" for amount in points) + " | each second of music | off the line |")
    print("|" + "---|" * (len(points) + 3))
    for name, line in fitted.items():
        unit, scale = ("MB", 1e6) if "bytes" in name else ("s", 1.0)
        values = " | ".join(f"{point[name] / scale:.1f} {unit}" for point in points.values())
        print(f"| {name.removesuffix(' bytes')} | {values} | {line['each_s'] / scale:.3f} {unit} | {line['off']:.0%} |")
    for title, songs, scored in (("MUSDB18-HQ", 150, 50), ("100,000 songs", 100_000, 50)):
        cost = extrapolated(fitted, songs, scored)
        print(
            f"\n{title}: {cost['separate_core_h']:,.1f} core hours to separate, {cost['others_core_h']:,.1f} for the "
            f"rest ({scored} songs scored), {cost['store_gb']:,.0f} GB of store"
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--songs", type=int, nargs=3, default=[2, 4, 8])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--separators", nargs="+", default=["harmonic_percussive", "xumx_small", "demucs_small"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    points = {}
    for songs in arguments.songs:
        folder = Path(tempfile.mkdtemp())
        try:
            points[songs * arguments.seconds] = measured(songs, arguments.seconds, arguments.separators, folder)
        finally:
            shutil.rmtree(folder)
        print(songs, {name: round(value, 2) for name, value in points[songs * arguments.seconds].items()}, flush=True)
    fitted = lines(points)
    show(points, fitted, arguments.separators)
    if arguments.out:
        arguments.out.write_text(json.dumps({"points": points, "lines": fitted}, indent=1))


if __name__ == "__main__":
    main()
