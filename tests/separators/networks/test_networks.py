"""The published networks, written anew: equal to their authors' code in golden numbers, and with the real weights."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from makers.audio import clip_streams
from makers.golden import assert_golden, filled, golden, wiener_numbers
from makers.places import DATA, GOLDEN
from stemfuse.separators.networks.demucs_v2 import DemucsFourDecodersNetwork, DemucsV2Network, demucs_state
from stemfuse.separators.networks.demucs_v2_separator import DemucsDanna, DemucsV2
from stemfuse.separators.networks.ismir2020 import CaCUNet, ismir2020_state
from stemfuse.separators.networks.ismir2020_separator import Ismir2020
from stemfuse.separators.networks.kuielab_mdx import mixed, mixer_weights
from stemfuse.separators.networks.resunet import FilterBank, ResUNetSubband, resunet_state
from stemfuse.separators.networks.resunet_separator import ResUNet143Subband
from stemfuse.separators.networks.spectrogram import ComplexAsChannels
from stemfuse.separators.networks.tfc_tdf import TFCTDFUNet, tfc_tdf_state
from stemfuse.separators.networks.tfc_tdf_separator import TFCTDF
from stemfuse.separators.networks.unet_danna import UNetDannaNetwork, unet_danna_state
from stemfuse.separators.networks.unet_danna_separator import UNetDanna
from stemfuse.separators.networks.wiener import filtered_blocks, wiener_filter
from stemfuse.separators.networks.xumx import XUMXNetwork, xumx_state
from stemfuse.separators.networks.xumx_separator import XUMX
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights.tensors import load_strictly, read_state

RATE = 44100
SWAPPED = [0, 2, 1, 3]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the golden numbers beside the repository"),
]


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


def ismir2020(state, bins=None):
    tensors, shape, deprecated = ismir2020_state(state, Path("golden"))
    network = load_strictly(CaCUNet(dataclasses.replace(shape, bins=bins or shape.bins)), tensors, Path("golden"))
    if deprecated:
        return network
    # the authors' current code has time before frequency, and real parts before imaginary ones
    return lambda packed: network(packed[:, SWAPPED].transpose(2, 3))[:, SWAPPED].transpose(2, 3)


def tfc_tdf(state):
    tensors, shape, _ = tfc_tdf_state(state, Path("golden"))
    return load_strictly(TFCTDFUNet(shape), tensors, Path("golden"))


def demucs(state):
    tensors, channels, four_decoders = demucs_state(state, Path("golden"))
    network = DemucsFourDecodersNetwork(channels) if four_decoders else DemucsV2Network(channels)
    return load_strictly(network, tensors, Path("golden"))


ASTEROID = [SOURCES.index(source) for source in ("bass", "drums", "vocals", "other")]


def xumx(state):
    tensors, shape, joined = xumx_state(state, Path("golden"))
    network = load_strictly(XUMXNetwork(shape), tensors, Path("golden"))
    # asteroid has frames first
    return network if joined else lambda given: network(given.permute(1, 2, 3, 0))[:, ASTEROID].permute(1, 4, 0, 2, 3)


def unet_danna(state):
    tensors, shape = unet_danna_state(state, Path("golden"))
    return load_strictly(UNetDannaNetwork(shape), tensors, Path("golden"))


def resunet(state):
    tensors, widths = resunet_state(state, Path("golden"))
    return load_strictly(ResUNetSubband(widths), tensors, Path("golden"))


NETWORKS = {
    "demucs_danna_16": demucs,
    "demucs_danna_48": demucs,
    "demucs_v2_16": demucs,
    "demucs_v2_64": demucs,
    "ismir2020_new_tdc_7_small": functools.partial(ismir2020, bins=128),
    "ismir2020_new_tdc_rnn_7_small": ismir2020,
    "ismir2020_new_tdf_7_small": ismir2020,
    "ismir2020_new_tfc_7_small": functools.partial(ismir2020, bins=128),
    "ismir2020_new_tfc_tdf_7": ismir2020,
    "ismir2020_new_tfc_tdf_9_large": ismir2020,
    "ismir2020_old_tdc_17": ismir2020,
    "ismir2020_old_tfc_tdf_17": ismir2020,
    "kuielab_v2_drums_L11_submission": tfc_tdf,
    "kuielab_v2_drums_L9_submission": tfc_tdf,
    "kuielab_v2_vocals_L11_lightning": tfc_tdf,
    "resunet143_subband": resunet,
    "unet_danna": unet_danna,
    "xumx_asteroid": xumx,
    "xumx_danna": xumx,
}


HEAVY = (
    "resunet143_subband",
    "unet_danna",
    "kuielab_v2_drums_L9_submission",
    "demucs_danna_48",
    "demucs_v2_64",
    "kuielab_v2_vocals_L11_lightning",
)


@pytest.mark.parametrize("name", [slow(name) if name in HEAVY else name for name in NETWORKS])
def test_networks_are_the_authors(name):
    numbers, given = golden(f"{name}.net")
    network = NETWORKS[name](filled(name))
    with torch.inference_mode():
        assert_golden(numbers, network(torch.from_numpy(given)))


WAVES = {
    "demucs_danna_16": lambda file: DemucsDanna(file, channels=16),
    "demucs_v2_16": lambda file: DemucsV2(file, channels=16, segment_s=4.0, overlap=0.25),
    "demucs_v2_64": lambda file: DemucsV2(file, channels=64, segment_s=40.0, overlap=0.5),
    "ismir2020_old_tdc_17": lambda file: Ismir2020(file, block="tdc", blocks=17),
    "ismir2020_new_tfc_tdf_7": lambda file: Ismir2020(file, block="tfc_tdf", blocks=7),
    "kuielab_v2_drums_L11_submission": lambda file: TFCTDF(file, source="drums", frames=512),
    "kuielab_v2_vocals_L11_lightning": lambda file: TFCTDF(file, source="vocals", frames=256),
    "resunet143_subband": lambda file: ResUNet143Subband(file, segment_s=66_000 / RATE),
    "unet_danna": UNetDanna,
    "xumx_asteroid": XUMX,
    "xumx_danna": XUMX,
}


HEAVY_WAVES = (
    "demucs_danna_16",
    "xumx_asteroid",
    "ismir2020_new_tfc_tdf_7",
    "resunet143_subband",
    "unet_danna",
    "xumx_danna",
    "kuielab_v2_vocals_L11_lightning",
)


LONG_WAVES = ("demucs_v2_64", "kuielab_v2_drums_L11_submission")
"""Half a minute and more each; their families are among the slow ones at other sizes."""


def of_weight(name):
    """A name of a wave, marked by how long it takes."""
    marks = [pytest.mark.long] if name in LONG_WAVES else [pytest.mark.slow] if name in HEAVY_WAVES else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [*map(of_weight, WAVES)])
def test_songs_are_separated_as_by_the_authors(name, tmp_path):
    numbers, mixture = golden(f"{name}.wave")
    torch.save(filled(name), tmp_path / "weights.pt")
    stems = WAVES[name](tmp_path / "weights.pt").separate(mixture, RATE)
    audio = stems.audio[ASTEROID] if name == "xumx_asteroid" else stems.audio
    # asteroid leaves out what follows the last whole hop
    audio = audio[..., : numbers["output_shape"][-1]]
    assert_golden(numbers, audio[0] if len(stems.sources) == 1 else audio)


@pytest.mark.slow
def test_pieces_of_a_song_are_much_as_the_whole(tmp_path):
    """Danna-Sep's Demucs with bounded memory: as far as it sees only what is around it, the same."""
    _, mixture = golden("demucs_danna_16.wave")
    torch.save(filled("demucs_danna_16"), tmp_path / "weights.pt")
    whole = DemucsDanna(tmp_path / "weights.pt").separate(mixture, RATE).audio
    pieces = DemucsDanna(tmp_path / "weights.pt", segment_s=6.0).separate(mixture, RATE).audio
    assert np.square(pieces - whole).mean() < 1e-2 * np.square(whole).mean()


@pytest.mark.parametrize("loudness", ["small", "large"])
def test_wiener_filter_is_the_reference(loudness):
    # (frame, bin, channel, source) to (source, channel, bin, frame)
    magnitudes, mixture, expected = (
        torch.from_numpy(np.ascontiguousarray(numbers.T)) for numbers in wiener_numbers(loudness)
    )
    peak = expected.abs().max()
    assert (wiener_filter(magnitudes, mixture) - expected).abs().max() < 1e-9 * peak
    single = wiener_filter(magnitudes.float(), mixture.to(torch.complex64))
    assert (single - expected).abs().max() < 1e-5 * peak
    # a mask of what is silent says nothing
    masks = torch.where(mixture.abs() > 0, magnitudes / mixture.abs(), 0.0)
    blocks = filtered_blocks(lambda a, b: mixture[..., a:b], mixture.shape[-1], lambda a, b: masks[..., a:b])
    joined = torch.cat([block for _, block in blocks], dim=-1)
    assert (joined - wiener_filter(masks * mixture.abs(), mixture)).abs().max() < 1e-9 * peak


@pytest.fixture(scope="module")
def clip():
    """Mixture and vocals of the clip that stempeg packages."""
    return clip_streams(0, 4)


@pytest.mark.parametrize(("place", "sdr_db"), [pytest.param(1, 1.93, marks=pytest.mark.slow), (2, 1.74)])
def test_real_weights_separate_real_vocals(place, sdr_db, clip):
    mixture, vocals = clip
    file = DATA / f"cac_tdc_17_vocals_top{place}.pt"
    estimate = Ismir2020(file).separate(mixture, RATE).audio[0]
    if place == 1:
        numbers, given = golden("ismir2020_old_tdc_17_real_top1.net")
        with torch.inference_mode():
            assert_golden(numbers, ismir2020(read_state(file))(torch.from_numpy(given)))
        numbers = np.load(GOLDEN / "ismir2020_old_tdc_17_real_top1.wave.npz")
        beginning = mixture[:, : int(numbers["clip_stop"])]
        assert_golden(numbers, Ismir2020(file).separate(beginning, RATE).audio[0])
    frames = [audio[:, : 6 * RATE].reshape(2, 6, RATE).astype(float) for audio in (vocals, vocals - estimate)]
    reference, error = (np.square(audio).sum(axis=(0, 2)) for audio in frames)
    assert np.median(10 * np.log10(reference / error)) == pytest.approx(sdr_db, abs=0.05)
    seams = np.arange(56_560, mixture.shape[1], 56_560)
    bends = np.abs(np.diff(estimate, 2)).max(axis=0)
    # where one chunk ends and the next begins the curve bends no more than it does elsewhere
    assert max(bends[seam - 3 : seam + 2].max() for seam in seams) < np.quantile(bends, 0.999)


def test_packing_is_the_authors():
    numbers = np.load(GOLDEN / "cac_packing.npz")
    song = torch.from_numpy(numbers["input"].astype(np.float32))[None]
    length = song.shape[-1]
    kuielab = ComplexAsChannels(48, 16, 16)
    packed = kuielab.pack(song)
    assert np.abs(packed.numpy() - numbers["kuielab_stft"]).max() < 1e-5
    assert np.abs(kuielab.unpack(packed, length).numpy() - numbers["kuielab_istft_of_stft"]).max() < 1e-5
    current = ComplexAsChannels(64, 16, 33)
    packed = current.pack(song)
    assert np.abs(packed[:, SWAPPED].transpose(2, 3).numpy() - numbers["ismir_new_stft"]).max() < 1e-5
    restored = current.unpack(packed, length).transpose(1, 2).numpy()
    assert np.abs(restored - numbers["ismir_new_istft_of_stft"]).max() < 1e-5
    deprecated = ComplexAsChannels(64, 32, 33, centred=False)
    packed = deprecated.pack(song)
    assert np.abs(packed[0].numpy() - numbers["ismir_old_stft"]).max() < 1e-5
    restored = deprecated.unpack(packed, length)[0].numpy() - numbers["ismir_old_istft_of_stft"]
    assert np.abs(restored[:, 8:-8]).max() < 1e-5


def test_mixer_is_the_authors():
    numbers, given = golden("kuielab_mixer_real.net")
    file = DATA / "kuielab_mixer.ckpt"
    given = torch.from_numpy(given)
    assert_golden(numbers, mixed(given[:4], given[4], mixer_weights(file)))


def test_filter_bank_is_the_authors():
    numbers, given = golden("pqmf_4_64")
    bank = FilterBank()
    song = torch.from_numpy(given)
    new = bank.synthesis(bank.analysis(song)) - song
    assert new.square().mean() < 1e-6 * song.square().mean()
    kept = {key.removeprefix("pqmf."): torch.from_numpy(numbers[key]) for key in numbers if key.startswith("pqmf.")}
    bank.load_state_dict(kept)
    bands = bank.analysis(song)
    assert np.abs(bands.numpy() - numbers["analysis"]).max() < 1e-5
    assert np.abs(bank.synthesis(bands).numpy() - numbers["synthesis_of_analysis"]).max() < 1e-5
