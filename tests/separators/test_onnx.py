"""Networks in ONNX files, described in YAML: what they take and give, and what is refused."""

import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch

from makers.audio import noise32
from makers.commands import command
from makers.golden import settle
from makers.graphs import write_description, write_graph, write_recipe
from makers.weights import make_tfc_tdf
from stemfuse.separators import MissingWeightsError, SeparatorError, StemStore, check_separator, load_separator
from stemfuse.separators.networks.tfc_tdf_separator import TFCTDF
from stemfuse.separators.weights.tensors import save_state

RATE = 44_100
STFT = {"n_fft": 256, "hop": 64}
PACKED = "1 (channel part) bin frame"


def described(folder, **description):
    path = write_description(folder / "net.yaml", **{"file": "net.onnx", **description})
    return load_separator("onnx", description=path)


def waveform(folder, chunk=1000, **more):
    write_graph(folder / "net.onnx", [1, 2, chunk], gains=(0.25, 0.5), joined_on=1)
    outputs = [{"axes": "1 (source channel) time", "sources": ["other", "bass"]}]
    return described(folder, chunk=chunk, input="1 channel time", outputs=outputs, **more)


def test_our_own_network_exported_gives_what_it_gives_here(tmp_path):
    torch.manual_seed(0)
    network = settle(make_tfc_tdf())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zeros = torch.zeros(1, 4, network.shape.bins, 16)
        torch.onnx.export(network, (zeros,), tmp_path / "net.onnx", opset_version=13, dynamo=False)
    save_state(network, tmp_path / "vocals.safetensors")
    mixture = noise32(2, 10_007)
    expected = TFCTDF(tmp_path / "vocals.safetensors", n_fft=256, hop=64, frames=16).separate(mixture, RATE)
    separator = described(
        tmp_path,
        stft=STFT | {"bins": network.shape.bins},
        chunk=16,
        trim=128,
        input=PACKED,
        outputs=[{"axes": PACKED, "sources": ["vocals"]}],
        rest="accompaniment",
    )
    stems = separator.separate(mixture, RATE)
    assert stems.sources == ("vocals", "accompaniment")
    vocals = stems["vocals"].read()
    assert np.abs(vocals - expected["vocals"].read()).max() < 1e-5 * np.abs(vocals).max()
    np.testing.assert_allclose(stems.audio.sum(0), mixture, atol=1e-6)


@pytest.mark.parametrize("joining", [{}, {"trim": 100}, {"overlap": 0.5}, {"overlap": 0.0}])
def test_waveforms_in_and_out_however_chunks_are_joined(tmp_path, joining):
    mixture = noise32(2, 3_457)
    stems = waveform(tmp_path, **joining).separate(mixture, RATE)
    assert stems.sources == ("bass", "other")
    np.testing.assert_allclose(stems.audio, np.stack([0.5 * mixture, 0.25 * mixture]), atol=1e-6)


LAYOUTS = [
    "1 (channel part) bin frame",
    "1 (part channel) bin frame",
    "channel frame bin part",
    "frame 1 part channel bin",
]
SIZES = {"channel": 2, "part": 2, "bin": 100, "frame": 20}


def shape_of(pattern):
    """Shape of a tensor of these axes; none of the layouts has more than one pair of parentheses."""
    shape, product = [], None
    for word in pattern.replace("(", "( ").replace(")", " )").split():
        if word == "(":
            product = 1
        elif word == ")":
            shape.append(product)
            product = None
        elif product is not None:
            product *= SIZES[word]
        else:
            shape.append(1 if word == "1" else SIZES[word])
    return shape


@pytest.mark.parametrize("pattern", LAYOUTS)
@pytest.mark.parametrize("stft", [{}, {"normalised": True}, {"centred": False}])
def test_spectra_of_any_layout_come_back(tmp_path, pattern, stft):
    bins = {"bins": 100}
    write_graph(tmp_path / "net.onnx", shape_of(pattern))
    output = {"axes": pattern, "sources": ["vocals"]}
    # windows that are not centred need others around them
    separator = described(tmp_path, stft=STFT | stft | bins, chunk=20, trim=256, input=pattern, outputs=[output])
    length = 4_001
    time = np.arange(length) / RATE
    mixture = np.stack([np.sin(2 * np.pi * 1_000 * time), np.cos(2 * np.pi * 700 * time)]).astype(np.float32)
    np.testing.assert_allclose(separator.separate(mixture, RATE).audio[0][:, 300:-300], mixture[:, 300:-300], atol=2e-4)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("pattern", ["1 channel bin frame", "channel bin frame", "frame 1 channel bin"])
def test_magnitudes_take_the_mixtures_phase_and_masks_its_spectrum(tmp_path, mask, pattern):
    SIZES["bin"] = 129
    write_graph(tmp_path / "net.onnx", shape_of(pattern), gains=(0.25,), constant=mask)
    SIZES["bin"] = 100
    output = {"axes": pattern, "sources": ["vocals"], "mask": mask}
    separator = described(tmp_path, stft=STFT, chunk=20, trim=128, input=pattern, outputs=[output])
    mixture = noise32(2, 4_001)
    np.testing.assert_allclose(separator.separate(mixture, RATE).audio[0], 0.25 * mixture, atol=1e-5)


def test_outputs_of_their_own_belong_to_sources_by_name(tmp_path):
    write_graph(tmp_path / "net.onnx", [2, 500], gains=(0.1, 0.2, 0.7))
    names = {"vocals": "output 2", "drums": "output 0"}
    outputs = [{"axes": "channel time", "sources": [source], "name": name} for source, name in names.items()]
    mixture = noise32(2, 700)
    stems = described(tmp_path, chunk=500, input="channel time", outputs=outputs).separate(mixture, RATE)
    np.testing.assert_allclose(stems["vocals"].read(), 0.7 * mixture, atol=1e-6)
    np.testing.assert_allclose(stems["drums"].read(), 0.1 * mixture, atol=1e-6)


def test_mono_networks_at_rates_of_their_own(tmp_path):
    write_graph(tmp_path / "net.onnx", [1, 500], gains=(0.1,))
    output = {"axes": "1 time", "sources": ["speech"]}
    mono = described(tmp_path, rate=16_000, channels=1, chunk=500, input="1 time", outputs=[output])
    assert (mono.rate, mono.channels, mono.sources) == (16_000, 1, ("speech",))
    mixture = noise32(1, 700)
    np.testing.assert_allclose(mono.separate(mixture, 16_000).audio[0], 0.1 * mixture, atol=1e-6)


def test_sizes_may_be_free(tmp_path):
    mixture = noise32(2, 1_500)
    for chunk in (300, 700):
        write_graph(tmp_path / "net.onnx", ["batch", 2, "time"], gains=(0.25,))
        outputs = [{"axes": "1 channel time", "sources": ["vocals"]}]
        free = described(tmp_path, chunk=chunk, input="1 channel time", outputs=outputs)
        np.testing.assert_allclose(free.separate(mixture, RATE).audio[0], 0.25 * mixture, atol=1e-6)


def test_identity_loads_no_network(tmp_path):
    separator = waveform(tmp_path)
    code = (
        "import sys; from stemfuse.separators import load_separator; "
        f"print(load_separator('onnx', description={str(separator.description)!r}).fingerprint()); "
        "assert not {'torch', 'onnx', 'onnxruntime', 'einops'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == separator.fingerprint()


def test_it_keeps_the_rules(tmp_path):
    check_separator(waveform(tmp_path, trim=100), seconds=0.1)


def test_identity_is_the_description_and_the_file(tmp_path):
    found = {waveform(tmp_path, **more).fingerprint() for more in ({}, {"trim": 10}, {"overlap": 0.5}, {"rate": 8000})}
    first = waveform(tmp_path)
    assert first.fingerprint() in found
    write_graph(tmp_path / "net.onnx", [1, 2, 1000], gains=(0.25, 0.75), joined_on=1)
    found.add(load_separator("onnx", description=tmp_path / "net.yaml").fingerprint())
    assert len(found) == 5
    assert first.trained_on is None
    assert waveform(tmp_path, trained_on=["musdb18hq/train"]).trained_on == ("musdb18hq/train",)


GOOD = {
    "chunk": 1000,
    "input": "1 channel time",
    "outputs": [{"axes": "1 (source channel) time", "sources": ["a", "b"]}],
}


def changed(**output):
    return {"outputs": [GOOD["outputs"][0] | output]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chunks": 5}, r"key chunks is unknown, allowed are .* \(did you mean 'chunk'\?\)"),
        ({"chunk": 0}, "chunk: Input should be greater than or equal to 1"),
        ({"input": "1 chanel time"}, r"axis 'chanel' is unknown.* \(did you mean 'channel'\?\)"),
        ({"input": "1 channel time time"}, "every axis once"),
        ({"input": "1 channel bin"}, "expected time, or bin and frame"),
        ({"input": "1 (channel time"}, "expected axes such as"),
        ({"input": "1 channel bin frame"}, "stft is missing"),
        ({"stft": STFT}, "leave it out"),
        ({"trim": 500}, "not longer than the 1000 that are cut off"),
        ({"trim": 5, "overlap": 0.5}, "one of them"),
        ({"rest": "a"}, "every one once"),
        ({"rest": "a.b"}, "has a dot"),
        (changed(sources=["a", "b"], axes="1 channel time"), "an axis source"),
        (changed(sources=["a"], axes="1 time"), "no axis channel for 2 channels"),
        (changed(mask=True), "a waveform is no mask"),
        (changed(axis="time"), r"outputs.0.axis is unknown, allowed are sources, axes, name, mask"),
    ],
)
def test_descriptions_that_cannot_be_are_refused_in_a_line(tmp_path, changes, words):
    write_graph(tmp_path / "net.onnx", [1, 2, 1000], gains=(0.25, 0.5), joined_on=1)
    assert described(tmp_path, **GOOD).sources == ("a", "b")
    with pytest.raises(SeparatorError, match=words) as caught:
        _ = described(tmp_path, **(GOOD | changes)).sources
    assert "\n" not in str(caught.value)
    assert caught.value.is_usage


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chunk": 999}, r"takes \[1, 2, 1000\], .* gives it \[1, 2, 999\] \(channel 2, time 999\)"),
        ({"input": "channel time"}, r"takes \[1, 2, 1000\], .* gives it \[2, 1000\]"),
        ({"input_name": "mixture"}, "got input 'mixture', net.onnx has input"),
        (changed(name="vocals"), "got output 'vocals', net.onnx has all"),
        (
            changed(sources=["a", "b", "c"]),
            r"got an output of shape \[1, 4, 1000\], expected 1 \(source channel\) time",
        ),
    ],
)
def test_descriptions_that_do_not_fit_the_file_are_refused(tmp_path, changes, words):
    write_graph(tmp_path / "net.onnx", [1, 2, 1000], gains=(0.25, 0.5), joined_on=1)
    with pytest.raises(SeparatorError, match=words):
        described(tmp_path, **(GOOD | changes)).separate(noise32(2, 100), RATE)


def test_files_that_are_not_there_damaged_or_give_nan(tmp_path):
    separator = described(tmp_path, **GOOD)
    with pytest.raises(MissingWeightsError, match=r"net\.onnx is missing"):
        separator.fingerprint()
    with pytest.raises(MissingWeightsError, match=r"nowhere\.yaml is missing"):
        load_separator("onnx", description=tmp_path / "nowhere.yaml").fingerprint()
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    with pytest.raises(SeparatorError, match="is no ONNX file or a damaged one"):
        described(tmp_path, **GOOD).separate(noise32(2, 100), RATE)
    write_graph(tmp_path / "net.onnx", [1, 2, 1000], gains=(0.25, np.nan), joined_on=1)
    with pytest.raises(SeparatorError, match=r"net\.onnx: gave NaN"):
        described(tmp_path, **GOOD).separate(noise32(2, 100), RATE)
    write_graph(tmp_path / "net.onnx", [1, 2, 1000])
    model = onnx.load(tmp_path / "net.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="other.bin", size_threshold=0)
    with pytest.raises(SeparatorError, match="in another file, expected it within"):
        described(tmp_path, **GOOD).separate(noise32(2, 100), RATE)


@pytest.mark.slow
def test_a_run_by_an_onnx_file(tmp_path):
    write_graph(tmp_path / "net.onnx", [1, 2, 1000], gains=(0.25,))
    output = {"axes": "1 channel time", "sources": ["vocals"]}
    given = {"file": "net.onnx", "chunk": 1000, "input": "1 channel time", "outputs": [output]}
    path = write_description(tmp_path / "net.yaml", **given, rest="accompaniment")
    recipe = write_recipe(tmp_path, {"name": "onnx", "label": "net", "options": {"description": str(path)}})
    done = command("run", recipe)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "store").rglob("vocals.wav"))) == 1
    assert StemStore(tmp_path / "store").verify() == []
