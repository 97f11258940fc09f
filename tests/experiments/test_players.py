"""Excerpts for the report: cut alike, one gain per song, where most sources sound, in files that every system takes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf

from stemfuse.experiments.report import busiest_start_s, read_players, safe_name, write_players, write_report
from stemfuse.separators import AudioError, Stems, Track


def make_song(name, seconds, references=True):
    """Noise in four sources, with estimates that bleed."""
    sources = np.random.default_rng(0).uniform(-0.2, 0.2, (4, 2, round(seconds * 44_100))).astype(np.float32)
    track = Track.from_arrays(name, sources.sum(0), sources if references else None)
    return track, {"mean": Stems(0.8 * sources + 0.1 * sources.sum(0))}


def test_players_are_the_excerpt_within_16_bits_at_one_gain(tmp_path):
    track, methods = make_song("Déjà vu / 100 %", 1.0)
    loud = Stems(8 * methods["mean"].audio)
    entry = write_players(tmp_path, track, {"mean": methods["mean"], "Loud": loud}, duration_s=0.5, start_s=0.25)
    peak = np.abs(loud.read(11025, 33075)).max()
    assert entry["gain_db"] == pytest.approx(20 * np.log10(0.999 / peak))
    gain = 10 ** (entry["gain_db"] / 20)
    expected = {
        ("mixture", "mixture"): track.mixture,
        ("mean", "bass"): methods["mean"]["bass"],
        ("Loud", "drums"): loud["drums"],
    }
    for file in entry["files"]:
        samples, rate = sf.read(tmp_path / "report" / file["path"], dtype="float32", always_2d=True)
        assert (len(samples), rate) == (22050, 44100)
        assert np.abs(samples).max() < 0.9995, f"{file['path']} clips"
        if (file["method"], file["source"]) in expected:
            wanted = gain * expected[file["method"], file["source"]].read(11025, 33075)
            assert np.abs(samples.T - wanted).max() < 1.01 / 2**15
        assert int(file["waveform"][:2], 16) == pytest.approx(255 * np.abs(samples[:91]).max(), abs=2)
    assert [file["kind"] for file in entry["files"][::4]] == ["mixture", "reference", "method", "method"]
    assert read_players(tmp_path) == json.loads(json.dumps([entry]))


def test_flac_and_wav_hold_the_same_audio_and_the_other_form_is_gone(tmp_path):
    track, methods = make_song("song", 1.5)
    found = {}
    for form in ("wav", "flac"):
        entry = write_players(tmp_path, track, methods, form=form)
        found[form] = [sf.read(tmp_path / "report" / file["path"], dtype="int16")[0] for file in entry["files"]]
        assert {path.suffix for path in (tmp_path / "report/audio").rglob("*.*")} == {f".{form}", ".json"}
    # libsndfile scales floats for the two formats by 32768 and by 32767: a step apart
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one.astype(int), other.astype(int), rtol=0, atol=1)


def test_players_that_do_not_clip_keep_their_level_and_songs_replace_their_own_entry(tmp_path):
    (one, methods), (two, others) = make_song("one", 0.3), make_song("two", 0.3, references=False)
    write_players(tmp_path, one, methods)
    write_players(tmp_path, two, others)
    entry = write_players(tmp_path, one, {"mean": methods["mean"]})
    assert entry["gain_db"] == 0
    assert entry["duration_s"] == pytest.approx(0.3)
    assert [song["track"] for song in read_players(tmp_path)] == ["two", "one"]
    assert not any(file["kind"] == "reference" for file in read_players(tmp_path)[0]["files"])


def test_excerpt_is_where_most_sources_sound():
    rate = 1000
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 60 * rate))
    noise[0, :, : 40 * rate] = 0
    noise[1, :, : 35 * rate] = 0
    noise[2, :, 50 * rate :] *= 0.01
    noise[3] *= 8
    track = Track.from_arrays("song", noise.sum(0), noise, rate=rate)
    assert busiest_start_s(track, 10) == pytest.approx(40, abs=1)
    assert busiest_start_s(track, 100) == 0
    silent = Track.from_arrays("silence", 0 * noise.sum(0), rate=rate)
    assert busiest_start_s(silent, 10) == 25


def test_stems_of_another_length_or_with_nan_are_refused(tmp_path):
    track, methods = make_song("song", 0.2)
    short = Stems(methods["mean"].audio[..., :-1])
    with pytest.raises(AudioError, match="'song': mean has 8819 samples, the mixture has 8820"):
        write_players(tmp_path, track, {"mean": short})
    broken = methods["mean"].audio.copy()
    broken[1, 0, 5000] = np.nan
    with pytest.raises(AudioError, match="'song': mean has NaN"):
        write_players(tmp_path, track, {"mean": Stems(broken)})
    assert read_players(tmp_path) == []
    (tmp_path / "report/audio").mkdir(parents=True)
    (tmp_path / "report/audio/players.json").write_text("{")
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(AudioError, match=r"players\.json: damaged"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "CON", "nul", "a/b", "a\\b", "音楽", "A" * 300, "drums ", "x\0y", "é\udcff"]
)
def test_safe_names_suit_every_file_system_and_stay_apart(name):
    made = safe_name(name)
    assert made.isascii()
    assert 0 < len(made) < 50
    assert not set(made) - set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert made.partition("-")[0] not in {"con", "nul"} or "-" in made
    assert made.lower() != safe_name(name.swapcase() + "2").lower()


def test_safe_names_differ_where_names_differ_in_case_only():
    assert safe_name("drums") == "drums"
    assert len({safe_name(name).lower() for name in ("drums", "Drums", "DRUMS", "drums!", "drums?")}) == 5
