"""The fast engine against museval itself, on real music and in the special cases of the definitions."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
import pytest
import scipy.signal
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from makers.audio import noise
from makers.places import CLIP
from stemfuse.analysis.bss_eval import decomposition, projection, rounding
from stemfuse.analysis.bss_eval.arithmetic import ProcessorArithmetic, TorchArithmetic
from stemfuse.analysis.bss_eval.evaluation import (
    ReferenceProjection,
    bss_eval,
)
from stemfuse.analysis.bss_eval.framing import frame_slices, readable
from stemfuse.analysis.bss_eval.museval import import_museval
from stemfuse.analysis.bss_eval.projection import CholeskyProjection, block_toeplitz, correlations
from stemfuse.analysis.bss_eval.rounding import RoundedProjection
from stemfuse.analysis.bss_eval.sdr import song_sdr
from stemfuse.analysis.errors import DeviceError, NotPositiveDefiniteError
from stemfuse.separators import ArraySignal, AudioError, StemfuseError, Stems, open_signal

SECOND = 44_100
FRAME = SECOND // 2
NAMES = ("SDR", "ISR", "SIR", "SAR")
MEANINGLESS_DB = 120
"""Ratios above this are rounding errors of float64, in museval as here."""


def museval(references, estimates, window=SECOND, hop=SECOND, mode="v4"):
    with np.errstate(all="ignore"):
        return import_museval().evaluate(references, estimates, win=window, hop=hop, mode=mode)


def assert_agree(found, expected, within=1e-6):
    """Same shapes, NaN and infinities, and every value within 1e-6 dB unless both are meaningless."""
    for name, ours, theirs in zip(NAMES, found, expected, strict=True):
        assert ours.shape == theirs.shape, name
        assert ours.dtype == np.float64, name
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), name)
        sensible = ~((ours > MEANINGLESS_DB) & (theirs > MEANINGLESS_DB)) & ~np.isnan(theirs)
        np.testing.assert_allclose(ours[sensible], theirs[sensible], rtol=0, atol=within, err_msg=name)


def check(references, estimates, **options):
    options = {"window": FRAME, "hop": FRAME} | options
    found = bss_eval(references, estimates, **options)
    assert_agree(found, museval(references, estimates, **options))
    return found


def separate_badly(references, seed=0):
    """What an oracle mask with errors of some 9 dB makes of the mixture: distortion, interference and artifacts."""
    generator = np.random.default_rng(seed)
    _, _, spectra = scipy.signal.stft(references.swapaxes(1, 2), nperseg=2048)
    power = np.abs(spectra * np.exp(generator.normal(0, 1, spectra.shape))) ** 2 + 1e-12
    _, waves = scipy.signal.istft(power / power.sum(axis=0) * spectra.sum(axis=0), nperseg=2048)
    return waves[..., : references.shape[1]].swapaxes(1, 2).astype(references.dtype)


def in_16_bits(waves):
    return np.round(waves * 2**15) / 2**15


@pytest.fixture(scope="module")
def clip():
    """Two stereo sources of the real clip, as decoded in floating point: 1.4 s of drums and voice."""
    signals = [open_signal(CLIP, stream) for stream in (1, 4)]
    return np.stack([signal.read(2 * SECOND, 2 * SECOND + 60_000).T for signal in signals])


@pytest.fixture(scope="module")
def music(clip):
    """The same in 16 bits, as musdb reads it: loud and without an empty band."""
    return in_16_bits(clip)


@pytest.fixture(scope="module")
def estimates(music):
    return separate_badly(music)


@pytest.fixture
def cholesky_only(monkeypatch):
    """The signals of the tests are short; this treats them as long ones."""
    monkeypatch.setattr(rounding, "LONGEST_DELICATE", 0)


class TestRealMusic:
    def test_as_musdb_reads_it(self, music, estimates):
        check(music, estimates)

    def test_as_long_songs_are_scored(self, music, estimates, cholesky_only):
        assert isinstance(ReferenceProjection(music)._projection, CholeskyProjection)
        check(music, estimates)

    def test_in_floating_point_where_rounding_decides(self, clip):
        found = check(clip, separate_badly(clip))
        assert np.ptp(found.SIR) > 1

    @pytest.mark.slow
    def test_long_floating_point_warns_and_is_as_near_as_museval_to_itself(self, clip, cholesky_only):
        estimates = separate_badly(clip)
        with pytest.warns(rounding.SingularReferencesWarning, match="16 bits"):
            found = np.array(bss_eval(clip, estimates, FRAME, FRAME))
        expected = np.array(museval(clip, estimates, FRAME, FRAME))
        turned = np.array(museval(clip[::-1], estimates[::-1], FRAME, FRAME))[:, ::-1]
        assert np.abs(turned - expected).max() > 1e-6, "museval has become reproducible: the rounding path can go"
        np.testing.assert_allclose(found, expected, rtol=0, atol=20 * np.abs(turned - expected).max())

    @pytest.mark.slow
    def test_v3(self, music, estimates):
        silent = estimates.copy()
        silent[1, : FRAME // 2] = 0
        found = check(music, silent, mode="v3", window=FRAME // 2, hop=FRAME)
        assert np.isnan(found.SDR).tolist() == [[True, False, False]] * 2

    @pytest.mark.slow
    def test_four_sources(self):
        signals = [open_signal(CLIP, stream) for stream in (1, 2, 3, 4)]
        whole = np.stack([signal.read().T for signal in signals])
        check(in_16_bits(whole), separate_badly(in_16_bits(whole)), window=SECOND, hop=SECOND)
        check(whole, 0.7 * whole + 0.3 * separate_badly(whole), window=SECOND, hop=SECOND)

    @pytest.mark.long
    def test_four_sources_v3(self):
        signals = [open_signal(CLIP, stream) for stream in (1, 2, 3, 4)]
        whole = in_16_bits(np.stack([signal.read(0, 2 * SECOND).T for signal in signals]))
        check(whole, separate_badly(whole), mode="v3", window=SECOND, hop=SECOND)


class TestSilence:
    @pytest.mark.parametrize("which", ["reference", "estimate", "opposite channels"])
    def test_a_silent_frame_counts_for_no_source(self, music, estimates, which):
        references, guesses = music.copy(), estimates.copy()
        part = (guesses if which == "estimate" else references)[1, FRAME : 2 * FRAME]
        part[:, 0] = -part[:, 1] if which == "opposite channels" else 0
        part[:, 1] *= which == "opposite channels"
        found = check(references, guesses)
        assert np.isnan(found.SAR).tolist() == [[False, True]] * 2

    def test_sound_in_the_last_sample_makes_a_frame_count(self):
        references = noise(2, 3000, 2)
        references[0, 1000:1999] = 0
        found = check(references, references + noise(2, 3000, 2, seed=1, scale=0.01), window=1000, hop=1000)
        assert np.isfinite(found.SDR).all()

    @pytest.mark.parametrize("backend", ["fast", "museval"])
    @pytest.mark.parametrize("which", [0, 1])
    def test_silent_throughout_is_nan_where_museval_raises(self, backend, which):
        pair = [noise(2, 2500, 1), noise(2, 2500, 1, seed=1)]
        pair[which][1] = 0
        with pytest.raises(ValueError, match="silent"):
            museval(*pair)
        found = bss_eval(*pair, window=1000, hop=1000, backend=backend)
        assert [metric.shape for metric in found] == [(2, 2)] * 4
        assert np.isnan(found).all()


class TestSingularCases:
    @pytest.mark.slow
    def test_estimates_equal_to_references(self, music):
        found = check(music, music)
        assert np.isposinf(found.SDR).all()
        assert np.stack(found[1:]).min() > MEANINGLESS_DB

    def test_one_perfect_estimate(self, music, estimates):
        found = check(music, np.stack([estimates[0], music[1]]))
        assert np.isposinf(found.SDR[1]).all()

    @pytest.mark.slow
    def test_mixture_as_every_estimate(self, music):
        check(music, np.stack([music.sum(axis=0)] * 2))

    @pytest.mark.slow
    def test_swapped_estimates(self, music):
        assert (check(music, music[::-1]).SIR < 0).all()

    @pytest.mark.slow
    @pytest.mark.slow
    def test_mono_in_stereo(self, clip):
        mono = np.repeat(clip[..., :1], 2, axis=2)
        check(mono, separate_badly(clip))
        check(mono, separate_badly(mono))

    def test_hard_panned(self, music, estimates):
        references = music.copy()
        references[0, :, 1] = references[1, :, 0] = 0
        check(references, estimates)

    @pytest.mark.slow
    def test_one_reference_twice(self, clip):
        check(np.stack([clip[0], clip[0]]), separate_badly(clip))

    def test_one_source_has_no_interference(self, music, estimates):
        found = check(music[:1], estimates[:1])
        assert np.isposinf(found.SIR).all()
        found = check(noise(1, 50_000, 2), noise(1, 50_000, 2, seed=1))
        assert np.isposinf(found.SIR).all()

    def test_no_factor_without_more_on_the_diagonal(self, cholesky_only):
        """References that Cholesky cannot factor at all still give the projection that museval finds."""
        references = np.repeat(noise(2, 20_000, 1), 2, axis=2)
        guesses = references + noise(2, 20_000, 2, seed=1, scale=0.02)
        with pytest.warns(rounding.SingularReferencesWarning):
            found = bss_eval(references, guesses)
        assert_agree(found, museval(references, guesses), within=1e-4)

    def test_exactly_singular(self):
        """Shorter than its filters and loud: museval's LU meets a zero, then a name that NumPy 2 does not have."""
        references = np.array([[[100.0]], [[-30.0]]])
        guesses = references + np.array([[[1.0]], [[2.0]]])
        with pytest.raises(AttributeError, match="linalg"):
            museval(references, guesses)
        with pytest.raises(StemfuseError, match=r"cannot solve .* --backend fast"):
            bss_eval(references, guesses, backend="museval")
        found = bss_eval(references, guesses)
        np.testing.assert_allclose(found.SDR[:, 0], 10 * np.log10([10_000, 225]))
        assert (found.SAR > MEANINGLESS_DB).all()

    def test_near_silence_museval_regularises(self):
        references, guesses = noise(2, 20_000, 1), noise(2, 20_000, 1, seed=1)
        quiet = check(1e-9 * references, 1e-9 * guesses)
        assert (quiet.SAR < bss_eval(references, guesses).SAR - 1).all()


class TestFraming:
    @pytest.mark.parametrize(
        ("samples", "window", "hop"),
        [
            (3000, 1000, 1000),
            (3500, 1000, 300),
            (3500, 1000, 2000),
            (3500.0, 1000.5, 250.25),
            (900, 1000, 1000),
            (1000, 1000, 1000),
            (3000, np.inf, np.inf),
            (3000, 2999, 700),
            (1500, 3, 500),
        ],
    )
    def test_as_museval(self, samples, window, hop):
        slices = list(import_museval().metrics.Framing(window, hop, samples))
        assert frame_slices(samples, window, hop) == slices
        references = noise(2, int(samples), 1)
        check(references, references + noise(2, int(samples), 1, seed=1, scale=0.03), window=window, hop=hop)

    def test_one_second_unless_given(self):
        references = noise(1, 100_000, 1)
        guesses = references + noise(1, 100_000, 1, seed=1, scale=0.03)
        assert_agree(bss_eval(references, guesses), museval(references, guesses))

    @pytest.mark.parametrize("filtered", [True, False])
    @pytest.mark.parametrize(("samples", "window", "hop"), [(140_000, np.inf, 1), (175_000, 133_000, 40_000)])
    def test_long_frames_are_filtered_in_blocks(self, samples, window, hop, filtered, monkeypatch):
        if filtered:
            monkeypatch.setattr(projection, "_SHORTEST_FRAME", np.inf)
        references = np.cumsum(noise(2, samples, 1, scale=1), axis=1) * 0.001
        guesses = references + noise(2, samples, 1, seed=1, scale=0.03)
        guesses[0, :140_000] = 0
        guesses[0, 139_999] = window == np.inf
        check(references, guesses, window=window, hop=hop)

    @pytest.mark.parametrize(("window", "hop"), [(0, 100), (100, 0), (-5, 5), (np.nan, 5), (5, np.nan), (100, np.inf)])
    def test_windows_out_of_range(self, window, hop):
        with pytest.raises(AudioError, match=r"got window .* and hop .*, expected"):
            bss_eval(noise(1, 500, 1), noise(1, 500, 1), window, hop)


class TestMoments:
    """Energies from the moments of frames against those of the filtered frames, and the choice between the two."""

    @staticmethod
    def energies(references, guesses, window):
        """From moments and for which frames they are exact, as chosen, and of the filtered frames."""
        pair = readable(references, "references"), readable(guesses, "estimates")
        frames, arithmetic = frame_slices(references.shape[1], window, window), ProcessorArithmetic(1)
        projection = CholeskyProjection(pair[0], slice(0, references.shape[1]), arithmetic, frames)
        (filters,) = projection.filters([pair[1]])
        with arithmetic.threads():  # the last digit depends on how many threads BLAS has
            found, exact = decomposition.energies_of_moments(filters, *filters.moments, pair[0].channels)
        chosen = decomposition.frame_energies(*pair, filters, frames, arithmetic)
        filtered = decomposition.frame_energies(*pair, filters._replace(moments=None), frames, arithmetic)
        return found, exact, chosen, filtered

    @staticmethod
    def assert_near(found, expected, within):
        for name, ours, theirs in zip(expected._fields, found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=within, atol=0, err_msg=name)

    @pytest.mark.parametrize("window", [5000, 17_321, 60_000])
    def test_equal_those_of_filtered_frames(self, music, estimates, window):
        levels = np.array([1e-3, 1])[:, None, None]
        for references, guesses in (music, estimates), (music * levels, (estimates * levels)[::-1]):
            found, exact, chosen, filtered = self.energies(references, guesses, window)
            assert exact.all()
            assert exact.shape == (60_000 // window,)
            self.assert_near(found, filtered, 1e-8)
            np.testing.assert_array_equal(np.stack(chosen[:7]), np.stack(found[:7]))

    def test_small_differences_of_large_numbers_are_filtered(self):
        references = noise(2, 20_000, 2)
        references[:, 10_000:] *= 1e-3
        found, exact, chosen, filtered = self.energies(
            references, 0.5 * references + noise(2, 20_000, 2, seed=1, scale=1e-7), 10_000
        )
        assert exact.tolist() == [False, True]
        self.assert_near(chosen, filtered, 1e-8)
        assert (np.abs(found.artifacts / filtered.artifacts - 1)[:, 0] > 1e-8).any()

    def test_silent_frames_are_not_filtered(self, music):
        music = np.where(np.arange(60_000)[:, None] < 10_000, 0, music)
        found, exact, chosen, _ = self.energies(music, 0.5 * music, 10_000)
        assert not exact[1:].any()
        assert chosen.silent.tolist() == [True] + [False] * 5
        np.testing.assert_array_equal(chosen.artifacts[:, 0], found.artifacts[:, 0])
        assert (chosen.artifacts[:, 1:] != found.artifacts[:, 1:]).all()

    def test_only_so_many_frames_are_kept(self, monkeypatch, music, estimates):
        monkeypatch.setattr(projection, "_MOST_CORRELATIONS", 3 * 4 * 4 * 512)
        found, exact, chosen, filtered = self.energies(music, estimates, 6000)
        assert exact.tolist() == [True] * 3
        assert found.own.shape == (2, 3)
        self.assert_near(chosen, filtered, 1e-8)


class TestShapesAndLevels:
    @settings(max_examples=10, deadline=None, derandomize=True, phases=(Phase.generate,))
    @given(data=st.data())
    def test_agrees_with_museval(self, data):
        sources, channels = data.draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (3, 1), (1, 3)]))
        samples = data.draw(st.integers(10, 6000))
        generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        colour = data.draw(st.floats(0, 0.99))
        levels = 10.0 ** np.array(data.draw(st.lists(st.floats(-5, 2), min_size=sources, max_size=sources)))
        white = generator.normal(size=(sources, samples, channels))
        references = scipy.signal.lfilter([1], [1, -colour], white, axis=1) * levels[:, None, None]
        errors = generator.normal(size=references.shape) * levels[:, None, None]
        kind = data.draw(st.sampled_from(["noise", "bleed", "gain"]))
        bleed = references.mean(axis=0) * (kind == "bleed")
        guesses = 0.9 * references + bleed + errors * 10.0 ** data.draw(st.floats(-3, 1)) * (kind == "noise")
        dtype = data.draw(st.sampled_from([np.float64, np.float32]))
        window, hop = data.draw(st.integers(1, 7000)), data.draw(st.integers(500, 7000))
        check(references.astype(dtype), guesses.astype(dtype), window=window, hop=hop)

    @pytest.mark.parametrize("dtype", [np.int16, np.float16, np.float32])
    def test_number_formats(self, dtype):
        references = (noise(2, 5000, 1) * 1000).astype(dtype)
        check(references, references + np.ones(1, dtype) * 3, window=2000, hop=2000)

    def test_non_contiguous_arrays(self):
        references = noise(1, 2, 8000).transpose(1, 2, 0)[:, ::2]
        check(references, references[::-1] * 0.1 + references, window=1500, hop=1500)


class TestManyEstimates:
    @pytest.mark.slow
    def test_references_are_shared(self):
        references = noise(2, 30_000, 2)
        truth = ReferenceProjection(references, 10_000, 10_000)
        assert isinstance(truth._projection, CholeskyProjection)
        for seed in (1, 2):
            guesses = references + noise(2, 30_000, 2, seed=seed, scale=0.05)
            found = truth.evaluate(guesses)
            np.testing.assert_array_equal(found, bss_eval(references, guesses, 10_000, 10_000))
            assert_agree(found, museval(references, guesses, 10_000, 10_000), within=1e-9)

    @pytest.mark.parametrize("mode", ["v4", "v3"])
    @pytest.mark.slow
    def test_several_at_once(self, mode):
        references = noise(2, 30_000, 2)
        guesses = [references + noise(2, 30_000, 2, seed=seed, scale=0.05) for seed in (1, 2)]
        together = list(ReferenceProjection(references, 10_000, 10_000, mode).evaluate_all(guesses))
        for guess, scores in zip(guesses, together, strict=True):
            np.testing.assert_array_equal(scores, bss_eval(references, guess, 10_000, 10_000, mode))
        assert not list(ReferenceProjection(references, 10_000, 10_000, mode).evaluate_all([]))

    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.slow
    def test_delicate_references_are_shared(self, clip, channels, monkeypatch):
        """To the last bit, although the equations of all estimates are solved at once."""
        monkeypatch.setattr(rounding, "DELICATE", 1.0)
        references = clip[..., :channels]
        truth = ReferenceProjection(references, SECOND, SECOND)
        assert isinstance(truth._projection, RoundedProjection)
        guesses = [separate_badly(references, seed) for seed in (1, 2, 3)]
        for guess, scores in zip(guesses, truth.evaluate_all(guesses), strict=True):
            np.testing.assert_array_equal(scores, bss_eval(references, guess))

    def test_stems_are_read_block_by_block(self):
        truth, guesses = noise(2, 300_000, 2).astype(np.float32), noise(2, 300_000, 2, seed=1).astype(np.float32)
        lengths = []

        def lazy(waves):
            def read(start, stop):
                lengths.append(stop - start)
                return waves.swapaxes(1, 2)[:, :, start:stop]

            return Stems.lazy(read, ("bass", "vocals"), 2, 300_000)

        found = bss_eval(lazy(truth), lazy(guesses))
        np.testing.assert_array_equal(found, bss_eval(truth, guesses))
        np.testing.assert_array_equal(song_sdr(lazy(truth), lazy(guesses)), song_sdr(truth, guesses))
        assert max(lengths) <= 1 << 18

    def test_stems_by_museval(self):
        truth, guesses = noise(2, 3000, 2).astype(np.float32), noise(2, 3000, 2, seed=1).astype(np.float32)
        stems = [Stems(waves.swapaxes(1, 2), ("bass", "vocals")) for waves in (truth, guesses)]
        np.testing.assert_array_equal(
            bss_eval(*stems, 1000, 1000, backend="museval"), museval(truth, guesses, 1000, 1000)
        )

    def test_workers(self):
        pair = noise(2, 200_000, 1), noise(2, 200_000, 1, seed=1)
        np.testing.assert_allclose(bss_eval(*pair, workers=1), bss_eval(*pair, workers=3), rtol=0, atol=1e-9)


@pytest.mark.slow
class TestDevices:
    @pytest.fixture
    def by_torch(self, monkeypatch):
        monkeypatch.setattr(
            importlib.import_module("stemfuse.analysis.bss_eval.evaluation"),
            "arithmetic_on",
            lambda device, workers: TorchArithmetic("cpu"),
        )

    @pytest.mark.parametrize(
        ("window", "hop"),
        [
            (10_000, 9_000),
            (np.inf, 1),
            *(pytest.param(*pair, marks=pytest.mark.slow) for pair in [(10_000, 10_000), (135_000, 5_000)]),
        ],
    )
    def test_torch_gives_the_same(self, by_torch, window, hop):
        references = noise(2, 140_000, 1)
        check(references, references + noise(2, 140_000, 1, seed=1, scale=0.02), window=window, hop=hop)

    def test_torch_where_rounding_decides(self, by_torch, clip):
        mono = clip[:, :60_000, :1]
        check(mono, separate_badly(mono))

    def test_torch_and_scipy_see_the_same_condition(self):
        references = readable(noise(2, 20_000, 1), "references")
        conditions = [
            CholeskyProjection(references, slice(0, 20_000), arithmetic).condition
            for arithmetic in (TorchArithmetic("cpu"), ProcessorArithmetic())
        ]
        assert conditions[0] == pytest.approx(conditions[1], rel=0.5)

    @pytest.mark.parametrize("make", [lambda: TorchArithmetic("cpu"), ProcessorArithmetic])
    def test_indefinite_matrix(self, make):
        with pytest.raises(NotPositiveDefiniteError):
            make().factor(iter(np.array([[1.0, 2.0], [2.0, 1.0]])), 2)

    @pytest.mark.parametrize("size", [2, 6, 200])
    def test_factor_in_packed_form(self, size):
        half = np.random.default_rng(0).normal(size=(size, size))
        matrix, right = half @ half.T + 0.1 * np.eye(size), half[:, :2]
        arithmetic = ProcessorArithmetic(1)
        factor, condition = arithmetic.factor(iter(matrix), size)
        assert factor.size == size * (size + 1) // 2
        np.testing.assert_allclose(arithmetic.solve(factor, right), np.linalg.solve(matrix, right), rtol=1e-9)
        # an estimate from below of the norm of the inverse, seldom off by more than a factor of three
        assert 0.999 < condition * np.linalg.cond(matrix, 1) < 3

    @pytest.mark.parametrize("device", ["abacus", "cuda:99", "mps"])
    def test_unknown_device(self, device):
        with pytest.raises(DeviceError, match=rf"'{device}' cannot be used .*; expected 'cpu', or 'cuda'"):
            bss_eval(noise(1, 500, 1), noise(1, 500, 1), device=device)

    @pytest.mark.gpu
    def test_cuda(self):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        references = noise(4, 200_000, 2)
        check(references, references + noise(4, 200_000, 2, seed=1, scale=0.02), device="cuda")


class TestBadInput:
    @pytest.mark.parametrize("backend", ["fast", "museval"])
    @pytest.mark.parametrize("shape", [(2, 900, 2), (2, 1100, 2), (1, 1000, 2), (2, 1000, 1)])
    def test_shapes_that_differ(self, backend, shape):
        with pytest.raises(AudioError, match=rf"= \({shape[0]}, {shape[1]}, {shape[2]}\), expected \(2, 1000, 2\)"):
            bss_eval(noise(2, 1000, 2), noise(*shape), backend=backend)

    def test_ragged(self):
        with pytest.raises(AudioError, match=r"got estimates of the shapes \(1000, 2\), \(900, 2\), expected"):
            bss_eval(noise(2, 1000, 2), [noise(1, 1000, 2)[0], noise(1, 900, 2)[0]])

    @pytest.mark.parametrize(
        "array",
        [np.zeros((2, 100)), np.zeros(5), np.zeros((0, 10, 2)), np.zeros((2, 0, 2)), np.zeros((1, 9, 2), complex)],
    )
    def test_no_audio(self, array):
        with pytest.raises(AudioError, match=r"got references of shape .*, expected real numbers"):
            bss_eval(array, array)

    def test_mono_hint(self):
        with pytest.raises(AudioError, match="mono audio needs a channel axis"):
            bss_eval(np.zeros((2, 100)), np.zeros((2, 100)))

    @pytest.mark.parametrize("backend", ["fast", "museval"])
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("role", ["references", "estimates"])
    def test_not_finite(self, backend, bad, role):
        pair = {"references": noise(2, 1000, 2), "estimates": noise(2, 1000, 2, seed=1)}
        pair[role][1, 777, 0] = bad
        with pytest.raises(AudioError, match=rf"{role}: sample 777 of source number 1, channel 0, is {bad}"):
            bss_eval(**pair, backend=backend)
        with pytest.raises(AudioError, match=rf"{role}: sample 777"):
            song_sdr(**pair)

    def test_not_finite_where_rounding_decides(self, clip):
        bad = clip[:, :3000, :1].copy()
        bad[0, 5] = np.nan
        with pytest.raises(AudioError, match="estimates: sample 5 of source number 0"):
            bss_eval(clip[:, :3000, :1], bad)

    def test_too_large(self):
        with pytest.raises(AudioError, match="too large to be squared"):
            bss_eval(noise(1, 1000, 1) * 1e200, noise(1, 1000, 1))

    def test_stems_in_another_order(self):
        signals = {name: ArraySignal(noise(1, 2, 1000, seed=seed)[0]) for seed, name in enumerate(("bass", "drums"))}
        stems = Stems.from_signals(signals)
        turned = Stems.from_signals(dict(reversed(signals.items())))
        with pytest.raises(AudioError, match=r"got estimates of drums, bass, expected bass, drums"):
            bss_eval(stems, turned)

    @pytest.mark.parametrize(("option", "value"), [("backend", "matlab"), ("mode", "v5")])
    def test_unknown_options(self, option, value):
        with pytest.raises(StemfuseError, match=rf"got {option} '{value}', expected one of"):
            bss_eval(noise(1, 1000, 1), noise(1, 1000, 1), **{option: value})
        with pytest.raises(StemfuseError, match="mode 'v5'"):
            bss_eval(noise(1, 1000, 1), noise(1, 1000, 1), mode="v5", backend="museval")


class TestParts:
    def test_correlations_by_definition(self):
        first, second = noise(2, 9000, 1), noise(1, 9000, 2, seed=1)
        pair = readable(first, "references"), readable(second, "estimates")
        found, _ = correlations(*pair, slice(1000, 8500), ProcessorArithmetic())
        x, y = first[:, 1000:8500, 0], second[0, 1000:8500].T
        for lag in (0, 1, 300, 511):
            np.testing.assert_allclose(found[..., lag], x[:, : 7500 - lag] @ y[:, lag:].T, atol=1e-11)

    def test_block_toeplitz_is_the_gram_matrix_of_the_delays(self):
        waves = noise(2, 900, 1)
        lags, _ = correlations(*[readable(waves, "references")] * 2, slice(0, 900), ProcessorArithmetic())
        both = np.concatenate([lags.swapaxes(0, 1)[:, :, :0:-1], lags], axis=2)
        delayed = np.zeros((2, 512, 900 + 511))
        for delay in range(512):
            delayed[:, delay, delay : delay + 900] = waves[:, :, 0]
        rows = delayed.reshape(1024, -1)
        np.testing.assert_allclose(block_toeplitz(both), rows @ rows.T, atol=1e-12)


class TestSongSDR:
    def test_by_definition_over_several_blocks(self):
        truth, guess = noise(2, 600_000, 2), noise(2, 600_000, 2, seed=1)
        energy, error = (truth**2).sum(axis=(1, 2)), ((truth - guess) ** 2).sum(axis=(1, 2))
        np.testing.assert_allclose(song_sdr(truth, guess), 10 * np.log10((energy + 1e-7) / (error + 1e-7)), rtol=1e-12)

    def test_silence_and_perfection_are_finite(self):
        silent, sound = np.zeros((1, 1000, 1)), np.full((1, 1000, 1), 0.1)
        np.testing.assert_allclose(song_sdr(silent, silent), [0])
        np.testing.assert_allclose(song_sdr(sound, sound), [10 * np.log10(10 / 1e-7)], rtol=1e-6)

    def test_shapes(self):
        with pytest.raises(AudioError, match=r"got estimates .*, expected"):
            song_sdr(noise(1, 100, 1), noise(1, 100, 2))
