"""Weights for a song without its references: how much of what per-song weights could gain does a fusion get?

Run ``python benchmarks/per_song_weights.py SONGS --store DIR --separators NAME ... [--out per_song.json]``. SONGS is a
data set, whose mixture is the sum of its sources where it has none; DIR holds the stems of all its songs, made by
``stemfuse separate`` or taken in by ``stemfuse adopt`` or ``stemfuse compare``. Each song is left out in turn and fused
by weights that are fitted to the others: one weight per separator and source, for the whole song. Figures are SDR of
whole songs, mean and median over all songs and sources, and the difference to least squares with a 95 % interval
(bootstrap over songs). Shares are of the gap from least squares to the oracle of each song, and of the gap from the
best constant weights of all these songs to it.

What knows references of the song itself: ``half a song`` has the references of every other second, completed by
least squares of the other songs, and is scored on the seconds between; the oracles have all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.analysis import GramStatistics
from stemfuse.blending import BaseFusion, LeastSquares, Mean, MinimumVariance, MixingWeights, Transductive, minimise
from stemfuse.blending.minimum_variance import separators_of, stem_moments
from stemfuse.experiments import open_data
from stemfuse.separators import StemStore, Track

Array = NDArray[np.float64]
Scores = dict[str, float]
KERNEL_WIDTH = 1.0
"""Of the similarity of songs, in median distances of the training songs."""
HALF = 0.3
"""How much the other songs count beside half a song's own references."""


def fused_by(make: Callable[[], BaseFusion]) -> Callable[[Sequence[Track], Track], MixingWeights]:
    """The weights of a fusion that is fitted to some songs, for another one."""

    def weights(train: Sequence[Track], track: Track) -> MixingWeights:
        found: MixingWeights = make().fit(train).weights(track)  # type: ignore[attr-defined]
        return found

    return weights


def best_single(train: Sequence[Track], track: Track) -> MixingWeights:
    """For each source the separator with the best mean over the training songs."""
    chosen = {}
    for source, names in separators_of(train).items():
        figures = []
        for name in names:
            scores = [song_sdr(song, MixingWeights.same_source({source: {name: 1.0}}, song.channels)) for song in train]
            figures.append(np.mean([score[source] for score in scores if source in score] or [-np.inf]))
        chosen[source] = {names[int(np.argmax(figures))]: 1.0}
    return MixingWeights.same_source(chosen, track.channels)


def song_sdr(track: Track, weights: MixingWeights) -> Scores:
    """SDR of the whole song, of each source that it has and the weights give."""
    gram = GramStatistics.of(track)
    errors = gram.errors(gram.matrices(weights)).sum(0).reshape(len(gram.sources), -1).sum(1)
    energies = gram.reference_energies.sum(0).reshape(len(gram.sources), -1).sum(1)
    given = zip(gram.sources, energies, errors, strict=True)
    return {name: float(10 * np.log10(c / e)) for name, c, e in given if name in weights.sources and c > 0}


def forms(track: Track, source: str, names: Sequence[str]) -> tuple[Array, Array, Array]:
    """Per second: moments of the stems (frame, stem, stem), with the source (frame, stem), its energy (frame,)."""
    gram = GramStatistics.of(track)
    rows = [gram.outputs.index(label) for label in gram.outputs if label.rpartition(".")[0] == source]
    sides = [gram.outputs[row].rpartition(".")[2] for row in rows]
    stems = [[gram.inputs.index(f"{name}.{source}.{side}") for name in names] for side in sides]
    a = sum(gram.input_moments[:, places][:, :, places] for places in stems)
    b = sum(gram.cross_moments[:, row, places] for row, places in zip(rows, stems, strict=True))
    return np.asarray(a), np.asarray(b), gram.reference_energies[:, rows].sum(1)


def solved(parts: Sequence[tuple[Array, Array, float]], shares: Array) -> tuple[Array, Array, Array]:
    """Weights of the highest mean SDR of songs (A, b, c), each with its share, and the sums that they solve."""
    theta = np.full(len(parts[0][1]), 1 / len(parts[0][1]))
    for _ in range(30):
        errors = [max(theta @ a @ theta - 2 * b @ theta + c, 1e-9 * c) for a, b, c in parts]
        normal = sum(share / error * a for share, error, (a, _, _) in zip(shares, errors, parts, strict=True))
        target = sum(share / error * b for share, error, (_, b, _) in zip(shares, errors, parts, strict=True))
        strength = 0.01 * np.trace(normal) / len(theta)
        theta = minimise(normal + strength * np.eye(len(theta)), target + strength / len(theta))
    return theta, np.asarray(normal), np.asarray(target)


def whole(track: Track, source: str, names: Sequence[str]) -> tuple[Array, Array, float]:
    """The song as one quadratic form."""
    a, b, c = forms(track, source, names)
    return a.sum(0), b.sum(0), float(c.sum())


def with_source(tracks: Sequence[Track], source: str) -> list[Track]:
    """The songs that have a source, which is not silent."""
    return [track for track in tracks if song_energy(track, source) > 0]


def song_energy(track: Track, source: str) -> float:
    """Energy of a reference; 0 where the song has none."""
    gram = GramStatistics.of(track)
    labels = [label.rpartition(".")[0] for label in gram.outputs]
    energies = zip(labels, gram.reference_energies.sum(0), strict=True)
    return float(sum(energy for label, energy in energies if label == source))


def looks(track: Track, source: str, names: Sequence[str]) -> Array:
    """What is seen of a song without references: logarithms of its stems' differences, relative to their mean."""
    moments = stem_moments(track, {source: names})[source]
    differences = np.diag(moments)[:, None] + np.diag(moments) - 2 * moments
    pairs = differences[np.triu_indices(len(names), 1)] + 1e-9 * np.trace(moments)
    logs: Array = np.log(pairs / pairs.mean())
    return logs


def kernel(train: Sequence[Track], track: Track) -> MixingWeights:
    """Least squares in which training songs count by how alike their stems' differences are."""
    found = {}
    for source, names in separators_of(train).items():
        songs = with_source(train, source)
        if not songs:
            continue
        seen = np.array([looks(song, source, names) for song in songs])
        distances = np.square(seen - looks(track, source, names)).mean(1)
        between = np.square(seen[:, None] - seen).mean(2)[np.triu_indices(len(songs), 1)]
        width = np.median(between) if len(songs) > 2 else np.inf
        shares = np.exp(-(distances - distances.min()) / (2 * KERNEL_WIDTH**2 * width))
        theta, _, _ = solved([whole(song, source, names) for song in songs], shares / shares.sum())
        found[source] = dict(zip(names, theta.tolist(), strict=True))
    return MixingWeights.same_source(found, track.channels)


def oracles(tracks: Sequence[Track], track: Track) -> dict[str, Scores]:
    """What weights reach that know references: of half the song, of all songs, of the song."""
    table: dict[str, Scores] = {"half a song": {}, "corpus oracle": {}, "song oracle": {}}
    for source, names in separators_of(tracks).items():
        if song_energy(track, source) <= 0:
            continue
        songs = with_source(tracks, source)
        every = [whole(song, source, names) for song in songs]
        own = whole(track, source, names)
        corpus, _, _ = solved(every, np.full(len(every), 1 / len(every)))
        others = [part for song, part in zip(songs, every, strict=True) if song is not track]
        thetas = {"corpus oracle": corpus, "song oracle": minimise(own[0], own[1])}
        for name, theta in thetas.items():
            table[name][source] = in_db(own[2], error_of(own, theta))
        if others:
            table["half a song"][source] = in_db(own[2], half_error(forms(track, source, names), others))
    return table


def half_error(seconds: tuple[Array, Array, Array], others: Sequence[tuple[Array, Array, float]]) -> float:
    """Error on every second second of weights that know the references of the seconds between, and the other way."""
    start, normal, target = solved(others, np.full(len(others), 1 / len(others)))
    total = 0.0
    for first in (0, 1):
        known, scored = (tuple(part[begin::2].sum(0) for part in seconds) for begin in (first, 1 - first))
        size = max(error_of(known, start), 1e-9 * float(known[2]))
        theta = minimise(known[0] / size + HALF * normal, known[1] / size + HALF * target)
        total += error_of(scored, theta)
    return total


def error_of(form: Any, theta: Array) -> float:
    """Sum of (s - y)^2."""
    a, b, c = form
    return float(theta @ a @ theta - 2 * b @ theta + c)


def in_db(energy: float, error: float) -> float:
    """SDR of a song."""
    return float(10 * np.log10(energy / max(error, 1e-12 * energy)))


METHODS: dict[str, Callable[[Sequence[Track], Track], MixingWeights]] = {
    "best single": best_single,
    "mean": fused_by(Mean),
    "minimum_variance": fused_by(MinimumVariance),
    "least_squares, ridge: auto": fused_by(lambda: LeastSquares(ridge="auto")),
    "least squares": fused_by(lambda: Transductive(agreement=0)),
    "least squares, kernel": kernel,
    "transductive": fused_by(Transductive),
}


def measured(tracks: Sequence[Track]) -> dict[str, dict[str, Scores]]:
    """SDR by method, song and source; every song is left out in turn."""
    table: dict[str, dict[str, Scores]] = {}
    for track in tracks:
        train = [other for other in tracks if other is not track]
        scores = {name: song_sdr(track, weights(train, track)) for name, weights in METHODS.items()}
        for name, found in (scores | oracles(tracks, track)).items():
            table.setdefault(name, {})[track.name] = found
        print(
            track.name,
            {name: round(float(np.mean(list(found.values()))), 2) for name, found in scores.items()},
            flush=True,
        )
    return table


def show(table: dict[str, dict[str, Scores]], draws: int = 10_000) -> None:
    """Markdown: mean, median, difference to least squares with its interval, and shares of the two gaps."""
    # every method on the songs and sources that all have
    shared = {
        song: sorted(set.intersection(*(set(by_song[song]) for by_song in table.values())))
        for song in table["least squares"]
    }
    values = {
        name: [np.array([by_song[song][source] for source in sources]) for song, sources in shared.items() if sources]
        for name, by_song in table.items()
    }
    mean = {name: float(np.concatenate(parts).mean()) for name, parts in values.items()}
    low, high, most = mean["least squares"], mean["corpus oracle"], mean["song oracle"]
    chosen = np.random.default_rng(0).integers(0, len(values["mean"]), (draws, len(values["mean"])))
    print("| weights | mean | median | above least squares | share of the gap | above the corpus oracle |")
    print("|---|---|---|---|---|---|")
    for name, parts in values.items():
        gains = [own - base for own, base in zip(parts, values["least squares"], strict=True)]
        sums, counts = np.array([gain.sum() for gain in gains]), np.array([len(gain) for gain in gains])
        left, right = np.quantile(sums[chosen].sum(1) / counts[chosen].sum(1), [0.025, 0.975])
        figures = (
            f"{mean[name] - low:+.2f} [{left:+.2f}, {right:+.2f}]",
            f"{100 * (mean[name] - low) / (most - low):.0f} %",
        )
        above = f"{100 * (mean[name] - high) / (most - high):.0f} %"
        median = float(np.median(np.concatenate(parts)))
        print(f"| {name} | {mean[name]:.2f} | {median:.2f} | {figures[0]} | {figures[1]} | {above} |")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("songs", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--separators", nargs="+", required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    store = StemStore(arguments.store)
    keys = {name: store.find(name) for name in arguments.separators}
    tracks = [store.attach(track, keys) for track in open_data(arguments.songs, "sum").tracks()]
    table = measured(tracks)
    print()
    show(table)
    if arguments.out:
        arguments.out.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
