"""Songs of other rates and channels than a separator or a fusion takes: converted, or told what helps."""

import numpy as np
import pytest

from makers.audio import noise32, sources, write_track
from makers.commands import command
from stemfuse.blending import load_fusion, make_fusion
from stemfuse.experiments import RunError
from stemfuse.experiments.conversion import check_format, comparable, fuse_track, save_weights
from stemfuse.mixers import GramMixer
from stemfuse.separators import SOURCES, Track, convert, load_separator

pytestmark = pytest.mark.slow

WEIGHTS = {source: {"a": 0.25, "b": 0.5} for source in SOURCES}


def song(channels=2, rate=44_100, length=3_000, seed=0):
    stems = {name: noise32(4, channels, length, seed=seed + at) for at, name in enumerate("ab")}
    return Track.from_arrays(f"song {seed}", stems["a"].sum(0), stems["a"], stems, rate)


@pytest.mark.parametrize(("channels", "rate"), [(2, 44_100), (3, 44_100), (6, 48_000)])
def test_a_fusion_of_mono_songs_fuses_each_channel(channels, rate):
    mono, track = song(1), song(channels, rate)
    fusion = make_fusion("fixed", blend=WEIGHTS).fit([mono])
    with pytest.raises(RunError, match=r"fitted on mono at .* Hz: add --convert"):
        fuse_track(fusion, track, allowed=False)
    fused = fuse_track(fusion, track, allowed=True)
    assert (fused.rate, fused.channels, fused.length) == (rate, channels, track.length)
    expected = 0.25 * track.stems["a"].audio + 0.5 * track.stems["b"].audio
    np.testing.assert_allclose(fused.audio, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "files"),
    [(1, ["weights.npz"]), (2, ["weights-left.npz", "weights-right.npz"]), (3, [f"weights-{n}.npz" for n in "123"])],
)
def test_weights_that_vary_in_time_are_written_for_songs_in_other_forms(tmp_path, channels, files):
    mono = song(1, 8_000, 8_000)
    fusion = GramMixer(epochs=1, frame_s=0.1).fit([mono])
    track = convert(mono, 2 * mono.rate, channels)
    save_weights(fusion, track, tmp_path, allowed=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize(("channels", "rate"), [(3, 44_100), (6, 44_100), (3, 48_000), (6, 22_050)])
def test_conversion_is_no_advice_where_it_does_not_help(channels, rate, allowed):
    tracks = [song(1), song(channels, rate)]
    with pytest.raises(RunError, match=f"1 of 2 .*{channels} channels at {rate} Hz.*: mix it down to stereo") as error:
        check_format(tracks, load_separator("centre_channel"), allowed)
    assert "--convert" not in str(error.value)
    fusion = make_fusion("fixed", blend=WEIGHTS).fit([song(2)])
    with pytest.raises(RunError, match="mix it down to stereo"):
        fuse_track(fusion, tracks[1], allowed)
    with pytest.raises(RunError, match=f"stereo at 44100 Hz.*{channels} channels.*: export it as {channels} channels"):
        comparable([song(2), tracks[1]], allowed)


@pytest.mark.parametrize(("channels", "rate"), [(1, 44_100), (2, 48_000), (1, 22_050)])
def test_conversion_is_advised_where_it_helps(channels, rate):
    tracks, separator = [song(channels, rate)], load_separator("centre_channel")
    with pytest.raises(RunError, match="add --convert"):
        check_format(tracks, separator)
    check_format(tracks, separator, allowed=True)


@pytest.mark.parametrize(
    ("rates", "wanted"), [((44_100, 48_000, 48_000), 48_000), ((44_100, 48_000), 44_100), ((22_050, 8_000), 22_050)]
)
def test_tracks_of_several_rates_are_made_one(rates, wanted):
    tracks = [song(rate=rate, seed=seed) for seed, rate in enumerate(rates)]
    assert comparable(tracks, allowed=False) == tracks
    with pytest.raises(RunError, match=r"tracks to fit on differ: .* Hz: add --convert"):
        comparable(tracks, allowed=False, one_rate=True)
    made = comparable(tracks, allowed=True, one_rate=True)
    assert {track.rate for track in made} == {wanted}
    assert [track.name for track in made] == [track.name for track in tracks]


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["conv1x1", "gram_mixer", "least_squares"])
def test_songs_of_two_rates_are_fitted_to_together(tmp_path, fusion):
    for seed, rate in enumerate((44_100, 48_000)):
        write_track(tmp_path / "band" / "train" / f"s{seed}", sources(rate, seed=seed), rate)
    out = tmp_path / f"x{'.safetensors' if fusion == 'gram_mixer' else '.npz'}"
    fit = ["fit", fusion, "--data", tmp_path / "band", "--store", tmp_path / "st", "--workers", 1, "--out", out]
    fit += ["--separators", "centre_channel,harmonic_percussive"]
    fit += [] if fusion == "least_squares" else ["--option", "epochs=1"]
    refused = command(*fit)
    assert (refused.returncode, "add --convert" in refused.stderr, "separate" in refused.stderr) == (1, True, False)
    fitted = command(*fit, "--convert")
    assert fitted.returncode == 0, fitted.stderr
    fused = ["fuse", out, tmp_path / "band", "--store", tmp_path / "st", "--out", tmp_path / "f", "--convert"]
    assert command(*fused, "--workers", 1).returncode == 0
    assert len(load_fusion(out).songs_) == 2
