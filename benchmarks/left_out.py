"""What ideas for fusions are measured by: songs that are left out in turn, the SDR of what is made of them, a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending import BaseFusion, make_fusion
from stemfuse.experiments import open_data
from stemfuse.separators import ArraySignal, Stems, StemStore, Track

Array = NDArray[np.float64]
Sounds = dict[str, Array]
"""Fused audio by source, (channel, time)."""
Fused = dict[str, list[Sounds]]
"""By label, the fused audio of every song that is tested."""
Table = dict[str, dict[str, dict[str, list[float]]]]
"""By label, song and source: SDR of the song, median of its seconds."""
Idea = Callable[[Sequence[Track], Sequence[Track]], Fused]
"""From songs to fit on and songs to test to what each of its fusions makes of these."""
LEAST_SQUARES = {"stems": "all", "mixture": True, "ridge": "auto"}


def sounds(fusion: BaseFusion, track: Track) -> Sounds:
    """What a fitted fusion makes of a track."""
    stems = fusion.fuse(track)
    return {source: stems[source].read().astype(np.float64) for source in stems.sources}


def all_sounds(fusion: BaseFusion, tests: Sequence[Track]) -> list[Sounds]:
    """What a fitted fusion makes of some tracks."""
    return [sounds(fusion, track) for track in tests]


def made(kind: str, train: Sequence[Track], **options: Any) -> BaseFusion:
    """A fusion, fitted."""
    return make_fusion(kind, **options).fit(train)


def song_scores(track: Track, given: Sounds) -> dict[str, list[float]]:
    """By source that sounds in a song: SDR of the whole song and median SDR of its seconds."""
    references, mixture = track.required_references(), track.mixture.read()
    scores = {}
    for source in references.sources:
        truth = references[source].read().astype(np.float64)
        if source not in given or np.square(truth).sum() <= 1e-12 * np.square(mixture).sum():
            continue
        count = truth.shape[1] // track.rate * track.rate
        parts = [part[:, :count].reshape(len(part), -1, track.rate) for part in (truth, truth - given[source])]
        energies, errors = (np.square(part).sum((0, 2)) for part in parts)
        heard = energies > 0
        whole_song = 10 * np.log10(np.square(truth).sum() / np.square(truth - given[source]).sum())
        scores[source] = [float(whole_song), float(np.median(10 * np.log10(energies[heard] / errors[heard])))]
    return scores


def song_mean(track: Track, given: Sounds) -> float:
    """Mean over sources of the SDR of a whole song."""
    return float(np.mean([pair[0] for pair in song_scores(track, given).values()]))


def measured(tracks: Sequence[Track], folds: int, idea: Idea) -> Table:
    """Scores of all that an idea compares, on songs that are left out in turn."""
    table: Table = {}
    for fold in range(folds):
        tests = list(tracks[fold::folds])
        for label, fused in idea([track for track in tracks if track not in tests], tests).items():
            for track, given in zip(tests, fused, strict=True):
                table.setdefault(label, {})[track.name] = song_scores(track, given)
        print([track.name for track in tests], flush=True)
    return table


def show(title: str, table: Table, draws: int = 10_000) -> None:
    """Markdown: the two figures and the difference to the first row."""
    print(f"\n{title}\n\n| | song SDR | median | above the first row |\n|---|---|---|---|")
    first: Array | None = None
    for label, songs in table.items():
        values = np.array([np.mean(list(scores.values()), 0) for scores in songs.values()])
        first = values[:, 0] if first is None else first
        gains = values[:, 0] - first
        chosen = np.random.default_rng(0).integers(0, len(gains), (draws, len(gains)))
        low, high = np.quantile(gains[chosen].mean(1), [0.025, 0.975])
        above = f"{gains.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
        median = np.median(values[:, 1])
        print(f"| {label} | {values[:, 0].mean():.2f} | {'' if np.isnan(median) else f'{median:.2f}'} | {above} |")


def songs_of(data: Path, store: Path, names: Sequence[str]) -> list[Track]:
    """The songs of a folder with their stems."""
    kept = StemStore(store)
    keys = {name: kept.find(name) for name in names}
    tracks = [kept.attach(track, keys) for track in open_data(data, "sum").tracks()]
    given = {source for track in tracks for stems in track.stems.values() for source in stems.sources}
    return sorted((in_memory(track, given) for track in tracks), key=lambda track: track.name)


def in_memory(track: Track, given: Collection[str]) -> Track:
    """The track with all audio read, and the references of what separators give."""

    def held(stems: Stems) -> Stems:
        return Stems(stems.audio, stems.sources, stems.rate)

    references = track.required_references()
    kept = references.select([source for source in references.sources if source in given])
    stems = {name: held(own) for name, own in track.stems.items()}
    return Track(track.name, ArraySignal(track.mixture.read(), track.rate), track.subset, held(kept), stems)
