"""A search of blend weights with a warm store, against the usual way: mix the audio, then score it with museval.

Run ``python benchmarks/search.py [--tracks 14] [--seconds 240] [--trials 500] [--out search.json]``. The songs are
noise (what a search costs does not depend on the sound), written as WAV with the stems of three separators into a store
in a temporary folder: 1.4 GB for each song of four minutes. Timed are: reading all audio once, which makes the store
warm; opening the tracks and searching four sources, in memory and with trials kept in a journal; and, on two songs of
six seconds, the same search done the usual way, every trial an Optuna trial of all four sources together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from stemfuse.blending import MixingWeights, Search, apply_weights
from stemfuse.experiments import open_data
from stemfuse.experiments.stages import measure
from stemfuse.experiments.workers import cores
from stemfuse.separators import RATE, SOURCES, Stems, StemStore, Track

SEPARATORS = ("a", "b", "c")


def write_songs(folder: Path, tracks: int, seconds: float) -> None:
    """Songs and a store with stems that err by noise of their own."""
    store = StemStore(folder / "stems")
    for number in range(tracks):
        generator = np.random.default_rng(number)
        references = generator.standard_normal((4, 2, int(seconds * RATE)), np.float32) * np.float32(0.05)
        place = folder / "songs/train" / f"song {number:02d}"
        Stems(references).write(place)
        Stems(references.sum(0)[None], ("mixture",)).write(place)
        track = open_data(place).tracks()[0]
        track = Track(track.name, track.mixture, "train", track.references)
        for index, separator in enumerate(SEPARATORS):
            noise = generator.standard_normal(references.shape, np.float32) * np.float32(0.02 * (1 + index))
            store.put(track, f"{separator}-00000000", Stems(references + noise))


def opened(folder: Path) -> list[Track]:
    store = StemStore(folder / "stems")
    keys = {separator: f"{separator}-00000000" for separator in SEPARATORS}
    return [store.attach(track, keys) for track in open_data(folder / "songs").tracks("train")]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def usual_search(tracks: list[Track], trials: int) -> None:
    """All four sources in one study: a trial mixes every track and scores it with museval."""
    from stemfuse.analysis.bss_eval.museval import import_museval

    museval = import_museval()

    def objective(trial: optuna.Trial) -> float:
        shares = {
            source: {name: trial.suggest_float(f"{name}.{source}", 0.0, 1.0) for name in SEPARATORS}
            for source in SOURCES
        }
        blend = {
            source: {name: share / sum(given.values()) for name, share in given.items()}
            for source, given in shares.items()
        }
        weights = MixingWeights.same_source(blend)
        medians = []
        for track in tracks:
            truth = track.required_references().audio.transpose(0, 2, 1)
            estimate = apply_weights(weights, track).audio.transpose(0, 2, 1)
            medians.append(np.nanmedian(museval.evaluate(truth, estimate)[0], axis=1))
        return float(np.median(medians, axis=0).mean())

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0, multivariate=True))
    study.optimize(objective, trials)


def benchmark(tracks: int, seconds: float, trials: int, usual_trials: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"tracks": tracks, "seconds": seconds, "trials_per_source": trials}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_songs(folder, tracks, seconds)
        figures["read audio once, s"] = timed(lambda: measure(opened(folder), cores()))
        figures["open tracks, s"] = timed(lambda: opened(folder))
        figures["search, s"] = timed(lambda: Search(trials=trials).fit(opened(folder)))
        storage = str(folder / "search.journal")
        figures["search with a journal, s"] = timed(lambda: Search(trials=trials, storage=storage).fit(opened(folder)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_songs(folder, 2, 6.0)
        short = opened(folder)
        Search(trials=1).fit(short)  # reads the audio
        usual = timed(lambda: usual_search(short, usual_trials)) / usual_trials
        ours = timed(lambda: Search(trials=100).fit(opened(folder))) / 100
        figures["short case, usual way, s per trial of four sources"] = usual
        figures["short case, search, s per trial of four sources"] = ours
        figures["ratio"] = usual / ours
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tracks", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--usual-trials", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    figures = benchmark(given.tracks, given.seconds, given.trials, given.usual_trials)
    for name, value in figures.items():
        print(f"{name:>52}  {value:.4g}")
    if given.out:
        given.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
