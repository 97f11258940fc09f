"""Fusions of 2016 and 2017: one weight for all sources, weights by power spectra, selection by predicted SDR."""

import numpy as np
import pytest

from makers.planted import sdr_of, taking_turns
from stemfuse.blending import Fixed, FusionError, LeastSquares, Mean, Uhlich2017, make_fusion
from stemfuse.mixers import Conv1x1Mixer, Jaureguiberry2016, Manilow2017, MLPMixer
from stemfuse.separators import Track
from stemfuse.separators.training import Execution

CPU = Execution(accelerator="cpu")
RATE = 8000


def fitted(mixer, train, valid=None):
    mixer.execution = CPU
    return mixer.fit(train, valid)


@pytest.fixture(scope="module")
def songs():
    """In every second of a song one of two separators is bad, which its stems' spectra show."""
    return [taking_turns(seed) for seed in range(6)]


def best_second_by_second(song):
    """SDR of taking the better stem in every second, as nobody can who does not know the references."""
    stems = np.stack([stems.audio for stems in song.stems.values()])
    audio = song.references.audio
    parts = [np.square(audio - each).reshape(*audio.shape[:2], -1, RATE).sum((1, 3)) for each in stems]
    chosen = np.argmin(parts, 0).repeat(RATE, 1)[:, None]
    return sdr_of(audio, np.where(chosen == 0, stems[0], stems[1]))


def test_one_weight_for_all_sources_is_the_best_of_a_grid_and_exact(songs):
    tracks = songs[:3]
    grid, exact = Uhlich2017(step=0.1).fit(tracks), Uhlich2017("exact", step=0.1).fit(tracks)
    scores = []
    for weight in np.linspace(0, 1, 11):
        blend = {"a": weight, "b": 1 - weight}
        fusion = Fixed(dict.fromkeys(tracks[0].references.sources, blend)).fit(tracks)
        scores.append(average_sdr(fusion, tracks))
    assert grid.theta_["a"] == pytest.approx(np.argmax(scores) / 10)
    assert grid.score_ == pytest.approx(max(scores), abs=1e-4)
    assert exact.score_ > grid.score_
    assert abs(exact.theta_["a"] - grid.theta_["a"]) < 0.1
    for moved in (-1e-4, 1e-4):
        near = {name: value + (moved if name == "a" else -moved) for name, value in exact.theta_.items()}
        fusion = Fixed(dict.fromkeys(tracks[0].references.sources, near)).fit(tracks)
        assert average_sdr(fusion, tracks) < exact.score_ + 1e-5


def average_sdr(fusion, tracks):
    """Mean over sources of the median over tracks of the median over seconds."""
    by_track = []
    for track in tracks:
        references, fused = (
            part.reshape(4, 2, -1, RATE) for part in (track.references.audio, fusion.fuse(track).audio)
        )
        error = np.square(references - fused, dtype=float).sum((1, 3))
        by_track.append(np.median(10 * np.log10(np.square(references, dtype=float).sum((1, 3)) / error), 1))
    return float(np.mean(np.median(by_track, 0)))


def test_three_separators_share_one_grid():
    generator = np.random.default_rng(0)
    audio = generator.normal(0, 0.1, (2, 2, 2 * 44_100)).astype("float32")
    stems = {
        name: audio + generator.normal(0, level, audio.shape)
        for name, level in zip("abc", (0.01, 0.01, 0.02), strict=True)
    }
    song = Track.from_arrays("song", audio.sum(0), audio, stems, sources=("speech", "music"))
    found = Uhlich2017("exact").fit([song]).theta_
    assert sum(found.values()) == pytest.approx(1)
    # errors of equal size count the same, four times the energy a quarter
    assert found["a"] == pytest.approx(4 / 9, abs=0.01)
    assert found["c"] == pytest.approx(1 / 9, abs=0.01)


def test_one_weight_needs_every_source_of_every_separator(songs):
    some = songs[0].with_stems({"a": songs[0].stems["a"], "b": songs[0].stems["b"].select(("vocals",))})
    with pytest.raises(FusionError, match=r"drums: got no stem of it by b; .*--sources"):
        Uhlich2017().fit([some])
    with pytest.raises(FusionError, match=r"got step=0\.3, expected one divided by a whole number"):
        Uhlich2017(step=0.3).fit(songs[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "mixer",
    [
        Jaureguiberry2016(learning_rate=0.01, epochs=60),
        Manilow2017(learning_rate=0.01, epochs=60),
        Manilow2017("soft", learning_rate=0.01, epochs=60),
    ],
    ids=["jaureguiberry", "manilow", "manilow-soft"],
)
def test_what_follows_the_song_beats_what_does_not(songs, mixer):
    test = songs[-1]
    mixer = fitted(mixer, songs[:4], songs[4:5])
    constant = LeastSquares(constraint="simplex").fit(songs[:4])
    reached, fixed = (sdr_of(test.references.audio, fusion.fuse(test).audio) for fusion in (mixer, constant))
    best = best_second_by_second(test)
    print(f"constant {fixed:.2f}, reached {reached:.2f}, second by second {best:.2f} dB")
    assert reached > fixed + 1
    weights = mixer.weights(test).matrix
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(2), 1, atol=1e-5)


@pytest.mark.slow
def test_constant_weights_are_those_of_least_squares_on_the_simplex(songs):
    mixer = fitted(Jaureguiberry2016("constant", learning_rate=0.05, epochs=150), songs[:3])
    found = mixer.weights(songs[3])
    assert np.ptp(found.matrix, axis=0).max() == 0
    solved = LeastSquares(constraint="simplex", weighting="energy").fit(songs[:3]).weights_
    np.testing.assert_allclose(found.matrix[0, 0, [0, 8]], solved.matrix[0, 0, [0, 8]], atol=0.03)


@pytest.mark.slow
def test_averaging_prefers_the_estimate_whose_rest_is_independent(songs):
    mixer = fitted(Jaureguiberry2016("averaging", learning_rate=0.3, epochs=60), songs[:4], songs[4:5])
    test = songs[-1]
    reached, mean = (sdr_of(test.references.audio, fusion.fuse(test).audio) for fusion in (mixer, Mean().fit([test])))
    print(f"mean {mean:.2f}, reached {reached:.2f} dB")
    assert reached > mean


@pytest.mark.parametrize("constraint", ["simplex", "selection"])
def test_the_mdx_mixer_takes_constraints(songs, constraint):
    mixer = MLPMixer(1024, 512, 32, 1, constraint=constraint, batch=16, learning_rate=2e-3, epochs=1)
    weights = fitted(mixer, songs[:1]).weights(songs[5])
    assert (weights.matrix >= 0).all()
    np.testing.assert_allclose(weights.matrix.sum(2), 1, atol=1e-5)
    if constraint == "selection":
        assert set(np.unique(weights.matrix)) == {0, 1}
    with pytest.raises(FusionError, match="expected base='none'"):
        fitted(MLPMixer(1024, 512, 32, 1, constraint=constraint, base="mean"), songs[:1])


@pytest.mark.slow
def test_the_convolution_can_be_kept_positive(songs):
    mixer = fitted(
        Conv1x1Mixer(constraint="nonnegative", segment=4096, shift=4096, learning_rate=0.02, epochs=30), songs[:2]
    )
    free = fitted(Conv1x1Mixer(segment=4096, shift=4096, learning_rate=0.02, epochs=30), songs[:2])
    assert (mixer.weights_.matrix > 0).all()
    assert (free.weights_.matrix < 0).any()
    assert mixer.history_[-1]["train_loss"] < 0.5 * mixer.history_[1]["train_loss"]
    with pytest.raises(FusionError, match="take --option solver=adam"):
        Conv1x1Mixer("exact", constraint="nonnegative").fit(songs[:1])


@pytest.mark.parametrize("name", ["jaureguiberry2016", "manilow2017"])
def test_a_source_that_nobody_gives_is_named(songs, name):
    some = [song.with_stems({name: song.stems[name].select(("vocals",)) for name in "ab"}) for song in songs[:1]]
    with pytest.raises(FusionError, match="drums"):
        fitted(make_fusion(name, epochs=1), some)
