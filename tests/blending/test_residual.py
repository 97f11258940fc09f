"""Residual rules, mixture consistency and the multichannel Wiener filter."""

import numpy as np
import pytest

from makers.golden import wiener_numbers
from makers.places import DATA
from makers.planted import mean_with_residual
from stemfuse.analysis import GramStatistics
from stemfuse.blending import (
    Average,
    BaseFusion,
    Combine,
    EnergyConsistency,
    Fixed,
    FusionError,
    Mean,
    MixingWeights,
    MixtureConsistency,
    Residual,
    Wiener,
    apply_weights,
    check_fusion,
    fit_gains,
    load_fusion,
    redistribute,
)
from stemfuse.blending.classical.spectral import BLOCK, ShortTimeFourier
from stemfuse.blending.classical.wiener import SpatialFilter
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.separators import RATE, SOURCES, Stems, Track, TrackError

# the published mixer's gains in round numbers, same side and other side
KUIELAB = {"drums": (0.24, 0.15), "bass": (0.08, 0.07), "other": (0.20, 0.12), "vocals": (0.06, 0.015)}


@pytest.fixture(scope="module")
def tracks():
    return conformance_tracks(seconds=1.0)


def residual_of(estimates, mixture):
    return mixture - estimates.sum(0)


def close(gains, expected):
    return all(np.allclose(gains[source], expected[source], atol=1e-6) for source in SOURCES)


def test_songs_without_a_source_count_for_the_others():
    """The gains are those of songs in which this source is silent, in its stems and its reference."""
    whole, lacking, spelt = mean_with_residual(KUIELAB), [], []
    for track in mean_with_residual(KUIELAB):
        stems = {name: stem.audio.copy() for name, stem in track.stems.items()}
        references, mixture = track.references.audio.copy(), track.mixture.read() - track.references["bass"].read()
        references[1] = 0
        for stem in stems.values():
            stem[1] = 0
        kept, sources = [0, 2, 3], ("drums", "other", "vocals")
        spelt.append(Track.from_arrays(track.name, mixture, references, stems))
        few = {name: stem[kept] for name, stem in stems.items()}
        lacking.append(Track.from_arrays(track.name, mixture, references[kept], few, sources=sources))
    found, expected = Residual().fit([*whole, *lacking]).gains_, Residual().fit([*whole, *spelt]).gains_
    for source in sources:
        assert found[source] == pytest.approx(expected[source], abs=1e-6)
    assert found["bass"] == pytest.approx(Residual().fit(whole).gains_["bass"], abs=1e-6)


@pytest.mark.parametrize("normalised", [False, True])
def test_planted_gains_are_found(normalised):
    assert close(Residual("sides", normalised=normalised).fit(mean_with_residual(KUIELAB)).gains_, KUIELAB)
    per_source = {source: (gain[0], 0) for source, gain in KUIELAB.items()}
    assert close(Residual("source", normalised=normalised).fit(mean_with_residual(per_source)).gains_, per_source)
    one = dict.fromkeys(SOURCES, (0.3, 0))
    assert close(Residual("one", normalised=normalised).fit(mean_with_residual(one)).gains_, one)


@pytest.mark.parametrize("channels", [1, 3])
def test_planted_gains_are_found_for_other_numbers_of_channels(channels):
    gains = KUIELAB if channels > 1 else {source: (gain[0], 0) for source, gain in KUIELAB.items()}
    tracks = mean_with_residual(gains, channels=channels)
    fusion = Residual("sides").fit(tracks)
    assert close(fusion.gains_, gains)
    np.testing.assert_allclose(fusion.fuse(tracks[0]).audio, tracks[0].references.audio, atol=1e-6)


def test_the_rule_of_two_gains_is_its_matrix():
    """W = I + a (mixture - sum) on the same side + b (mixture - sum) on the other: 8 x 10 numbers."""
    labels = [f"{source}.{side}" for source in SOURCES for side in ("left", "right")]
    single = MixingWeights.same_source({source: {"net": 1.0} for source in SOURCES})
    weights = redistribute(single, KUIELAB)
    assert weights.inputs == (*(f"net.{label}" for label in labels), "mixture.left", "mixture.right")
    for row, output in enumerate(labels):
        source, side = output.split(".")
        for column, name in enumerate([*labels, "mixture.left", "mixture.right"]):
            gain = KUIELAB[source][0 if name.endswith(side) else 1]
            expected = gain if name.startswith("mixture") else float(name == output) - gain
            assert weights.matrix[0, row, column] == pytest.approx(expected, abs=1e-7)


def test_the_published_mixer_is_the_rule_of_two_gains_for_the_most_part():
    torch = pytest.importorskip("torch")
    path = DATA / "kuielab_mixer.ckpt"
    if not path.is_file():
        pytest.skip("the published mixer is not on this machine")
    state = torch.load(path, map_location="cpu", weights_only=True)
    matrix = (state.get("state_dict") or state)["linear.weight"].numpy().astype(float)
    order = ("bass", "drums", "other", "vocals")
    for row, source in enumerate(order):
        learnt = matrix[2 * row : 2 * row + 2].copy()
        learnt[[0, 1], [2 * row, 2 * row + 1]] -= 1
        # the rule's two directions: minus one on every estimate and one on the mixture, for the same and the other side
        signs = np.array([-1.0, -1, -1, -1, 1])
        same, other = np.kron(signs, np.eye(2)), np.kron(signs, 1 - np.eye(2))
        gains = [np.vdot(side, learnt) / np.vdot(side, side) for side in (same, other)]
        explained = 1 - np.square(learnt - gains[0] * same - gains[1] * other).sum() / np.square(learnt).sum()
        assert 0.92 < explained < 0.9995, source
        np.testing.assert_allclose(gains, KUIELAB[source], atol=0.02)


def test_redistribution_on_audio_follows_its_formula(tracks):
    track = tracks[0]
    fused = Residual(KUIELAB, base="mean").fit(tracks).fuse(track).audio
    estimates = np.mean([stems.audio.astype(float) for stems in track.stems.values()], axis=0)
    residual = residual_of(estimates, track.mixture.read())
    for row, source in enumerate(SOURCES):
        same, other = KUIELAB[source]
        expected = estimates[row] + same * residual + other * residual[::-1]
        np.testing.assert_allclose(fused[row], expected, atol=1e-6)


def test_fitted_gains_leave_the_smallest_error(tracks):
    """No gain a little aside is better, by the error that the fit is about; more freedom is never worse."""
    grams = [GramStatistics.from_track(track) for track in tracks]
    mean = Mean().fit(tracks).weights_

    def error(gains, normalised):
        weights = redistribute(mean, gains)
        total = 0.0
        for gram in grams:
            errors = gram.errors(gram.matrices(weights)).reshape(-1, 4, 2).sum(2)
            energies = gram.reference_energies.reshape(-1, 4, 2).sum(2)
            total += (errors / energies if normalised else errors).sum()
        return total

    for normalised in (False, True):
        reached = []
        for shared, moved in [("one", None), ("source", 0), ("sides", 0), ("sides", 1)]:
            gains = fit_gains(mean, grams, shared, normalised)
            reached.append(error(gains, normalised))
            for step in (-0.01, 0.01):
                aside = {source: list(pair) for source, pair in gains.items()}
                if moved is None:
                    aside = {source: [same + step, other] for source, (same, other) in aside.items()}
                else:
                    aside["other"][moved] += step
                assert error(aside, normalised) > reached[-1]
        assert error({}, normalised) > reached[0] > reached[1] > reached[2]


def test_gains_that_nothing_determines_are_zero():
    """Estimates that sum to the mixture up to rounding leave only rounding noise, which is no reason for huge gains."""
    references = np.random.default_rng(0).normal(0, 0.1, (4, 2, RATE)).astype(np.float32)
    swapped = references + 0.01 * (references - np.roll(references, 1, axis=0))
    track = Track.from_arrays("consistent", swapped.astype(float).sum(0), references, {"a": swapped})
    assert set(Residual("sides").fit([track]).gains_.values()) == {(0.0, 0.0)}
    # on a mono song both sides are one: the gains share what there is to give
    mono = np.repeat(references[:, :1], 2, axis=1)
    track = Track.from_arrays("mono", mono.sum(0), mono, {"a": 0.5 * mono})
    same, other = Residual("sides").fit([track]).gains_["bass"]
    assert same == pytest.approx(other, rel=1e-4) == pytest.approx(0.125, abs=0.01)


def test_frames_with_a_silent_reference_do_not_count_when_normalised():
    tracks = mean_with_residual(KUIELAB, seconds=(3.0,))
    references = tracks[0].references.audio.copy()
    references[2, :, :RATE] = 0
    track = Track.from_arrays(
        "gap", tracks[0].mixture.read(), references, {k: s.audio for k, s in tracks[0].stems.items()}
    )
    assert close(Residual("sides", normalised=True).fit([track]).gains_, KUIELAB)


BASES = [
    "mean",
    {"kind": "average", "arguments": {"blend": [1, 2, 3]}},
    Fixed("danna-sep"),
    Average([1, 2, 3]).fit(conformance_tracks()),
    Mean().fit(conformance_tracks()).weights_,
]


@pytest.mark.parametrize("base", BASES, ids=lambda base: type(base).__name__)
@pytest.mark.parametrize("rule", [MixtureConsistency, Residual, EnergyConsistency, Wiener])
def test_every_rule_conforms_on_every_kind_of_base(rule, base):
    check_fusion(rule(base=base))


@pytest.mark.parametrize(
    "fusion",
    [
        Residual("one"),
        Residual("source", normalised=True),
        Residual(0.25),
        Residual({"bass": 0.5, "vocals": [0.1, 0.2]}),
        Residual("sides", base=MixtureConsistency()),
        Wiener(Combine("median_wave"), n_fft=1024, hop=256),
        EnergyConsistency(Wiener()),
    ],
    ids=repr,
)
def test_every_rule_conforms(fusion):
    check_fusion(fusion)


def test_estimates_are_made_to_sum_to_the_mixture(tracks):
    for rule in (MixtureConsistency(), EnergyConsistency(), Residual("one", base=MixtureConsistency())):
        for track in tracks:
            total = rule.fit(tracks).fuse(track).audio.sum(0)
            np.testing.assert_allclose(total, track.mixture.read(), atol=2e-6)
    mean = Mean().fit(tracks).fuse(tracks[0]).audio
    equal = MixtureConsistency().fit(tracks).fuse(tracks[0]).audio - mean
    np.testing.assert_allclose(
        equal, np.broadcast_to(residual_of(mean, tracks[0].mixture.read()) / 4, mean.shape), atol=1e-6
    )


def test_shares_by_energy_leave_silence_silent():
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 20_000)).astype(np.float32)
    noise[1] = 0
    track = Track.from_arrays("song", 2 * noise.sum(0), stems={"a": noise})
    fused = EnergyConsistency().fuse(track).audio
    assert abs(fused[1]).max() < 1e-7
    np.testing.assert_allclose(fused.sum(0), 2 * noise.sum(0), atol=1e-6)
    silent = EnergyConsistency().fuse(Track.from_arrays("song", noise[0], stems={"a": 0 * noise})).audio
    np.testing.assert_allclose(silent, np.broadcast_to(noise[0] / 4, silent.shape), atol=1e-6)


def test_weights_that_vary_in_time_are_redistributed_segment_by_segment(tracks):
    track = tracks[0]
    mean, single = Mean().fit(tracks).weights_, Average({"a": 1, "b": 0, "c": 0}).fit(tracks).weights_
    varying = MixingWeights(np.concatenate([mean.matrix, single.matrix]), mean.inputs, mean.outputs, [0, 0.5])
    fused = apply_weights(redistribute(varying, 0.25), track).audio
    cut = RATE // 2
    for weights, part in [(mean, slice(cut)), (single, slice(cut, None))]:
        expected = apply_weights(redistribute(weights, 0.25), track).audio
        np.testing.assert_allclose(fused[:, :, part], expected[:, :, part], atol=1e-6)
    with pytest.raises(FusionError, match="no weights that hold for all tracks at all times"):
        Residual(0.5, base=varying).fit(tracks)


def test_a_saved_rule_carries_its_fitted_base(tracks, tmp_path):
    base = Residual("sides").fit(tracks)
    for fusion in (Wiener(base), EnergyConsistency(base)):
        fusion.save(tmp_path / "fusion.json")
        again = load_fusion(tmp_path / "fusion.json")
        np.testing.assert_array_equal(again.fuse(tracks[1]).read(0, 9000), fusion.fuse(tracks[1]).read(0, 9000))


class Learner(BaseFusion):
    """A fusion without weights that learns a number."""

    kind = "learner"

    def fit(self, train, valid=None):
        self.level_ = len(train)
        return self

    def fuse(self, track):
        return Stems(self.level_ * track.references.audio)

    def save(self, path):
        raise AssertionError("not asked for")


def test_a_base_that_learns_has_to_be_fitted_where_nothing_may_be_learnt(tracks, tmp_path):
    for rule in (MixtureConsistency, EnergyConsistency, Wiener):
        with pytest.raises(FusionError, match="has to learn from references first"):
            rule(base=Residual("sides")).fit(tracks)
    fitted = Learner().fit(tracks)
    np.testing.assert_allclose(
        EnergyConsistency(fitted).fuse(tracks[0]).audio.sum(0), tracks[0].mixture.read(), atol=1e-5
    )
    with pytest.raises(FusionError, match="save it on its own"):
        EnergyConsistency(fitted).save(tmp_path / "fusion.json")
    with pytest.raises(FusionError, match="no weights that hold for all tracks"):
        Residual(0.5, base=fitted).fit(tracks)


def test_errors_say_what_was_expected(tracks):
    with pytest.raises(FusionError, match="gains='all' is unknown; fitted are one, source, sides"):
        Residual("all").fit(tracks)
    with pytest.raises(FusionError, match="got a gain for 'piano', the sources are drums"):
        Residual({"piano": 1}).fit(tracks)
    with pytest.raises(FusionError, match=r"got gain \[1, 2, 3\] of bass, expected a number or a pair"):
        Residual({"bass": [1, 2, 3]}).fit(tracks)
    with pytest.raises(FusionError, match="has no stems"):
        Residual(0.5).fit([Track("bare", tracks[0].mixture)])
    with pytest.raises(TrackError, match="has no references"):
        Residual("one").fit([Track("unknown", tracks[0].mixture, stems=tracks[0].stems)])
    with pytest.raises(FusionError, match="fusion 'None' is unknown"):
        MixtureConsistency({"arguments": {}}).fit(tracks)
    alone = Fixed({"vocals": {"a": 1.0}})
    with pytest.raises(FusionError, match="got a blend of vocals"):
        MixtureConsistency(alone).fit(tracks)
    with pytest.raises(FusionError, match="gives only vocals"):
        Wiener(alone).fit(tracks)
    with pytest.raises(FusionError, match="n_fft=1023"):
        Wiener(n_fft=1023).fit(tracks)


@pytest.mark.parametrize("name", ["small", "large"])
def test_the_wiener_filter_gives_the_golden_numbers_whatever_the_blocks(name):
    magnitudes, mixture, output = wiener_numbers(name)
    # (frame, bin, channel, source) as ours: the mixture, then the sources, by channel, frame and bin
    spectra = np.concatenate([mixture.transpose(2, 0, 1)[None], magnitudes.transpose(3, 2, 0, 1)])
    expected = output.transpose(3, 2, 0, 1)
    for cuts in ([20], [1, 7, 20]):
        fitted = SpatialFilter()
        for start, stop in zip([0, *cuts], cuts, strict=False):
            fitted.add(spectra[:, :, start:stop])
        split = np.concatenate([fitted.split(spectra[:, :, :3]), fitted.split(spectra[:, :, 3:])], axis=2)
        assert abs(split - expected).max() < 1e-12 * abs(expected).max()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_wiener_filter_is_that_of_norbert(channels):
    norbert = pytest.importorskip("norbert")
    generator = np.random.default_rng(channels)
    shape = (30, 17, channels, 4)
    magnitudes = np.abs(generator.normal(size=shape))
    mixture = 40 * (generator.normal(size=shape[:3]) + 1j * generator.normal(size=shape[:3]))
    fitted = SpatialFilter()
    spectra = np.concatenate([mixture.transpose(2, 0, 1)[None], magnitudes.transpose(3, 2, 0, 1)])
    fitted.add(spectra)
    expected = norbert.wiener(magnitudes, mixture, 1, use_softmask=False).transpose(3, 2, 0, 1)
    assert abs(fitted.split(spectra) - expected).max() < 1e-9 * abs(expected).max()


def test_the_wiener_filter_of_a_song_is_that_of_its_spectra():
    """Read in blocks and ranges, it is the filter over all STFT frames at once; it sums to the mixture."""
    length = 2 * BLOCK + 777
    references = np.random.default_rng(0).normal(0, 0.1, (4, 2, length)) * np.array([1, 2, 0.5, 1])[:, None, None]
    references[:, 1] *= np.array([1, 0.2, -0.7, 0.4])[:, None]
    estimates = references + 0.2 * references.sum(0)
    track = Track.from_arrays("song", references.sum(0), stems={"a": estimates})
    fused = Wiener().fuse(track)
    whole = fused.audio
    for start, stop in [(0, 10), (BLOCK - 3, BLOCK + 40_000), (length - 1, length)]:
        np.testing.assert_allclose(fused.read(start, stop), whole[:, :, start:stop], atol=1e-6)
    np.testing.assert_allclose(whole.sum(0), track.mixture.read(), atol=1e-5)
    transform, fitted = ShortTimeFourier(4096, 1024), SpatialFilter()
    signals = np.concatenate([track.mixture.read()[None], track.stems["a"].audio], dtype=float)
    first, last = transform.touching(0, length)
    spectra = transform.spectra(lambda start, stop: signals[:, :, start:stop], length, first, last)
    fitted.add(spectra)
    expected = transform.samples(fitted.split(spectra), first, 0, length)
    np.testing.assert_allclose(whole, expected, atol=1e-6)


def test_the_wiener_filter_of_silence_and_mono():
    silent = np.zeros((4, 1, 5000), np.float32)
    track = Track.from_arrays("silence", silent[0], stems={"a": silent})
    assert not Wiener().fuse(track).audio.any()
