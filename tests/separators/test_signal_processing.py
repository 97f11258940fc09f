"""The separators without weights do what their papers say, on planted sounds and on the real clip."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from makers.audio import clip_streams
from stemfuse.separators import RATE, SOURCES, SeparatorError, load_separator
from stemfuse.separators.classical import masking
from stemfuse.separators.classical.centre_channel import CentreChannel
from stemfuse.separators.classical.harmonic_percussive import HarmonicPercussive
from stemfuse.separators.classical.repet_sim import RepetSim

NAMES = ("harmonic_percussive", "repet_sim", "centre_channel")
DRUMS, BASS, OTHER, VOCALS = range(4)


def band(seconds, *, seed=0):
    """Strokes, a low tone, a wide chord and a gliding tone in the centre: (source, channel, time)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    strokes = np.tile(np.exp(-80 * (time % 0.5)) * rng.normal(0, 0.3, time.size), (2, 1))
    low = np.tile(0.2 * np.sin(2 * np.pi * 82 * time), (2, 1))
    chord = np.stack([0.1 * np.sin(2 * np.pi * hz * time) for hz in (523, 1319)])
    glide = np.tile(0.1 * np.sin(2 * np.pi * 900 * time + 25 * np.sin(2 * np.pi * 3 * time)), (2, 1))
    return np.stack([strokes, low, chord, glide]).astype(np.float32)


def separate(name, mixture, **options):
    return load_separator(name, **options).separate(mixture, RATE).audio


def energy(audio):
    return float(np.sum(np.square(audio, dtype=float)))


@pytest.fixture(scope="module")
def clip():
    """Mixture and references of the clip that stempeg packages, whole seconds: (5, channel, time)."""
    return np.stack(clip_streams(*range(5)))[:, :, : 6 * RATE]


@pytest.fixture(scope="module")
def clip_stems(clip):
    return {name: separate(name, clip[0]) for name in NAMES}


def sdr_db(reference, estimate):
    """Median over frames of one second, per source."""
    frames = [np.asarray(audio, float).reshape(4, 2, -1, RATE) for audio in (reference, estimate)]
    noise = np.square(frames[0] - frames[1]).sum(axis=(1, 3))
    return np.median(10 * np.log10(np.square(frames[0]).sum(axis=(1, 3)) / noise), axis=1)


@pytest.mark.parametrize("name", NAMES)
def test_stems_of_real_music_sum_to_the_mixture(clip, clip_stems, name):
    assert np.abs(clip_stems[name].sum(axis=0) - clip[0]).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "at_least_db"),
    # a little below what was measured; a quarter of the mixture has 1.5, 1.7, 0.9, 0.9
    [
        ("harmonic_percussive", (7.0, 3.1, 0.6, 3.9)),
        ("repet_sim", (6.2, 3.2, 1.7, 2.5)),
        ("centre_channel", (4.9, 3.0, 2.6, -0.4)),
    ],
)
def test_quality_on_real_music(clip, clip_stems, name, at_least_db):
    reached = sdr_db(clip[1:], clip_stems[name])
    assert (reached > at_least_db).all(), dict(zip(SOURCES, reached.round(2), strict=True))
    quarter = sdr_db(clip[1:], np.stack([clip[0] / 4] * 4))
    assert reached.mean() > quarter.mean() + 1.0


def test_errors_are_complementary_on_real_music(clip, clip_stems):
    reached = np.stack([sdr_db(clip[1:], clip_stems[name]) for name in NAMES])
    assert set(reached.argmax(axis=0)) == {0, 1, 2}, reached.round(2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 2, 100, 4097])
def test_any_length(name, length):
    mixture = band(0.1)[:, :, :length].sum(axis=0)
    stems = separate(name, mixture)
    assert stems.shape == (4, 2, length)
    assert np.abs(stems.sum(axis=0) - mixture).max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_silence_stays_silent(name):
    assert not separate(name, np.zeros((2, 9_001), np.float32)).any()


@pytest.mark.parametrize("name", NAMES)
def test_silence_within_a_song(name):
    mixture = band(3.0).sum(axis=0)
    mixture[:, RATE : 2 * RATE] = 0
    stems = separate(name, mixture)
    assert np.isfinite(stems).all()
    assert np.abs(stems.sum(axis=0) - mixture).max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_one_side_alone_stays_on_its_side(name):
    mixture = band(1.0).sum(axis=0)
    mixture[1] = 0
    stems = separate(name, mixture)
    assert np.isfinite(stems).all()
    assert not stems[:, 1].any()


@pytest.mark.parametrize("name", NAMES)
def test_opposite_channels_stay_opposite(name):
    left = band(1.0).sum(axis=(0, 1))
    stems = separate(name, np.stack([left, -left]))
    np.testing.assert_array_equal(stems[:, 0], -stems[:, 1])
    assert energy(stems) > 0


@pytest.mark.parametrize("name", NAMES)
def test_swapped_channels_give_swapped_stems(name):
    mixture = band(1.0).sum(axis=0)
    np.testing.assert_allclose(separate(name, mixture[::-1]), separate(name, mixture)[:, ::-1], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gain", [2.0**-20, 2.0**10])
def test_loudness_does_not_matter(name, gain):
    mixture = band(1.0).sum(axis=0)
    stems = separate(name, (gain * mixture).astype(np.float32)) / gain
    np.testing.assert_allclose(stems, separate(name, mixture), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_leave_no_trace(name, monkeypatch):
    mixture = band(2.0).sum(axis=0)
    whole = separate(name, mixture)
    monkeypatch.setattr(masking, "MASK_BLOCK", 30_000)
    np.testing.assert_allclose(separate(name, mixture), whole, atol=1e-6)


@pytest.mark.parametrize(("frames", "bins"), [(17, 9), (9, 13), (31, 31)])
def test_percussive_mask_is_librosas(frames, bins):
    magnitude = np.abs(masking.transform(1024, 256).stft(band(0.5).sum(axis=(0, 1))))
    magnitude[:, 40:60] = 0
    expected = librosa.decompose.hpss(magnitude, kernel_size=(frames, bins), mask=True)[1]
    np.testing.assert_allclose(masking.percussive_mask(magnitude, frames, bins), expected, atol=1e-9)


def test_remainder_is_one_minus_the_masks():
    noise = np.random.default_rng(1).normal(size=(2, 5_000)).astype(np.float32)
    (parts,) = masking.apply_masks(
        [noise[None]], 5_000, lambda spectrum, first: [np.full(spectrum.shape[1:], 0.3), np.array(0.2)], 512, 128
    )
    np.testing.assert_allclose(parts, np.array([0.3, 0.2, 0.5])[:, None, None] * noise, atol=1e-6)


def test_masks_get_the_number_of_their_first_frame():
    """A mask that opens for one frame alone lets a window of sound through, around that frame's sample."""
    noise = np.random.default_rng(2).normal(size=(2, 40_000)).astype(np.float32)

    def masks(spectrum, first):
        return [(np.arange(first, first + spectrum.shape[2]) == 100).astype(float)]

    ((opened, _),) = masking.apply_masks([noise[None]], 40_000, masks, 1024, 256)
    open_at = np.flatnonzero(np.abs(opened).sum(axis=0))
    assert 100 * 256 - 512 <= open_at[0] <= open_at[-1] < 100 * 256 + 512
    assert open_at.size > 900


def test_crossover_halves_at_its_frequency_and_falls_by_48_db_per_octave():
    mask = masking.below(250.0, RATE)[:, 0]
    assert mask[250] == 0.5
    np.testing.assert_allclose(20 * np.log10(mask[4_000] / mask[2_000]), -48, atol=0.2)


def test_strokes_low_and_held_tones_are_separated():
    strokes, low, chord, _ = references = band(4.0)
    stems = separate("harmonic_percussive", references[:3].sum(axis=0))
    inner = np.s_[:, RATE : 3 * RATE]
    for source, truth in ((DRUMS, strokes), (BASS, low), (OTHER, chord)):
        assert energy(stems[source][inner] - truth[inner]) < 0.1 * energy(truth[inner]), SOURCES[source]


def test_a_gliding_voice_is_found_between_two_windows():
    references = band(4.0)
    stems = separate("harmonic_percussive", references[2:].sum(axis=0))
    inner = np.s_[VOCALS, :, RATE : 3 * RATE]
    assert energy(stems[inner] - references[inner]) < 0.3 * energy(references[inner])
    # through a window as short as the second one, a glide is held: nothing is left to find
    one = separate("harmonic_percussive", references[2:].sum(axis=0), window=1024)
    assert energy(one[VOCALS]) < 0.2 * energy(references[VOCALS])


@pytest.fixture(scope="module")
def loop():
    """Half a second of noise, whose length is no multiple of a hop."""
    return np.random.default_rng(3).normal(0, 0.1, (2, 22_050)).astype(np.float32)


def once(loop, times, at):
    """A loop, and a tone that sounds during one of its turns: mixture, tone."""
    tone = np.zeros((2, 22_050 * times), np.float32)
    tone[:, 22_050 * at : 22_050 * (at + 1)] = 0.3 * np.sin(2 * np.pi * 1_000 * np.arange(22_050) / RATE)
    return np.tile(loop, times) + tone, tone


def test_what_sounds_once_over_a_loop_is_the_voice(loop):
    mixture, tone = once(loop, 10, 4)
    vocals = separate("repet_sim", mixture)[VOCALS]
    assert energy(vocals - tone) < 0.2 * energy(tone)


def test_repetition_beyond_reach_is_not_found():
    """A siren comes back after two seconds: part of the accompaniment only if that is within reach."""
    siren = 0.1 * np.sin(2 * np.pi * np.cumsum(np.linspace(500, 8_000, 2 * RATE)) / RATE)
    mixture = np.tile(siren, (2, 3)).astype(np.float32)
    near, far = (separate("repet_sim", mixture, neighbours=3, reach_s=s)[VOCALS] for s in (120.0, 1.5))
    assert energy(near) < 0.05 * energy(mixture)
    assert energy(far) > 0.3 * energy(mixture)


def test_voice_stays_above_the_crossover(loop):
    tone = 0.3 * np.sin(2 * np.pi * 60 * np.arange(22_050) / RATE)
    mixture = np.tile(loop, 6)
    mixture[:, 66_150:88_200] += tone.astype(np.float32)
    low = np.abs(np.fft.rfft(separate("repet_sim", mixture)[VOCALS][0]))[: 150 * 3]
    assert energy(low) < 1e-3 * energy(np.abs(np.fft.rfft(mixture[0]))[: 150 * 3])


def test_centre_is_separated_from_the_sides():
    references = band(2.0)
    stems = separate("centre_channel", references[1:].sum(axis=0))
    for source in (BASS, OTHER):
        assert energy(stems[source] - references[source]) < 0.1 * energy(references[source]), SOURCES[source]
    held = 0.1 * np.sin(2 * np.pi * 900 * np.arange(2 * RATE) / RATE)
    centred = references[OTHER] + held.astype(np.float32)
    vocals = separate("centre_channel", centred)[VOCALS]
    assert energy(vocals - held) < 0.05 * 2 * energy(held)


def test_selectivity_narrows_the_centre():
    left = 0.1 * np.sin(2 * np.pi * 900 * np.arange(RATE) / RATE)
    panned = np.stack([left, 0.5 * left]).astype(np.float32)
    wide, narrow = (energy(separate("centre_channel", panned, selectivity=s)[VOCALS]) for s in (1.0, 8.0))
    # the similarity of channels at 1 and 0.5 is 0.8
    assert narrow / wide == pytest.approx(0.8**14, rel=0.05)


@pytest.mark.parametrize("made", [HarmonicPercussive, RepetSim, CentreChannel])
def test_options_are_kept_and_part_of_the_identity(made):
    standard, other = made(), made(crossover_hz=120.0)
    assert other.options()["crossover_hz"] == 120.0
    assert standard.fingerprint() == made().fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("harmonic_percussive", {"crossover_hz": 0.0}, "crossover of 0.0 Hz"),
        ("repet_sim", {"crossover_hz": 30_000.0}, "less than 22050"),
        ("centre_channel", {"crossover_hz": float("nan")}, "crossover of nan Hz"),
        ("harmonic_percussive", {"window": 1023}, "window of 1023"),
        ("harmonic_percussive", {"voice_window": 0}, "window of 0"),
        ("repet_sim", {"neighbours": 0}, "neighbours=0"),
        ("repet_sim", {"distance_s": -1.0}, "distance_s=-1.0"),
        ("centre_channel", {"selectivity": 0.0}, "selectivity of 0.0"),
    ],
)
def test_impossible_options_are_refused(name, options, words):
    with pytest.raises(SeparatorError, match=words):
        load_separator(name, **options)
