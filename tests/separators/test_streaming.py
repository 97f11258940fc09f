"""Separating songs block by block gives the samples of whole songs, and memory does not grow with them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import maximum_filter1d

from stemfuse.separators import RATE, ArraySignal, AudioError, SeparatorError, Stems, StemStore, Track, load_separator
from stemfuse.separators.blocks import ForwardReader, ReadInOrder, joined, whole
from stemfuse.separators.classical import masking
from stemfuse.separators.classical.repet_sim import RepetSim, magnitudes
from stemfuse.separators.separator import BaseSeparator, separate_signal

pytestmark = pytest.mark.slow

CLASSICAL = ("harmonic_percussive", "repet_sim", "centre_channel")
PACKAGED = ("tfc_tdf_small", "xumx_small", "demucs_small")


def music(seconds, seed=0):
    """Noise with a pulse and two tones: (channel, time)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tones = 0.2 * np.sin(2 * np.pi * 82 * time) + 0.1 * np.sin(2 * np.pi * 900 * time + 25 * np.sin(6 * np.pi * time))
    strokes = np.exp(-60 * (time % 0.4)) * rng.normal(0, 0.3, (2, time.size))
    return (tones + strokes + rng.normal(0, 0.02, (2, time.size))).astype(np.float32)


class Watched(ArraySignal):
    """A signal that knows the longest range that was read of it."""

    longest = 0

    def _read(self, start, stop):
        self.longest = max(self.longest, stop - start)
        return super()._read(start, stop)


class TestForwardReader:
    def test_ranges_are_slices_of_the_whole(self):
        rng = np.random.default_rng(0)
        array = rng.normal(size=(3, 1000, 2))
        cuts = [0, *sorted(rng.choice(999, 20, replace=False) + 1), 1000]
        reader = ForwardReader((array[:, a:b] for a, b in pairwise(cuts)), axis=1)
        start = 0
        while start < 990:
            stop = int(rng.integers(start, 1000))
            assert np.array_equal(reader.read(start, stop), array[:, start:stop])
            start = int(rng.integers(start, min(start + 60, 1000)))

    def test_what_is_gone_or_never_comes_is_refused(self):
        reader = ForwardReader([np.arange(10), np.arange(10, 20)])
        reader.read(5, 12)
        with pytest.raises(SeparatorError, match="got a range of 4 to 8, expected one that begins at 5 or later"):
            reader.read(4, 8)
        with pytest.raises(SeparatorError, match="got blocks that end at 20, expected at least 21"):
            reader.read(6, 21)

    def test_blocks_are_made_when_they_are_needed(self):
        made = []
        reader = ForwardReader(made.append(n) or np.full(10, n) for n in range(10))
        reader.read(0, 11)
        assert made == [0, 1]

    def test_an_earlier_range_begins_anew(self):
        calls = []
        read = ReadInOrder(lambda: calls.append(1) or iter([np.arange(10), np.arange(10, 20)]))
        assert [*read(3, 12), *read(12, 14), *read(0, 2)] == [*range(3, 14), 0, 1]
        assert len(calls) == 2

    @pytest.mark.parametrize("lengths", [[], [4], [4, 7]])
    def test_blocks_of_another_length_than_the_song_are_refused(self, lengths):
        with pytest.raises((SeparatorError, ValueError)):
            joined((np.zeros((4, 2, length), np.float32) for length in lengths), 10)

    def test_whole_song(self):
        signal = Watched(music(13.0))
        assert np.array_equal(whole(signal), signal.samples)
        assert signal.longest < signal.length / 2


@pytest.mark.parametrize("name", [*CLASSICAL, *PACKAGED])
def test_streamed_stems_are_those_of_the_whole_song(name, monkeypatch):
    """More than one block of each kind; the song is only ever read in parts."""
    monkeypatch.setattr(masking, "MASK_BLOCK", 1 << 17)
    if name == "xumx_small":
        from stemfuse.separators.networks import xumx_separator

        monkeypatch.setattr(xumx_separator, "ENCODED", 256)
    separator = load_separator(name)
    if name == "demucs_small":
        separator.segment_s = 3.0
    signal = Watched(music(9.0))
    streamed = np.concatenate([block for _, block in separator.stream(signal).blocks(100_003)], axis=2)
    assert np.array_equal(streamed, separator.separate(signal.samples, RATE).audio)
    assert signal.longest < 0.8 * signal.length


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("block", [20_000])
def test_short_masked_blocks_change_nothing(name, block, monkeypatch):
    song = music(2.0, seed=1)
    given = load_separator(name).separate(song, RATE).audio
    monkeypatch.setattr(masking, "MASK_BLOCK", block)
    np.testing.assert_allclose(load_separator(name).separate(song, RATE).audio, given, atol=1e-6)


def test_mirrored_ends_are_those_of_the_whole_song(monkeypatch):
    """What masks are given is the spectrum of the song continued by its mirror image, however short it is."""
    monkeypatch.setattr(masking, "MASK_BLOCK", 4096)
    stft = masking.transform(1024, 256)
    for length in (1, 5, 300, 4095, 4097, 9000, 20_000):
        song = music(1.0)[:, :length]
        seen = {}

        def masks(spectrum, first, seen=seen):
            seen.update({first + n: spectrum[..., n] for n in range(8, spectrum.shape[2] - 8)})
            return [np.array(1.0)]

        list(masking.apply_masks([song[None]], length, masks, 1024, 256, context=2))
        mirrored = np.pad(song, ((0, 0), (4096, 4096)), mode="symmetric")
        expected = stft.stft(mirrored)
        for number, frame in seen.items():
            place = number + 4096 // 256 - stft.p_min
            if 0 <= number * 256 < length:
                np.testing.assert_array_equal(frame, expected[..., place])


@pytest.mark.parametrize("reach_s", [0.7, 9.0, 120.0])
def test_repetition_is_found_as_in_the_whole_matrix(reach_s):
    """Rows of similarity are compared a few at a time: the same as with all of them at once."""
    song = ArraySignal(music(20.0, seed=2))
    separator = RepetSim(reach_s=reach_s, neighbours=5)
    magnitude = np.concatenate([*magnitudes(song, 2048, 1024)])
    per_s = RATE / 1024
    reach, distance = round(reach_s * per_s), round(0.5 * per_s)
    unit = magnitude / np.linalg.norm(magnitude, axis=1, keepdims=True)
    numbers = np.arange(len(unit))
    cosine = np.where(np.abs(numbers[:, None] - numbers) <= reach + 256, unit @ unit.T, 0)
    expected = magnitude.copy()
    for frame, row in enumerate(cosine):
        peaks = np.flatnonzero((row == maximum_filter1d(row, 2 * distance + 1, mode="nearest")) & (row > 0))
        peaks = peaks[np.abs(peaks - frame) <= reach]
        expected[frame] = np.median(magnitude[peaks[np.argsort(-row[peaks], kind="stable")[:5]]], axis=0)
    model = np.concatenate([*separator._accompaniment(song)])
    assert model.shape == expected.shape
    # near the limit of what is compared, a peak may be none with more to the side of it
    same = np.isclose(model, expected, rtol=1e-4, atol=1e-6).all(axis=1)
    assert same.mean() > (0.99 if reach_s > 20 else 0.7)


@pytest.mark.parametrize("length", [1, 700, 1025, 40_000])
def test_wiener_filtered_blocks_are_the_whole_song(length, monkeypatch):
    from stemfuse.separators.networks import wiener, xumx_separator

    song = music(1.0, seed=3)[:, :length]
    stems = []
    for frames in (10_000, 16):
        monkeypatch.setattr(wiener, "BLOCK", frames)
        monkeypatch.setattr(xumx_separator, "ENCODED", frames)
        stems.append(load_separator("xumx_small").separate(song, RATE).audio)
    np.testing.assert_allclose(*stems, atol=1e-5)


class Halves(BaseSeparator):
    """Separates whole songs."""

    name = "halves"
    sources = ("bass", "vocals")

    def _separate(self, mixture):
        return np.stack([mixture / 2, mixture / 2])


class Foreign:
    """A third party's, without a base class."""

    name, sources, rate = "foreign", ("vocals",), RATE

    def fingerprint(self):
        return "0123456789abcdef"

    def separate(self, mixture, rate):
        return Stems(mixture[None], self.sources, rate)


class Nothing(BaseSeparator):
    """A separator that does nothing."""

    name = "nothing"


def test_separators_of_whole_songs_are_separated_from_signals_too():
    song = music(0.5)
    assert np.array_equal(separate_signal(Halves(), ArraySignal(song)).audio[1], song / 2)
    assert np.array_equal(separate_signal(Foreign(), ArraySignal(song)).audio[0], song)
    with pytest.raises(SeparatorError, match="Nothing has neither _separate nor _blocks"):
        Nothing().separate(song, RATE)


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        (ArraySignal(np.zeros((1, 100))), "got a mixture of shape"),
        (ArraySignal(np.zeros((2, 0))), "got a mixture of shape"),
        (ArraySignal(np.zeros((2, 100)), rate=48_000), "got a mixture at 48000 Hz"),
    ],
)
def test_wrong_signals_are_refused_at_once(signal, words):
    with pytest.raises(AudioError, match=words):
        load_separator("centre_channel").stream(signal)


def test_a_damaged_sample_late_in_the_song_leaves_nothing_in_the_store(tmp_path):
    song = music(14.0)
    song[1, -5] = np.nan
    track, separator, store = Track("song", ArraySignal(song)), load_separator("centre_channel"), StemStore(tmp_path)
    with pytest.raises(AudioError, match="of channel 1 is nan"):
        store.put(track, separator, separate_signal(separator, track.mixture))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_stored_stems_are_those_of_the_whole_song(tmp_path):
    track, separator, store = Track("song", ArraySignal(music(2.0))), load_separator("repet_sim"), StemStore(tmp_path)
    store.put(track, separator, separate_signal(separator, track.mixture))
    expected = separator.separate(track.mixture.read(), RATE).audio
    assert np.array_equal(store.get(track, separator).audio, expected)


def test_streamed_stems_travel_between_processes():
    stems = load_separator("centre_channel").stream(ArraySignal(music(0.5)))
    beginning = stems.read(0, 1000)
    assert np.array_equal(pickle.loads(pickle.dumps(stems)).read(0, 1000), beginning)


PEAK = """
import sys
from itertools import pairwise
from pathlib import Path
from stemfuse.separators import StemStore, Track, load_separator, open_signal
from stemfuse.separators.separator import separate_signal

name, song, store = sys.argv[1:]
separator, track = load_separator(name), Track("song", open_signal(song))
StemStore(store).put(track, separator, separate_signal(separator, track.mixture))
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "centre_channel" else [pytest.mark.long])
        for name in (*CLASSICAL, *PACKAGED)
    ],
)
def test_peak_of_a_long_song(name, tmp_path):
    """Two workers on songs of ten minutes fit into 2 GiB. Before songs were streamed, one took 2.2 GB and more."""
    import soundfile

    minute = np.random.default_rng(0).normal(0, 0.1, (60 * RATE, 2)).astype(np.float32)
    song = tmp_path / "song.wav"
    with soundfile.SoundFile(song, "w", RATE, 2, "FLOAT") as file:
        for _ in range(10):
            file.write(minute)
    command = [sys.executable, "-c", PEAK, name, str(song), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert int(done.stdout) / 1024 < 900
