"""Blend candidates per second from Gram statistics, against mixing the audio and scoring it with museval.

Run ``python benchmarks/candidates.py [--tracks 50] [--frames 240] [--runs 50] [--out candidates.json]``. Its statistics
are of random signals, for what a candidate costs does not depend on them. A candidate is one set of weights for each of
four sources, scored by the median over frames and then over tracks. The usual way is measured on one track of six
seconds, in the same process, and scaled to the length of all tracks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stemfuse.analysis import GramStatistics, bss_eval
from stemfuse.blending import Mean, apply_weights
from stemfuse.blending.candidates import CandidateScorer, blend_terms
from stemfuse.separators import RATE, SOURCES, Track
from stemfuse.separators.labels import mixture_labels, output_labels, stem_labels

SEPARATORS = ("a", "b", "c")


def random_grams(tracks: int, frames: int) -> list[GramStatistics]:
    generator = np.random.default_rng(0)
    inputs = sum((stem_labels(separator, SOURCES) for separator in SEPARATORS), mixture_labels())
    outputs = output_labels()
    size = len(inputs) + len(outputs)
    grams = []
    for track in range(tracks):
        signal = generator.normal(size=(frames, size, size + 4))
        moments = signal @ signal.transpose(0, 2, 1)
        silent = np.zeros(frames, bool)
        grams.append(GramStatistics(f"{track}", inputs, outputs, moments, silent, RATE, RATE, RATE))
    return grams


def seconds(work: Callable[[], object], runs: int) -> float:
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def usual_way(seconds_of_audio: float = 6.0) -> float:
    """Seconds that mixing and museval take per second of audio, for four stereo sources."""
    generator = np.random.default_rng(1)
    references = generator.normal(0, 0.1, (4, 2, int(seconds_of_audio * RATE)))
    stems = {name: references + generator.normal(0, 0.03, references.shape) for name in SEPARATORS}
    track = Track.from_arrays("song", references.sum(0), references, stems)
    fusion = Mean().fit([track])
    truth = track.required_references().audio.transpose(0, 2, 1)

    def candidate() -> object:
        fused = apply_weights(fusion.weights_, track).audio.transpose(0, 2, 1)
        return bss_eval(truth, fused, backend="museval")

    return seconds(candidate, 1) / seconds_of_audio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=50)
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("candidates.json"))
    options = parser.parse_args()
    grams = random_grams(options.tracks, options.frames)
    usual = usual_way() * options.tracks * options.frames
    generator = np.random.default_rng(2)
    rows = []
    for name, choice in {
        "3 same-source stems": {},
        "3 same-source stems + mixture": {"mixture": True},
        "12 stems of all sources + mixture": {"stems": "all", "mixture": True},
        "26 channels, left and right apart": {"stems": "all", "mixture": True, "tied": False},
    }.items():
        scorers = [CandidateScorer(grams, source, blend_terms(grams[0], source, **choice)) for source in SOURCES]
        size = len(scorers[0].names)
        for batch in (1, 64):
            weights = generator.normal(size=(batch, size))
            runs = max(3, options.runs // batch)
            each = seconds(lambda s=scorers, w=weights: [one.score_many(w) for one in s], runs) / batch
            rows.append({"inputs": name, "weights": size, "batch": batch, "ms": 1e3 * each, "faster": usual / each})
    print(f"{options.tracks} tracks x {options.frames} frames x {len(SOURCES)} sources, median of medians")
    print(f"the usual way (mix, then museval): {usual / 60:.0f} min per candidate\n")
    print(f"{'inputs of each source':36}{'weights':>8}{'batch':>7}{'ms each':>9}{'per s':>8}{'faster':>14}")
    for row in rows:
        print(
            f"{row['inputs']:36}{row['weights']:8d}{row['batch']:7d}{row['ms']:9.3f}"
            f"{1e3 / row['ms']:8.0f}{row['faster']:13.0f}x"
        )
    options.out.write_text(json.dumps({"usual_seconds": usual, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
