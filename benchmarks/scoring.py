"""Scoring by BSS Eval v4: the fast engine against museval, on the same audio in the same run.

Run ``python benchmarks/scoring.py [--seconds 6 60 240] [--estimates 1 8] [--runs 3] [--out scoring.json]``. Makes four
stereo sources of modulated coloured noise in 16 bits, and estimates with leaks and noise. Every measurement is a
process of its own, museval's and the engine's in turn. Times are medians, without imports and, when the audio is held
in arrays, without reading its files. museval repeats all work for every estimate, so it is measured on one and its time
is multiplied. Processor time, summed over threads, is shown too, since it varies less on a busy machine. Peak memory is
that of the whole process with its audio, which a column of its own shows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile as sf

RATE = 44_100
SOURCES = ("drums", "bass", "other", "vocals")
METRICS = ("SDR", "ISR", "SIR", "SAR")
ENGINES = ("museval", "fast", "fast from files")


def make_audio(folder: Path, seconds: float) -> None:
    """References and estimates as 16-bit WAV files, written second by second."""
    from scipy.signal import lfilter

    generator = np.random.default_rng(0)
    colours = np.linspace(0.3, 0.98, len(SOURCES))
    length = round(seconds * RATE)
    kinds = ("references", "estimates")
    for kind in kinds:
        (folder / kind).mkdir()
    files = {
        (kind, source): sf.SoundFile(folder / kind / f"{source}.wav", "w", RATE, 2, "PCM_16")
        for kind in kinds
        for source in SOURCES
    }
    for start in range(0, length, RATE):
        white = generator.normal(size=(len(SOURCES), min(RATE, length - start), 2)) @ np.array([[1, 0.4], [0.2, 1]])
        waves = np.stack(
            [lfilter([1], [1, -colour], wave, axis=0) for wave, colour in zip(white, colours, strict=True)]
        )
        waves *= generator.uniform(0.02, 0.08, (len(SOURCES), 1, 1)) / waves.std(axis=(1, 2), keepdims=True)
        leaks = lfilter([0.1, 0.05], [1, -0.5], waves.sum(axis=0), axis=0)
        guesses = 0.8 * waves + leaks + generator.normal(0, 0.005, waves.shape)
        for kind, audio in zip(kinds, (waves, guesses), strict=True):
            for source, wave in zip(SOURCES, audio, strict=True):
                files[kind, source].write(wave)
    for file in files.values():
        file.close()


def measure(engine: str, folder: Path, count: int) -> dict[str, float]:
    """Score in this process; the scores of the first estimate are left beside the audio."""
    from stemfuse.analysis.bss_eval import ReferenceProjection
    from stemfuse.analysis.bss_eval.museval import import_museval
    from stemfuse.separators import FileSignal, Stems

    def load(kind: str) -> Any:
        paths = [folder / kind / f"{source}.wav" for source in SOURCES]
        if engine == "fast from files":
            return Stems.from_signals({path.stem: FileSignal(path) for path in paths})
        with sf.SoundFile(paths[0]) as file:
            waves = np.empty((len(paths), file.frames, 2), np.float32)
        for wave, path in zip(waves, paths, strict=True):
            sf.read(path, dtype="float32", out=wave)
        return waves

    museval = import_museval() if engine == "museval" else None
    references, estimates = load("references"), load("estimates")
    started, worked = time.perf_counter(), time.process_time()
    if museval is not None:
        scores = museval.evaluate(references, estimates)
    else:
        truth = ReferenceProjection(references)
        for _ in range(count):
            scores = truth.evaluate(estimates)
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    np.save(folder / f"{engine}.npy", np.array(scores))
    audio = 0 if isinstance(references, Stems) else references.nbytes + estimates.nbytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "processor_seconds": processor, "peak_mb": peak, "audio_mb": audio / 2**20}


def compare(seconds: float, counts: list[int], runs: int) -> dict[str, Any]:
    """All engines on audio of one length."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # in a process of its own, since the peak memory of a process counts from that of its parent
        _run("make", name, str(seconds))
        jobs = [(engine, count) for engine in ENGINES for count in counts if engine != "museval" or count == 1]
        found: dict[tuple[str, int], list[dict[str, float]]] = {job: [] for job in jobs}
        for _ in range(runs):
            for engine, count in jobs:
                found[engine, count].append(json.loads(_run("measure", name, engine, str(count))))
        scores = {engine: np.load(folder / f"{engine}.npy") for engine in ENGINES}
    row: dict[str, Any] = {"seconds": seconds, "frames": scores["fast"].shape[2]}
    for (engine, count), measured in found.items():
        row[f"{engine}, {count}"] = {key: median(part[key] for part in measured) for key in measured[0]}
    once = row["museval, 1"]
    for engine, count in jobs:
        if engine != "museval":
            part = row[f"{engine}, {count}"]
            part["times_faster"] = once["seconds"] * count / part["seconds"]
            part["times_less_work"] = once["processor_seconds"] * count / part["processor_seconds"]
            differences = np.abs(scores[engine] - scores["museval"]).max(axis=(1, 2))
            part["difference_db"] = dict(zip(METRICS, differences.tolist(), strict=True))
    return row


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'audio':>6}  {'engine, estimates':20} {'time':>9} {'faster':>8} {'processor':>9} {'less':>8} {'peak':>8} "
        f"{'audio':>8}  largest difference"
    ]
    for row in rows:
        for name, part in row.items():
            if not isinstance(part, dict):
                continue
            faster, less = (f"{part[key]:7.1f}x" if key in part else "" for key in ("times_faster", "times_less_work"))
            differences = " ".join(f"{key} {value:.0e}" for key, value in part.get("difference_db", {}).items())
            lines.append(
                f"{row['seconds']:4.0f} s  {name:20} {part['seconds']:7.2f} s {faster:>8} "
                f"{part['processor_seconds']:7.2f} s {less:>8} {part['peak_mb']:5.0f} MB "
                f"{part['audio_mb']:5.0f} MB  {differences}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[6, 60, 240])
    parser.add_argument("--estimates", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("scoring.json"))
    arguments = parser.parse_args()
    counts = sorted({1, *arguments.estimates})
    rows = []
    for seconds in arguments.seconds:
        rows.append(compare(seconds, counts, arguments.runs))
        print(table(rows[-1:]), flush=True)
    result = {"runs": arguments.runs, "processors": os.cpu_count(), "rows": rows}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make_audio(Path(sys.argv[2]), float(sys.argv[3]))
    elif sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(sys.argv[3], Path(sys.argv[2]), int(sys.argv[4]))))
    else:
        main()
