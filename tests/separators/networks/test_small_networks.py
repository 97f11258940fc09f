"""How the packaged networks were made: the source of real parts by their names, and last layers by least squares."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from stemfuse.analysis import song_sdr
from stemfuse.separators import SOURCES, load_separator
from stemfuse.separators.networks.training.trainable import trainable_class

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TINY = {
    "demucs_small": {"channels": 2, "depth": 2, "resample": False, "chunk_s": 0.5},
    "tfc_tdf_small": {
        "source": "all", "n_fft": 256, "hop": 128, "bins": 32, "frames": 16, "levels": 2, "layers": 1, "growth": 4,
    },
    "xumx_small": {"n_fft": 2048, "bandwidth_hz": 11_000, "hidden": 4, "layers": 1, "chunk_s": 0.5},
}  # fmt: skip


def script(name):
    """One of the scripts as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def last_layers():
    return script("last_layers")


@pytest.fixture(scope="module")
def small_networks():
    return script("small_networks")


def tiny(last_layers, name, seed):
    torch.manual_seed(seed)
    objective = trainable_class(last_layers.FAMILIES[name])(**TINY[name]).objective().eval()
    return objective, last_layers.SYSTEMS[name](objective)


@pytest.mark.parametrize("rounds", [0, 4])
@pytest.mark.parametrize("name", ["demucs_small", "tfc_tdf_small"])
def test_a_planted_last_layer_is_found_again(last_layers, name, rounds):
    """References are what a network with another last layer gives: without a ridge the error is gone."""
    objective, system = tiny(last_layers, name, 0)
    mixtures = [torch.randn(1, 2, trainable_class(last_layers.FAMILIES[name])(**TINY[name]).length) for _ in range(3)]
    with torch.no_grad():
        kept = {key: value.clone() for key, value in objective.network.state_dict().items()}
        system.layer.weight += 0.1 * torch.randn_like(system.layer.weight)
        system.layer.bias += 0.1
        planted = [objective.separate(mixture) for mixture in mixtures]
        objective.network.load_state_dict(kept)
        before = sum(float((objective.separate(m) - p).square().sum()) for m, p in zip(mixtures, planted, strict=True))
        for mixture, reference in zip(mixtures, planted, strict=True):
            # the middle alone is known of a reference that is shorter than the mixture
            missing = mixture.shape[-1] - reference.shape[-1]
            system.add(mixture, torch.nn.functional.pad(reference, (missing // 2, missing - missing // 2)))
        system.finish(0.0, rounds)
        after = sum(float((objective.separate(m) - p).square().sum()) for m, p in zip(mixtures, planted, strict=True))
    assert after < 1e-6 * before


@pytest.mark.parametrize("name", ["demucs_small", "tfc_tdf_small"])
def test_rounds_raise_the_mean_sdr(last_layers, name):
    """Where a source is loud in one chunk and soft in another, least squares alone do not care for the soft one."""
    objective, system = tiny(last_layers, name, 0)
    length = trainable_class(last_layers.FAMILIES[name])(**TINY[name]).length
    levels = torch.tensor([[1.0, 0.1, 0.5, 0.3], [0.1, 1.0, 0.3, 0.5], [0.2, 0.1, 1.0, 0.2]])
    songs = [0.1 * level[:, None, None] * torch.randn(1, 4, 2, length) for level in levels]
    with torch.no_grad():
        for song in songs:
            system.add(song.sum(dim=1), song)
        kept = {key: value.clone() for key, value in objective.network.state_dict().items()}
        means = []
        for rounds in (0, 8):
            objective.network.load_state_dict(kept)
            system.finish(1e-9, rounds)
            means.append(np.mean(last_layers.mean_sdr(objective, [(song.sum(dim=1), song) for song in songs])))
    assert means[1] > means[0] + 0.01


def test_masks_of_a_fixed_share_are_found(last_layers):
    """Sources that are fixed shares of the mixture have constant masks, whatever the features are."""
    objective, system = tiny(last_layers, "xumx_small", 0)
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])[None, :, None, None]
    with torch.no_grad():
        mixture = torch.randn(1, 2, 22_050)
        for _ in range(2):
            system.add(mixture, shares * mixture[:, None])
        system.finish(1e-6)
        masks = objective.network(torch.rand(1, 2, 1025, 5))
    np.testing.assert_allclose(masks, (shares[..., None]).expand(masks.shape), atol=0.02)


def test_a_strong_ridge_changes_nothing(last_layers):
    for name in TINY:
        objective, system = tiny(last_layers, name, 1)
        with torch.no_grad():
            mixture = torch.randn(1, 2, trainable_class(last_layers.FAMILIES[name])(**TINY[name]).length)
            before = objective.separate(mixture)
            system.add(mixture, torch.randn(1, 4, *mixture.shape[1:]))
            system.finish(1e9)
            torch.testing.assert_close(objective.separate(mixture), before, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("BGVOX 1", "vocals"), ("SY BASS", "bass"), ("PAD + BASS", None), ("HATS", "drums"), ("CRUSH BREAK", "drums"),
        ("MELODY BREAK", "other"), ("FILL BEAT", "drums"), ("FILL PIANO", "other"), ("SNARE BUILD", "drums"),
        ("BUILD", "other"), ("MINILOGUE_SYNTH", "other"), ("SCRATCH BEAT", "drums"), ("FILL SCRATCH", "other"),
    ],
)  # fmt: skip
def test_parts_have_the_source_that_their_name_says(small_networks, name, source):
    assert small_networks.source_of(Path(f"1.Song_Stem_{name}_mobile.m4a")) == source


def test_passages_of_checks_and_rests_are_left_out(small_networks):
    played = np.zeros((2, 10 * 44_100), np.float32)
    played[:, 2 * 44_100 : 9 * 44_100] = np.arange(2, 9).repeat(44_100)
    kept = small_networks.without_rests(played, (4, 6))
    assert sorted(set(kept[0].tolist())) == [2, 3, 6, 7, 8]
    assert kept.shape == (2, 5 * 44_100)


def test_songs_are_drawn_from_parts_and_single_sounds(small_networks, tmp_path, monkeypatch):
    """Sources sound unless they rest, the checked song is never read, and the same seed gives the same song."""
    rng = np.random.default_rng(0)
    for folder, names in {
        "album/1.Song": ("VOX LEAD", "KICK", "SY BASS", "PLUCK"),
        "album/7.Francium": ("VOX LEAD",),
        "sounds": ("bd_a", "sn_a", "drum_tom_hi_a", "drum_tom_mid_a", "drum_tom_lo_a", "elec_tick", "perc_snap",
                   "drum_cymbal_closed", "drum_cymbal_open", "drum_cymbal_soft", "drum_splash_a", "loop_amen",
                   "bass_hit_c", "guit_a"),
    }.items():  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            path = tmp_path / folder / (f"{name}.flac" if folder == "sounds" else f"1.Song_Stem_{name}_mobile.m4a")
            if "Francium" in folder:
                path.write_text("not audio: it would not be read without an error")
                continue
            with path.open("wb") as file:
                soundfile.write(file, 0.2 * rng.standard_normal((3 * 44_100, 2)), 44_100, format="FLAC")
    stock = small_networks.Stock(tmp_path / "album", tmp_path / "sounds")
    monkeypatch.setattr(small_networks, "RESTS", {**dict.fromkeys(SOURCES, 0.0), "bass": 1.0})
    assert [bool(stem.any()) for stem in small_networks.drawn_song(stock, (1, 0), 2.0)] == [True, False, True, True]
    monkeypatch.setattr(small_networks, "RESTS", dict.fromkeys(SOURCES, 0.0))
    songs = [small_networks.drawn_song(stock, (1, index), 2.0) for index in (0, 1, 0)]
    assert (songs[0] == songs[2]).all()
    assert not (songs[0] == songs[1]).all()
    assert songs[0].shape == (4, 2, 88_200)
    assert all(np.abs(song.astype(float)).max(axis=(1, 2)).min() > 0 for song in songs)
    assert all(np.abs(song.sum(axis=0, dtype=int)).max() < 1 << 15 for song in songs)


def test_real_songs_are_scored_where_they_have_a_source(monkeypatch, tmp_path, capsys):
    """Whole-song SDR of what the song has; the mean of two equal separators is either of them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    real_songs = script("real_songs")
    rng = np.random.default_rng(0)
    (tmp_path / "song").mkdir()
    stems = {source: 0.1 * rng.standard_normal((44_100, 2)).astype(np.float32) for source in ("drums", "vocals")}
    for source, samples in stems.items():
        soundfile.write(tmp_path / "song" / f"{source}.wav", samples, 44_100, subtype="FLOAT")
    names = ["centre_channel", "centre_channel"]
    table = real_songs.measured(real_songs.songs_in(tmp_path), names)
    estimate = load_separator("centre_channel").separate(sum(stems.values()).T, 44_100)["vocals"].read().T
    expected = song_sdr(stems["vocals"][None], estimate[None])
    assert table["centre_channel"]["song"]["vocals"] == pytest.approx(float(expected[0]), abs=1e-3)
    assert table["mean of all"]["song"] == pytest.approx(table["centre_channel"]["song"], abs=1e-4)
    real_songs.show(table)
    assert f"| {expected[0]:.2f} |" in capsys.readouterr().out
