"""Danna-Sep as a whole is the published blend of its three networks, whether they are made for it or lie in a store."""

import json

import numpy as np
import pytest
import soundfile
import torch

from makers.audio import noise32
from makers.commands import command
from makers.golden import filled, settle
from makers.places import GOLDEN
from makers.weights import make_xumx
from stemfuse import load_separator
from stemfuse.blending.danna_sep import FILES
from stemfuse.experiments.stages.separate import separate_paths
from stemfuse.separators import SOURCES, MissingWeightsError, StemStore, check_separator
from stemfuse.separators.networks.demucs_v2 import DemucsFourDecodersNetwork
from stemfuse.separators.networks.unet_danna import UNetDannaNetwork, UNetDannaShape

SHARES = {
    "drums": (0.2, 0.2, 0.6),
    "bass": (0.1, 0.17, 0.73),
    "other": (0.0, 0.5, 0.5),
    "vocals": (0.2, 0.4, 0.4),
}
"""Of X-UMX, the U-Net and Demucs, as the paper has them."""

NETWORKS = {
    "xumx": make_xumx,
    "unet_danna": lambda: UNetDannaNetwork(UNetDannaShape(growth=1, layers=(1,) * 6, attention=8, bottom=8)),
    "demucs_danna": lambda: DemucsFourDecodersNetwork(2),
}


def save_networks(folder, bias=0.1):
    """Small networks under the published names."""
    folder.mkdir()
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        torch.save(settle(make(), bias).state_dict(), folder / FILES[name][1])
    return folder


def assert_blend(whole, parts, tolerance=1e-5):
    for source, shares in SHARES.items():
        expected = sum(share * parts[name][source].astype(float) for share, name in zip(shares, FILES, strict=True))
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(whole[source], expected, atol=tolerance * np.abs(expected).max())


def stems_of(separator, mixture):
    stems = separator.separate(mixture, 44_100)
    return {source: stems[source].read() for source in SOURCES}


def test_the_whole_is_the_blend_of_its_parts_and_its_networks_are_shared(tmp_path):
    folder, mixture = save_networks(tmp_path / "weights"), noise32(2, 60_000)
    separator = load_separator("danna_sep", weights=folder)
    parts = {name: stems_of(load_separator(name, weights=folder / FILES[name][1]), mixture) for name in FILES}
    assert_blend(stems_of(separator, mixture), parts)
    soundfile.write(tmp_path / "song.wav", mixture.T, 44_100, subtype="FLOAT")
    options = {"weights": str(folder)}
    store = StemStore(tmp_path / "store")
    arguments = [str(tmp_path / "song.wav")], "danna_sep", options, store.root
    (entry,) = separate_paths(*arguments, workers=1)
    keys = store.keys()
    names = sorted(key.rpartition("-")[0] for key in keys)
    assert names == ["danna_sep", "demucs_danna", "unet_danna", "xumx"]
    xumx = load_separator("xumx", weights=folder / "xumx_mwf.pth")
    assert StemStore.key(xumx) in keys
    assert entry["path"].split("/")[-3] == StemStore.key(separator)


def test_it_keeps_the_rules(tmp_path):
    check_separator(load_separator("danna_sep", weights=save_networks(tmp_path / "weights", bias=1e-4)), seconds=0.3)


def test_networks_are_found_in_their_own_folders_too(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path))
    separator = load_separator("danna_sep")
    with pytest.raises(MissingWeightsError, match=r"put xumx_mwf\.pth, unet_attention\.pth, demucs_4_decoders\.pth"):
        separator.fingerprint()
    save_networks(tmp_path / "weights")
    (tmp_path / "danna_sep").mkdir()
    (tmp_path / "weights/xumx_mwf.pth").rename(tmp_path / "danna_sep/xumx_mwf.pth")
    for name in ("unet_danna", "demucs_danna"):
        (tmp_path / name).mkdir()
        (tmp_path / "weights" / FILES[name][1]).rename(tmp_path / name / FILES[name][1])
    assert list(load_separator("danna_sep").parts()) == list(FILES)
    listed = json.loads(command("list", "separators", "--json").stdout)["danna_sep"]
    assert [file["state"] for file in listed["weights"]] == ["present"] * 3


@pytest.mark.slow
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the golden numbers beside the repository")
def test_the_published_sizes_filled_by_the_golden_rule_blend_to_the_whole(tmp_path):
    for name, golden in zip(FILES, ("xumx_danna", "unet_danna", "demucs_danna_48"), strict=True):
        torch.save(filled(golden), tmp_path / FILES[name][1])
    separator, mixture = load_separator("danna_sep", weights=tmp_path), noise32(2, 44_100)
    whole = stems_of(separator, mixture)
    assert_blend(whole, {name: stems_of(part, mixture) for name, part in separator.made.items()})
