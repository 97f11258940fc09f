import numpy as np
import pytest

from makers.planted import mixed_by_matrix, same_source
from stemfuse.blending import FusionError, check_fusion, make_fusion
from stemfuse.blending.aggregation import aggregate_frames
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.blending.least_squares import CONSTRAINTS, WEIGHTINGS, LeastSquares, frame_weights, minimise
from stemfuse.blending.space import BlendSpace
from stemfuse.separators import SOURCES, Stems, Track

WEIGHTS = np.array([[0.2, 0.8], [0.5, 0.25], [1.2, -0.3], [0.4, 0.4]])


def learnt(fusion, tracks):
    """The fitted matrix over all inputs, (output, input)."""
    gram = BlendSpace.of(tracks).grams[0]
    return gram.matrices(fusion.weights_)[0]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_planted_weights_of_same_source_stems_are_recovered(weighting):
    tracks = mixed_by_matrix(same_source(WEIGHTS))
    fusion = LeastSquares(weighting=weighting).fit(tracks)
    assert np.abs(learnt(fusion, tracks) - same_source(WEIGHTS)).max() < 1e-6


def test_planted_full_matrix_is_recovered_from_all_inputs():
    matrix = np.random.default_rng(5).normal(0, 0.5, (8, 18))
    tracks = mixed_by_matrix(matrix)
    fusion = LeastSquares("all", mixture=True, tied=False).fit(tracks)
    assert np.abs(learnt(fusion, tracks) - matrix).max() < 1e-6


def test_noise_moves_the_solution_by_no_more_than_its_standard_error():
    tracks = mixed_by_matrix(same_source(WEIGHTS), noise=0.3)
    fusion = LeastSquares(weighting="energy").fit(tracks)
    # 360 000 samples of noise at 0.3 of the inputs' level: 0.3 / sqrt(360000) = 0.0005
    assert np.abs(learnt(fusion, tracks) - same_source(WEIGHTS)).max() < 6 * 0.0005


def test_tied_all_sources_with_mixture_recovers_cross_source_weights():
    matrix = same_source(WEIGHTS)
    for channel in range(2):
        matrix[2 + channel, channel] = 0.1
        matrix[2 + channel, 2 + 8 + 6 + channel] = -0.2
    tracks = mixed_by_matrix(matrix)
    fusion = LeastSquares("all", mixture=True).fit(tracks)
    assert np.abs(learnt(fusion, tracks) - matrix).max() < 1e-6
    assert fusion.theta_["bass"]["b.vocals"] == pytest.approx(-0.2, abs=1e-6)


def brute_force(a, b, step=0.01):
    """The best of all points of a grid on the simplex of three weights."""
    steps = np.arange(0, 1 + step / 2, step)
    grid = np.array([(x, y, 1 - x - y) for x in steps for y in steps if x + y < 1 + 1e-9])
    values = np.einsum("ki,ij,kj->k", grid, a, grid) - 2 * grid @ b
    return grid[values.argmin()], values.min()


@pytest.mark.parametrize("seed", range(20))
def test_constrained_minima_are_the_best_points_there_are(seed):
    generator = np.random.default_rng(seed)
    square = generator.normal(size=(3, 3)) * 10.0 ** generator.uniform(-3, 3)
    a, b = square.T @ square, square.T @ square @ generator.normal(0.3, 0.7, 3)

    def value(theta):
        return theta @ a @ theta - 2 * b @ theta

    free = minimise(a, b)
    np.testing.assert_allclose(a @ free, b, rtol=1e-6, atol=1e-9 * np.abs(b).max())
    positive = minimise(a, b, "nonnegative")
    slope = a @ positive - b
    assert (positive >= 0).all()
    # Karush, Kuhn and Tucker: no slope downwards, none at all where a weight is above zero
    assert (slope > -1e-8 * np.abs(b).max()).all()
    assert np.abs(slope * positive).max() < 1e-7 * np.abs(b).max()
    convex = minimise(a, b, "simplex")
    assert (convex >= 0).all()
    assert convex.sum() == pytest.approx(1, abs=1e-12)
    _, best = brute_force(a, b)
    assert value(convex) <= best + 1e-9 * abs(best)
    assert value(free) <= value(positive) + 1e-9
    assert value(free) <= value(convex) + 1e-9 * abs(value(convex))


def test_singular_problems_give_the_smallest_weights():
    tracks = mixed_by_matrix(same_source(WEIGHTS[:, :1]), length=20_000)
    twins = [track.with_stems({"twin": track.stems["a"]}) for track in tracks]
    fusion = LeastSquares().fit(twins)
    for source, weight in zip(SOURCES, WEIGHTS[:, 0], strict=True):
        assert fusion.theta_[source] == pytest.approx(
            {f"a.{source}": weight / 2, f"twin.{source}": weight / 2}, abs=1e-6
        )


@pytest.mark.parametrize("constraint", CONSTRAINTS[1:])
@pytest.mark.parametrize("tied", [True, False])
def test_constraints_hold_and_cost_error(constraint, tied):
    tracks = mixed_by_matrix(same_source(WEIGHTS), noise=0.2)
    space = BlendSpace.of(tracks, "all", True, tied)
    free = LeastSquares("all", True, tied).fit(tracks)
    bound = LeastSquares("all", True, tied, constraint).fit(tracks)
    for source in SOURCES:
        values = np.array(list(bound.theta_[source].values()))
        assert (values >= 0).all()
        if constraint == "simplex":
            sums = [values[group].sum() for group in space.groups(source)]
            assert sums == pytest.approx([1] * (1 if tied else 2), abs=1e-9)
        frames = space.frames(source)
        weights = frame_weights(frames)
        least = weights @ frames.errors(np.array(list(free.theta_[source].values())))
        assert least <= weights @ frames.errors(values) * (1 + 1e-12)


def test_each_weighting_is_best_by_its_own_figure():
    tracks = conformance_tracks(("a", "b"), 6.0)
    space = BlendSpace.of(tracks, mixture=True)
    fitted = {name: LeastSquares(mixture=True, weighting=name).fit(tracks) for name in WEIGHTINGS}
    for source in SOURCES:
        frames = space.frames(source)
        theta = {name: np.array(list(fusion.theta_[source].values())) for name, fusion in fitted.items()}
        energy = {name: frames.errors(values).sum() for name, values in theta.items()}
        assert energy["energy"] <= min(energy.values()) * (1 + 1e-9)
        relative = {name: frame_weights(frames) @ frames.errors(values) for name, values in theta.items()}
        assert relative["frames"] <= min(relative.values()) * (1 + 1e-9)
        mean = {name: aggregate_frames(frames.sdr(v), frames.tracks, "mean", "mean") for name, v in theta.items()}
        assert mean["mean"] >= max(mean.values()) - 1e-6
        median = {name: aggregate_frames(frames.sdr(values), frames.tracks) for name, values in theta.items()}
        assert median["median"] >= median["frames"]


def test_ridge_pulls_to_equal_weights_and_auto_finds_a_strength_that_pays():
    tracks = mixed_by_matrix(same_source(WEIGHTS), noise=0.2)
    far = LeastSquares(ridge=1e9).fit(tracks)
    np.testing.assert_allclose(learnt(far, tracks), same_source(np.full((4, 2), 0.5)), atol=1e-6)
    # much noise and few frames: equal weights are the truth here, so that shrinking has to pay
    equal = same_source(np.full((4, 2), 0.5))
    few, valid, test = (mixed_by_matrix(equal, 2, seed, noise=30.0, length=44_100) for seed in (1, 2, 3))
    for validation in (valid, None):
        free, shrunk = LeastSquares().fit(few), LeastSquares(ridge="auto").fit(few, validation)
        distance = [np.abs(learnt(fusion, test) - equal).sum() for fusion in (free, shrunk)]
        assert distance[1] < distance[0]
        assert set(shrunk.ridge_) == set(SOURCES)
        assert max(shrunk.ridge_.values()) > 0


def test_auto_leaves_parts_of_a_single_song_out_and_passes_over_silent_ones():
    equal = same_source(np.full((4, 2), 0.5))
    (song,) = mixed_by_matrix(equal, 1, 5, noise=30.0, length=10 * 44_100)
    strengths = LeastSquares(ridge="auto").fit([song]).ridge_
    assert max(strengths.values()) > 0
    # a fifth in which nothing sounds tells nothing: it changes no choice
    level = np.repeat([1, 0], [len(song.mixture.read()[0]), 100_000])
    padded = {name: np.pad(stem.audio, ((0, 0), (0, 0), (0, 100_000))) for name, stem in song.stems.items()}
    references = np.pad(song.references.audio, ((0, 0), (0, 0), (0, 100_000))) * level
    longer = Track.from_arrays("longer", references.sum(0), references, padded)
    assert np.isfinite(list(LeastSquares(ridge="auto").fit([longer]).ridge_.values())).any()
    assert max(LeastSquares(ridge="auto").fit([longer]).ridge_.values()) > 0


@pytest.mark.parametrize(("count", "length"), [(1, 8_000), (1, 44_100), (2, 44_100)])
def test_no_ridge_is_taken_where_there_is_nothing_to_leave_out(count, length, caplog):
    tracks = mixed_by_matrix(same_source(WEIGHTS), count, length=length)
    if count > 1:
        # in one of the two songs nothing sounds
        silence = np.zeros_like(tracks[1].references.audio)
        tracks[1] = Track.from_arrays(
            "silent", silence[0] + 0.1, silence, {n: s.audio for n, s in tracks[1].stems.items()}
        )
    fusion = LeastSquares(ridge="auto").fit(tracks)
    assert set(fusion.ridge_.values()) == {0.0}
    assert fusion.theta_ == LeastSquares().fit(tracks).theta_
    (message,) = caplog.messages
    assert message.startswith("ridge='auto' is 0 for drums, bass, other, vocals: nothing to leave out")


def test_missing_sources_silence_and_bad_arguments_are_named():
    tracks = mixed_by_matrix(same_source(WEIGHTS))
    voice = [track.with_stems({"b": track.stems["b"].select(("vocals",))}) for track in tracks]
    fusion = LeastSquares().fit(voice)
    assert list(fusion.theta_["vocals"]) == ["a.vocals", "b.vocals"]
    assert list(fusion.theta_["bass"]) == ["a.bass"]
    silence = np.zeros((4, 2, 50_000), np.float32)
    silent = Track.from_arrays("silent", silence[0] + 0.1, silence, {"a": silence})
    with pytest.raises(FusionError, match="no frame in which every reference sounds"):
        LeastSquares().fit([silent])
    with pytest.raises(FusionError, match="same separators"):
        LeastSquares().fit([tracks[0], voice[1]])
    for bad in ({"stems": "some"}, {"constraint": "odd"}, {"weighting": "odd"}, {"ridge": -1}):
        with pytest.raises(FusionError, match=next(iter(bad))):
            LeastSquares(**bad).fit(tracks)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"stems": "all", "mixture": True, "tied": False, "ridge": "auto"},
        {"constraint": "simplex", "weighting": "median"},
    ],
)
def test_conforms(arguments):
    check_fusion(make_fusion("least_squares", **arguments))


def test_mono_tracks_fit_too():
    generator = np.random.default_rng(0)
    audio = generator.normal(0, 0.1, (4, 1, 50_000))
    track = Track.from_arrays("mono", audio.sum(0), audio, {"a": 2 * audio})
    assert LeastSquares().fit([track]).theta_["other"] == pytest.approx({"a.other": 0.5}, abs=1e-6)
    assert isinstance(track.stems["a"], Stems)


@pytest.mark.parametrize("weighting", ["energy", "mean", "median"])
def test_passages_in_which_a_source_hardly_plays_do_not_decide(weighting):
    """Two of six seconds hold 1/3000 of the voice, and leakage far above that: the best there is silence."""
    generator = np.random.default_rng(0)
    level = np.repeat([1, 1, 3e-4, 1, 3e-4, 1], 44_100)
    references = generator.normal(0, 0.1, (4, 2, len(level)))
    references[3] *= level
    stems = {
        name: references + generator.normal(0, error, references.shape) for name, error in (("a", 0.05), ("b", 0.1))
    }
    track = Track.from_arrays("pauses", references.sum(0), references, stems)
    theta = LeastSquares(weighting=weighting).fit([track]).theta_["vocals"]
    loud = LeastSquares(weighting="energy").fit([track]).theta_["vocals"]
    assert sum(theta.values()) == pytest.approx(sum(loud.values()), rel=0.15)
    assert theta["a.vocals"] > 2 * theta["b.vocals"] > 0


@pytest.mark.parametrize("fusion", ["least_squares", "uhlich2017"])
@pytest.mark.parametrize(
    ("silent", "words"),
    [
        (["bass"], r"bass is silent in all of them: fit without \(--sources drums,other,vocals,"),
        (["bass", "vocals"], r"bass and vocals are silent in all of them: fit without \(--sources drums,other,"),
        (SOURCES, "all references are silent in all of them; give other tracks"),
    ],
)
def test_which_references_are_silent_is_said_with_advice_that_can_be_followed(fusion, silent, words):
    references = np.random.default_rng(0).normal(0, 0.1, (4, 2, 16000)).astype("float32")
    references[[SOURCES.index(source) for source in silent]] = 0
    stems = {name: references * scale for name, scale in (("a", 0.8), ("b", 0.9))}
    track = Track.from_arrays("song", references.sum(0), references, stems, rate=8000)
    with pytest.raises(FusionError, match=words):
        make_fusion(fusion, **({"weighting": "frames"} if fusion == "least_squares" else {})).fit([track])
