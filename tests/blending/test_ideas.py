"""The ideas of `benchmarks/ideas.py`: each wins where it must, and does nothing where it is not wanted."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stemfuse.analysis import GramStatistics
from stemfuse.blending import MixingWeights
from stemfuse.blending.bandwise import Bandwise
from stemfuse.blending.classical.spectral import BandSplit
from stemfuse.blending.space import BlendSpace
from stemfuse.separators import Track

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RATE = 8000
SOURCES = ("bass", "vocals")


@pytest.fixture(scope="module")
def ideas():
    """The scripts beside `benchmarks/ideas.py`, which import each other by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(
            **{name: importlib.import_module(name) for name in ("idea_weights", "idea_mixers", "left_out")}
        )
    finally:
        sys.path.remove(str(BENCHMARKS))


def song(seed, shared=0.1, seconds=3):
    """Stems that have the same noise in both sources, so that the mixture's remainder tells what it is."""
    rng = np.random.default_rng(seed)
    sources = rng.normal(0, 0.1, (2, 2, seconds * RATE))
    stems = {name: sources + rng.normal(0, shared, sources.shape[1:]) for name in "ab"}
    return Track.from_arrays(f"song {seed}", sources.sum(0), sources, stems, sources=SOURCES, rate=RATE)


def test_forms_are_the_error_after_the_remainder_is_given_back(ideas):
    track, theta = song(0), np.array([[0.3, 0.9], [-0.2, 0.7]])
    a, b, c = ideas.idea_weights.consistent_forms(GramStatistics.of(track), SOURCES, ["a", "b"])
    flat = theta.ravel()
    errors = np.einsum("i,sfij,j->sf", flat, a, flat) - 2 * b @ flat + c
    blends = sum(theta[:, n, None, None] * track.stems[name].audio for n, name in enumerate("ab"))
    given = blends + (track.mixture.read() - blends.sum(0)) / 2
    expected = np.square(track.references.audio - given).reshape(2, 2, -1, RATE).sum((1, 3))
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


def test_weights_within_find_the_noise_that_all_sources_share(ideas):
    songs = [song(seed) for seed in range(4)]
    fused = ideas.idea_weights.consistency(songs[:3], songs[3:])
    score = {label: ideas.left_out.song_mean(songs[3], own[0]) for label, own in fused.items()}
    after, within = (score[f"own stems, remainder given back {when}"] for when in ("after", "within"))
    assert score["own stems"] < after < within - 3


def test_bands_are_pulled_to_all_frequencies(ideas):
    """Half the stem's error lies below 1 kHz: bands find that without a pull, and are alike under an endless one."""
    track = song(1, shared=0.0)
    low = BandSplit((1000.0,), 60.0, RATE).apply(
        lambda start, stop: track.references.audio[None, ..., start:stop], track.length, 0, track.length, slice(1)
    )
    loud = {"a": track.references.audio + 2 * low}
    track = Track.from_arrays("loud", track.mixture.read(), track.references.audio, loud, sources=SOURCES, rate=RATE)
    space = BlendSpace.of([Bandwise(edges_hz=[1000.0]).split(track)], "same", False)
    assert space.names("bass") == ("a@0-1000.bass", "a@1000-4000.bass")
    by_pull = ideas.idea_weights.pulled(space.frames("bass"), np.ones((2, 1)), 0.0, np.ones(1))
    np.testing.assert_allclose(by_pull(1e-9), [1 / 3, 1], atol=0.02)
    alike = by_pull(np.inf)
    assert alike[0] == alike[1]
    assert 1 / 3 < by_pull(1.0)[0] < alike[0]
    assert ideas.idea_weights.without_band("a@0-1000.bass") == ("a", ".", "bass")
    assert ideas.idea_weights.without_band("mixture") == ("mixture", "", "")


def test_smoothing_leaves_constant_weights_and_ends_at_their_mean(ideas):
    matrix = np.random.default_rng(0).normal(size=(7, 2, 2)).astype(np.float32)
    labels = ("a.bass.left", "a.bass.right"), ("bass.left", "bass.right")
    weights = MixingWeights(matrix, *labels, np.arange(7) / 2, 1.0)
    np.testing.assert_allclose(ideas.idea_mixers.smoothed(weights, 1).matrix, matrix)
    whole = ideas.idea_mixers.smoothed(weights, 10**6).matrix
    np.testing.assert_allclose(whole, np.broadcast_to(matrix.mean(0), whole.shape), atol=1e-6)
    constant = MixingWeights(np.ones_like(matrix), *labels, np.arange(7) / 2, 1.0)
    for width in (3, 5, 9):
        np.testing.assert_allclose(ideas.idea_mixers.smoothed(constant, width).matrix, 1, atol=1e-6)
        assert ideas.idea_mixers.smoothed(weights, width).matrix.std(0).max() < matrix.std(0).max()
