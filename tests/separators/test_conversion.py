"""The explicit conversion to another sample rate and to stereo."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from makers.audio import noise32
from stemfuse.separators import ArraySignal, AudioError, Track
from stemfuse.separators.conversion import CONVERT_BLOCK, ConvertedSignal, convert


@pytest.mark.parametrize(
    ("rate", "tolerance"), [(48_000, 0), (96_000, 0), (22_050, 0), (88_200, 3e-8), (8_000, 6e-8), (44_056, 1e-5)]
)
def test_reading_by_range_is_the_conversion_of_the_whole(rate, tolerance):
    samples = noise32(2, 5 * rate + 321)
    whole = soxr.resample(samples.T, rate, 44_100, quality="VHQ").T
    signal = ConvertedSignal(ArraySignal(samples, rate))
    assert (signal.rate, signal.length) == (44_100, whole.shape[1])
    read = signal.read()
    assert np.abs(read - whole).max() <= tolerance
    for start, stop in (
        (0, 10),
        (CONVERT_BLOCK - 3, CONVERT_BLOCK + 3),
        (100_000, 200_001),
        (signal.length - 5, signal.length),
        (7, 7),
    ):
        np.testing.assert_array_equal(signal.read(start, stop), read[:, start:stop])
    np.testing.assert_array_equal(np.concatenate([part for _, part in signal.blocks(9_999)], axis=1), read)


@pytest.mark.parametrize("length", [1, 2, 147, 160, 1_000, CONVERT_BLOCK * 160 // 147 + 1])
def test_lengths_are_those_of_soxr(length):
    samples = noise32(1, length)
    whole = soxr.resample(samples.T, 48_000, 44_100, quality="VHQ").T
    np.testing.assert_array_equal(ConvertedSignal(ArraySignal(samples, 48_000), channels=1).read(), whole)


def test_a_tone_keeps_its_pitch_and_place():
    time_s = np.arange(48_000 * 2) / 48_000
    tone = np.sin(2 * np.pi * 1_000 * time_s)[None]
    read = ConvertedSignal(ArraySignal(tone, 48_000), channels=1).read()
    expected = np.sin(2 * np.pi * 1_000 * np.arange(44_100 * 2) / 44_100)
    assert np.abs(read[0] - expected)[2_000:-2_000].max() < 1e-6


def test_mono_becomes_two_equal_channels():
    samples = noise32(1, 1_000)
    np.testing.assert_array_equal(ConvertedSignal(ArraySignal(samples)).read(3, 900), samples[[0, 0], 3:900])


def test_a_track_is_converted_with_all_its_parts_and_noted():
    references = np.stack([noise32(1, 48_000, seed=seed) for seed in range(4)])
    track = Track.from_arrays("song", references.sum(0), references, {"some": references / 2}, rate=48_000)
    converted = convert(track)
    assert (converted.rate, converted.channels, converted.length) == (44_100, 2, 44_100)
    assert converted.notes == ("resampled from 48000 to 44100 Hz", "1 channel copied to 2")
    audio = converted.required_references().audio
    assert audio.shape == (4, 2, 44_100)
    assert np.abs(audio.sum(0) - converted.mixture.read()).max() < 1e-6, "converting is linear"
    assert np.abs(converted.stems["some"].audio - audio / 2).max() < 1e-7
    assert (track.rate, track.channels, track.notes) == (48_000, 1, ())


def test_what_fits_already_stays_the_same_track():
    track = Track.from_arrays("song", noise32(2, 100))
    assert convert(track) is track


@pytest.mark.parametrize(("channels", "wanted"), [(6, 2), (2, 1)])
def test_channels_are_never_mixed_down(channels, wanted):
    track = Track.from_arrays("song", noise32(channels, 100))
    with pytest.raises(AudioError, match=rf"got {channels} channels, expected 1( or {wanted})?: mix it down"):
        convert(track, channels=wanted)
