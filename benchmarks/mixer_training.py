"""The MDX-Mixer at the paper's size: how fast segments are read, and how near a training step is to matrix products.

Sections ``packs`` and ``training`` of ``python benchmarks/mixers.py``; see there. The inputs are the paper's B, C and
D: the mixture, one separator's vocals, and all four stems of two more, 20 channels.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stemfuse.mixers import MLPMixer, Segments, TrackBlocks, TrackPacks
from stemfuse.mixers.estimate import TrainingEstimate
from stemfuse.mixers.losses import MixingObjective
from stemfuse.mixers.segments import PackedAudio
from stemfuse.separators import RATE, ArraySignal, Samples, Stems, Track
from stemfuse.separators.training import Execution
from stemfuse.separators.training.loop import run_training
from stemfuse.separators.training.pace import coarse_products
from stemfuse.separators.training.schedule import Ahead

SEGMENT, SHIFT, BATCH = 1 << 18, 1 << 15, 4
Rows = list[dict[str, Any]]
CPU = {"float32": ("32-true", False)}
CUDA = {"float32": ("32-true", False), "TF32": ("32-true", True), "bf16": ("bf16-mixed", False)}
"""By name, precision, and whether TF32 is used."""


def bcd(track: Track) -> Track:
    """A track with 20 inputs: of its first separator only the vocals."""
    first, *others = track.stems
    kept = {first: track.stems[first].select(["vocals"]), **{name: track.stems[name] for name in others[:2]}}
    return replace(track, stems=kept, stored={})


def noise_song(seed: int, seconds: float) -> Track:
    """A song of looped noise with 20 inputs, which takes no memory to speak of."""
    loop = np.random.default_rng(seed).normal(0, 0.1, (4, 2, RATE)).astype(np.float32)
    length = round(seconds * RATE)

    def read(start: int, stop: int) -> Samples:
        return np.ascontiguousarray(loop[..., np.arange(start, stop) % RATE])

    stems = Stems.lazy(read, ("drums", "bass", "other", "vocals"), 2, length, RATE)
    mixture = ArraySignal(read(0, length).sum(0), RATE)
    return bcd(Track(f"noise {seed}", mixture, references=stems, stems=dict.fromkeys("bcd", stems)))


def copied_per_s() -> float:
    """Segments of 28 channels that this machine copies in a second from memory to memory: no data path is faster."""
    source, target = (np.ones((SEGMENT, 28), np.float32) for _ in range(2))
    times = []
    for _ in range(15):
        start = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - start)
    return 1 / statistics.median(times)


def segments_per_s(source: PackedAudio, batches: int) -> float:
    """Segments that arrive in a second as the training loop takes them, in random order."""
    segments = Segments(source, SEGMENT, SHIFT)
    order = np.random.default_rng(0).permutation(len(segments))
    wanted = [
        order.take(range(BATCH * number, BATCH * (number + 1)), mode="wrap").tolist() for number in range(batches)
    ]
    start = time.perf_counter()
    count = sum(len(inputs) for inputs, _ in Ahead(segments, wanted))
    return count / (time.perf_counter() - start)


def forgotten(blocks: TrackBlocks, folder: Path, kind: Any) -> TrackPacks:
    """Packs that are taken out of the system's page cache, as far as it allows that: nobody may have mapped them."""
    opened = TrackPacks(blocks, folder, kind)
    for pack in opened.packs:
        with pack.path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return opened


def packs(songs: list[Track], folder: Path) -> Rows:
    """Segments per second from WAV files in series, and from packs, beside what memory allows in the same seconds."""
    blocks = TrackBlocks([bcd(track) for track in songs])
    rows: Rows = []

    def measure(name: str, opened: Callable[[], PackedAudio], batches: int) -> None:
        found = []
        for _ in range(5):
            source, copied = opened(), copied_per_s()
            found.append((segments_per_s(source, batches), copied))
            del source
        rate, copied = (statistics.median(part) for part in zip(*found, strict=True))
        share = statistics.median(one / other for one, other in found)
        rows.append({"from": name, "segments_per_s": rate, "copied_per_s": copied, "share": share})
        rows[-1]["best"] = max(one for one, _ in found)
        print(
            f"{name:32} {rate:6.1f} segments/s, best of 5 {rows[-1]['best']:6.1f}; "
            f"{100 * share:4.0f} % of the {copied:.0f} that are copied in memory",
            flush=True,
        )

    measure("WAV files, in series", lambda: blocks, 4)
    for kind in ("float32", "float16"):
        where = folder / "packs"
        measure(f"{kind} pack, not in the cache", partial(forgotten, blocks, where, kind), 4)
        measure(f"{kind} pack, page cache", partial(TrackPacks, blocks, where, kind), 20)
    print()
    return rows


def product_flops(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations per second of matrix products as large as the network's: 2048 x 2048 by 2048 x 2560."""
    size = 8192 if device == "cuda" else 2048
    one, other = torch.ones(size, size, dtype=dtype, device=device), torch.ones(size, 2560, dtype=dtype, device=device)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size * size * 2560 / statistics.median(times)


def train_steps(source: PackedAudio, device: str, name: str, batch: int, steps: int) -> dict[str, Any]:
    """Some steps of the paper's full-size mixer on a device, beside matrix products before and after them."""
    precision, tf32 = CUDA[name]
    mixer = MLPMixer.published(8, batch=batch, epochs=1)
    network = mixer.build(source.inputs, source.outputs)
    data = Segments(source, SEGMENT, SHIFT)
    objective, recipe = MixingObjective(network), replace(mixer.recipe, steps=steps, batch=batch)
    estimate = TrainingEstimate.of("mlp_mixer", objective, data, None, recipe)
    rates: list[float] = []
    execution = Execution(device, precision=precision, tf32=tf32, measured=rates.append)
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    with coarse_products(tf32):
        products = [product_flops(device, dtype)]
        history = run_training(objective, data, None, recipe, execution)
        products.append(product_flops(device, dtype))
    done, seconds = history[-1]["step"], history[-1]["seconds"]
    row = {
        "precision": name,
        "parameters": estimate.parameters,
        "step_flops": batch * estimate.step_flops,
        "epoch_flops": estimate.epoch_flops,
        "steps": done,
        "batch": batch,
        "step_s": seconds / done,
        "first_steps_items_per_s": rates,
        "product_flops": products,
        "share": batch * estimate.step_flops * done / seconds / statistics.mean(products),
        "loss": history[-1]["train_loss"],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    row["gpu_mb"] = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0.0
    print(estimate.describe())
    print(
        f"{name}: {done:.0f} steps of {batch} segments, {row['step_s']:.3f} s each, {done / seconds:.3f} steps/s: "
        f"{100 * row['share']:.0f} % of the matrix products' {products[0] / 1e9:.0f} and {products[1] / 1e9:.0f} "
        f"GFLOP/s before and after; loss {row['loss']:.4f}, peak of the process {row['peak_mb']:.0f} MB, of the GPU "
        f"{row['gpu_mb']:.0f} MB",
        flush=True,
    )
    return row


def training(folder: Path, device: str, batch: int, steps: int) -> Rows:
    """Steps of the full-size mixer in every precision of a device; on a GPU also an epoch of ten songs."""
    seconds, count = (120.0, 10) if device == "cuda" else (15.0, 2)
    source = TrackPacks(TrackBlocks([noise_song(seed, seconds) for seed in range(count)]), folder / "packs")
    rows = [train_steps(source, device, name, batch, steps) for name in (CUDA if device == "cuda" else CPU)]
    if device == "cuda":
        items = len(Segments(source, SEGMENT, SHIFT))
        rows.append(train_steps(source, device, "bf16", batch, -(-items // batch)) | {"epoch_of": count})
        print(f"an epoch of {count} songs of {seconds:.0f} s: {rows[-1]['step_s'] * rows[-1]['steps']:.0f} s")
    print()
    return rows


def write(rows: dict[str, Rows], out: Path) -> None:
    """All measurements as JSON, with the threads that computed them."""
    about = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    out.write_text(json.dumps({"about": about, **rows}, indent=1))
