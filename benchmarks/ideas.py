"""Ideas that were to make fusions better: each on songs that are left out in turn, beside what it starts from.

Run ``python benchmarks/ideas.py IDEA... --data SONGS --store DIR --separators NAME ... [--folds N] [--out FILE]``.
SONGS is a data set, whose mixture is the sum of its sources where it has none; DIR holds the stems of all its songs,
made by ``stemfuse separate`` or taken in by ``stemfuse adopt`` or ``stemfuse compare``. Songs are left out in N groups,
one by one when N is not given. What an idea has to choose (strengths, widths, exponents) it chooses on the other songs.
Figures are SDR of whole songs, mean of a song's sources, then mean over songs; the median of seconds, then of songs;
and the difference of the first to what the idea starts from, with a 95 % interval (bootstrap over songs). FILE is read
first, and what it has is not measured again.

    bands           weights of bands, pulled to those of all frequencies
    smoothing       a GramMixer's weights, smoothed in time
    passages        transductive weights of a song's passages
    ensemble        means of several fusions
    seeds           the mean of a GramMixer's seeds
    pretraining     a GramMixer that begins with what it has learnt on others (--pretrain SONGS --pretrain-store DIR)
    consistency     weights of least error after the mixture's remainder is given back
    filter          the Wiener filter after fusion, and where its powers come from
    stacking        the filter's result as one more separator for least squares
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from per_song_weights import forms, solved, whole, with_source
from scipy.ndimage import uniform_filter1d

from stemfuse.analysis import GramStatistics
from stemfuse.blending import BaseFusion, FittedWiener, Fixed, LeastSquares, MixingWeights, apply_weights, make_fusion
from stemfuse.blending.bandwise import Bandwise
from stemfuse.blending.classical.spectral import ShortTimeFourier
from stemfuse.blending.classical.wiener import SpatialFilter
from stemfuse.blending.least_squares import _left_out as left_out
from stemfuse.blending.minimum_variance import minimum_variance, separators_of
from stemfuse.blending.space import BlendSpace, FrameErrors
from stemfuse.experiments import open_data
from stemfuse.mixers import GramMixer
from stemfuse.separators import ArraySignal, Stems, StemStore, Track

Array = NDArray[np.float64]
Sounds = dict[str, Array]
"""Fused audio by source, (channel, time)."""
Fused = dict[str, list[Sounds]]
"""By label, the fused audio of every song that is tested."""
Table = dict[str, dict[str, dict[str, list[float]]]]
"""By label, song and source: SDR of the song, median of its seconds."""
EXPONENTS = (0.6, 0.7, 0.8)
LEAST_SQUARES = {"stems": "all", "mixture": True, "ridge": "auto"}
PULLS = (*10.0 ** np.arange(-3.0, 2.1, 1.0), np.inf)
WIDTHS = (1, 3, 5, 9, 17, 33, 10**6)
"""Frames that weights are smoothed over; the last one is the mean over the song."""


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


# bands


def pulled(frames: FrameErrors, owner: Array, ridge: float, equal: Array) -> Callable[[float], Array]:
    """Weights of bands by strength of the pull to those of all frequencies; ``owner`` brings these to the bands."""
    solver, one = LeastSquares(), [np.arange(owner.shape[1])]
    a = np.einsum("pi,fpq,qj->fij", owner, frames.a, owner, optimize=True)
    flat = FrameErrors(a, frames.b @ owner, frames.c, frames.tracks, frames.counted)
    prior = owner @ solver._solve(flat, ridge, one, equal)
    return lambda pull: solver._solve(frames, pull, [np.arange(len(prior))], prior)


def bands(train: Sequence[Track], tests: Sequence[Track], edges_hz: Sequence[float]) -> Fused:
    """Least squares by band, pulled to that of all frequencies; the strength is chosen on songs left out in turn."""
    split = Bandwise(edges_hz=edges_hz).split
    plain = LeastSquares(**LEAST_SQUARES).fit(train)
    space, flat = BlendSpace.of([split(track) for track in train], "all", True), BlendSpace.of(train, "all", True)
    free, shrunk, strengths = {}, {}, {}
    for source in space.sources:
        names = [before + dot + stem for before, dot, stem in map(without_band, space.names(source))]
        places = flat.names(source)
        owner = np.array([[float(name == place) for place in places] for name in names])
        solve = partial(pulled, owner=owner, ridge=plain.ridge_[source], equal=flat.equal(source))
        frames = space.frames(source)
        figures = np.zeros(len(PULLS))
        for fitted, rest in left_out(frames):
            by_pull = solve(fitted)
            figures += [mean_sdr(rest, by_pull(pull)) for pull in PULLS]
        strengths[source] = PULLS[int(figures.argmax())]
        by_pull = solve(frames)
        shrunk[source], free[source] = by_pull(strengths[source]), by_pull(PULLS[0])
    print("  strengths", strengths, flush=True)
    parts = [split(track) for track in tests]
    return {
        "least squares": all_sounds(plain, tests),
        f"by band, {len(edges_hz) + 1} bands, hardly pulled": all_sounds(Fixed(space.weights(free)).fit(parts), parts),
        f"by band, {len(edges_hz) + 1} bands, pulled": all_sounds(Fixed(space.weights(shrunk)).fit(parts), parts),
    }


def without_band(name: str) -> tuple[str, str, str]:
    """The name of a weight without its band: separator, dot, source.

    >>> without_band("a@0-1000.bass"), without_band("mixture")
    (('a', '.', 'bass'), ('mixture', '', ''))
    """
    separator, dot, source = name.rpartition(".") if "@" in name else (name, "", "")
    return separator.partition("@")[0], dot, source


def mean_sdr(frames: FrameErrors, theta: Array) -> float:
    """Mean SDR over the frames that count, silence at -20 dB below the mean."""
    floor = 0.01 * frames.c[frames.counted].mean() if frames.counted.any() else 1.0
    values = 10 * np.log10((frames.c + floor) / (frames.errors(theta) + floor))
    return float(values[frames.counted].sum())


# smoothing


def smoothed(weights: MixingWeights, width: int) -> MixingWeights:
    """Weights averaged over time under a Hann window of so many frames."""
    count = len(weights.matrix)
    width = min(width, 2 * count - 1)
    window = np.hanning(width + 2)[1:-1]
    if width >= 2 * count - 1:
        window = np.ones(width)
    half = width // 2
    matrix = np.stack(
        [
            np.average(
                weights.matrix[max(0, k - half) : k + half + 1],
                axis=0,
                weights=window[max(0, half - k) : half + min(half + 1, count - k)],
            )
            for k in range(count)
        ]
    )
    return MixingWeights(
        matrix.astype(np.float32), weights.inputs, weights.outputs, weights.starts_s, weights.duration_s
    )


def smoothing(train: Sequence[Track], tests: Sequence[Track]) -> Fused:
    """GramMixer, and its weights smoothed."""
    valid = train[::3]
    rest = [track for track in train if track not in valid]
    mixer = GramMixer().fit(rest, valid)

    def with_width(track: Track, width: int) -> Sounds:
        stems = apply_weights(smoothed(mixer.weights(track), width), track)
        return {source: stems[source].read().astype(np.float64) for source in stems.sources}

    figures = [np.mean([song_mean(track, with_width(track, width)) for track in valid]) for width in WIDTHS]
    width = WIDTHS[int(np.argmax(figures))]
    print("  width", width, "of", dict(zip(WIDTHS, np.round(figures, 2), strict=True)), flush=True)
    return {
        "gram_mixer": [with_width(track, 1) for track in tests],
        "gram_mixer, smoothed": [with_width(track, width) for track in tests],
    }


def passages(train: Sequence[Track], tests: Sequence[Track]) -> Fused:
    """Transductive weights of every second from the moments of so many seconds around it; chosen on left-out songs."""
    tried = [(0.0, 10**6)] + [(k, width) for k in (0.1, 0.3, 1.0) for width in WIDTHS[1:]]
    names = separators_of(train)
    figures = np.zeros(len(tried))
    for track in train if len(train) > 1 else ():
        others = [other for other in train if other is not track]
        for source, given in names.items():
            songs = with_source(others, source)
            if with_source([track], source) and songs:
                figures += [local_sdr(songs, track, source, given, *setting) for setting in tried]
    best, alone = tried[int(figures.argmax())], tried[int(np.argmax(figures[[0]]))]
    print("  passages", best, flush=True)
    labels = {"least squares of own stems": alone, "transductive by passages": best}
    return {
        label: [
            {
                source: local_sounds(with_source(train, source), track, source, given, *setting)
                for source, given in names.items()
                if with_source(train, source) and source in track.required_references().sources
            }
            for track in tests
        ]
        for label, setting in labels.items()
    }


@cache
def said_by(songs: tuple[Track, ...], source: str, names: tuple[str, ...]) -> tuple[Array, Array]:
    """What training songs say of the weights of a source: their second moments."""
    _, normal, target = solved([whole(song, source, names) for song in songs], np.full(len(songs), 1 / len(songs)))
    return normal, target


seconds_of = cache(forms)


def local_weights(
    songs: Sequence[Track], track: Track, source: str, names: Sequence[str], strength: float, width: int
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Weights (second, separator) of a song, and its forms."""
    normal, target = said_by(tuple(songs), source, tuple(names))
    parts = seconds_of(track, source, tuple(names))
    half, rows = width // 2, []
    pull = 0.01 * np.trace(normal) / len(target)
    normal = normal + pull * np.eye(len(target))
    target = target + pull / len(target)
    for second in range(len(parts[2])):
        moments = parts[0][max(0, second - half) : second + half + 1].sum(0)
        total = float(np.trace(moments))
        own = strength * float(np.trace(normal)) / total * moments if total > 0 else 0 * moments
        rows.append(np.linalg.solve(normal + own, target + own @ (minimum_variance(moments) if total > 0 else target)))
    return np.stack(rows), parts


def local_sdr(
    songs: Sequence[Track], track: Track, source: str, names: Sequence[str], strength: float, width: int
) -> float:
    """SDR of a song by weights of its passages."""
    theta, (a, b, c) = local_weights(songs, track, source, names, strength, width)
    error = np.einsum("fi,fij,fj->", theta, a, theta) - 2 * (b * theta).sum() + c.sum()
    return float(10 * np.log10(c.sum() / max(error, 1e-12 * c.sum())))


def local_sounds(
    songs: Sequence[Track], track: Track, source: str, names: Sequence[str], strength: float, width: int
) -> Array:
    """Audio of a song by weights of its passages, which switch every second."""
    theta, _ = local_weights(songs, track, source, names, strength, width)
    seconds = np.minimum(np.arange(track.length) // track.rate, len(theta) - 1)
    stems = np.stack([track.stems[name][source].read() for name in names])
    return np.asarray((theta[seconds].T[:, None] * stems).sum(0), np.float64)


# ensembles


def mean_of(parts: Sequence[list[Sounds]]) -> list[Sounds]:
    """The mean of what several fusions make of the same songs."""
    return [
        {source: np.mean([own[source] for own in song], axis=0) for source in song[0]}
        for song in zip(*parts, strict=True)
    ]


def ensemble(train: Sequence[Track], tests: Sequence[Track]) -> Fused:
    """Constant fusions of different kinds, and the means of what they make."""
    members = {
        "least squares": made("least_squares", train, **LEAST_SQUARES),
        "own stems": made("least_squares", train, ridge="auto"),
        "simplex": made("least_squares", train, constraint="simplex"),
        "transductive": made("transductive", train),
        "mean": made("mean", train),
        "conv1x1": made("conv1x1", train, solver="exact", tolerance=0.001),
    }
    fused = {name: all_sounds(fusion, tests) for name, fusion in members.items()}
    groups = {
        "least squares and conv1x1": ("least squares", "conv1x1"),
        "least squares and transductive": ("least squares", "transductive"),
        "least squares and mean": ("least squares", "mean"),
        "the four learnt ones of least squares": ("least squares", "own stems", "simplex", "transductive"),
        "all six": tuple(members),
    }
    return fused | {f"mean of {label}": mean_of([fused[name] for name in names]) for label, names in groups.items()}


def seeds(train: Sequence[Track], tests: Sequence[Track], count: int = 3) -> Fused:
    """GramMixers of several seeds, and their mean."""
    fused = {
        f"gram_mixer, seed {seed}": all_sounds(made("gram_mixer", train, seed=seed), tests) for seed in range(count)
    }
    return fused | {f"mean of {count} seeds": mean_of(list(fused.values()))}


# pretraining


class Pretrained(GramMixer):
    """A GramMixer that begins with the correction that another one has learnt, on top of its own songs' weights."""

    kind = "pretrained_gram_mixer"
    begun: GramMixer

    def frame_objective(self, network: Any, blocks: Any, data: Any) -> Any:
        """Make the loss; the layers are the other's."""
        network.layers.load_state_dict(copy.deepcopy(self.begun.network_.layers.state_dict()))
        return super().frame_objective(network, blocks, data)


def pretraining(train: Sequence[Track], tests: Sequence[Track], begun: GramMixer) -> Fused:
    """GramMixer from nothing, from other songs, and from other songs and then these."""
    labels = {"gram_mixer": GramMixer(), "pretrained, trained on": Pretrained(), "pretrained, as it is": Pretrained()}
    for name, mixer in labels.items():
        if isinstance(mixer, Pretrained):
            mixer.begun = begun
            if name.endswith("as it is"):
                mixer.epochs = 0
    fused = {name: all_sounds(mixer.fit(train), tests) for name, mixer in labels.items()}
    return fused | {
        "gram_mixer of the other songs alone": all_sounds(begun, tests),
        "least squares": all_sounds(made("least_squares", train, **LEAST_SQUARES), tests),
    }


# consistency


def consistent_forms(gram: GramStatistics, sources: Sequence[str], names: Sequence[str]) -> tuple[Array, Array, Array]:
    """Error of every source and second after the remainder is given back: (source, second, ...) forms of all weights.

    The weights are those of each source's own stems, (source, separator). With y_k the blends and J the sources of the
    song, what is given is y_i + (x - sum_k y_k) / J, which is linear in them.
    """
    present = [source for source in sources if source in gram.sources]
    sides = [label.rpartition(".")[2] for label in gram.outputs if label.rpartition(".")[0] == present[0]]
    size = len(sources) * len(names)
    a, b, c = [], [], []
    for source in present:
        shares = np.array([float(other == source) - 1 / len(present) for other in present])
        gain = np.repeat(shares, len(names))
        places = np.concatenate([np.arange(len(names)) + len(names) * sources.index(other) for other in present])
        form, slope, constant = np.zeros((len(gram.moments), size, size)), np.zeros((len(gram.moments), size)), 0.0
        for side in sides:
            stems = [gram.inputs.index(f"{name}.{other}.{side}") for other in present for name in names]
            mixture = gram.inputs.index(f"mixture.{side}")
            truth = gram.outputs.index(f"{source}.{side}")
            own = gram.input_moments[:, stems][:, :, stems] * gain[:, None] * gain
            target = gram.cross_moments[:, truth] - gram.input_moments[:, mixture] / len(present)
            form[:, places[:, None], places] += own
            slope[:, places] += target[:, stems] * gain
            constant = constant + (
                gram.reference_energies[:, truth]
                - 2 * gram.cross_moments[:, truth, mixture] / len(present)
                + gram.input_moments[:, mixture, mixture] / len(present) ** 2
            )
        a.append(form), b.append(slope), c.append(constant)
    return np.stack(a), np.stack(b), np.stack(c)


def consistent_weights(train: Sequence[Track], sources: Sequence[str], names: Sequence[str], ridge: float) -> Array:
    """Weights (source, separator) of the best mean SDR of songs after the remainder is given back."""
    size = len(sources) * len(names)
    equal = np.full(size, 1 / len(names))
    parts = []
    for gram in map(GramStatistics.of, train):
        a, b, c = (part.sum(1) for part in consistent_forms(gram, sources, names))
        parts += list(zip(a, b, c, strict=True))
    theta = equal
    for _ in range(30):
        errors = [max(float(theta @ a @ theta - 2 * b @ theta + c), 1e-9 * float(c)) for a, b, c in parts]
        normal = sum(a / error for error, (a, _, _) in zip(errors, parts, strict=True)) / len(parts)
        target = sum(b / error for error, (_, b, _) in zip(errors, parts, strict=True)) / len(parts)
        strength = ridge * np.trace(normal) / size
        theta = np.linalg.solve(normal + strength * np.eye(size), target + strength * equal)
    return np.asarray(theta.reshape(len(sources), len(names)), np.float64)


def consistency(train: Sequence[Track], tests: Sequence[Track]) -> Fused:
    """Own stems, with the remainder given back: after the fit, or within it."""
    by_source = separators_of(train)
    sources, names = list(by_source), list(next(iter(by_source.values())))
    ridges = (0.01, 0.1, 1.0, 10.0, 1000.0)
    own = made("least_squares", train, ridge="auto")

    def given_back(theta: Array, track: Track) -> Sounds:
        present = [source for source in sources if source in track.required_references().sources]
        blends = {
            source: sum(w * track.stems[name][source].read().astype(np.float64) for w, name in zip(
                theta[sources.index(source)], names, strict=True)) for source in present
        }  # fmt: skip
        rest = (track.mixture.read() - sum(blends.values())) / len(present)
        return {source: blend + rest for source, blend in blends.items()}

    figures = np.zeros(len(ridges))
    for track in train if len(train) > 1 else ():
        others = [other for other in train if other is not track]
        gram = GramStatistics.of(track)
        forms_of, energies = consistent_forms(gram, sources, names), gram.reference_energies.sum(0)
        energies = energies.reshape(len(gram.sources), -1).sum(1)
        for number, ridge in enumerate(ridges):
            theta = consistent_weights(others, sources, names, ridge).ravel()
            a, b, c = (part.sum(1) for part in forms_of)
            errors = np.einsum("i,sij,j->s", theta, a, theta) - 2 * b @ theta + c
            heard = energies > 0
            figures[number] += np.mean(
                10 * np.log10(energies[heard] / np.maximum(errors[heard], 1e-12 * energies[heard]))
            )
    ridge = ridges[int(np.argmax(figures))]
    print("  ridge", ridge, np.round(figures, 2), flush=True)
    inside = consistent_weights(train, sources, names, ridge)
    found: dict[str, dict[str, float]] = own.theta_  # type: ignore[attr-defined]
    after = np.array([[found.get(source, {}).get(f"{name}.{source}", 0.0) for name in names] for source in sources])
    equal = np.full(after.shape, 1 / len(names))
    return {
        "own stems": all_sounds(own, tests),
        "own stems, remainder given back after": [given_back(after, track) for track in tests],
        "own stems, remainder given back within": [given_back(inside, track) for track in tests],
        "mean": all_sounds(made("mean", train), tests),
        "mean, remainder given back": [given_back(equal, track) for track in tests],
        "own stems and mixture": all_sounds(made("least_squares", train, mixture=True, ridge="auto"), tests),
        "least squares": all_sounds(made("least_squares", train, **LEAST_SQUARES), tests),
    }


# filter and stacking


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


# scores


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


def measured(tracks: Sequence[Track], folds: int, idea: Callable[[Sequence[Track], Sequence[Track]], Fused]) -> Table:
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


def idea_of(name: str, arguments: argparse.Namespace) -> Callable[[Sequence[Track], Sequence[Track]], Fused]:
    """What measures an idea: from songs to fit on and songs to test to what each of its fusions makes of these."""
    if name == "pretraining":
        others = songs_of(arguments.pretrain, arguments.pretrain_store, arguments.separators)
        return partial(pretraining, begun=GramMixer().fit(others))
    if name == "bands":
        return partial(bands, edges_hz=arguments.edges)
    known = (smoothing, passages, ensemble, seeds, consistency, stacking)
    return {idea.__name__: idea for idea in known}[name]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = ["bands", "smoothing", "passages", "ensemble", "seeds", "pretraining", "consistency", "filter", "stacking"]
    parser.add_argument("ideas", nargs="+", choices=every)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--separators", nargs="+", required=True)
    parser.add_argument("--folds", type=int)
    parser.add_argument("--edges", type=float, nargs="+", default=[1000.0])
    parser.add_argument("--pretrain", type=Path)
    parser.add_argument("--pretrain-store", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tracks = songs_of(arguments.data, arguments.store, arguments.separators)
    found: dict[str, Table] = json.loads(arguments.out.read_text()) if arguments.out and arguments.out.exists() else {}
    folds = arguments.folds or len(tracks)
    for name in arguments.ideas:
        if name not in found:
            found[name] = (
                filters(tracks, folds) if name == "filter" else measured(tracks, folds, idea_of(name, arguments))
            )
            if arguments.out:
                arguments.out.write_text(json.dumps(found, indent=1))
        show(name, found[name])


if __name__ == "__main__":
    main()
