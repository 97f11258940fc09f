"""Levels and sizes of audio: integers, clipped samples, headers that promise too few bytes, WAVs of rare codecs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from makers.audio import noise32
from makers.commands import command, process
from stemfuse.analysis import bss_eval, song_sdr
from stemfuse.blending import MixingWeights
from stemfuse.experiments import open_data
from stemfuse.separators import (
    ArraySignal,
    AudioError,
    ContainerSignal,
    FileSignal,
    Stems,
    Track,
    TrackError,
    find_stems,
    load_separator,
    open_signal,
)
from stemfuse.separators.audio import as_samples, write_audio
from stemfuse.separators.audio.chunks import W64

MUSIC = np.clip(noise32(2, 22_050, scale=0.2), -0.99, 0.99)


@pytest.mark.parametrize(("kind", "full"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_integers_are_scaled_by_their_type(kind: type, full: int) -> None:
    whole = np.round(MUSIC.astype(np.float64) * full).astype(kind)
    expected = (whole / full).astype(np.float32)
    np.testing.assert_array_equal(as_samples(whole), expected)
    np.testing.assert_array_equal(ArraySignal(whole).read(), expected)
    np.testing.assert_array_equal(Stems(whole[None], ("music",)).audio[0], expected)
    separator = load_separator("centre_channel")
    np.testing.assert_array_equal(separator.separate(whole, 44_100).audio, separator.separate(expected, 44_100).audio)


@pytest.mark.parametrize("kind", [np.int64, np.uint16, bool, np.complex64])
def test_other_integers_are_refused(kind: type) -> None:
    with pytest.raises(AudioError, match=r"got samples of type .*, expected floats of full scale 1, or int16, int32"):
        load_separator("centre_channel").separate(np.ones((2, 1000), kind), 44_100)


def test_scores_of_integers_are_those_of_floats() -> None:
    truth = np.stack([MUSIC.T, noise32(22_050, 2, seed=4)])
    estimate = np.clip(truth + noise32(2, 22_050, 2, seed=5, scale=0.02), -0.99, 0.99)
    whole = np.round(estimate * 2**15).astype(np.int16)
    for score in (lambda *pair: np.array(bss_eval(*pair)), song_sdr):
        np.testing.assert_allclose(score(truth, whole), score(truth, whole / 2**15), atol=1e-6)
    with pytest.raises(AudioError, match="int64"):
        bss_eval(truth, np.round(estimate * 2**15).astype(np.int64))


@pytest.mark.parametrize("channels", [1, 2])
def test_axes_as_soundfile_reads_them_are_named(channels: int) -> None:
    """(time, channel) is no song of 44100 channels that has to be mixed down."""
    audio = noise32(44_100, channels)
    for take in (ArraySignal, lambda given: load_separator("centre_channel").separate(given, 44_100)):
        with pytest.raises(AudioError, match=r"\(44100, \d\).*time and channel seem swapped, give audio\.T$"):
            take(audio)
    assert ArraySignal(audio.T).channels == channels


def test_a_signal_and_a_track_are_separated_as_their_samples() -> None:
    separator, audio = load_separator("centre_channel"), noise32(2, 5000)
    expected = separator.separate(audio, 44_100).audio
    for given in (ArraySignal(audio), Track.from_arrays("song", audio)):
        np.testing.assert_array_equal(separator.separate(given).audio, expected)
        with pytest.raises(AudioError, match="got rate 8000 Hz with a mixture at 44100 Hz"):
            separator.separate(given, 8000)
    with pytest.raises(AudioError, match=r"without its rate, expected both, such as separate\(audio, 44100\)"):
        separator.separate(audio)


@pytest.mark.parametrize("given", [None, np.zeros((2, 100)), {}, {"a": 1}, 3, b"songs", [None], [np.zeros(3)], []])
def test_data_of_another_type_are_refused_in_one_line(given: object) -> None:
    with pytest.raises(TrackError, match=r"^got .*, expected a path, a sequence of Track .* musdb\.DB.*$") as error:
        open_data(given)
    assert error.value.is_usage


@pytest.mark.parametrize("shape", [(2, 2, 132_300), (2, 2, 50), (4, 1, 9)])
def test_swapped_axes_are_refused_in_one_line(shape: tuple[int, ...]) -> None:
    audio = noise32(*shape)
    for given in (audio, Stems(audio.swapaxes(1, 2), [str(row) for row in range(len(audio))])):
        with pytest.raises(AudioError, match=rf"of {shape[2]} channels.*time and channel seem swapped") as raised:
            bss_eval(given, given)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("shape", [(3000, 2, 2), (44_100, 4, 2), (65, 100, 1), (9, 4, 2)])
def test_time_in_the_place_of_sources_is_refused_in_one_line(shape: tuple[int, ...]) -> None:
    """Projections of 44100 sources would ask for terabytes."""
    audio = noise32(*shape)
    given = [audio, *([Stems(audio.swapaxes(1, 2), list(map(str, range(len(audio)))))] if len(audio) < 100 else [])]
    for one in given:
        for score in (bss_eval, song_sdr):
            with pytest.raises(AudioError, match=rf"of {shape[0]} sources.*time and source seem swapped") as raised:
                score(one, one)
            assert "\n" not in str(raised.value)


def test_the_advice_on_swapped_sources_works() -> None:
    truth = noise32(2, 3000, 2)
    swapped = truth.swapaxes(0, 1)
    with pytest.raises(AudioError, match=r"give np\.moveaxis\(array, 0, 1\)"):
        bss_eval(swapped, swapped)
    np.testing.assert_array_equal(np.moveaxis(swapped, 0, 1), truth)


@pytest.mark.parametrize("shape", [(8, 4, 2), (20, 30, 2), (64, 200, 2)])
def test_many_sources_are_no_mistake(shape: tuple[int, ...]) -> None:
    assert song_sdr(noise32(*shape), noise32(*shape, seed=1)).shape == shape[:1]


def test_more_channels_together_than_memory_holds_are_refused() -> None:
    audio = noise32(16, 1000, 16)
    with pytest.raises(AudioError, match=r"16 sources with 16 channels each.*at most 128 channels of all sources"):
        bss_eval(audio, audio)


@pytest.mark.parametrize(
    ("name", "subtype", "advice"),
    [
        ("a.wav", "PCM_16", "--subtype FLOAT"),
        ("a.wav", "PCM_24", "--subtype FLOAT"),
        ("a.flac", "PCM_24", "write a .wav"),
        ("a.wav", "FLOAT", None),
    ],
)
def test_clipped_samples_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, subtype: str, advice: str | None
) -> None:
    loud = MUSIC.copy()
    loud[0, [10, 20_000]] = (1.5, -2.0)
    with caplog.at_level(logging.WARNING):
        write_audio([tmp_path / name], [loud[None, :, :9000], loud[None, :, 9000:]], 44_100, 2, subtype)
        write_audio([tmp_path / f"quiet_{name}"], [MUSIC[None]], 44_100, 2, subtype)
    texts = [record.getMessage() for record in caplog.records]
    if advice is None:
        assert texts == []
    else:
        (text,) = texts
        assert f"{name}: 2 of 44100 samples are clipped to {subtype}, the peak is 2.000 (+6.0 dB)" in text
        assert advice in text


def with_size(path: Path, size: int) -> Path:
    """Write another size of the samples into a WAV's header."""
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [0, 4000, 80_000])
def test_a_size_smaller_than_the_file_is_noticed(tmp_path: Path, size: int) -> None:
    soundfile.write(tmp_path / "a.wav", MUSIC.T, 44_100)
    with pytest.raises(AudioError, match=rf"promises {size} bytes of samples, but {88_200 - size} more follow"):
        open_signal(with_size(tmp_path / "a.wav", size))


def test_a_size_that_wrapped_beyond_4_gib_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, MUSIC.T, 44_100)
    os.truncate(path, path.stat().st_size + (1 << 32))
    if path.stat().st_blocks * 512 > 1 << 30:
        pytest.skip("needs a file system with sparse files")
    with pytest.raises(AudioError, match=r"promises 88200 bytes .* beyond 4 GiB, which WAV cannot say; .* RF64"):
        open_signal(path)


@pytest.mark.parametrize("suffix", [".w64", ".W64", ".wav"])
def test_wave64_is_a_format_of_data_sets_as_of_single_files(tmp_path: Path, suffix: str) -> None:
    for number in range(2):
        song = tmp_path / f"song {number}"
        song.mkdir()
        for name in ("vocals", "drums", "mixture"):
            gain = 2.0 if name == "mixture" else 1.0
            soundfile.write(song / f"{name}{suffix}", gain * MUSIC.T, 44_100, format="W64", subtype="FLOAT")
    tracks = open_data(tmp_path).tracks()
    assert [track.name for track in tracks] == ["song 0", "song 1"]
    np.testing.assert_array_equal(tracks[1].required_references()["vocals"].read(), MUSIC)
    found = find_stems(tmp_path, [Track.from_arrays("song 1", MUSIC)])
    assert set(found.sources) == {"drums", "vocals"}
    path = tmp_path / "song 0" / f"vocals{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[:-4000])
    with pytest.raises(AudioError, match="promises 4000 bytes of samples more than the file has: it is truncated"):
        open_signal(path)
    # libsndfile would read as samples what follows them
    path.write_bytes(content + b"LIST" + W64[1] + (5024).to_bytes(8, "little") + bytes(5000))
    with pytest.raises(AudioError, match="chunks follow its samples"):
        open_signal(path)
    size = content.index(b"data" + W64[1]) + 16
    path.write_bytes(content[:size] + (24).to_bytes(8, "little") + content[size + 8 :])
    with pytest.raises(AudioError, match="its size was never written"):
        open_signal(path)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF"])
def test_sound_files_and_what_follows_their_samples_are_no_fault(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower() if kind != 'W64' else 'wav'}"
    soundfile.write(path, MUSIC.T, 44_100, format=kind, subtype="FLOAT")
    np.testing.assert_array_equal(open_signal(path).read(), MUSIC)
    if kind == "WAV":
        for after in (
            b"ID3" + bytes(range(256)) * 40,
            b"LIST" + (9000).to_bytes(4, "little") + b"x" * 9000,
            bytes(9000),
        ):
            longer = tmp_path / "b.wav"
            longer.write_bytes(path.read_bytes() + after)
            np.testing.assert_array_equal(open_signal(longer).read(), MUSIC)


@pytest.mark.parametrize("codec", ["ac3", "mp2", "adpcm_yamaha"])
def test_a_wav_that_libsndfile_refuses_is_read(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream(codec, rate=44_100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(MUSIC, "fltp", "stereo")
        frame.rate = 44_100
        size = stream.codec_context.frame_size or None
        resampler = av.AudioResampler(stream.format.name, "stereo", 44_100, frame_size=size)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError):
        FileSignal(path)
    signal = open_signal(path)
    assert isinstance(signal, ContainerSignal)
    assert signal.length >= MUSIC.shape[1]
    late = max(range(1200), key=lambda lag: (signal.read()[0, lag : lag + 20_000] * MUSIC[0, :20_000]).sum())
    assert np.corrcoef(signal.read()[0, late : late + 20_000], MUSIC[0, :20_000])[0, 1] > 0.5


def test_what_neither_reads_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF" + bytes(5000))
    with pytest.raises(AudioError, match=r"a.wav: 5004 bytes that are not readable audio"):
        open_signal(tmp_path / "a.wav")


@pytest.mark.parametrize("subtype", ["float", "Double", "FLOAT"])
def test_formats_that_hold_any_level_are_known_in_any_case(tmp_path, caplog, subtype):
    write_audio([tmp_path / "loud.wav"], [np.full((1, 2, 100), 2.0, "float32")], 44_100, 2, subtype)
    assert not caplog.records
    assert soundfile.read(tmp_path / "loud.wav")[0].max() == 2


@pytest.mark.parametrize(
    ("name", "subtype", "words"),
    [
        ("a.wav", "PCM24", r"got sample format 'PCM24', expected one of FLOAT, .* in .wav \(did you mean 'PCM_24'\?\)"),
        ("a.flac", "FLOAT", r"expected one of PCM_16, PCM_24, PCM_S8 in .flac"),
        ("a.mp3", "FLOAT", r"a.mp3: got .mp3, expected a name that ends in .wav or .flac"),
    ],
)
def test_formats_that_a_file_cannot_have_are_refused_before_it_is_begun(tmp_path, name, subtype, words):
    with pytest.raises(AudioError, match=words) as error:
        write_audio([tmp_path / name], [np.zeros((1, 2, 100), "float32")], 44_100, 2, subtype)
    assert error.value.is_usage
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A loud song, its stems by one tool, and weights that are too large."""
    place = tmp_path_factory.mktemp("loud")
    stems = Stems(np.stack([MUSIC] * 2), ("vocals", "accompaniment"))
    (place / "data" / "test" / "song").mkdir(parents=True)
    soundfile.write(place / "data" / "test" / "song" / "mixture.wav", 2 * MUSIC.T, 44_100, subtype="FLOAT")
    (place / "a" / "test" / "song").mkdir(parents=True)
    stems.write(place / "a" / "test" / "song")
    MixingWeights.same_source({source: {"a": 3.0} for source in stems.sources}).save(place / "three.npz")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("subtype", "is_said"), [("PCM_16", True), ("PCM_24", True), ("FLOAT", False)])
def test_fuse_reports_clipping_from_any_worker(
    tmp_path: Path, loud: Path, subtype: str, is_said: bool, workers: int
) -> None:
    done = process(
        *("fuse", "three.npz", "data", "--stems", "a=a", "--out", tmp_path / "out", "--subtype", subtype),
        *("--store", tmp_path / "store", "--workers", workers),
        cwd=loud,
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert said.count(f"are clipped to {subtype}, the peak is ") == (2 if is_said else 0)
    assert ("--subtype FLOAT" in said) == is_said
    assert {soundfile.info(path).subtype for path in (tmp_path / "out").rglob("*.wav")} == {subtype}


@pytest.mark.parametrize(("name", "advice"), [("c.flac", "write a .wav"), ("c.wav", None), ("C.FLAC", "write a .wav")])
def test_combine_reports_clipping_where_the_format_clips(tmp_path: Path, name: str, advice: str | None) -> None:
    for file in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / file, 2 * MUSIC.T, 44_100, subtype="FLOAT")
    done = command("combine", "a.wav", "b.wav", "--how", "avg_wave", "--out", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert ("samples are clipped to PCM_24, the peak is " in said) == (advice is not None)
    assert advice is None or advice in said
