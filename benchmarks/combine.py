"""Combining files of one stem: stemfuse against loading everything, as whole processes.

Run ``python benchmarks/combine.py [--seconds 240] [--runs 5] [--out combine.json]``. Makes three stereo stems, has each
program combine them several times in turn, and prints the medians of wall and processor time and the peak memory of the
processes, imports included, and the level of the difference of the two results below the result.

The peer is written for this comparison: it loads all files with librosa, combines the whole arrays with NumPy (whole
spectra with librosa for the rules on spectra) and writes the result with soundfile. Its last window differs, since
librosa leaves out the last frame, and so may single bins of equal magnitude.
"""

from __future__ import annotations

import argparse
import json
import math
import os
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
BLOCK = 1 << 18
RULES = ("avg_wave", "median_wave", "min_wave", "avg_fft", "median_fft", "max_fft")
OURS = """
import sys
from stemfuse.blending.classical.combined_files import combine_files
combine_files(sys.argv[3:], sys.argv[1], sys.argv[2])
"""


def peer(how: str, out: str, files: list[str]) -> None:
    """Combine files the usual way: everything in memory at once."""
    import librosa

    loaded = [librosa.load(file, sr=None, mono=False) for file in files]
    waves, rate = np.stack([wave for wave, _ in loaded]), loaded[0][1]
    rule, domain = how.split("_")
    values = waves if domain == "wave" else librosa.stft(waves, n_fft=2048, hop_length=1024)
    if rule == "avg":
        combined = values.mean(axis=0)
    elif rule == "median" and domain == "fft":
        combined = np.median(values.real, axis=0) + 1j * np.median(values.imag, axis=0)
    elif rule == "median":
        combined = np.median(values, axis=0)
    else:
        pick = np.argmin if rule == "min" else np.argmax
        combined = np.take_along_axis(values, pick(np.abs(values), axis=0)[None], axis=0)[0]
    if domain == "fft":
        combined = librosa.istft(combined, hop_length=1024, length=waves.shape[-1])
    sf.write(out, combined.T, rate, "FLOAT")


def make_stems(folder: Path, seconds: float) -> list[str]:
    """Three stems that share most of their energy, as estimates of one source do."""
    files = [str(folder / f"{name}.wav") for name in "abc"]
    length = round(seconds * RATE)
    for number, file in enumerate(files, 1):
        shared, own = np.random.default_rng(0), np.random.default_rng(number)
        # in blocks, since a process's peak memory counts from that of its parent
        with sf.SoundFile(file, "w", RATE, 2, "FLOAT") as stem:
            for start in range(0, length, BLOCK):
                shape = (min(BLOCK, length - start), 2)
                stem.write(shared.normal(0, 0.1, shape) + own.normal(0, 0.03, shape))
    return files


def measure(command: list[str]) -> tuple[float, float, float]:
    """Wall time and processor time in s, and peak memory in MB, of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{command[:3]} failed")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def difference_db(first: Path, second: Path) -> float:
    """Level of the difference of two files relative to the second."""
    energies = np.zeros(2)
    for one, other in zip(sf.blocks(first, BLOCK), sf.blocks(second, BLOCK), strict=True):
        energies += np.square(one - other).sum(), np.square(other).sum()
    return float(10 * np.log10(energies[0] / energies[1])) if energies[0] else -math.inf


def compare(how: str, files: list[str], runs: int) -> dict[str, Any]:
    """One rule by both programs, run in turn so that both see the same machine."""
    folder = Path(files[0]).parent
    outs = {"stemfuse": folder / "stemfuse.wav", "peer": folder / "peer.wav"}
    commands = {
        "stemfuse": [sys.executable, "-c", OURS, how, str(outs["stemfuse"]), *files],
        "peer": [sys.executable, __file__, "--peer", how, str(outs["peer"]), *files],
    }
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            measured[name].append(measure(command))
    row: dict[str, Any] = {"how": how, "difference_db": difference_db(*outs.values())}
    for name, runs_of in measured.items():
        wall, processor, memory = zip(*runs_of, strict=True)
        row[name] = {"wall_s": median(wall), "processor_s": median(processor), "peak_mb": max(memory)}
    row["times_faster"] = row["peer"]["wall_s"] / row["stemfuse"]["wall_s"]
    return row


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'':12} {'stemfuse':^25}   {'load everything':^26}   faster   difference"]
    for row in rows:
        cells = [
            f"{part['wall_s']:6.2f} s ({part['processor_s']:5.2f}) {part['peak_mb']:5.0f} MB"
            for part in (row["stemfuse"], row["peer"])
        ]
        lines.append(
            f"{row['how']:12} {'   '.join(cells)}   {row['times_faster']:5.1f}x  {row['difference_db']:7.0f} dB"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--how", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--out", type=Path, default=Path("combine.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = make_stems(Path(folder), arguments.seconds)
        rows = [compare(how, files, arguments.runs) for how in arguments.how]
    print(table(rows))
    result = {"seconds": arguments.seconds, "runs": arguments.runs, "processors": os.cpu_count(), "rows": rows}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        main()
