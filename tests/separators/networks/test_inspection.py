"""What is said of a network's inside: counted by hand for small ones, and read from the published files."""

import hashlib
import json
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from makers.commands import command
from makers.graphs import write_description, write_graph
from makers.places import DATA
from makers.weights import small_xumx
from stemfuse import load_separator
from stemfuse.blending import MixingWeights
from stemfuse.separators import separator_class
from stemfuse.separators.networks.inspection import frequency_matrices, inspect_separator
from stemfuse.separators.networks.ismir2020 import CaCUNet, UNetShape
from stemfuse.separators.networks.tfc_tdf import TFCTDFShape, TFCTDFUNet

TOP1 = DATA / "cac_tdc_17_vocals_top1.pt"


def saved(tmp_path, network, name="net.pt"):
    torch.manual_seed(0)
    torch.save(network.state_dict(), tmp_path / name)
    return tmp_path / name


def test_operations_of_convolutions_are_those_that_a_pencil_gives(tmp_path):
    shape = UNetShape(block="tdc", blocks=3, bins=64, growth=4, channels=4, layers=2)
    file = saved(tmp_path, CaCUNet(shape))
    separator = load_separator("ismir2020", weights=file, n_fft=128, hop=64, frames=192)
    found = inspect_separator(separator)
    (network,) = found.networks.values()
    frames, chunk = 192, separator._network.chunk
    song = chunk - 2 * separator._network.trim
    # kernels of 2 and 3 bins, from 4 or 8 channels to 4
    counted = {
        "first_conv": 2 * frames * 64 * 4 * 4 * 2,
        "encoders.0": 2 * frames * 64 * 4 * (4 + 8) * 3,
        "downsamplings.0": 2 * frames * 32 * 4 * 4 * 2,
        "mid_block": 2 * frames * 32 * 4 * (4 + 8) * 3,
        "upsamplings.0": 2 * frames * 32 * 4 * 4 * 2,
        "decoders.0": 2 * frames * 64 * 4 * (8 + 12) * 3,
        "last_conv": 2 * frames * 65 * 4 * 4 * 2,
    }
    layers = {layer.name: layer for layer in network.layers}
    for name, operations in counted.items():
        assert layers[name].operations == pytest.approx(operations * 44_100 / song)
    assert found.operations == pytest.approx(sum(counted.values()) * 44_100 / song)
    assert network.parameters == sum(tensor.numel() for tensor in separator._network.network.parameters())
    assert {layer.name for layer in network.blocks()} == counted.keys()
    # all convolutions are within a frame; two of kernel 3 in each of three blocks, those below cover twice as much
    assert network.reach["STFT frames"][:2] == (0, 0)
    before, after, _ = network.reach["bins"]
    assert 1 + 2 * 2 * 2 <= before + after + 1 <= 1 + 2 * (2 + 2 + 2 * 2) + 2 * 2
    assert not network.is_recurrent


def test_recurrent_layers_are_counted_and_hear_everything(tmp_path):
    found = inspect_separator(load_separator("xumx", weights=saved(tmp_path, small_xumx())))
    (network,) = found.networks.values()
    layers = {layer.name: layer for layer in network.layers}
    lstm = layers["layer_lstm.bass"]
    frames, bias = lstm.output[0], 2 * 2 * 2 * 4 * 4
    assert lstm.operations * 3 == pytest.approx(2 * frames * (lstm.parameters - bias))
    assert network.is_recurrent
    assert network.matrices == {}


def test_matrices_over_frequency_are_products_of_the_bottlenecks_layers(tmp_path):
    network = TFCTDFUNet(TFCTDFShape(levels=2, layers=1, growth=4, bins=64))
    separator = load_separator("tfc_tdf_v2", weights=saved(tmp_path, network), n_fft=256, hop=64, frames=16)
    found = inspect_separator(separator)
    matrices = found.matrices()["vocals"]
    blocks = ["encoding_blocks.0", "encoding_blocks.1", "bottleneck_block", "decoding_blocks.0", "decoding_blocks.1"]
    assert list(matrices) == [f"{block}.tdf" for block in blocks]
    tdf = separator._network.network.encoding_blocks[1].tdf
    expected = tdf[3].weight @ tdf[0].weight
    np.testing.assert_allclose(matrices["encoding_blocks.1.tdf"], expected.detach().numpy(), atol=1e-6)
    assert [len(matrix) for matrix in matrices.values()] == [64, 32, 16, 32, 64]
    assert found.bands() == {"vocals": 64 * 44_100 / 256}
    # a layer alone is its weights, and one that changes the number of bins is none
    single = nn.ModuleDict({"a": nn.Sequential(nn.Linear(6, 6)), "b": nn.Sequential(nn.Linear(6, 5))})
    assert list(frequency_matrices(single)) == ["a"]


def test_methods_without_networks_and_fusions_are_looked_into_too(tmp_path):
    found = inspect_separator(load_separator("centre_channel"))
    assert (found.parameters, found.operations, found.networks) == (0, 0.0, {})
    assert found.seconds > 0
    file = saved(tmp_path, TFCTDFUNet(TFCTDFShape(levels=2, layers=1, growth=4, bins=64)))
    options = {"weights": str(file), "n_fft": 256, "hop": 64, "frames": 16}
    blend = MixingWeights.same_source({"vocals": {"centre_channel": 0.5, "net": 0.5}})
    blend.save(tmp_path / "blend.npz")
    named = {"net": {"name": "tfc_tdf_v2", "options": options}}
    both = inspect_separator(load_separator(str(tmp_path / "blend.npz"), separators=named))
    assert list(both.members) == ["centre_channel", "net"]
    alone = inspect_separator(load_separator("tfc_tdf_v2", **options))
    assert both.parameters == alone.parameters > 0
    assert both.operations == alone.operations > 0
    assert list(both.matrices()) == ["net vocals"]
    assert both.bands() == {"net vocals": 64 * 44_100 / 256}
    assert json.loads(json.dumps(both.record()))["members"]["net"]["parameters"] == alone.parameters


class Gain(torch.nn.Module):
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return 0.25 * audio


def adapters(folder):
    """By name, the options of separators that run what somebody else wrote."""
    one = {"chunk": 1000, "input": "1 channel time", "outputs": [{"axes": "1 channel time", "sources": ["vocals"]}]}
    write_graph(folder / "net.onnx", [1, 2, 1000])
    onnx = write_description(folder / "onnx.yaml", file="net.onnx", **one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Gain()).save(str(folder / "net.pt"))
    script = write_description(folder / "script.yaml", file="net.pt", **one)
    code = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2] + '/vocals.wav')"
    return {
        "onnx": {"description": str(onnx)},
        "torchscript": {
            "description": str(script),
            "sha256": hashlib.sha256((folder / "net.pt").read_bytes()).hexdigest(),
        },
        "command": {
            "arguments": [sys.executable, "-c", code, "{mixture}", "{folder}"],
            "stems": ["vocals"],
            "version": "1",
        },
    }


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("onnx", "onnxruntime runs its file"),
        ("torchscript", "its file is a program, which torch runs as a whole"),
        ("command", "another program separates"),
    ],
)
def test_what_others_run_is_said_not_to_be_looked_into(tmp_path, name, why):
    """No "no parameters" of a network that has some, and code of others only where it is trusted."""
    given = [f"{key}={json.dumps(value)}" for key, value in adapters(tmp_path)[name].items()]
    named = ["inspect", name, *(part for option in given for part in ("--option", option))]
    if name != "onnx":
        refused = command(*named)
        assert (refused.returncode, "add --trust" in refused.stderr) == (2, True)
        named.append("--trust")
    done = command(*named)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: vocals; cannot be looked into ({why}); ")
    assert done.stdout.rstrip().endswith("s here for a second of music")
    assert done.stdout.count("\n") == 1
    record = json.loads(command(*named, "--json").stdout)
    assert (record["parameters"], record["operations_per_s"], record["opaque"]) == (None, None, why)
    assert record["seconds_per_s"] > 0


def test_sums_say_which_members_are_left_out(tmp_path):
    options = adapters(tmp_path)["onnx"]
    net = saved(tmp_path, TFCTDFUNet(TFCTDFShape(levels=2, layers=1, growth=4, bins=64)))
    known = {"weights": str(net), "n_fft": 256, "hop": 64, "frames": 16}
    blend = MixingWeights.same_source({"vocals": {"theirs": 0.5, "net": 0.5}})
    blend.save(tmp_path / "blend.npz")
    named = {
        "theirs": {"name": "onnx", "options": options},
        "net": {"name": "tfc_tdf_v2", "options": known},
    }
    found = inspect_separator(load_separator(str(tmp_path / "blend.npz"), separators=named))
    assert (found.opaque, found.unseen) == ("", ("theirs",))
    assert found.parameters == found.members["net"].parameters > 0
    result = command("inspect", tmp_path / "blend.npz", "--option", f"separators={json.dumps(named)}")
    assert " operations (without theirs) and " in result.stdout.splitlines()[0]
    assert "theirs: onnx: vocals; cannot be looked into" in result.stdout


def test_models_of_audio_separator_are_said_not_to_be_looked_into_or_to_need_the_package():
    assert separator_class("audio_separator").opaque == "the package audio-separator runs its model"
    result = command("inspect", "audio_separator", "--option", "model=nothing.onnx")
    assert result.returncode in (1, 2)
    assert "audio_separator: " in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not TOP1.exists(), reason="needs the real weights beside the repository")
@pytest.mark.slow
def test_the_real_network_of_convolutions_has_no_such_layer(tmp_path):
    result = command("inspect", "ismir2020", "--option", f"weights={TOP1}", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "ismir2020: vocals; 535,924 parameters, 12.6 G operations" in result.stdout
    assert "0 STFT frames before and 0 after" in result.stdout
    assert "fully connected over frequency (TDF): no layer" in result.stdout
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["blocks-vocals.png"]


@pytest.mark.slow
def test_the_command_writes_pictures_and_json(tmp_path):
    study = tmp_path / "study.csv"
    study.write_text("block,sdr_db,parameters,operations\ntdc,4,5e5,1e10\ntdc,5,5e5,1e10\ntfc,6,1e6,4e10\n")
    arguments = ["inspect", "tfc_tdf_small", "--out", tmp_path / "out", "--blocks", study, "--json"]
    result = command(*arguments)
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["parameters"] == 662_812
    assert record["networks"]["all"]["matrices"]["encoding_blocks.0.tdf"] == [768, 768]
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["blocks-all.png", "tdf-all.png", "which-block.png"]
    wrong = command("inspect", "tfc_tdf_smal")
    assert (wrong.returncode, "did you mean 'tfc_tdf_small'" in wrong.stderr) == (2, True)
    assert command("inspect", "tfc_tdf_small", "--blocks", study).returncode == 2
    study.write_text("block\ntdc\n")
    refused = command(*arguments[:4], "--blocks", study)
    assert refused.returncode == 2
    assert "without sdr_db, parameters, operations" in refused.stderr
