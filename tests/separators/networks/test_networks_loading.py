"""Files of weights in every published form, and the separators made of them: small networks with random weights."""

import copy
import dataclasses
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from makers.golden import settle
from makers.places import DATA, SHARED
from makers.weights import make_tfc_tdf, make_xumx
from stemfuse.separators import MissingWeightsError, SeparatorError, check_separator
from stemfuse.separators.networks.chunking import ChunkedSpectrograms, separate_in_halves, separate_overlapping
from stemfuse.separators.networks.demucs_v2 import DemucsFourDecodersNetwork, DemucsV2Network, demucs_state
from stemfuse.separators.networks.demucs_v2_separator import DemucsDanna, DemucsV2
from stemfuse.separators.networks.ismir2020 import BLOCKS, CaCUNet, UNetShape, ismir2020_state
from stemfuse.separators.networks.ismir2020_separator import Ismir2020
from stemfuse.separators.networks.kuielab_mdx_separator import MIXED, ORDER, KuielabMDX, KuielabMDXDemucs
from stemfuse.separators.networks.resunet import ResUNetSubband, resunet_state
from stemfuse.separators.networks.resunet_separator import ResUNet143Subband
from stemfuse.separators.networks.spectrogram import ComplexAsChannels
from stemfuse.separators.networks.tfc_tdf import TFCTDFUNet, tfc_tdf_state
from stemfuse.separators.networks.tfc_tdf_separator import TFCTDF
from stemfuse.separators.networks.unet_danna import UNetDannaNetwork, UNetDannaShape, unet_danna_state
from stemfuse.separators.networks.unet_danna_separator import UNetDanna
from stemfuse.separators.networks.xumx import XUMXNetwork, xumx_state
from stemfuse.separators.networks.xumx_separator import XUMX
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights import published
from stemfuse.separators.weights.tensors import load_strictly, read_state, save_state

pytestmark = pytest.mark.slow

RATE = 44100
KEYS = SHARED / "facts" / "keys"


@pytest.fixture(autouse=True)
def nothing_from_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path / "own"))


@pytest.fixture(scope="module")
def mixture():
    """Noise that swells, its channels half alike: 1.1 s."""
    noise = np.random.default_rng(0).standard_normal((3, 48_511))
    return (np.linspace(0.02, 0.3, noise.shape[1]) * (noise[:2] + noise[2])).astype(np.float32)


def randomised(name, bias=0.1):
    """A small network with random weights and statistics, the same each time, for inference."""
    torch.manual_seed(0)
    return settle(MAKE[name](), bias)


SHAPE = UNetShape(block="tfc_tdf", blocks=5, bins=64, time_levels=(0,), growth=4, channels=4, layers=2)
MAKE = {
    "ismir2020": lambda: CaCUNet(SHAPE),
    "tfc_tdf_v2": make_tfc_tdf,
    "demucs_v2": lambda: DemucsV2Network(2),
    "demucs_danna": lambda: DemucsFourDecodersNetwork(2),
    "resunet143_subband": lambda: ResUNetSubband((2, 2, 2, 2, 4, 2)),
    "unet_danna": lambda: UNetDannaNetwork(UNetDannaShape(growth=1, layers=(1,) * 6, attention=8, bottom=8)),
    "xumx": make_xumx,
}
SEPARATORS = {
    "ismir2020": lambda file: Ismir2020(file, hop=64, frames=192),
    "tfc_tdf_v2": lambda file: TFCTDF(file, n_fft=256, hop=64, frames=16),
    "demucs_v2": lambda file: DemucsV2(file, segment_s=0.5),
    "demucs_danna": DemucsDanna,
    "resunet143_subband": lambda file: ResUNet143Subband(file, segment_s=0.5),
    "unet_danna": UNetDanna,
    "xumx": XUMX,
}


class TrainingProgram(dict):
    """A class of some training program, which checkpoints name and which must not be made."""

    def __init__(self, *arguments):
        super().__init__(*arguments)

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the file was run')",))


class Shell:
    """Runs a command when a careless reader makes it."""

    def __reduce__(self):
        return (os.system, ("echo the command of the file was run; exit 3",))


def save_plain(state, path):
    torch.save(state, path)


def save_old_format(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_lightning(state, path):
    torch.save({"epoch": 3, "state_dict": state, "hyper_parameters": TrainingProgram(), "callbacks": {dict: 1}}, path)


def save_ignite(state, path):
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}, "optimizer": {}}, path)


FORMS = {
    "weights.pt": save_plain,
    "old.pth": save_old_format,
    "lightning.ckpt": save_lightning,
    "ignite.pt": save_ignite,
    "weights.safetensors": lambda state, path: save_file(state, path),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MAKE)
def test_every_form_gives_the_same_weights(name, form, tmp_path):
    state = {key: tensor.contiguous() for key, tensor in randomised(name).state_dict().items()}
    FORMS[form](state, tmp_path / form)
    mapping = {
        "ismir2020": ismir2020_state,
        "tfc_tdf_v2": tfc_tdf_state,
        "resunet143_subband": resunet_state,
        "unet_danna": unet_danna_state,
        "xumx": xumx_state,
    }.get(name, demucs_state)
    loaded = mapping(read_state(tmp_path / form), tmp_path / form)[0]
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items())


@pytest.fixture
def weights(tmp_path):
    """Saves a small network of a kind and says where."""

    def save(name, **more):
        torch.save(randomised(name, **more).state_dict(), tmp_path / f"{name}.pt")
        return tmp_path / f"{name}.pt"

    return save


@pytest.mark.parametrize("name", MAKE)
def test_separators_keep_the_rules(name, weights):
    # biases answer silence, too
    check_separator(SEPARATORS[name](weights(name, bias=1e-4)), seconds=0.3)


def test_scripts_give_their_weights(tmp_path):
    network = randomised("demucs_danna")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(1, 2, 9000)).save(tmp_path / "script.pth")
        loaded = read_state(tmp_path / "script.pth")
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in network.state_dict().items())


def export(network, path, frames):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = (torch.zeros(1, 4, network.shape.bins, frames),)
        torch.onnx.export(network, given, path, opset_version=13, dynamo=False, input_names=["input"])


def test_onnx_files_run_and_load(tmp_path, mixture, weights):
    network = randomised("tfc_tdf_v2")
    export(network, tmp_path / "vocals.onnx", frames=16)
    by_order = TFCTDF(tmp_path / "vocals.onnx", n_fft=256, hop=64).separate(mixture, RATE).audio
    by_runtime = (
        TFCTDF(tmp_path / "vocals.onnx", n_fft=256, hop=64, runtime="onnxruntime").separate(mixture, RATE).audio
    )
    by_name = TFCTDF(weights("tfc_tdf_v2"), n_fft=256, hop=64, frames=16).separate(mixture, RATE).audio
    assert np.abs(by_order - by_name).max() < 1e-5 * np.abs(by_name).max()
    assert np.abs(by_runtime - by_name).max() < 1e-5 * np.abs(by_name).max()


@pytest.mark.parametrize("fault", ["another order", "a node less", "no graph"])
def test_onnx_files_of_other_networks_are_refused(fault, tmp_path):
    path = tmp_path / "vocals.onnx"
    export(MAKE["tfc_tdf_v2"]().eval(), path, frames=16)
    model = onnx.load(path)
    nodes = model.graph.node
    if fault == "another order":
        matrix = next(node for node in nodes if node.op_type == "MatMul")
        matrix.op_type = "Conv"
    elif fault == "a node less":
        nodes.remove(next(node for node in reversed(nodes) if node.op_type == "ConvTranspose"))
    path.write_bytes(b"nothing" if fault == "no graph" else model.SerializeToString())
    with pytest.raises(SeparatorError, match=r"vocals\.onnx: (no TFC-TDF-U-Net|is no ONNX file)"):
        TFCTDF(path).separate(np.zeros((2, 100), np.float32), RATE)


TABLES = {
    "kuielab_v2_L11_submission": (tfc_tdf_state, TFCTDFUNet),
    "kuielab_B_drums_L9_submission": (tfc_tdf_state, TFCTDFUNet),
    **{f"kuielab_v2_lightning_{source}": (tfc_tdf_state, TFCTDFUNet) for source in SOURCES},
    **{
        f"ismir2020_{name}": (ismir2020_state, CaCUNet)
        for name in (
            "deprecated_tdc_17",
            "deprecated_tfctdf_17",
            "deprecated_tfctdf_large",
            "lightning_tfctdf_7_spec2spec",
            "lightning_tfctdf_large_spec2spec",
        )
    },
    "demucs_v2_64": (demucs_state, DemucsV2Network),
    "demucs_v2_48": (demucs_state, DemucsV2Network),
    "danna_demucs_4dec_48": (demucs_state, DemucsFourDecodersNetwork),
    "resunet143_subbandtime": (resunet_state, ResUNetSubband),
    "danna_unet_attention": (unet_danna_state, UNetDannaNetwork),
    "danna_xumx": (xumx_state, XUMXNetwork),
    "xumx_asteroid": (xumx_state, XUMXNetwork),
}


@pytest.mark.skipif(not KEYS.is_dir(), reason="needs the tables of keys beside the repository")
@pytest.mark.parametrize("table", TABLES)
def test_published_names_and_shapes_are_ours(table):
    rows = [line.split("\t") for line in (KEYS / f"{table}.tsv").read_text().splitlines()]
    sizes = {row[0]: () if row[1] == "scalar" else tuple(map(int, row[1].split("x"))) for row in rows}
    mapping, network = TABLES[table]
    # no memory is needed for shapes
    state, shape, *_ = mapping({key: torch.empty(size, device="meta") for key, size in sizes.items()}, Path(table))
    with torch.device("meta"):
        own = network(shape).state_dict()
    assert {key: tensor.shape for key, tensor in state.items()} == {key: tensor.shape for key, tensor in own.items()}


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_are_recognised(block):
    levels = (0, 1) if block in ("tfc", "tfc_tdf", "tdc_rnn") else ()
    shape = dataclasses.replace(SHAPE, block=block, time_levels=levels)
    state, found, deprecated = ismir2020_state(CaCUNet(shape).state_dict(), Path("weights"))
    assert not deprecated
    # convolutions do not depend on the number of bins, nor fully connected layers on the convolutions' sizes
    found = dataclasses.replace(found, bins=shape.bins, growth=shape.growth, layers=shape.layers)
    assert found == shape
    load_strictly(CaCUNet(found), state, Path("weights"))


def test_networks_of_identity_reconstruct_songs():
    song = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 70_001)).astype(np.float32))
    for transform, neighbours in (
        (ComplexAsChannels(6144, 1024, 3073), True),
        (ComplexAsChannels(2048, 1024, 1025), False),
        (ComplexAsChannels(2048, 1024, 1025, centred=False), True),
    ):
        trim = 5000 if not transform.centred else 5120
        chunked = ChunkedSpectrograms(torch.nn.Identity(), transform, 32, trim, neighbours)
        blocks = chunked.separate(lambda start, stop: song[:, start:stop], 70_001)
        assert (torch.cat([*blocks], dim=-1) - song).abs().max() < 1e-5


class Copies(torch.nn.Module):
    """Gives every source the mixture, as long as it is."""

    def valid_length(self, length):
        return length + 500

    def forward(self, mixture):
        return mixture[:, None].expand(-1, 4, -1, -1)


def test_chunks_of_identity_join_without_a_seam():
    song = torch.from_numpy(np.random.default_rng(2).standard_normal((2, 70_001)).astype(np.float32))
    read, time = (lambda start, stop: song[:, start:stop]), 70_001
    for overlap in (0.0, 0.25, 0.5):
        blocks = separate_overlapping(read, time, Copies(), 9_001, overlap, Copies().valid_length)
        assert (torch.cat([*blocks], dim=-1) - song).abs().max() < 1e-5
    assert (torch.cat([*separate_in_halves(read, time, Copies(), 8_000)], dim=-1) - song).abs().max() < 1e-6


@pytest.fixture
def submission(tmp_path):
    """A folder as KUIELab's, of small networks, and what they are."""
    folder = tmp_path / "submission"
    folder.mkdir()
    for index, source in enumerate(ORDER):
        network = randomised("tfc_tdf_v2", bias=0.1 * index)
        torch.save(network.state_dict(), folder / f"{source}.pt")
    mixer = torch.randn(8, 10, generator=torch.Generator().manual_seed(1)) / 10 + torch.eye(8, 10)
    torch.save({"linear.weight": mixer}, folder / "mixer.ckpt")
    torch.save(randomised("demucs_v2").state_dict(), folder / "demucs.th")
    return folder, mixer.numpy()


def test_submission_is_networks_mixer_and_blend(submission, mixture):
    folder, mixer = submission
    estimates = [
        TFCTDF(folder / f"{source}.pt", source, frames=20).separate(mixture, RATE).audio[0] for source in ORDER
    ]
    rows = mixer @ np.concatenate([*estimates, mixture])
    expected = {source: rows[2 * index : 2 * index + 2] for index, source in enumerate(ORDER)}
    mixed = KuielabMDX(folder, frames=20).separate(mixture, RATE).audio
    for source, stem in zip(SOURCES, mixed, strict=True):
        assert np.allclose(stem, expected[source], atol=1e-5)
    demucs = DemucsV2(folder / "demucs.th", segment_s=0.5, overlap=0.5, standardise=True).separate(mixture, RATE).audio
    blend = KuielabMDXDemucs(folder, frames=20, segment_s=0.5).separate(mixture, RATE).audio
    for index, source in enumerate(SOURCES):
        share = MIXED[source]
        assert np.allclose(blend[index], share * expected[source] + (1 - share) * demucs[index], atol=1e-5)


def test_submission_keeps_the_rules_and_says_what_is_missing(submission):
    folder, _ = submission
    separator = KuielabMDX(folder, frames=20)
    assert set(separator.weights_sha256()) == {f"{source}.pt" for source in ORDER} | {"mixer.ckpt"}
    assert pickle.loads(pickle.dumps(separator)).fingerprint() == separator.fingerprint()
    assert separator.trained_on is None
    (folder / "bass.pt").unlink()
    (folder / "mixer.ckpt").unlink()
    with pytest.raises(MissingWeightsError, match=r"put bass.onnx, mixer.ckpt \(zenodo.org/records/5717356"):
        KuielabMDX(folder).fingerprint()


@pytest.mark.parametrize(
    "make", [Ismir2020, TFCTDF, DemucsV2, DemucsDanna, ResUNet143Subband, UNetDanna, XUMX, KuielabMDX, KuielabMDXDemucs]
)
def test_missing_weights_are_said_in_one_line(make, tmp_path):
    separator = make()
    assert separator.trained_on is None
    with pytest.raises(MissingWeightsError, match=r"put .* \(.*\) into .*own/") as caught:
        separator.separate(np.zeros((2, 100), np.float32), RATE)
    assert "\n" not in str(caught.value)


def test_weights_are_found_in_the_folder_and_known_by_their_digest(tmp_path, mixture):
    folder = tmp_path / "own" / "tfc_tdf_v2"
    folder.mkdir(parents=True)
    save_file(randomised("tfc_tdf_v2").state_dict(), folder / "vocals.safetensors")
    assert np.isfinite(TFCTDF(frames=8).separate(mixture, RATE).audio).all()
    export(randomised("tfc_tdf_v2"), folder / "bass.onnx", frames=16)
    with pytest.raises(SeparatorError, match=r"bass.onnx: is not the published file of this name .* expected 0c3e77b9"):
        TFCTDF(source="bass").separate(mixture, RATE)
    assert TFCTDF(folder / "bass.onnx", source="bass", n_fft=256, hop=64).trained_on is None


def test_files_trained_here_carry_their_options(tmp_path, mixture):
    path = tmp_path / "vocals.safetensors"
    network = randomised("tfc_tdf_v2")
    save_state(network, path, half=True, n_fft=256, hop=64, frames=16, trained_on=["synth/train"])
    separator = TFCTDF(path)
    assert separator.trained_on == ("synth/train",)
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "bare.pt")
    bare = TFCTDF(tmp_path / "bare.pt", n_fft=256, hop=64, frames=16)
    assert np.array_equal(separator.separate(mixture, RATE).audio, bare.separate(mixture, RATE).audio)
    # what is given counts more than the file's notes
    assert not np.array_equal(TFCTDF(path, frames=32).separate(mixture, RATE).audio, bare.separate(mixture, RATE).audio)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SeparatorError, match="SafetensorError"):
        TFCTDF(path).separate(mixture, RATE)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real weights beside the repository")
@pytest.mark.parametrize("name", ["cac_tdc_17_vocals_top1.pt", "cac_tdc_17_vocals_top2.pt", "kuielab_mixer.ckpt"])
def test_published_files_are_recognised(name, tmp_path):
    path = DATA / name
    row = published.find_published(path)
    assert row is not None
    assert row.trained_on == ["musdb18hq/train"]
    if name.endswith(".pt"):
        assert row.name == name
        assert Ismir2020(path).trained_on == ("musdb18hq/train",)
    copied = tmp_path / row.name
    copied.write_bytes(path.read_bytes())
    published.check_published(copied)
    copied.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SeparatorError, match="is not the published file of this name"):
        published.check_published(copied)


FAULTS = {
    "torn": (lambda state, path: path.write_bytes(b"PK\x03\x04 torn"), "no weights could be read"),
    "text": (lambda state, path: path.write_text("weights"), "is damaged or holds no weights"),
    "empty": (lambda state, path: torch.save({"epoch": 1}, path), "holds no named tensors"),
    "other": (lambda state, path: torch.save({"conv.weight": torch.zeros(2)}, path), "no TFC-TDF-U-Net v2"),
    "missing": (
        lambda state, path: torch.save({k: v for k, v in state.items() if k != "us.0.0.bias"}, path),
        "1 missing: us.0.0.bias",
    ),
    "surplus": (lambda state, path: torch.save(state | {"extra": torch.zeros(2)}, path), "1 unexpected: extra"),
    "shaped": (
        lambda state, path: torch.save(state | {"us.0.0.bias": torch.zeros(3)}, path),
        r"1 of other shapes: us.0.0.bias \(3,\) instead of \(8,\)",
    ),
    "shell": (
        lambda state, path: torch.save(state | {"run": Shell()}, path),
        r"asks for posix\.system, which is no part of a network",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_other_files_are_refused(fault, tmp_path):
    save, words = FAULTS[fault]
    save(randomised("tfc_tdf_v2").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(SeparatorError, match=words):
        TFCTDF(tmp_path / "weights.pt", n_fft=256, hop=64, frames=16).separate(np.zeros((2, 100), np.float32), RATE)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ismir2020(source="piano"), "got source='piano', expected one of drums"),
        (lambda: TFCTDF(frames=True), "expected a whole number"),
        (lambda: TFCTDF(runtime="tensorrt"), "expected 'torch' or 'onnxruntime'"),
        (lambda: TFCTDF(runtime="onnxruntime", device="cuda"), "onnxruntime runs on the CPU"),
        (lambda: ResUNet143Subband(segment_s=0.0), "got segment_s=0.0"),
        (lambda: DemucsDanna(segment_s=0.1), "got segment_s=0.1"),
        (lambda: UNetDanna(frames=32), "got frames=32"),
        (lambda: DemucsV2(overlap=1.0), "got overlap=1.0"),
        (lambda: DemucsV2(segment_s=0.0), "got segment_s=0.0"),
        (lambda: KuielabMDXDemucs(segment_s=-1.0), "got segment_s=-1.0"),
        (lambda: ComplexAsChannels(256, 256, 64), "a hop of at most n_fft / 2"),
    ],
)
def test_impossible_options_are_refused(make, words):
    with pytest.raises(SeparatorError, match=words):
        make()


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("ismir2020", lambda file: Ismir2020(file, block="tdc"), "got block='tdc', but .* has 'tfc_tdf'"),
        ("ismir2020", lambda file: Ismir2020(file, blocks=17), "got blocks=17, but .* has 5"),
        ("ismir2020", lambda file: Ismir2020(file, hop=64, frames=191), "got frames=191, expected a multiple of 2"),
        ("ismir2020", lambda file: Ismir2020(file, hop=64, frames=64), "64 frames are 4032 samples"),
        ("tfc_tdf_v2", lambda file: TFCTDF(file, frames=10), "got frames=10, expected a multiple of 4"),
        ("tfc_tdf_v2", lambda file: TFCTDF(file, runtime="onnxruntime"), "needs an ONNX file made for 256 frames"),
        ("tfc_tdf_v2", lambda file: TFCTDF(file, device="nowhere"), "device 'nowhere' cannot be used here"),
        ("demucs_v2", lambda file: DemucsV2(file, channels=64), "got channels=64, but .* has 2"),
        ("demucs_v2", DemucsDanna, "has weights of demucs_v2: take that separator"),
        ("demucs_danna", DemucsV2, "has weights of demucs_danna: take that separator"),
    ],
)
def test_options_that_weights_contradict_are_refused(name, make, words, weights):
    with pytest.raises(SeparatorError, match=words):
        make(weights(name)).separate(np.zeros((2, 100), np.float32), RATE)


@pytest.mark.parametrize("name", MAKE)
def test_separators_go_to_other_processes_without_their_networks(name, weights, mixture):
    separator = SEPARATORS[name](weights(name))
    stems = separator.separate(mixture, RATE).audio
    assert len(pickle.dumps(separator)) < 2000
    twin = copy.deepcopy(separator)
    assert repr(twin) == repr(separator)
    assert np.array_equal(twin.separate(mixture, RATE).audio, stems)
    assert separator.describe()["weights"].keys() == {f"{name}.pt"}
