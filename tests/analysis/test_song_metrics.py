"""Whole-song metrics against slow computations by other means, planted cases and silence."""

from __future__ import annotations

import math
import tracemalloc

import librosa
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from makers.audio import noise
from makers.places import CLIP
from stemfuse.analysis.errors import ScoreError
from stemfuse.analysis.song_metrics import SONG_METRICS, _mel_bands, song_metrics
from stemfuse.analysis.tracks import score_track
from stemfuse.separators import ArraySignal, AudioError, ContainerSignal, Stems, Track


@pytest.fixture(scope="module")
def music():
    """Real references, longer than one block of samples and of spectra; estimates with bleed and missing parts."""
    mixture, *stems = (signal.read().T.astype(np.float64) for signal in ContainerSignal.all_streams(CLIP))
    references = np.stack(stems)
    return references, 0.7 * references + 0.1 * mixture + 0.1 * np.roll(references, 3, axis=1)


@pytest.mark.parametrize("metric", SONG_METRICS)
def test_silent_references_have_no_value_in_tables(metric):
    references = noise(3, 2, 44_100)
    references[1] = 0
    track = Track("song", ArraySignal(references.sum(0)), references=Stems(references, ("bass", "drums", "vocals")))
    estimates = Stems(references + noise(3, 2, 44_100, seed=1, scale=0.01), ("bass", "drums", "vocals"))
    scores = score_track(track, {"a": estimates}, metrics=[metric]).query("metric == @metric").set_index("source")
    assert scores["value"].isna().to_dict() == {"bass": False, "drums": True, "vocals": False}


def si_sdr(references, estimates):
    return song_metrics(references, estimates, metrics=["SI_SDR"])["SI_SDR"]


def bleedless_fullness(references, estimates, rate=44_100):
    return tuple(song_metrics(references, estimates, rate, ["bleedless", "fullness"]).values())


def l1_frequency(references, estimates):
    return song_metrics(references, estimates, metrics=["L1_frequency"])["L1_frequency"]


def slow_spectrum(samples, window, hop, padding):
    """Magnitudes (bin, frame) by SciPy, which divides by the window's sum."""
    half = len(window) // 2
    padded = np.pad(samples, half, mode=padding)
    *_, spectrum = scipy.signal.stft(
        padded, window=window, nperseg=2 * half, noverlap=2 * half - hop, boundary=None, padded=False
    )
    return np.abs(spectrum) * window.sum()


def slow_mel_bands(rate):
    """Slaney's mel bands from their formula: linear to 1 kHz, then 27 steps for a factor of 6.4."""

    def hertz(mel):
        return 200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * math.log(rate / 2 / 1000, 6.4)
    edges = [hertz(top * step / 513) for step in range(514)]
    bins = np.arange(2049) * rate / 4096
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
        yield np.clip(np.minimum(rising, falling), 0, None) * 2 / (high - low)


def slow_bleedless_fullness(reference, estimate, rate):
    levels = []
    for audio in (reference, estimate):
        spectra = [
            slow_spectrum(samples, scipy.signal.get_window("hann", 4096), 1024, "constant") for samples in audio.T
        ]
        bands = [[weights @ spectrum for weights in slow_mel_bands(rate)] for spectrum in spectra]
        decibels = 20 * np.log10(np.clip(bands, 1e-10, None))
        levels.append(np.clip(decibels, decibels.max() - 80, None).ravel().tolist())
    differences = [estimated - true for true, estimated in zip(*levels, strict=True)]
    bleed = [difference for difference in differences if difference > 0] or [0]
    loss = [-difference for difference in differences if difference < 0] or [0]
    return 100 / (1 + sum(bleed) / len(bleed)), 100 / (1 + sum(loss) / len(loss))


@pytest.mark.parametrize("rate", [1500, 8000, 22_050, 44_100, 48_000, 96_000])
def test_mel_bands_are_librosas(rate):
    expected = librosa.filters.mel(sr=rate, n_fft=4096, n_mels=512, dtype=np.float64)
    assert np.abs(_mel_bands(rate).toarray() - expected).max() <= 1e-12 * expected.max()


class TestScaleInvariantSDR:
    def test_equals_a_least_squares_projection(self, music):
        references, estimates = music
        for value, reference, estimate in zip(si_sdr(*music), references, estimates, strict=True):
            (gain,), *_ = np.linalg.lstsq(reference.reshape(-1, 1), estimate.ravel())
            target = gain * reference
            assert value == pytest.approx(20 * np.log10(np.linalg.norm(target) / np.linalg.norm(target - estimate)))

    @pytest.mark.parametrize("planted_db", [-30.0, 0.0, 12.5, 140.0])
    @pytest.mark.parametrize("gain", [1.0, -0.01, 30.0])
    def test_planted_orthogonal_error(self, planted_db, gain):
        time = 2 * np.pi * np.arange(1000)[:, None] / 1000
        reference, error = np.sin(3 * time) * [1, 0.5], np.sin(7 * time) * [0.5, -1]
        estimate = gain * (reference + 10 ** (-planted_db / 20) * error)
        assert si_sdr(reference[None], estimate[None]) == pytest.approx([planted_db], abs=1e-6)

    def test_channels_share_one_gain(self):
        reference = noise(1, 1000, 2)
        reference[..., 1] = reference[..., 0]
        # gains 1 and 0: the common one is 1/2, the error as large as the target
        assert si_sdr(reference, reference * [1, 0]) == pytest.approx([0.0])

    def test_singular_cases(self):
        sound = noise(100, 1)
        silence, other = np.zeros_like(sound), np.zeros_like(sound)
        sound[50:], other[50:] = 0, 0.1
        references = np.stack([sound, sound, silence, silence, sound])
        estimates = np.stack([0.5 * sound, other, sound, silence, silence])
        assert si_sdr(references, estimates).tolist() == pytest.approx(
            [np.inf, -np.inf, np.nan, np.nan, np.nan], nan_ok=True
        )


class TestBleedlessFullness:
    @pytest.mark.parametrize("rate", [44_100, 32_000])
    def test_equals_a_slow_loop_on_music(self, music, rate):
        bleedless, fullness = bleedless_fullness(*music, rate)
        for source in (0, 3):
            slow = slow_bleedless_fullness(music[0][source], music[1][source], rate)
            assert (bleedless[source], fullness[source]) == pytest.approx(slow, rel=1e-9)

    @pytest.mark.parametrize("gain_db", [0.25, 6.0, 40.0])
    def test_planted_gain_counts_everywhere_even_in_pauses(self, gain_db):
        quiet = noise(1, 20_000, 2)
        quiet[:, 9_000:] = 0
        loud = 10 ** (gain_db / 20) * quiet
        expected = pytest.approx([100 / (1 + gain_db)], rel=1e-9)
        assert bleedless_fullness(quiet, loud) == (expected, [100])
        assert bleedless_fullness(loud, quiet) == ([100], expected)

    def test_bleed_lowers_bleedless_alone_and_loss_lowers_fullness_alone(self):
        clean, bleed = noise(1, 40_000, 2), np.zeros((1, 40_000, 2))
        clean[:, 15_000:] = 0
        bleed[:, 20_000:35_000] = noise(1, 15_000, 2, seed=1)
        dirty = [clean + level * bleed for level in (0.0, 0.001, 0.01, 0.1)]
        bleedless, fullness = np.array([bleedless_fullness(clean, estimate) for estimate in dirty]).squeeze().T
        assert bleedless[0] == 100
        assert (np.diff(bleedless) < -1).all()
        assert (fullness == 100).all()
        # the reference has what is missing in the estimate
        bleedless, fullness = np.array([bleedless_fullness(reference, clean) for reference in dirty]).squeeze().T
        assert (np.diff(fullness) < -1).all()
        assert (bleedless == 100).all()

    def test_levels_80_db_below_the_loudest_channel_do_not_count(self):
        reference = noise(1, 10_000, 2)
        reference[..., 1] *= 1e-7
        louder, audible = reference * [1, 10], reference * [1, 1e6]
        assert bleedless_fullness(reference, louder) == ([100], [100])
        assert bleedless_fullness(reference, audible)[0] < 10
        assert bleedless_fullness(reference[..., 1:], louder[..., 1:])[0] == pytest.approx([100 / 21])

    def test_silence(self):
        sound, silence = noise(1, 10_000, 2), np.zeros((1, 10_000, 2))
        assert bleedless_fullness(silence, silence) == ([100], [100])
        bleedless, fullness = bleedless_fullness(silence, sound)
        assert (bleedless, fullness) == pytest.approx(slow_bleedless_fullness(silence[0], sound[0], 44_100))
        assert bleedless < 2
        assert bleedless_fullness(sound, silence) == (fullness, bleedless)

    def test_a_song_needs_little_memory(self):
        seconds = 30
        references, estimates = noise(2, 1, seconds * 44_100, 2).astype(np.float32)
        tracemalloc.start()
        try:
            bleedless_fullness(references, estimates)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # levels of both signals, an eighth of their spectra, and one block
        levels = 2 * 2 * 512 * (seconds * 44_100 // 1024) * 8
        assert peak < 1.3 * levels + 60e6


class TestL1Frequency:
    def test_equals_a_slow_loop_on_music(self, music):
        for value, reference, estimate in zip(l1_frequency(*music), *music, strict=True):
            true, estimated = (
                np.array([slow_spectrum(samples, np.ones(2048), 1024, "reflect") for samples in audio.T])
                for audio in (reference, estimate)
            )
            assert value == pytest.approx(100 / (1 + 10 * np.mean(np.abs(true - estimated))), rel=1e-9)

    def test_polarity_and_silence_are_perfect(self):
        sound = noise(2, 5_000, 2)
        assert l1_frequency(sound, -sound).tolist() == [100, 100]
        assert l1_frequency(0 * sound, 0 * sound).tolist() == [100, 100]
        assert (l1_frequency(0 * sound, sound) < 50).all()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5_000), st.integers(1, 3)),
    level=st.sampled_from([0.0, 1e-12, 1e-3, 1.0]),
    precision=st.sampled_from([np.float32, np.float64]),
)
def test_any_length_any_level(shape, level, precision):
    references, estimates = (noise(*shape, seed=seed).astype(precision) for seed in (0, 1))
    estimates *= precision(level)
    values = song_metrics(references, estimates)
    swapped = song_metrics(estimates, references)
    assert list(values) == list(SONG_METRICS)
    assert {array.shape for array in values.values()} == {shape[:1]}
    assert {array.dtype for array in values.values()} == {np.dtype(np.float64)}
    for name in ("bleedless", "fullness", "L1_frequency"):
        assert ((values[name] > 0) & (values[name] <= 100)).all()
    assert values["bleedless"].tolist() == swapped["fullness"].tolist()
    assert np.isnan(values["SI_SDR"]).all() == (level == 0)


class TestSongMetrics:
    def test_gives_what_was_asked_for_in_that_order(self, music):
        references, estimates = (audio[:, :20_000] for audio in music)
        everything = song_metrics(references, estimates, 32_000)
        names = ["fullness", "L1_frequency", "SI_SDR"]
        some = song_metrics(references, estimates, 32_000, names)
        assert list(some) == names
        assert [some[name].tolist() for name in names] == [everything[name].tolist() for name in names]
        assert song_metrics(references, estimates, metrics=[]) == {}

    def test_every_source_is_on_its_own(self, music):
        references, estimates = (audio[:, :20_000] for audio in music)
        together = song_metrics(references, estimates)
        alone = song_metrics(references[2:3], estimates[2:3])
        assert {name: values.tolist() for name, values in alone.items()} == {
            name: values[2:3].tolist() for name, values in together.items()
        }

    @pytest.mark.parametrize("rate", [44_100, 22_050])
    def test_stems_are_read_source_by_source_at_their_own_rate(self, music, rate):
        arrays = [audio[:3, :20_000].astype(np.float32) for audio in music]
        stems = [Stems(array.transpose(0, 2, 1), ("c", "a", "b"), rate) for array in arrays]
        files = [Stems.from_signals({source: each[source] for source in each.sources}) for each in stems]
        expected = song_metrics(*arrays, rate)
        for pair in (stems, files):
            values = song_metrics(*pair)
            for name in SONG_METRICS:
                assert values[name] == pytest.approx(expected[name], rel=1e-9)
        with pytest.raises(AudioError, match="got estimates of a, b, c, expected c, a, b"):
            song_metrics(stems[0], stems[1].select(["a", "b", "c"]))

    def test_unknown_name(self):
        with pytest.raises(ScoreError, match="got metric 'SDR', expected some of SI_SDR, bleedless, fullness"):
            song_metrics(noise(1, 10, 1), noise(1, 10, 1), metrics=["bleedless", "SDR"])

    @pytest.mark.parametrize(
        ("references", "estimates"),
        [((2, 100, 2), (2, 99, 2)), ((2, 100, 2), (1, 100, 2)), ((100, 2), (100, 2)), ((2, 0, 2), (2, 0, 2))],
    )
    def test_shapes_that_do_not_fit(self, references, estimates):
        with pytest.raises(AudioError, match="expected"):
            song_metrics(np.zeros(references), np.zeros(estimates))

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("name", SONG_METRICS)
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_samples_that_are_no_number(self, name, value):
        sound, broken = noise(2, 100, 2), noise(2, 100, 2)
        broken[1, 7, 0], broken[1, 8, 0] = value, -value
        with pytest.raises(AudioError, match=f"estimates: sample 7 of source number 1, channel 0, is {value}"):
            song_metrics(sound, broken, metrics=[name])
        with pytest.raises(AudioError, match="references: sample 7"):
            song_metrics(broken, sound, metrics=[name])
