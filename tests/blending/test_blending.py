"""Blends of given weights, the type that carries them, and their application to audio."""

import numpy as np
import pytest

from stemfuse.blending import (
    PRESETS,
    Combine,
    Fixed,
    FusionError,
    LeastSquares,
    LinearFusion,
    Mean,
    MixingWeights,
    apply_weights,
    check_fusion,
    input_labels,
    list_fusions,
    load_fusion,
    make_fusion,
    output_labels,
)
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.separators import RATE, SOURCES, Stems, Track, TrackError


@pytest.fixture(scope="module")
def tracks():
    return conformance_tracks(seconds=1.0)


def random_weights(track, segments=1, generator=None, **times):
    generator = generator or np.random.default_rng(7)
    inputs, outputs = input_labels(track), output_labels()
    return MixingWeights(generator.normal(0, 0.3, (segments, len(outputs), len(inputs))), inputs, outputs, **times)


def all_inputs(track):
    stems = [track.mixture.read()[None], *(stems.audio for stems in track.stems.values())]
    return np.concatenate(stems).reshape(-1, track.length)


def test_apply_is_the_matrix_product(tracks):
    weights = random_weights(tracks[0])
    fused = apply_weights(weights, tracks[0])
    expected = (weights.matrix[0].astype(float) @ all_inputs(tracks[0])).reshape(4, 2, -1)
    np.testing.assert_allclose(fused.audio, expected, atol=2e-6)
    # matrix products of other widths may round the last bit differently
    np.testing.assert_allclose(fused.read(777, 9001), fused.audio[:, :, 777:9001], rtol=0, atol=1e-6)


def test_equal_segments_are_the_constant_fusion(tracks):
    constant = random_weights(tracks[0])
    for times in ({"starts_s": [0, 0.25, 0.6]}, {"starts_s": [0, 0.25, 0.5, 0.75], "duration_s": 0.4}):
        segments = len(times["starts_s"])
        varying = MixingWeights(np.repeat(constant.matrix, segments, 0), constant.inputs, constant.outputs, **times)
        difference = apply_weights(varying, tracks[0]).audio - apply_weights(constant, tracks[0]).audio
        assert abs(difference).max() < 1e-6


def test_segments_without_duration_switch_at_their_start(tracks):
    weights = random_weights(tracks[0], 2, starts_s=[0, 0.5])
    fused = apply_weights(weights, tracks[0]).audio.reshape(8, -1)
    inputs, cut = all_inputs(tracks[0]), RATE // 2
    np.testing.assert_allclose(fused[:, :cut], weights.matrix[0] @ inputs[:, :cut], atol=2e-6)
    np.testing.assert_allclose(fused[:, cut:], weights.matrix[1] @ inputs[:, cut:], atol=2e-6)


def test_overlapping_segments_cross_fade_and_any_range_is_the_same(tracks):
    weights = random_weights(tracks[0], 4, starts_s=[0, 0.25, 0.5, 0.75], duration_s=0.5)
    fused = apply_weights(weights, tracks[0])
    whole = fused.audio
    np.testing.assert_allclose(fused.read(20_000, 30_001), whole[:, :, 20_000:30_001], atol=1e-6)
    # at the middle of segment 2 (0.5 s) its window is 1 and segment 1's is 0 at its end
    at = int(0.5 * RATE)
    near = weights.matrix[1] @ all_inputs(tracks[0])[:, at]
    np.testing.assert_allclose(whole.reshape(8, -1)[:, at], near, atol=1e-3)


def test_segments_that_do_not_reach_the_end_are_refused(tracks):
    weights = random_weights(tracks[0], 2, starts_s=[0, 0.25], duration_s=0.5)
    with pytest.raises(FusionError, match="do not reach past"):
        apply_weights(weights, tracks[0])


def test_memory_does_not_grow_with_the_song(tmp_path):
    """Streams three minutes of lazy stems; no block is larger than the block size."""
    seen = []

    def read(start, stop):
        seen.append(stop - start)
        return np.ones((4, 2, stop - start), np.float32)

    stems = Stems.lazy(read, SOURCES, 2, 180 * RATE)
    track = Track("long", stems["drums"], stems={"a": stems, "b": stems})
    for _, block in Mean().fit([track]).fuse(track).blocks():
        assert block[0, 0, 0] == 1
    assert max(seen) <= 1 << 18


def test_inputs_without_weight_are_not_read(tracks):
    def never(start, stop):
        raise AssertionError("read")

    idle = Stems.lazy(never, SOURCES, 2, tracks[0].length)
    track = tracks[0].with_stems({"idle": idle})
    fused = Fixed({"drums": {"a": 1.0, "idle": 0.0}}).fit([track]).fuse(track)
    np.testing.assert_array_equal(fused["drums"].read(), track.stems["a"]["drums"].read())


def test_mean_is_of_the_separators_that_give_a_source():
    ones = np.ones((4, 2, 100), np.float32)
    track = Track.from_arrays("t", ones.sum(0), ones, {"a": ones})
    track = track.with_stems({"voice": Stems(np.full((1, 2, 100), 3.0), ("vocals",))})
    fused = Mean().fit([track]).fuse(track)
    assert [fused[source].read(0, 1)[0, 0] for source in SOURCES] == [1, 1, 1, 2]


def test_presets_are_the_published_figures(tracks):
    assert set(PRESETS) == {"danna-sep", "kuielab-mdx", "uhlich2017"}
    for name, preset in PRESETS.items():
        for source in SOURCES:
            assert sum(preset.weights[source]) == pytest.approx(1), (name, source)
    weights = Fixed("danna-sep", separators=("a", "b", "c")).fit(tracks).weights_
    frame = weights.to_frame().set_index(["output", "input"])["weight"]
    assert frame["bass.left", "c.bass.left"] == np.float32(0.73)
    assert frame["other.right", "a.other.right"] == 0
    assert frame["vocals.left", "b.vocals.left"] == np.float32(0.4)


def test_presets_ask_for_their_separators(tracks):
    with pytest.raises(FusionError, match=r"got 3 separators \(a, b, c\), expected 2 in the order mdx_net, demucs"):
        Fixed("kuielab-mdx").fit(tracks)
    with pytest.raises(FusionError, match="no such stem"):
        Fixed("kuielab-mdx", separators=("a", "nobody")).fit(tracks)
    with pytest.raises(FusionError, match="unknown, there are danna-sep"):
        Fixed("danna").fit(tracks)
    with pytest.raises(FusionError, match="one number for each"):
        Fixed({"drums": [0.5, 0.5]}).fit(tracks)
    with pytest.raises(FusionError, match="the sources are"):
        Fixed({"drum": [0.5, 0.5, 0]}).fit(tracks)


def test_tracks_with_other_separators_are_refused(tracks):
    bare = Track("bare", tracks[0].mixture)
    with pytest.raises(FusionError, match="has no stems"):
        Mean().fit([bare])
    with pytest.raises(FusionError, match="all tracks need the same separators"):
        Mean().fit([tracks[0], bare])
    with pytest.raises(TrackError, match=r"has no input 'a\.drums\.left'"):
        Mean().fit(tracks).fuse(bare)
    with pytest.raises(FusionError, match="not fitted"):
        Mean().fuse(tracks[0])


def test_weights_survive_the_disk(tmp_path, tracks):
    weights = random_weights(tracks[0], 3, starts_s=[0, 0.3, 0.6], duration_s=0.5)
    path = tmp_path / "wëights 'quoted'.npz"
    weights.save(path)
    again = MixingWeights.load(path)
    np.testing.assert_array_equal(again.matrix, weights.matrix)
    assert (again.inputs, again.outputs, again.duration_s) == (weights.inputs, weights.outputs, 0.5)
    np.testing.assert_array_equal(again.starts_s, weights.starts_s)
    assert list(tmp_path.iterdir()) == [path]
    loaded = load_fusion(path)
    assert isinstance(loaded, Fixed)
    np.testing.assert_array_equal(loaded.fuse(tracks[0]).audio, apply_weights(weights, tracks[0]).audio)


def test_weights_are_loaded_without_pickle(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, matrix=np.array([{"code": 1}], dtype=object))
    with pytest.raises(FusionError, match="no weights can be read"):
        MixingWeights.load(path)
    path.write_text("not a zip")
    with pytest.raises(FusionError, match="no weights can be read"):
        load_fusion(path)
    with pytest.raises(FusionError, match="no such file"):
        load_fusion(tmp_path / "none.npz")


def test_weights_check_themselves():
    with pytest.raises(FusionError, match=r"\(segment, output, input\) = \(1, 2, 1\)"):
        MixingWeights(np.zeros((1, 2)), ("a.drums.left",), ("drums.left", "drums.right"))
    with pytest.raises(FusionError, match="NaN"):
        MixingWeights(np.full((1, 1), np.nan), ("a.drums.left",), ("drums.left",))
    with pytest.raises(FusionError, match="ascending seconds"):
        MixingWeights(np.zeros((2, 1, 1)), ("a.drums.left",), ("drums.left",), starts_s=[0, 0])


ARGUMENTS = {
    "combine": {"how": "median_fft"},
    "crossover": {"edges_hz": [2000], "bands": ["a", "b"]},
    "fixed": {"blend": "danna-sep"},
    "conv1x1": {"solver": "exact"},
    "gram_mixer": {"epochs": 1},
    "mlp_mixer": {"segment": 8192, "shift": 8192, "fold": 16, "layers": 1, "epochs": 1},
    "search": {"trials": 5},
}
"""For the registered fusions that cannot be made without."""


@pytest.mark.parametrize("name", list_fusions())
def test_every_registered_fusion_conforms(name):
    check_fusion(make_fusion(name, **ARGUMENTS.get(name, {})))


def test_weights_for_some_sources_conform():
    check_fusion(Fixed({"vocals": {"a": 0.9, "b": 0.1}}))


class Broken(Mean):
    kind = "mean"

    def __init__(self, how="fine"):
        self.how = how

    def fit(self, train, valid=None):
        if self.how == "changes its argument":
            self.how = "changed"
        if self.how == "sets a name":
            self.learnt = 1
        super().fit(train)
        return None if self.how == "returns nothing" else self

    def fuse(self, track):
        fused = super().fuse(track)
        if self.how == "short":
            return Stems(fused.audio[:, :, :-1])
        if self.how == "nan":
            return Stems(fused.audio * np.nan)
        if self.how == "random":
            return Stems(fused.audio + np.random.default_rng().normal(size=fused.audio.shape))
        if self.how == "order":
            return Stems(fused.audio[::-1], fused.sources[::-1])
        if self.how == "crash":
            return {"drums": fused.audio}
        return fused


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("returns nothing", "fit has to return the fusion itself"),
        ("changes its argument", "fit has changed an argument"),
        ("sets a name", "what is learnt ends in _"),
        ("short", "expected the mixture's"),
        ("nan", "NaN or infinite"),
        ("random", "two calls of fuse differ"),
        ("order", "in this order"),
        ("crash", "has to return Stems"),
        ("fine", "register its kind"),
    ],
)
def test_the_kit_catches_a_broken_fusion(how, message):
    with pytest.raises(AssertionError, match=message):
        check_fusion(Broken(how))


class Undeclared:
    """Has the methods of a fusion, but does not declare what it is."""

    def fit(self, train, valid=None):
        return self

    def fuse(self, track):
        return Mean().fit([track]).fuse(track)

    def save(self, path):
        Mean().save(path)


class DifferentOnEachTrack(Mean):
    def weights(self, track):
        return MixingWeights.same_source({source: {"a": track.length / 1e5} for source in SOURCES})

    def fuse(self, track):
        return apply_weights(self.weights(track), track)


class BareWeights(Mean):
    def weights(self, track):
        return self.weights_.matrix

    def fuse(self, track):
        return apply_weights(self.weights_, track)


class NeedsReferences(LeastSquares):
    learns = False


class WordForLearns(Mean):
    learns = "no"


class NotLinear(Mean):
    is_linear = False


class LinearWithoutWeights(Combine):
    is_linear = True


class Varying(Mean):
    varies_in_time = True


class VaryingWithoutWeights(Combine):
    varies_in_time = True


class WithoutConstantWeights(Mean):
    constant_weights = None

    def weights(self, track):
        return self.weights_

    def fuse(self, track):
        return apply_weights(self.weights_, track)


class NoDot(Mean):
    suffix = "npz"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Undeclared, r"does not declare kind, .*learns.*; derive it from stemfuse\.blending\.BaseFusion"),
        (WordForLearns, "learns is 'no', expected True or False"),
        (NoDot, "suffix is 'npz'"),
        (NotLinear, "declares is_linear = False, but has a method weights"),
        (LinearWithoutWeights, "declares is_linear = True, but has no method weights"),
        (VaryingWithoutWeights, "is not linear: only weights can vary"),
        (Varying, "declares varies_in_time = True, but has constant_weights"),
        (DifferentOnEachTrack, "declares varies_in_time = False, but the weights of a track differ"),
        (WithoutConstantWeights, "declares varies_in_time = False, but has no constant_weights"),
        (BareWeights, "weights has to return MixingWeights, got ndarray"),
        (NeedsReferences, "declares learns = False, but cannot be fitted on tracks without references"),
    ],
)
def test_the_kit_catches_a_fusion_that_is_not_what_it_declares(made, message):
    with pytest.raises(AssertionError, match=message):
        check_fusion(made())


def test_make_fusion_names_what_it_knows():
    with pytest.raises(FusionError, match=r"there are .*fixed.*mean"):
        make_fusion("median_of_gods")
    with pytest.raises(FusionError, match="its arguments are blend, separators"):
        make_fusion("fixed", blends="danna-sep")
    assert isinstance(make_fusion("mean"), LinearFusion)
