"""Reading audio that only PyAV decodes: every range is the slice of the full decode, whatever was read before."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from makers.audio import decode
from makers.places import CLIP
from stemfuse.separators import AudioError, FileSignal
from stemfuse.separators.audio import decoder as decoder_module
from stemfuse.separators.audio.containers import OPEN_FILES, ContainerSignal, open_signal

CLIP_LENGTH = 262 * 1024


def encode(path, samples, codec, rate=44_100, bit_rate=128_000, container_format=None, **options):
    """Write samples with PyAV."""
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w", format=container_format, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def music():
    """Real music, an odd number of samples that is no whole number of codec frames or blocks."""
    return decode(CLIP)[:, :150_001].clip(-1, 0.999)


@pytest.fixture(scope="module")
def full():
    return [decode(CLIP, stream) for stream in range(5)]


RANGES = st.lists(
    st.tuples(st.integers(0, CLIP_LENGTH), st.integers(0, 80_000)).map(
        lambda pair: (pair[0], min(pair[0] + pair[1], CLIP_LENGTH))
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@given(st.integers(0, 4), RANGES)
@settings(max_examples=50, deadline=None)
def test_any_range_of_any_stream_is_the_slice_of_its_full_decode(full, stream, ranges):
    signal = ContainerSignal(CLIP, stream)
    for start, stop in ranges:
        np.testing.assert_array_equal(signal.read(start, stop), full[stream][:, start:stop])


def test_the_five_streams_of_a_real_stem_file_have_one_shape(full):
    signals = ContainerSignal.all_streams(CLIP)
    assert [(signal.rate, signal.channels, signal.length) for signal in signals] == [(44_100, 2, CLIP_LENGTH)] * 5
    for signal, samples in zip(signals, full, strict=True):
        np.testing.assert_array_equal(signal.read(), samples)


def test_blocks_go_on_decoding_where_the_last_one_ended(full, monkeypatch):
    opened = []
    monkeypatch.setattr(
        decoder_module,
        "open_container",
        lambda path, real=decoder_module.open_container: opened.append(path) or real(path),
    )
    signal = ContainerSignal(CLIP, 3)
    opened.clear()
    blocks = [samples for _, samples in signal.blocks(7_777)]
    assert len(opened) == 1, "each block opened the file again"
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), full[3])


FORMATS = {
    "aac.m4a": {"codec": "aac"},
    "aac with its table first.mp4": {"codec": "aac", "movflags": "faststart"},
    "aac in fragments.mp4": {"codec": "aac", "movflags": "frag_keyframe+empty_moov"},
    "aac with noise substitution.m4a": {"codec": "aac", "bit_rate": 64_000},
    "aac without container.aac": {"codec": "aac", "container_format": "adts"},
    "aac with time in milliseconds.mkv": {"codec": "aac"},
    "aac of unknown length.mkv": {"codec": "aac", "live": "1"},
    "mp3 in mp4.mp4": {"codec": "libmp3lame"},
    "mp3 with Xing frame.mp3": {"codec": "libmp3lame"},
    "mp3 without Xing frame.mp3": {"codec": "libmp3lame", "write_xing": "0"},
    "opus.opus": {"codec": "libopus", "rate": 48_000},
    "opus.webm": {"codec": "libopus", "rate": 48_000},
    "windows media.wma": {"codec": "wmav2", "container_format": "asf"},
    "dolby.ac3": {"codec": "ac3"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_to_the_sample(name, music, tmp_path):
    path = encode(tmp_path / name, music, **FORMATS[name])
    expected = decode(path)
    signal = open_signal(path)
    assert isinstance(signal, ContainerSignal)
    assert signal.length == expected.shape[1], "the length is not what the decoder yields"
    assert abs(signal.length - music.shape[1]) < 3_000
    random = np.random.default_rng(0)
    for start in (140_000, 3, 70_000, 65_536, 65_535, *random.integers(0, signal.length - 5_000, 6)):
        np.testing.assert_array_equal(signal.read(start, start + 5_000), expected[:, start : start + 5_000])
    np.testing.assert_array_equal(signal.read(), expected)


def test_noise_substitution_is_the_trap_that_it_is_taken_for(music, tmp_path):
    path = encode(tmp_path / "noise.m4a", music, "aac", bit_rate=64_000)
    expected = decode(path)
    with av.open(str(path)) as container:
        container.seek(70_000, stream=container.streams.audio[0])
        frames = [(frame.pts, frame.to_ndarray()) for frame in container.decode(audio=0)]
    start, samples = frames[8]
    difference = np.abs(samples - expected[:, start : start + 1024]).max()
    assert difference > 1e-3, "a decoder that jumped yields the same noise: the checksums are not needed any more"
    np.testing.assert_array_equal(ContainerSignal(path).read(start, start + 1024), expected[:, start : start + 1024])


@pytest.mark.parametrize(
    ("name", "codec", "bits"),
    [("a.m4a", "alac", 16), ("b.mov", "pcm_s16le", 16), ("c.mov", "pcm_u8", 8), ("d.mov", "pcm_s24le", 24)],
)
def test_lossless_samples_come_back_in_place_and_scale(name, codec, bits, music, tmp_path):
    samples = np.round(music * 2.0 ** (bits - 1)) / 2.0 ** (bits - 1)
    signal = open_signal(encode(tmp_path / name, samples, codec, container_format="ipod" if codec == "alac" else None))
    assert signal.length == samples.shape[1]
    assert np.abs(signal.read(65_000, 140_000) - samples[:, 65_000:140_000]).max() <= 2.0 ** (1 - bits)


def test_mono_stays_mono(music, tmp_path):
    signal = open_signal(encode(tmp_path / "mono.m4a", music[:1], "aac"))
    assert (signal.channels, signal.read(100, 300).shape) == (1, (1, 200))


def read_part(task):
    signal, start, stop = task
    return signal.read(start, stop)


TASKS = [(start, start + 20_000) for start in (200_000, 0, 65_536, 130_000, 240_000, 10, 99_999, 180_000)]


def test_threads_share_a_signal(full):
    signal = ContainerSignal(CLIP, 1)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(read_part, [(signal, *task) for task in TASKS * 4]))
    for part, (start, stop) in zip(parts, TASKS * 4, strict=True):
        np.testing.assert_array_equal(part, full[1][:, start:stop])


def test_a_pickled_signal_reads_on_its_own(full):
    signal = ContainerSignal(CLIP, 2)
    signal.read(150_000, 150_010)
    other = pickle.loads(pickle.dumps(signal))
    np.testing.assert_array_equal(other.read(20_000, 90_000), full[2][:, 20_000:90_000])
    np.testing.assert_array_equal(signal.read(150_000, 160_000), full[2][:, 150_000:160_000])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_child_does_not_move_its_parents_place(full):
    signal = ContainerSignal(CLIP, 4)
    signal.read(0, 70_000)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(signal.read(*task), full[4][:, slice(*task)]) for task in TASKS)
        sender.send(same)
        os._exit(0)
    assert receiver.poll(20), "the child hangs"
    os.waitpid(child, 0)
    assert receiver.recv(), "the child read other samples"
    np.testing.assert_array_equal(signal.read(70_000, 200_000), full[4][:, 70_000:200_000])


def test_the_number_of_open_files_is_bounded(music, tmp_path):
    path = encode(tmp_path / "song.m4a", music[:, :10_000], "aac")
    expected = decode(path)
    copies = [shutil.copy(path, tmp_path / f"{number}.m4a") for number in range(OPEN_FILES + 20)]
    before = psutil.Process().num_fds()
    signals = [ContainerSignal(copy) for copy in copies]
    for _ in range(2):
        for signal in signals:
            np.testing.assert_array_equal(signal.read(5_000, 6_000), expected[:, 5_000:6_000])
    assert psutil.Process().num_fds() - before <= OPEN_FILES


def test_odd_names_are_only_names(music, tmp_path):
    path = encode(tmp_path / "song.m4a", music[:, :5_000], "aac")
    for name in ('it\'s "50%" %03d #1?.m4a', "http:音楽 – Été.m4a", "-i.m4a", "concat:a|b.M4A"):
        copy = tmp_path / name
        shutil.copy(path, copy)
        assert open_signal(copy).length == ContainerSignal(path).length


@pytest.mark.parametrize("suffix", [".m4a", ".stem.mp4", ".mp3", ".aac", ".webm", ".unknown"])
@pytest.mark.parametrize(
    "content",
    [b"", b"This is no music.\n" * 50, bytes(np.random.default_rng(0).integers(0, 256, 20_000, np.uint8))],
    ids=["nothing", "text", "random bytes"],
)
def test_what_is_not_audio_is_an_error_that_names_the_file(suffix, content, tmp_path):
    path = tmp_path / f"song{suffix}"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"song{suffix}: .*"):
        open_signal(path).read()


def test_a_playlist_opens_no_other_file(music, tmp_path):
    encode(tmp_path / "secret.aac", music[:, :5_000], "aac", container_format="adts")
    for name, content in {
        "list.m4a": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.aac\n#EXT-X-ENDLIST\n",
        "list.mp4": "ffconcat version 1.0\nfile secret.aac\n",
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(AudioError, match="list"):
            ContainerSignal(tmp_path / name)


def test_no_file_no_stream_and_no_sound(tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        open_signal(tmp_path / "missing.m4a")
    with pytest.raises(AudioError, match="no such file"):
        open_signal(tmp_path)
    with pytest.raises(AudioError, match=r"got audio stream 5, expected one of the file's 5"):
        ContainerSignal(CLIP, 5)
    path = tmp_path / "silent film.mp4"
    with av.open(str(path), "w") as container:
        film = container.add_stream("mpeg4", rate=25, width=32, height=32, pix_fmt="yuv420p")
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(film.encode(frame))
        container.mux(film.encode(None))
    with pytest.raises(AudioError, match="expected one of the file's 0"):
        open_signal(path)


@pytest.mark.parametrize(
    "name",
    [
        "aac.m4a",
        "aac with its table first.mp4",
        "mp3 with Xing frame.mp3",
        "opus.webm",
        "aac with time in milliseconds.mkv",
    ],
)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.9])
def test_a_truncated_file_is_found_when_it_is_opened(name, part, music, tmp_path):
    path = encode(tmp_path / name, music, **FORMATS[name])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(AudioError, match="truncated"):
        open_signal(path)


def test_damage_in_the_middle_is_an_error_and_stays_one(tmp_path):
    content = bytearray(CLIP.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40_000] = bytes(range(1, 251)) * 160
    path = tmp_path / "damaged.stem.mp4"
    path.write_bytes(content)
    signal = ContainerSignal(path)
    for _ in range(2):
        with pytest.raises(AudioError, match=r"damaged\.stem\.mp4: .*damaged"):
            signal.read()
    np.testing.assert_array_equal(signal.read(1_000, 2_000), ContainerSignal(CLIP).read(1_000, 2_000))


def test_a_file_that_goes_away_while_it_is_read_is_an_error(music, tmp_path):
    path = encode(tmp_path / "song.m4a", music, "aac")
    signal = ContainerSignal(path)
    signal.read(0, 100_000)
    path.unlink()
    for _ in range(2):
        with pytest.raises(AudioError, match=r"song\.m4a.*No such file"):
            signal.read(0, 10)


@pytest.mark.parametrize(
    ("name", "subtype", "reader"),
    [
        ("a.wav", "PCM_24", FileSignal),
        ("a.WAV", "FLOAT", FileSignal),
        ("a.flac", "PCM_16", FileSignal),
        ("a.aiff", "PCM_16", FileSignal),
        ("a.ogg", "VORBIS", FileSignal),
        ("b.ogg", "OPUS", ContainerSignal),
        ("a.mp3", "MPEG_LAYER_III", ContainerSignal),
    ],
)
def test_the_reader_that_is_exact_for_a_format_is_chosen(name, subtype, reader, music, tmp_path):
    rate = 48_000 if subtype == "OPUS" else 44_100
    container = {".ogg": "OGG", ".mp3": "MP3"}.get(Path(name).suffix)
    sf.write(tmp_path / name, music.T, rate, subtype=subtype, format=container)
    signal = open_signal(tmp_path / name)
    assert type(signal) is reader
    assert (signal.length, signal.rate, signal.channels) == (music.shape[1], rate, 2)
    whole = signal.read()
    for start in np.random.default_rng(1).integers(0, signal.length - 3_000, 12):
        np.testing.assert_array_equal(signal.read(start, start + 3_000), whole[:, start : start + 3_000])
