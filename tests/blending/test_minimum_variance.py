"""Weights for a song without its references: from its stems' differences, alone and beside training songs."""

import numpy as np
import pytest
import soundfile

from makers.places import SHARED
from makers.planted import sdr_of
from stemfuse.blending import FusionError, LeastSquares, Mean, check_fusion, load_fusion, make_fusion
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.blending.minimum_variance import MinimumVariance, error_variances, minimum_variance
from stemfuse.blending.transductive import AGREEMENTS, ALONE, Corpus, Transductive
from stemfuse.separators import Stems, Track, TrackError

RATE = 8000
SISEC = SHARED / "real" / "sisec18"


def moments_of(errors, signal=100.0):
    """Expected moments of stems s + e_i with uncorrelated errors of these energies."""
    return signal + np.diag(np.asarray(errors, float))


def song(seed, sizes, names="abcd", sources=2, channels=2, length=16_000):
    """A song whose stems err independently by these sizes."""
    generator = np.random.default_rng(seed)
    references = generator.normal(0, 0.1, (sources, channels, length))
    errors = {name: generator.normal(0, size, references.shape) for name, size in zip(names, sizes, strict=False)}
    return made(f"song {seed}", references, {name: references + error for name, error in errors.items()})


def made(name, references, stems):
    given = ("bass", "vocals")[: len(references)]
    return Track.from_arrays(name, references.sum(0), references, stems, rate=RATE, sources=given)


def bare(track):
    """The track without its references."""
    return Track(track.name, track.mixture, track.subset, stems=track.stems)


def weights_of(fusion, track, source="bass"):
    frame = fusion.weights(track).to_frame()
    own = frame[(frame["output"] == f"{source}.left") & frame["input"].str.endswith(f"{source}.left")]
    return own["weight"].to_numpy()


def song_sdr(fusion, track):
    return sdr_of(track.references.read(), fusion.fuse(track).read())


@pytest.mark.parametrize("errors", [[1, 2, 4], [3, 1, 0.2, 5], [1, 1, 1, 1, 1], [9, 0.5, 1, 2, 3, 4]])
def test_planted_variances_of_independent_errors_are_found(errors):
    assert error_variances(moments_of(errors)) == pytest.approx(errors, rel=0.2)
    precision = 1 / np.array(errors)
    assert minimum_variance(moments_of(errors)) == pytest.approx(precision / precision.sum(), abs=0.05)


def test_three_stems_have_the_solution_of_the_three_cornered_hat():
    generator = np.random.default_rng(3)
    stems = generator.normal(0, 1, 4000) + generator.normal(0, 1, (3, 4000)) * np.array([[0.5], [1.0], [2.0]])
    moments = stems @ stems.T
    pairs = {(i, j): np.square(stems[i] - stems[j]).sum() for i in range(3) for j in range(3)}
    hat = [(pairs[i, j] + pairs[i, k] - pairs[j, k]) / 2 for i, j, k in ((0, 1, 2), (1, 0, 2), (2, 0, 1))]
    assert error_variances(moments) == pytest.approx(hat, rel=0.02)


def test_neither_the_signal_nor_a_shared_error_changes_the_variances():
    errors = moments_of([1, 2, 4], 0)
    known = error_variances(errors)
    assert error_variances(errors + 1000) == pytest.approx(known, rel=1e-6)
    leak = np.array([0.3, 0.3, 0.3])
    assert error_variances(errors + leak[:, None] + leak) == pytest.approx(known, rel=1e-6)


def test_variances_are_positive_where_the_hat_has_negative_ones():
    # the first two stems share an error, so that D_12 is small, and the third is near to one of them alone
    moments = np.array([[3.0, 2.9, 1.0], [2.9, 3.0, 2.0], [1.0, 2.0, 9.0]])
    found = error_variances(moments)
    assert (found > 0).all()
    assert np.isfinite(found).all()
    assert minimum_variance(moments)[2] < 0.2


def test_one_stem_two_stems_copies_and_silence_have_weights_that_sum_to_one():
    assert minimum_variance(np.array([[2.0]])).tolist() == [1.0]
    assert minimum_variance(np.array([[2.0, 1.5], [1.5, 9.0]])) == pytest.approx([0.5, 0.5], abs=1e-6)
    assert minimum_variance(np.full((3, 3), 7.0)) == pytest.approx([1 / 3] * 3)
    assert minimum_variance(np.zeros((3, 3))) == pytest.approx([1 / 3] * 3)
    copies = moments_of([1, 1, 1])
    copies[0, 1] = copies[1, 0] = copies[0, 0]
    found = minimum_variance(copies)
    assert found.sum() == pytest.approx(1)
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert found[2] < 0.1


def test_the_scale_of_a_song_changes_nothing():
    moments = moments_of([1, 2, 4])
    assert minimum_variance(1e-9 * moments) == pytest.approx(minimum_variance(moments), rel=1e-6)


def test_minimum_variance_beats_the_mean_and_every_stem_without_references():
    track = song(1, (0.01, 0.02, 0.05))
    fusion = MinimumVariance().fit([bare(track)])
    reached = song_sdr(fusion, track)
    assert weights_of(fusion, bare(track)) == pytest.approx(
        np.array([1, 1 / 4, 1 / 25]) / (1 + 1 / 4 + 1 / 25), abs=0.02
    )
    assert reached > song_sdr(Mean().fit([track]), track) + 3
    assert reached > max(sdr_of(track.references.read(), track.stems[name].read()) for name in "abc") + 0.5


def test_levels_say_how_large_each_stems_own_error_is():
    track = song(2, (0.01, 0.02, 0.05))
    table = MinimumVariance().fit([track]).levels(bare(track)).query("source == 'vocals'")
    true = [-10 * np.log10((0.1**2 + size**2) / size**2) for size in (0.01, 0.02, 0.05)]
    assert table["error_db"].to_numpy() == pytest.approx(true, abs=0.5)


@pytest.mark.parametrize("fusion", [MinimumVariance(), Transductive(), Transductive(agreement=0.3)], ids=repr)
@pytest.mark.parametrize("separators", [("a", "b"), ("a", "b", "c", "d")], ids=len)
def test_contract(fusion, separators):
    check_fusion(fusion, conformance_tracks(separators, 0.4))


def test_without_agreement_it_is_least_squares_of_songs():
    tracks = [song(seed, (0.01, 0.03, 0.08)) for seed in range(3)]
    fusion = Transductive(agreement=0, ridge=0).fit(tracks)
    solved = LeastSquares(weighting="energy").fit(tracks)
    assert weights_of(fusion, bare(tracks[0])) == pytest.approx(weights_of(solved, tracks[0]), abs=2e-3)


def test_a_large_agreement_is_minimum_variance():
    tracks = [song(seed, (0.01, 0.03, 0.08)) for seed in range(3)]
    fusion = Transductive(agreement=1e6).fit(tracks)
    alone = MinimumVariance().fit(tracks)
    assert weights_of(fusion, bare(tracks[0])) == pytest.approx(weights_of(alone, tracks[0]), abs=1e-4)


def test_the_corpus_weights_raise_the_mean_song_sdr_to_its_maximum():
    generator = np.random.default_rng(7)
    tracks = [song(seed, generator.permutation([0.02, 0.05, 0.1])) for seed in range(4)]
    weights = weights_of(Transductive(agreement=0, ridge=0).fit(tracks), tracks[0])

    def mean_sdr(theta):
        figures = []
        for track in tracks:
            stems = np.stack([track.stems[name].read()[0] for name in "abc"])
            figures.append(sdr_of(track.references.read()[:1], np.tensordot(theta, stems, 1)[None]))
        return np.mean(figures)

    best = mean_sdr(weights)
    moved = [weights + step for step in 0.01 * np.concatenate([np.eye(3), -np.eye(3)])]
    assert max(map(mean_sdr, moved)) < best + 1e-6


def test_songs_whose_best_separator_changes_gain_from_their_own_agreement():
    generator = np.random.default_rng(5)
    tracks = [song(seed, generator.permutation([0.01, 0.04, 0.08, 0.1])) for seed in range(8)]
    train, test = tracks[:5], tracks[5:]
    fusion = Transductive().fit(train)
    assert fusion.agreement_ == max(AGREEMENTS)
    solved = LeastSquares().fit(train)
    gains = [song_sdr(fusion, track) - song_sdr(solved, track) for track in test]
    assert min(gains) > 1


def test_songs_whose_stems_share_what_is_wrong_are_left_to_the_training_songs():
    def leaking(seed):
        track = song(seed, (0.001, 0.03, 0.03), sources=1)
        voice, generator = track.references.read(), np.random.default_rng(100 + seed)
        noise = generator.normal(0, 0.06, voice.shape)
        # two stems hold the same noise and agree; the third is right
        parts = {"a": voice, "b": voice + noise, "c": voice + noise + generator.normal(0, 0.005, voice.shape)}
        own = {name: generator.normal(0, 0.01, voice.shape) for name in parts}
        return made(track.name, voice, {name: part + own[name] for name, part in parts.items()})

    tracks = [leaking(seed) for seed in range(5)]
    assert weights_of(MinimumVariance().fit(tracks), tracks[4])[0] < 0.2
    fusion = Transductive().fit(tracks[:4])
    assert fusion.agreement_ == 0
    assert weights_of(fusion, tracks[4])[0] > 0.9


def test_the_strength_is_chosen_on_validation_songs_when_there_are_any():
    generator = np.random.default_rng(5)
    changing = [song(seed, generator.permutation([0.01, 0.04, 0.08, 0.1])) for seed in range(4)]
    steady = [song(10 + seed, (0.01, 0.04, 0.08, 0.1)) for seed in range(4)]
    assert Transductive().fit(steady, changing).agreement_ > 0
    assert Transductive().chosen_by_valid
    assert not Transductive(agreement=1).chosen_by_valid


def test_one_training_song_has_nothing_to_choose_by(caplog):
    track = song(0, (0.01, 0.02, 0.05))
    fusion = Transductive().fit([track])
    assert fusion.agreement_ == ALONE
    assert "no song to leave out" in caplog.text
    assert song_sdr(fusion, song(1, (0.01, 0.02, 0.05))) > 20


@pytest.mark.parametrize("channels", [1, 2])
def test_mono_and_stereo(channels):
    tracks = [song(seed, (0.01, 0.02, 0.05), channels=channels) for seed in range(3)]
    fusion = Transductive().fit(tracks[:2])
    assert fusion.fitted_channels == channels
    assert fusion.fitted_sources == ("bass", "vocals")
    assert fusion.fuse(bare(tracks[2])).read().shape == (2, channels, 16_000)


def test_a_silent_song_and_copies_are_fused():
    tracks = [song(seed, (0.01, 0.02, 0.05)) for seed in range(3)]
    silence = np.zeros((2, 2, 4000))
    quiet = bare(made("silence", silence, dict.fromkeys("abc", silence)))
    fusion = Transductive().fit(tracks)
    assert np.isfinite(fusion.weights(quiet).matrix).all()
    assert not fusion.fuse(quiet).read().any()
    same = tracks[0].stems["a"]
    alike = Track("alike", tracks[0].mixture, stems=dict.fromkeys("abc", same))
    for method in (fusion, MinimumVariance().fit([alike])):
        assert np.isfinite(method.weights(alike).matrix).all()
    doubled = [
        Track(track.name, track.mixture, references=track.references, stems={**track.stems, "b": track.stems["a"]})
        for track in tracks
    ]
    assert np.isfinite(Transductive().fit(doubled).weights(alike).matrix).all()


def test_a_separator_of_some_sources_only_has_weights_for_these():
    tracks = []
    for seed in range(3):
        track = song(seed, (0.01, 0.02, 0.05))
        voice = Stems(track.stems["c"].read()[1:], ("vocals",), RATE)
        tracks.append(Track(track.name, track.mixture, references=track.references, stems={**track.stems, "c": voice}))
    for fusion in (MinimumVariance().fit(tracks[:2]), Transductive().fit(tracks[:2])):
        assert len(weights_of(fusion, bare(tracks[2]), "bass")[:2]) == 2
        labels = {f"{name}.{source}.left" for name in "abc" for source in ("bass", "vocals")} - {"c.bass.left"}
        assert labels <= set(fusion.weights(bare(tracks[2])).inputs)
        assert "c.bass.left" not in fusion.weights(bare(tracks[2])).inputs


def test_a_saved_fusion_is_read_again_and_a_damaged_one_is_refused(tmp_path):
    tracks = [song(seed, (0.01, 0.02, 0.05)) for seed in range(3)]
    fusion = Transductive(ridge=0.02).fit(tracks[:2])
    path = tmp_path / "fusion.json"
    fusion.save(path)
    loaded = load_fusion(path)
    assert loaded.ridge == 0.02
    assert loaded.agreement_ == fusion.agreement_
    assert np.array_equal(loaded.weights(tracks[2]).matrix, fusion.weights(tracks[2]).matrix)
    arrays = dict(np.load(tmp_path / "fusion.songs.npz"))
    for name, value in (
        ("a_0", np.eye(2)),
        ("b_0", np.full(3, np.nan)),
        ("sources", np.array(["../bass", "vocals"])),
    ):
        np.savez(tmp_path / "fusion.songs.npz", **(arrays | {name: value}))
        with pytest.raises(FusionError, match=r"fit again|expected"):
            load_fusion(path)
    (tmp_path / "fusion.songs.npz").unlink()
    with pytest.raises(FusionError, match="no such file"):
        load_fusion(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"agreement": -1}, "agreement=-1"), ({"agreement": "much"}, "or 'auto'"), ({"ridge": -0.1}, "ridge=-0.1")],
)
def test_arguments_that_make_no_sense_are_refused(options, said):
    with pytest.raises(FusionError, match=said):
        make_fusion("transductive", **options).fit(conformance_tracks(("a", "b"), 0.1))


def test_missing_stems_are_named():
    tracks = [song(seed, (0.01, 0.02, 0.05)) for seed in range(2)]
    fusion = Transductive().fit(tracks)
    fewer = Track("fewer", tracks[0].mixture, stems={"a": tracks[0].stems["a"]})
    with pytest.raises(TrackError, match=r"'b\.bass\.left'"):
        fusion.weights(fewer)
    with pytest.raises(FusionError, match="not fitted"):
        Transductive().weights(fewer)
    with pytest.raises(TrackError, match="no stems"):
        MinimumVariance().weights(Track("bare", tracks[0].mixture))


def test_corpus_of_no_song_that_sounds_is_refused():
    silence = np.zeros((1, 2, 4000))
    track = made("silent", silence, dict.fromkeys("ab", silence + 0.1))
    with pytest.raises(FusionError, match="bass: silent in all tracks"):
        Transductive().fit([track])


def test_a_song_pulls_the_weights_no_further_than_to_its_own():
    corpus = Corpus(np.eye(2), np.array([1.0, 0.0]))
    moments = moments_of([1, 1])
    path = np.array([corpus.weights(moments, strength) for strength in (0, 0.1, 1, 10, 1e6)])
    away = np.abs(path - minimum_variance(moments)).sum(1)
    assert path[0] == pytest.approx([1, 0])
    assert (np.diff(away) < 0).all()


@pytest.fixture(scope="module")
def real_songs():
    """Seven songs with the vocals of the five systems that are not late."""
    read = lambda path: soundfile.read(path, dtype="float32")[0].T  # noqa: E731
    tracks = []
    for folder in sorted((SISEC / "references" / "test").iterdir()):
        voice, accompaniment = (read(folder / f"{name}.flac") for name in ("vocals", "accompaniment"))
        stems = {
            system: read(SISEC / "estimates" / system / "test" / folder.name / "vocals.flac")[None]
            for system in ("JY3", "MDL1", "TAK2", "TAU1", "UHL3")
        }
        tracks.append(Track.from_arrays(folder.name, voice + accompaniment, voice[None], stems, sources=("vocals",)))
    return tracks


@pytest.mark.slow
@pytest.mark.skipif(not SISEC.is_dir(), reason=f"needs {SISEC}")
def test_real_vocals_without_references_are_above_the_mean_and_no_worse_than_least_squares(real_songs):
    """Every song is left out in turn; figures are whole-song SDR, mean over songs."""

    def left_out(make):
        scores = []
        for track in real_songs:
            fusion = make().fit([other for other in real_songs if other is not track])
            scores.append(song_sdr(fusion, track))
        return np.mean(scores)

    mean, alone = left_out(Mean), left_out(MinimumVariance)
    corpus, both = left_out(lambda: Transductive(agreement=0)), left_out(Transductive)
    single = max(
        np.mean([sdr_of(track.references.read(), track.stems[name].read()) for track in real_songs])
        for name in real_songs[0].stems
    )
    # nothing was learnt, and the best system of all is not known beforehand
    assert alone > max(single, mean + 0.2)
    assert both > mean + 0.3
    assert both > corpus - 0.03
