"""Ideas for constant weights and weights of passages: bands, agreement second by second, ensembles, consistency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
from left_out import LEAST_SQUARES, Array, Fused, Sounds, all_sounds, made
from per_song_weights import forms, solved, whole, with_source

from stemfuse.analysis import GramStatistics
from stemfuse.blending import Fixed, LeastSquares
from stemfuse.blending.bandwise import Bandwise
from stemfuse.blending.least_squares import _left_out as left_out
from stemfuse.blending.minimum_variance import minimum_variance, separators_of
from stemfuse.blending.space import BlendSpace, FrameErrors
from stemfuse.separators import Track

PULLS = (*10.0 ** np.arange(-3.0, 2.1, 1.0), np.inf)
PASSAGES = (3, 5, 9, 17, 33, 10**6)
"""Seconds that weights of a passage are from; the last one is the song."""


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


def passages(train: Sequence[Track], tests: Sequence[Track]) -> Fused:
    """Transductive weights of every second from the moments of so many seconds around it; chosen on left-out songs."""
    tried = [(0.0, 10**6)] + [(k, width) for k in (0.1, 0.3, 1.0) for width in PASSAGES]
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
