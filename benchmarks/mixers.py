"""Mixers: the exact solver against Adam, the cost of MLP-Mixer and GramMixer, the speed of reading, and scores.

Run ``python benchmarks/mixers.py [solvers] [costs] [reading] [packs] [training] [scores] [--folder DIR] [--out
mixers.json]``; without a section, all are measured. ``training`` takes ``--steps`` steps of the full-size MLP-Mixer
with ``--batch`` segments each on ``--device`` cpu or cuda; run it alone for its peak memory. The songs are those of the
synthetic band, separated by the embedded separators and kept in the folder. A song lasts ``--seconds``; ``--tracks`` of
them train, half as many validate and half as many are held out. The solvers are compared by the validation error that
they reach after a time of training, without that of validation.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mixer_training import packs, training, write

from stemfuse.analysis import bss_eval
from stemfuse.blending import LinearFusion, Mean
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.data.datasets import open_data
from stemfuse.mixers.conv1x1 import Conv1x1Mixer
from stemfuse.mixers.exact import solve
from stemfuse.mixers.gram_mixer import GramMixer
from stemfuse.mixers.losses import MixingObjective
from stemfuse.mixers.mlp_mixer import MLPMixer, mlp_cost
from stemfuse.mixers.mlp_network import MLPMixerNetwork
from stemfuse.mixers.segments import Segments, TrackBlocks
from stemfuse.separators import RATE, StemStore, Track, load_separator
from stemfuse.separators.training import Execution
from stemfuse.separators.training.schedule import collate

SEPARATORS = ("harmonic_percussive", "repet_sim", "centre_channel")
SEGMENT = 1 << 18
SMALL = {
    "segment": 1 << 14,
    "shift": 1 << 14,
    "fold": 1 << 5,
    "layers": 2,
    "token_hidden": 128,
    "channel_hidden": 128,
}
"""An MLP-Mixer that trains on a processor: 0.4 s of sound, 512 tokens."""

Songs = dict[str, list[Track]]
Rows = list[dict[str, Any]]


def prepare(folder: Path, tracks: int, seconds: float) -> Songs:
    counts = {"train": tracks, "valid": max(1, tracks // 2), "test": max(1, tracks // 2)}
    synthesize(folder / "data", counts, seconds, 7)
    store, data = StemStore(folder / "store"), open_data(folder / "data")
    separators = {name: load_separator(name) for name in SEPARATORS}
    songs: Songs = {}
    for subset, count in counts.items():
        found = data.tracks(subset)[:count]
        for separator in separators.values():
            for track in store.missing(found, separator):
                store.put(track, separator, separator.separate(track.mixture.read(), track.rate))
        songs[subset] = [store.attach(track, separators) for track in found]
    return songs


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class EnoughError(Exception):
    """Ends a training that is long enough to be compared."""


def solvers(songs: Songs, epochs: int, times: float) -> Rows:
    """Seconds until the validation L1 is within 0.1 % of the optimum's."""
    segments = Segments(TrackBlocks(songs["valid"]), SEGMENT, SEGMENT, tails=True)

    def validation_loss(matrix: Any) -> float:
        losses = []
        for index in range(len(segments)):
            inputs, references = segments[index]
            losses.append(float(np.abs(references - inputs @ np.asarray(matrix, np.float32).T).mean()))
        return statistics.mean(losses)

    optimum = validation_loss(solve(TrackBlocks(songs["train"]), tolerance=1e-5).matrix)
    took, exact = timed(lambda: Conv1x1Mixer("exact").fit(songs["train"]))
    above = validation_loss(exact.weights_.matrix[0]) / optimum - 1
    rows: Rows = [{"solver": "exact", "seconds": took, "above": above, "passes": exact.history_}]
    print(f"validation L1 of the optimum: {optimum:.6f} on the scale of the mixture's standard deviation")
    print("exact, pass by pass: stage (0 on a sample, 1 on all), training L1, gap, seconds")
    for row in exact.history_:
        print(f"  {row['stage']:.0f} {row['train_loss']:.6f} {row['gap']:9.1e} {row['seconds']:8.2f}")
    print("adam, epoch by epoch: validation L1, above the optimum, seconds of training")

    def report(row: dict[str, float]) -> None:
        valid, seconds = row["valid_loss"], row["seconds"]
        rows.append({"solver": "adam", "seconds": seconds, "above": valid / optimum - 1})
        print(f"  {row['epoch']:3.0f} {valid:.6f} {100 * valid / optimum - 100:8.3f} % {seconds:8.1f}", flush=True)
        if rows[-1]["above"] <= 1e-3 or seconds > times * took:
            raise EnoughError

    adam = Conv1x1Mixer(epochs=epochs)
    adam.execution = Execution("cpu", progress=report)
    with contextlib.suppress(EnoughError):
        adam.fit(songs["train"], songs["valid"])
    last = rows[-1]
    more = "" if last["above"] <= 1e-3 else f"more than (adam is still {100 * last['above']:.1f} % above it) "
    print(
        f"exact: {took:.2f} s, {100 * above:.4f} % above; adam within 0.1 % takes {more}{last['seconds'] / took:.0f}x\n"
    )
    return rows


def full_size() -> dict[str, Any]:
    """A forward pass and a training step of one segment at the paper's size, against the matrix products they need."""
    size = mlp_cost(20)
    floor = timed(lambda: [torch.ones(2048, 2048) @ torch.ones(2048, 2560) for _ in range(8)])[0] / 8
    speed = 2 * 2048 * 2048 * 2560 / floor
    network = MLPMixerNetwork(20, 8)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-4)
    inputs = torch.randn(1, SEGMENT, 20)

    def step() -> None:
        MixingObjective(network)(inputs, inputs[..., :8]).sum().backward()
        optimiser.step()

    with torch.inference_mode():
        forward, _ = timed(lambda: network(inputs))
    training, _ = timed(step)
    print(
        f"MLP-Mixer, T = 2^18, F = 2^7, N = 8, 20 inputs: {size['parameters'] / 1e6:.1f} M parameters, "
        f"{size['flops'] / 1e9:.0f} GFLOP per segment\nforward {forward:.1f} s ("
        f"{100 * size['flops'] / speed / forward:.0f} % of the matrix products' {speed / 1e9:.0f} GFLOP/s), training "
        f"step of one segment {training:.1f} s, peak {peak_mb():.0f} MB"
    )
    return {"mixer": "mlp, full size", "forward_s": forward, "step_s": training, "peak_mb": peak_mb()}


def costs(songs: Songs) -> Rows:
    """Full size of the paper; then both mixers at sizes that train here."""
    rows: Rows = [full_size()]
    song = songs["test"][0]
    for name, mixer in {
        "mlp, T = 2^14, small": MLPMixer(**SMALL, base="mean", epochs=1),
        "gram": GramMixer(epochs=2, patience=None),
    }.items():
        mixer.execution = Execution("cpu")
        whole, _ = timed(lambda mixer=mixer: mixer.fit(songs["train"]))
        epoch = mixer.history_[-1]["seconds"] / (len(mixer.history_) - 1)
        took, _ = timed(lambda mixer=mixer: mixer.weights(song))
        per_minute = 60 * took / song.duration_s
        rows.append({"mixer": name, "fit_s": whole, "epoch_s": epoch, "weights_s_per_minute": per_minute})
        print(f"{name:24} epoch {epoch:8.2f} s, fit {whole:8.2f} s, weights of a minute {per_minute:8.2f} s")
    paper = 60 * RATE / (SEGMENT // 4) * rows[0]["forward_s"]
    times = paper / rows[-1]["weights_s_per_minute"]
    print(f"{'mlp, full size':24} weights of a minute {paper:8.2f} s, {times:.0f} times gram's\n")
    return rows


def reading(songs: Songs) -> Rows:
    """Segments per second from WAV files by number of workers, and memory by number of tracks."""
    rows: Rows = []
    for repeats in (1, 4):
        blocks = TrackBlocks(songs["train"] * repeats)
        for workers in (0, 1, 2):
            segments = Segments(blocks, SEGMENT, 1 << 15)
            loader: Any = torch.utils.data.DataLoader(
                segments, batch_size=4, shuffle=True, num_workers=workers, collate_fn=collate
            )
            took, count = timed(lambda loader=loader: sum(1 for _, _ in zip(range(12), loader, strict=False)))
            rate = 4 * count / took
            rows.append(
                {"tracks": len(blocks.tracks), "workers": workers, "segments_per_s": rate, "peak_mb": peak_mb()}
            )
            print(
                f"{len(blocks.tracks):4d} tracks, {workers} workers: {rate:6.1f} segments per s = "
                f"{rate * SEGMENT / RATE:5.0f} times real time, peak {peak_mb():.0f} MB"
            )
    print()
    return rows


def scores(songs: Songs) -> Rows:
    """Median over frames, then tracks, of held-out songs' SDR."""
    fusions: dict[str, LinearFusion] = {
        "mean": Mean(),
        "conv1x1 (l2)": Conv1x1Mixer("exact", "l2"),
        "conv1x1 (l1)": Conv1x1Mixer("exact"),
        "gram": GramMixer(),
        "gram, median": GramMixer("median_sdr"),
        "gram, l2": GramMixer("l2"),
        "gram, linear": GramMixer(hidden=0),
        "gram, simplex": GramMixer(constraint="simplex"),
        "gram, selection": GramMixer(constraint="selection"),
        "mlp, scratch": MLPMixer(**SMALL, epochs=6),
        "mlp, on conv1x1": MLPMixer(**SMALL, epochs=6, base="conv1x1"),
    }
    rows: Rows = []
    for name, fusion in fusions.items():
        fusion.execution = Execution("cpu")
        took, _ = timed(lambda fusion=fusion: fusion.fit(songs["train"], songs["valid"]))
        medians = []
        for track in songs["test"]:
            sdr = bss_eval(
                *(stems.audio.swapaxes(1, 2) for stems in (track.required_references(), fusion.fuse(track)))
            )[0]
            medians.append(np.nanmedian(sdr, axis=1))
        values = np.nanmedian(medians, axis=0)
        rows.append({"fusion": name, "fit_s": took, "sdr_db": values.tolist(), "mean_db": float(values.mean())})
        listed = " ".join(f"{value:7.2f}" for value in values)
        print(f"{name:18} {listed}   mean {values.mean():6.2f} dB, fitted in {took:7.1f} s", flush=True)
    print()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="solvers, costs, reading, packs, training, scores")
    parser.add_argument("--folder", type=Path, help="where songs and stems are kept; a temporary folder otherwise")
    parser.add_argument("--tracks", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--times", type=float, default=40, help="adam gets at most so many times the time of exact")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the section training")
    parser.add_argument("--batch", type=int, default=1, help="segments of a step of the section training")
    parser.add_argument("--steps", type=int, default=20, help="steps of the section training")
    parser.add_argument("--out", type=Path, default=Path("mixers.json"))
    options = parser.parse_args()
    chosen = options.sections or ["solvers", "costs", "reading", "packs", "training", "scores"]
    results: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        # a training is measured on noise, which needs no separators
        songs = prepare(folder, options.tracks, options.seconds) if set(chosen) - {"training"} else {}
        known: dict[str, Callable[[], Rows]] = {
            "solvers": lambda: solvers(songs, options.epochs, options.times),
            "costs": lambda: costs(songs),
            "reading": lambda: reading(songs),
            "packs": lambda: packs(songs["train"], folder),
            "training": lambda: training(folder, options.device, options.batch, options.steps),
            "scores": lambda: scores(songs),
        }
        for section in chosen:
            if section not in known:
                parser.error(f"section {section!r} is unknown, there are {', '.join(known)}")
            results[section] = known[section]()
    write(results, options.out)


if __name__ == "__main__":
    main()
