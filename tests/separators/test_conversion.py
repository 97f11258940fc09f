"""The explicit conversion to another sample rate and to stereo."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from makers.audio import noise32
from stemfuse.separators import ArraySignal, AudioError, BaseSeparator, Track, load_separator, separate_converted
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


@pytest.mark.parametrize(
    ("channels", "wanted", "words"),
    [
        (6, 2, "got 6 channels, expected mono or stereo: mix it down to stereo in an editor first"),
        (3, 2, "got 3 channels, expected mono or stereo: mix it down to stereo in an editor first"),
        (2, 1, "got stereo, expected mono: mix it down to mono in an editor first"),
        (2, 6, "got stereo, expected mono or 6 channels: export it as 6 channels first"),
    ],
)
def test_channels_are_never_mixed_down(channels, wanted, words):
    track = Track.from_arrays("song", noise32(channels, 100))
    with pytest.raises(AudioError, match=words):
        convert(track, channels=wanted)


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (22_050, 2), (44_100, 1), (48_000, 1), (96_000, 2)])
@pytest.mark.parametrize("name", ["centre_channel", "harmonic_percussive"])
def test_stems_of_a_converted_song_have_its_own_form_and_are_what_converting_by_hand_gives(name, rate, channels):
    separator = load_separator(name)
    mixture = ArraySignal(noise32(channels, 2 * rate + 17, scale=0.05), rate)
    stems = separate_converted(separator, mixture)
    assert (stems.rate, stems.channels, stems.length) == (rate, channels, mixture.length)
    there = soxr.resample(mixture.read().T, rate, 44_100, quality="VHQ").T
    made = separator.separate(np.repeat(there, 2 // channels, axis=0), 44_100).audio
    made = made.mean(axis=1, keepdims=True) if channels == 1 else made
    read = np.concatenate([block for _, block in stems.blocks(50_000)], axis=2)
    for source, audio in enumerate(made):
        back = soxr.resample(audio.T, 44_100, rate, quality="VHQ").T
        length = min(back.shape[1], stems.length)
        assert np.abs(read[source] - np.pad(back, ((0, 0), (0, stems.length - length)))[:, : stems.length]).max() < 2e-6


def test_a_mixture_that_fits_is_separated_as_it_is():
    separator, mixture = load_separator("centre_channel"), ArraySignal(noise32(2, 50_000))
    expected = separator.separate(mixture.read(), 44_100).audio
    np.testing.assert_array_equal(separate_converted(separator, mixture).audio, expected)


def test_a_separator_that_streams_is_run_once():
    class Counting(BaseSeparator):
        name = "counting"
        begun = 0

        def _blocks(self, mixture):
            Counting.begun += 1
            for _, block in mixture.blocks(10_000):
                yield np.stack([block] * 4) / 4

    stems = separate_converted(Counting(), ArraySignal(noise32(2, 480_000), 48_000))
    for _ in stems.blocks():
        pass
    assert Counting.begun == 1


def test_other_channels_are_an_error():
    with pytest.raises(AudioError, match="got 6 channels, expected mono or stereo: mix it down"):
        separate_converted(load_separator("centre_channel"), ArraySignal(noise32(6, 1_000)))
