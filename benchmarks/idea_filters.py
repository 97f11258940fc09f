"""Ideas for the Wiener filter after fusion: where its powers come from, and its result as one more separator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from left_out import LEAST_SQUARES, Array, Fused, Table, all_sounds, sounds
from per_song_weights import with_source
from scipy.ndimage import uniform_filter1d

from stemfuse.blending import BaseFusion, FittedWiener, LeastSquares
from stemfuse.blending.classical.spectral import ShortTimeFourier
from stemfuse.blending.classical.wiener import SpatialFilter
from stemfuse.blending.minimum_variance import separators_of
from stemfuse.separators import Stems, Track

EXPONENTS = (0.6, 0.7, 0.8)


def filter_figures(track: Track, base: BaseFusion) -> dict[str, dict[str, Array]]:
    """SDR of a song by variant, source, exponent and share that the filter is followed, of a blend that is fitted."""
    blend, mixture = sounds(base, track), track.mixture.read().astype(np.float64)
    alone = len(blend) == 1
    given = np.stack([*blend.values(), *([mixture - next(iter(blend.values()))] if alone else [])])
    transform, length = ShortTimeFourier(4096, 1024), track.length
    first, last = transform.touching(0, length)

    def spectra(audio: Array) -> Any:
        return transform.spectra(lambda start, stop: audio[..., start:stop], length, first, last)

    heard = spectra(np.stack([mixture, *given]))
    found = SpatialFilter("estimate")
    found.add(heard)
    powers, peers = np.square(np.abs(heard[1:])).mean(1), []
    for source in blend:
        stems = [track.stems[name][source].read().astype(np.float64) for name in track.stems]
        for parts in (stems, [mixture - stem for stem in stems]) if alone else (stems,):
            peers += [[np.square(np.abs(spectra(part))).mean(0) for part in parts]]
    every, first_three = (np.stack([np.mean(own[:count], axis=0) for own in peers]) for count in (None, 3))
    variants = {
        "fitted_wiener": powers,
        "a third of the powers that of all stems": (2 * powers + every) / 3,
        "two thirds of the powers that of all stems": (powers + 2 * every) / 3,
        "a third of the powers that of the first three separators": (2 * powers + first_three) / 3,
        "powers over three frames": uniform_filter1d(powers, 3, axis=-2),
        "powers over three bins": uniform_filter1d(powers, 3, axis=-1),
    }
    references, shares = track.required_references(), np.linspace(0, 1, 21)
    figures: dict[str, dict[str, Array]] = {}
    for label, power in variants.items():
        # what is split is the mixture; of the rest only the size counts
        sized = np.concatenate([heard[:1], np.repeat(np.sqrt(power)[:, None], track.channels, 1)])
        for exponent in EXPONENTS:
            filtered = transform.samples(found.split(sized, exponent), first, 0, length)
            for source, own, changed in zip(blend, given, filtered, strict=False):
                if with_source([track], source):
                    truth = references[source].read().astype(np.float64)
                    mixes = own + shares[:, None, None] * (changed - own)
                    errors = np.square(truth - mixes).sum((1, 2))
                    row = 10 * np.log10(np.square(truth).sum() / errors)
                    figures.setdefault(label, {}).setdefault(source, np.empty((0, len(shares))))
                    figures[label][source] = np.vstack([figures[label][source], row])
    return figures


def filters(tracks: Sequence[Track], folds: int) -> Table:
    """The filter of blends that have not seen the song; exponent and shares are chosen on all other songs."""
    figures: dict[str, dict[str, dict[str, Array]]] = {}
    for fold in range(folds):
        tests = list(tracks[fold::folds])
        blend = LeastSquares(**LEAST_SQUARES).fit([track for track in tracks if track not in tests])
        for track in tests:
            figures[track.name] = filter_figures(track, blend)
            print(track.name, flush=True)
    table: Table = {"least squares": {}}
    for number, (song, own) in enumerate(figures.items()):
        others = [other for place, other in enumerate(figures.values()) if place != number]
        for label, by_source in own.items():
            known = {
                source: [other[label][source] for other in others if source in other[label]] for source in by_source
            }
            means = {source: np.mean(values, 0) for source, values in known.items() if values}
            best = int(np.sum([mean.max(1) for mean in means.values()], 0).argmax())
            chosen = {source: int(means[source][best].argmax()) if source in means else 0 for source in by_source}
            scores = {source: [float(values[best, chosen[source]]), np.nan] for source, values in by_source.items()}
            table.setdefault(label, {})[song] = scores
            table["least squares"][song] = {
                source: [float(values[best, 0]), np.nan] for source, values in by_source.items()
            }
    return table


def whole_filter(base: BaseFusion, sources: Sequence[str], exponent: float = 0.7) -> FittedWiener:
    """The filter of a fitted blend, followed all the way."""
    fusion = FittedWiener(base)
    fusion.base_, fusion.exponent_, fusion.shares_ = base, exponent, dict.fromkeys(sources, 1.0)
    return fusion


def stacking(train: Sequence[Track], tests: Sequence[Track], folds: int = 5) -> Fused:
    """Least squares of stems, mixture and the filter of a blend, which has not seen the songs that are fitted on."""

    def with_filter(track: Track, base: BaseFusion) -> Track:
        made_of = sounds(whole_filter(base, list(separators_of([track]))), track)
        audio = np.stack(list(made_of.values())).astype(np.float32)
        stems = {**track.stems, "filter": Stems(audio, tuple(made_of), track.rate)}
        return Track(track.name, track.mixture, track.subset, track.references, stems, data=track.data)

    plain = LeastSquares(**LEAST_SQUARES).fit(train)
    stacked = []
    for fold in range(min(folds, len(train))):
        out = train[fold::folds]
        blend = LeastSquares(**LEAST_SQUARES).fit([track for track in train if track not in out])
        stacked += [with_filter(track, blend) for track in out]
    given = [with_filter(track, plain) for track in tests]
    both = LeastSquares(**LEAST_SQUARES).fit(stacked)
    filtered = FittedWiener({"kind": "least_squares", "arguments": LEAST_SQUARES}, exponents=(0.7,)).fit(train)
    return {
        "fitted_wiener of one exponent": all_sounds(filtered, tests),
        "least squares": all_sounds(plain, tests),
        "least squares with the filter as a separator": all_sounds(both, given),
    }
