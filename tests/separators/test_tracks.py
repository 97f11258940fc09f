"""Opening one track: what is mended by a written rule, and every bad input that reading meets."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile as sf

from makers.audio import LENGTH, sources, write_track
from stemfuse.experiments.data.tracks import open_song
from stemfuse.separators import SOURCES, ArraySignal, AudioError, Stems, Track, TrackError


def test_a_stem_file_with_missing_streams_is_an_error(tmp_path):
    import av

    path = tmp_path / "song.stem.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(TrackError, match=r"track 'song': .*1 audio streams, expected 5 \(mixture, drums"):
        open_song(path)


# tracks that cannot be used, or only by a written rule


def test_a_missing_mixture_is_an_error_or_on_demand_the_sum(tmp_path):
    audio = write_track(tmp_path / "song", parts=SOURCES)
    with pytest.raises(TrackError, match=r"track 'song': .*no mixture.*set mixture to sum"):
        open_song(tmp_path / "song")
    track = open_song(tmp_path / "song", mixture="sum")
    np.testing.assert_array_equal(track.mixture.read(7, 1_000), audio.sum(0)[:, 7:1_000])
    assert track.notes == ("the mixture is the sum of the sources",)


def test_the_sum_is_as_long_as_the_longest_source(tmp_path):
    audio = write_track(tmp_path / "song", parts=SOURCES)
    sf.write(tmp_path / "song" / "bass.wav", audio[1, :, :-40].T, 44_100)
    track = open_song(tmp_path / "song", mixture="sum")
    audio[1, :, -40:] = 0
    np.testing.assert_array_equal(track.mixture.read(), audio.sum(0))
    assert "40 zeros added" in track.notes[0]


@pytest.mark.parametrize(
    ("excess", "done"), [(-1, "1 zeros added"), (-2048, "2048 zeros added"), (500, "500 samples cut")]
)
def test_stems_of_about_the_length_of_the_mixture_are_mended_with_a_note(excess, done, tmp_path):
    audio = write_track(tmp_path / "song")
    longer = np.pad(audio[3], ((0, 0), (0, 600)), mode="edge")[:, : LENGTH + excess]
    sf.write(tmp_path / "song" / "vocals.wav", longer.T, 44_100)
    track = open_song(tmp_path / "song")
    vocals = track.required_references()["vocals"].read()
    kept = min(LENGTH, LENGTH + excess)
    np.testing.assert_array_equal(vocals[:, :kept], audio[3, :, :kept])
    assert vocals.shape == (2, LENGTH)
    assert not vocals[:, kept:].any()
    assert len(track.notes) == 1
    assert "vocals.wav" in track.notes[0]
    assert done in track.notes[0]


def spoil_with_samples(part, samples, rate=44_100, suffix=".wav"):
    return lambda folder: sf.write(folder / f"{part}{suffix}", samples, rate)


BAD_TRACKS = {
    "a stem too short": (
        spoil_with_samples("vocals", np.zeros((LENGTH - 2049, 2))),
        r"vocals\.wav: got 952 samples, expected 3001 as in its mixture",
    ),
    "a stem too long": (
        spoil_with_samples("vocals", np.zeros((LENGTH + 2049, 2))),
        r"vocals\.wav: got 5050 samples, expected 3001 as in its mixture",
    ),
    "a stem at another rate": (
        spoil_with_samples("bass", np.zeros((LENGTH, 2)), 48_000),
        r"bass\.wav: got 48000 Hz, .*mixture\.wav has 44100",
    ),
    "a mono stem": (
        spoil_with_samples("other", np.zeros(LENGTH)),
        r"other\.wav: got 1 channels, .*mixture\.wav has 2",
    ),
    "a stem of no samples": (
        spoil_with_samples("drums", np.zeros((0, 2))),
        r"drums\.wav: the file has no samples",
    ),
    "an empty file": (
        lambda folder: (folder / "drums.wav").write_bytes(b""),
        r"drums\.wav: 0 bytes that are not readable audio",
    ),
    "text called wav": (
        lambda folder: (folder / "mixture.wav").write_text("la la la " * 99),
        r"mixture\.wav: 891 bytes that are not readable audio",
    ),
    "a missing stem": (
        lambda folder: (folder / "bass.wav").unlink(),
        r"no bass, only mixture, drums, other, vocals, and the mixture is not their sum; expected all",
    ),
    "two files of a stem": (
        spoil_with_samples("bass", np.zeros((LENGTH, 2)), suffix=".flac"),
        r"2 files of bass \(bass\.flac, bass\.wav\), expected one",
    ),
}


@pytest.mark.parametrize("what", BAD_TRACKS)
def test_a_bad_track_is_an_error_that_names_track_and_file(what, tmp_path):
    spoil, message = BAD_TRACKS[what]
    write_track(tmp_path / "Some Song")
    spoil(tmp_path / "Some Song")
    with pytest.raises(TrackError, match=rf"track 'Some Song': .*{message}"):
        open_song(tmp_path / "Some Song")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".m4a", ".stem.mp4"])
def test_a_song_that_is_no_audio_is_an_error(suffix, tmp_path):
    (tmp_path / f"x{suffix}").write_text("This is a letter.\n" * 40)
    with pytest.raises(TrackError, match=rf"track 'x': .*x{suffix}"):
        open_song(tmp_path / f"x{suffix}")


@pytest.mark.parametrize(("name", "subtype", "container"), [
    ("a.wav", "PCM_16", "WAV"), ("a.wav", "FLOAT", "WAV"), ("a.wav", "PCM_24", "WAVEX"), ("a.wav", "PCM_16", "RF64"),
    ("a.wav", "PCM_U8", "WAV"), ("a.aiff", "PCM_24", "AIFF"),
])  # fmt: skip
@pytest.mark.parametrize("lost", [0.01, 0.5, 0.95])
def test_a_truncated_file_is_found_when_it_is_opened(name, subtype, container, lost, tmp_path):
    path = tmp_path / name
    sf.write(path, sources()[0].T, 44_100, subtype=subtype, format=container)
    whole = path.read_bytes()
    assert open_song(path).length == LENGTH
    path.write_bytes(whole[: -int(lost * LENGTH * 2)])
    with pytest.raises(TrackError, match=r"track 'a': .*promises \d+ bytes of samples more than the file has"):
        open_song(path)


def test_a_truncated_flac_is_found_when_it_is_read(tmp_path):
    path = tmp_path / "a.flac"
    sf.write(path, sources(50_000)[0].T, 44_100)
    path.write_bytes(path.read_bytes()[:-50_000])
    with pytest.raises(AudioError, match=r"a\.flac: .*export"):
        open_song(path).mixture.read()


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_that_was_written_into_a_pipe_is_whole(size, tmp_path):
    samples = sources()[0]
    path = tmp_path / "piped.wav"
    sf.write(path, samples.T, 44_100, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    np.testing.assert_array_equal(open_song(path).mixture.read(), samples)


# music as it is


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_an_error_where_it_lies(value, tmp_path):
    audio = sources()
    audio[1, 1, 1_234] = value
    write_track(tmp_path / "song", audio, subtype="FLOAT")
    track = open_song(tmp_path / "song")
    assert track.required_references().read(0, 1_234).shape == (4, 2, 1_234)
    with pytest.raises(AudioError, match=rf"bass\.wav: sample 1234 of channel 1 is {value}"):
        track.required_references().read(1_000, 2_000)
    with pytest.raises(AudioError, match=r"mixture\.wav: sample 1234"):
        track.mixture_sha256()


def test_silence_mono_48_khz_and_8_bits_are_read_as_they_are(tmp_path):
    write_track(tmp_path / "silence", np.zeros((4, 2, 99)))
    assert not open_song(tmp_path / "silence").required_references().audio.any()
    audio = write_track(tmp_path / "mono", sources(channels=1), rate=48_000)
    track = open_song(tmp_path / "mono")
    assert (track.channels, track.rate, track.length) == (1, 48_000, LENGTH)
    np.testing.assert_array_equal(track.required_references().audio, audio)
    audio = write_track(tmp_path / "coarse", subtype="PCM_U8")
    assert np.abs(open_song(tmp_path / "coarse").required_references().audio - audio).max() <= 2**-7
    write_track(tmp_path / "one sample", sources(1))
    assert open_song(tmp_path / "one sample").mixture.read().shape == (2, 1)


class Tensor:
    """What is no array but can become one."""

    def __array__(self, *_, **__):
        return np.zeros((4, 2, 100), np.float32)


ARRAY = np.zeros((4, 2, 100), np.float32)
MIXTURE = ArraySignal(ARRAY.sum(0))
WITHOUT = Track("song", MIXTURE)


@pytest.mark.parametrize("given", [ARRAY, [ARRAY], None, Stems(ARRAY)])
@pytest.mark.parametrize("call", [WITHOUT.with_stems, lambda given: Track("song", MIXTURE, stems=given)])
def test_stems_without_a_separator_are_refused_in_words(call, given):
    with pytest.raises(TrackError, match=r"^track 'song': got stems of type \w+, expected \{separator: Stems\(array, "):
        call(given)


@pytest.mark.parametrize("given", [ARRAY, Tensor(), [1.0], {"vocals": ARRAY[0]}, None, MIXTURE])
def test_arrays_of_any_form_in_place_of_stems_are_refused_in_words(given):
    with pytest.raises(TrackError, match=r"got stems of type \w+ for 'a', expected Stems: give \{separator: Stems\("):
        WITHOUT.with_stems({"a": given})
    if given is not None:
        with pytest.raises(
            TrackError, match=r"got references of type .*: give references=Stems\(array, sources, rate\)"
        ):
            Track("song", MIXTURE, references=given)


@pytest.mark.parametrize("given", [ARRAY[0], Tensor(), ARRAY[0].tolist(), {"mixture": ARRAY[0]}, None, "song.wav"])
def test_a_mixture_that_is_no_signal_is_refused_in_words(given):
    with pytest.raises(TrackError, match=r"got a mixture of type \w+, expected a Signal: Track\.from_arrays\(name, "):
        Track("song", given)


@pytest.mark.parametrize(
    ("arguments", "named", "words"),
    [
        ([MIXTURE], {}, r"got a mixture of type ArraySignal, expected an array: Track\(name, mixture, references="),
        ([ARRAY[0], Stems(ARRAY)], {}, r"got references of type Stems, expected an array: Track\("),
        ([ARRAY[0], {"vocals": ARRAY[0]}], {}, r"got references of type dict, .*give np\.stack\(list\(given"),
        ([ARRAY[0]], {"stems": {"a": Stems(ARRAY)}}, r"got stems of a of type Stems, expected an array"),
        ([ARRAY[0]], {"stems": ARRAY}, r"got stems of type ndarray, expected \{separator: array\}"),
    ],
)
def test_from_arrays_says_what_takes_the_rest(arguments, named, words):
    with pytest.raises(TrackError, match=words):
        Track.from_arrays("song", *arguments, **named)


def test_what_the_messages_say_works():
    stems = Stems(ARRAY, SOURCES, 44_100)
    assert WITHOUT.with_stems({"a": stems}).stems["a"] is stems
    given = dict(zip(SOURCES, ARRAY, strict=True))
    track = Track.from_arrays("song", ARRAY[0], np.stack(list(given.values())), sources=list(given))
    assert track.required_references().sources == SOURCES
    with pytest.raises(TrackError, match="got names"):
        WITHOUT.with_stems({1: stems})
