"""SDR by one pass over the audio: museval's values, its rules for silence, and those of whole songs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makers.audio import noise
from stemfuse.analysis import bss_eval, frame_sdr, score_track, song_sdr
from stemfuse.analysis.bss_eval import sdr
from stemfuse.separators import SOURCES, AudioError, Stems, Track


@pytest.mark.parametrize(
    ("window", "hop"), [(4000, 4000), (4000, 1500), (3000, 7000), (np.inf, np.inf), (700.5, 650.25)]
)
def test_frames_are_those_of_bss_eval(window, hop):
    """Frames that follow each other, overlap, leave gaps, are the song, and have fractional borders."""
    truth, guess = noise(3, 20_111, 2), noise(3, 20_111, 2, seed=1)
    truth[0, 4000:8000], guess[1, 9000:14_500] = 0, 0
    found, perfect = frame_sdr(truth, [guess, truth], window, hop)
    expected = bss_eval(truth, guess, window, hop).SDR
    np.testing.assert_allclose(found.SDR, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.song, song_sdr(truth, guess), rtol=0, atol=1e-12)
    sounds = np.isfinite(bss_eval(truth, truth + 1e-3, window, hop).SDR)
    np.testing.assert_array_equal(perfect.SDR, np.where(sounds, np.inf, np.nan))


def test_opposite_channels_are_silent_as_in_museval():
    """What counts is the sum over channels."""
    truth, guess = noise(2, 8000, 2), noise(2, 8000, 2, seed=1)
    guess[0, :4000, 1] = -guess[0, :4000, 0]
    np.testing.assert_array_equal(np.isnan(frame_sdr(truth, [guess], 4000, 4000)[0].SDR), [[True, False]] * 2)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(1, 900),
    st.floats(1, 1000),
    st.floats(1, 1000),
    st.integers(0, 9),
)
def test_by_definition(sources, channels, length, window, hop, seed):
    truth, guess = noise(sources, length, channels, seed=seed), noise(sources, length, channels, seed=seed + 10)
    [found] = frame_sdr(truth, [guess], window, hop)
    frames = [(int(start), int(start + window)) for start in np.arange(0, length, hop) if start + window <= length] or [
        (0, length)
    ]
    energies = [[(part**2).sum((1, 2)) for part in (truth[:, a:b], (truth - guess)[:, a:b])] for a, b in frames]
    expected = np.stack([10 * np.log10(signal / error) for signal, error in energies], axis=1)
    np.testing.assert_allclose(found.SDR[:, : expected.shape[1]], expected, rtol=0, atol=1e-9)


def test_threads_and_pieces_do_not_change_values(monkeypatch):
    truth, guess = noise(2, 100_000, 2).astype(np.float32), noise(2, 100_000, 2, seed=1).astype(np.float32)
    one = frame_sdr(truth, [guess], 4410, 4410, workers=1)[0]
    monkeypatch.setattr(sdr, "_PIECE", 10_000)
    for workers in (1, 3):
        other = frame_sdr(truth, [guess], 4410, 4410, workers=workers)[0]
        np.testing.assert_allclose(other.SDR, one.SDR, rtol=0, atol=1e-11)
        np.testing.assert_allclose(other.song, one.song, rtol=0, atol=1e-11)


def test_references_are_read_once_for_all_estimates():
    truth, guesses, ranges = noise(2, 2, 50_000), [noise(2, 2, 50_000, seed=seed) for seed in (1, 2, 3)], []

    def read(start, stop):
        ranges.append((start, stop))
        return truth[:, :, start:stop]

    lazy = Stems.lazy(read, ("bass", "vocals"), 2, 50_000)
    frame_sdr(lazy, [Stems(guess, ("bass", "vocals")) for guess in guesses], 10_000, 10_000)
    assert sum(stop - start for start, stop in ranges) == 50_000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_named(bad):
    truth, guess = noise(2, 3000, 1), noise(2, 3000, 1, seed=1)
    guess[1, 777] = bad
    with pytest.raises(AudioError, match="estimates: sample 777 of source number 1"):
        frame_sdr(truth, [truth, guess], 1000, 1000)


def test_a_track_scored_by_sdr_alone_has_the_rows_of_sdr_and_no_others():
    references = noise(4, 2, 60_000).astype(np.float32)
    references[2] = 0
    stems = Stems(references + noise(4, 2, 60_000, seed=1).astype(np.float32) * 0.1, SOURCES, 20_000)
    track = Track.from_arrays("song", references.sum(0), references, rate=20_000)
    full = score_track(track, {"one": stems}).query("metric in ('SDR', 'song_SDR')").reset_index(drop=True)
    for backend in ("fast", "museval"):
        alone = score_track(track, {"one": stems}, backend=backend, metrics=["SDR"])
        assert set(alone["metric"]) == {"SDR", "song_SDR"}
        np.testing.assert_allclose(alone["value"], full["value"], rtol=0, atol=1e-9)
    both = score_track(track, {"one": stems}, metrics=["SDR", "SI_SDR"])
    assert set(both["metric"]) == {"SDR", "song_SDR", "SI_SDR"}
