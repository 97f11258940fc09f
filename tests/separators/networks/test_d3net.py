"""D3Net: the published names, shapes and counts, nnabla's files, and songs through all four networks."""

import pickle

import h5py
import numpy as np
import pytest
import torch

from makers.audio import noise32
from makers.golden import settle
from makers.places import SHARED
from stemfuse.separators import SOURCES, MissingWeightsError, SeparatorError, check_separator
from stemfuse.separators.foreign.hdf5_files import read_hdf5
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.networks.d3net import D3NetNetwork, DenseBlock, DilatedConvolutions, d3net_state
from stemfuse.separators.networks.d3net_separator import (
    PATCHES,
    PUBLISHED,
    SPLITS,
    BandShape,
    D3Net,
    D3NetShape,
    TrainableD3Net,
)
from stemfuse.separators.networks.inspection import inspect_separator
from stemfuse.separators.networks.training.objectives import MagnitudeObjective
from stemfuse.separators.weights.tensors import load_strictly, read_hdf5_state, save_state

RATE = 44_100
KEYS = SHARED / "facts" / "keys"
BAND = BandShape(4, (2, 3, 2), (2, 2, 2))


@pytest.mark.skipif(not KEYS.is_dir(), reason="needs the tables of keys beside the repository")
@pytest.mark.parametrize(
    ("source", "count"), [("vocals", 2_967_407), ("other", 2_967_407), ("drums", 2_873_284), ("bass", 2_419_822)]
)
def test_names_shapes_and_counts_are_the_published(source, count):
    rows = [line.split("\t") for line in (KEYS / f"d3net_nnabla_{source}.tsv").read_text().splitlines()]
    with torch.device("meta"):
        tensors = {key: torch.empty(tuple(map(int, size.split("x")))) for key, size in rows}
        state, shape = d3net_state(tensors, source, KEYS)
        network = D3NetNetwork(shape)
    own = {key: values.shape for key, values in network.state_dict().items() if "num_batches" not in key}
    assert {key: values.shape for key, values in state.items()} == own
    assert sum(values.numel() for values in network.parameters()) == count
    assert shape == PUBLISHED[source]


def folded(convolution):
    """Kernel and bias, with the normalisation as a scale and an offset of each input channel."""
    norm = convolution.norm
    mean, var, gamma, beta = (
        values.detach().double().numpy() for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    scale = gamma / np.sqrt(var + norm.eps)
    kernel, bias = (values.detach().double().numpy() for values in (convolution.conv.weight, convolution.conv.bias))
    return scale, beta - mean * scale, kernel, bias


def convolved(features, weights, dilation):
    """Normalisation, activation and a dilated convolution, tap by tap: features (channel, frame, bin)."""
    scale, offset, kernel, bias = weights
    active = np.maximum(0, features * scale[:, None, None] + offset[:, None, None])
    padded = np.pad(active, ((0, 0), (dilation, dilation), (dilation, dilation)))
    frames, bins = features.shape[1:]
    output = np.repeat(np.repeat(bias[:, None, None], frames, 1), bins, 2)
    for row, column in np.ndindex(3, 3):
        part = padded[:, row * dilation :, column * dilation :][:, :frames, :bins]
        output += np.tensordot(kernel[:, :, row, column], part, 1)
    return output


def by_definition_d2(features, block, growth):
    """Equation of the multidilated convolution: layer l hears each earlier output i by a kernel with dilation 2^i.

    What reaches layer l is the sum, over all i before it, of the i-th convolution's slice that is meant for l; the
    convolution of i, and so all that it hands on, has the dilation 2^i.
    """
    convolutions = [block.initial_layer, *block.layers.values()]
    count = len(convolutions)
    given, inputs = {}, features
    for source, convolution in enumerate(convolutions):
        outputs = convolved(inputs, folded(convolution), 2**source)
        for place, target in enumerate(range(source + 1, count + 1)):
            given[source, target] = outputs[place * growth : (place + 1) * growth]
        inputs = sum(given[before, source + 1] for before in range(source + 1))
    return inputs


def settled(network):
    torch.manual_seed(3)
    return settle(network).eval()


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_d2_blocks_are_the_papers_multidilated_convolutions(layers):
    """Against an independent computation in NumPy: dilations 1, 2, 4 ..., slices summed, normalisations folded."""
    block = settled(DilatedConvolutions(5, 3, layers))
    features = np.random.default_rng(0).normal(size=(5, 19, 23))
    with torch.inference_mode():
        got = block(torch.from_numpy(features[None]).float())[0].numpy()
    expected = by_definition_d2(features, block, 3)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


def test_d3_blocks_are_nested_d2_blocks():
    """Against the same computation: groups are summed as the layers in them are."""
    groups, growth, layers = 3, 2, 2
    block = settled(DenseBlock(4, growth, layers, groups))
    features = np.random.default_rng(1).normal(size=(4, 15, 14))
    given, inputs = {}, features
    for source, inner in enumerate([block.initial_block, *block.layers.values()]):
        outputs = by_definition_d2(inputs, inner, growth * (groups - source))
        for place, target in enumerate(range(source + 1, groups + 1)):
            given[source, target] = outputs[place * growth : (place + 1) * growth]
        inputs = sum(given[before, source + 1] for before in range(source + 1))
    with torch.inference_mode():
        got = block(torch.from_numpy(features[None]).float())[0].numpy()
    np.testing.assert_allclose(got, inputs, atol=2e-5 * np.abs(inputs).max())


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_d2_blocks_hear_without_holes(layers):
    """The paper's reason for several dilations: every place within 2^L - 1 is heard, none beyond, none is left out."""
    block = DilatedConvolutions(1, 1, layers).eval()
    with torch.no_grad():
        for values in block.parameters():
            values.fill_(1.0)
        before, after = torch.zeros(2, 1, 1, 41, 41)
        after[..., 20, 20] = 1.0
        heard = (block(after) - block(before))[0, 0].abs() > 0
    far = 2**layers - 1
    expected = torch.zeros(41, 41, dtype=torch.bool)
    expected[20 - far : 21 + far, 20 - far : 21 + far] = True
    assert torch.equal(heard, expected)


def test_the_loss_is_of_magnitudes_in_the_bins_that_are_separated():
    sizes = {"n_fft": 256, "frames": 20, "used_bins": 96, "split": 32}
    band = {"features": 2, "growth": (2,), "layers": (1,)}
    objective = TrainableD3Net(source="bass", **sizes, low=band, high=band, full=band).objective()
    torch.manual_seed(1)
    stems = torch.randn(2, 4, 2, 19 * 64)
    window = np.hanning(257)[:-1]

    def magnitudes(audio):
        padded = np.pad(audio.double().numpy(), ((0, 0), (0, 0), (128, 128)), mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, 256, axis=-1)[:, :, ::64]
        # (batch, channel, bin, frame)
        return np.abs(np.fft.rfft(frames * window)).swapaxes(2, 3)

    with torch.no_grad():
        objective.network.decode_scale.zero_()
        objective.network.decode_bias.fill_(3.0)
        losses = objective.train()(stems).numpy()
    expected = np.square(3.0 - magnitudes(stems[:, 1])[:, :, :96]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_inputs_and_outputs_are_scaled_to_the_music():
    """The magnitudes of the mixture get mean zero and deviation one; the output begins with those of the source."""
    sizes = {"n_fft": 256, "frames": 20, "used_bins": 96, "split": 32}
    band = {"features": 2, "growth": (2,), "layers": (1,)}
    trainable = TrainableD3Net(source="bass", **sizes, low=band, high=band, full=band)
    objective = trainable.objective()
    generator = np.random.default_rng(0)
    chunks = [generator.normal(0, [[[1.0]], [[0.1]], [[2.0]], [[0.5]]], (4, 2, 19 * 64)) for _ in range(8)]
    trainable.prepare(objective, [chunk.astype(np.float32) for chunk in chunks], 8)
    network = objective.network
    window = torch.hann_window(256)

    def magnitudes(audio):
        rows = torch.from_numpy(audio.astype(np.float32))
        return torch.stft(rows, 256, 64, window=window, return_complex=True).abs()

    mixtures = torch.cat([magnitudes(chunk.sum(0)) for chunk in chunks], dim=-1)
    scaled = (mixtures - network.in_offset.detach()[:, None]) / network.in_scale.detach()[:, None]
    assert scaled.mean(dim=(0, 2)).abs().max() < 1e-4
    assert (scaled.std(dim=(0, 2)) - 1).abs().max() < 1e-2
    basses = torch.cat([magnitudes(chunk[1]) for chunk in chunks], dim=-1)[:, :96]
    assert torch.allclose(network.decode_bias, basses.mean(dim=(0, 2)), rtol=1e-4)
    assert torch.allclose(network.decode_scale, basses.std(dim=(0, 2)), rtol=1e-2)


def test_validation_separates_as_the_separator_does_but_without_filter():
    """A network that halves everything: half of the song comes back, whatever patches and channels."""

    class Half(torch.nn.Module):
        def forward(self, magnitudes):
            return magnitudes / 2

    song = torch.randn(3, 2, 5000)
    separated = MagnitudeObjective(Half(), 256, 24, sources=("vocals",)).separate(song)
    assert separated.shape == (3, 1, 2, 5000)
    assert torch.allclose(separated[:, 0], song / 2, atol=1e-5)


def small(source):
    """A network of few channels and bins, with random weights, the same each time."""
    torch.manual_seed(SOURCES.index(source))
    network = settle(D3NetNetwork(D3NetShape(BAND, BandShape(3, (2,) * 3, (1,) * 3, 1), BAND, SPLITS[source], 320)))
    with torch.no_grad():
        network.decode_bias.fill_(1.0)
    return network


LEAVES = {"weight": "W", "bias": "b"}
NORMS = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}


def theirs(name):
    """Our name of a tensor as nnabla has it."""
    whole, _, leaf = name.rpartition(".")
    if not whole:
        return name
    norm = whole.endswith("norm")
    inner = {"out_gate.norm": "bn/bn", "out_gate.gate": "conv_gate/conv/conv", "out_gate.filter": "conv_filt/conv/conv"}
    if whole in inner:
        path = f"out_gate/{inner[whole]}"
    elif whole.startswith("features_init"):
        path = f"{whole}.conv"
    elif whole.startswith("match_fm_conv"):
        path = whole.removesuffix(".norm") + ".norm.bn" if norm else f"{whole}.conv"
    elif "upsample" in whole:
        path = (
            whole.removesuffix(".norm") + ".upsample.norm.bn"
            if norm
            else whole.removesuffix("conv") + "upsample.transconv.deconv"
        )
    else:
        path = (
            whole.removesuffix("norm") + "bottleneck.norm1.bn"
            if norm
            else whole.removesuffix("conv") + "bottleneck.conv1.conv"
        )
    return f"{path.replace('.', '/')}/{(NORMS if norm else LEAVES)[leaf]}"


def write_h5(network, path, source):
    """A file of nnabla's parameters: vectors have axes of size one there."""
    with h5py.File(path, "w") as file:
        for name, values in network.state_dict().items():
            if "num_batches" in name:
                continue
            array = values.numpy()
            if "norm." in name:
                array = array.reshape(1, -1, 1, 1)
            elif "." not in name:
                array = array.reshape(1, 1, 1, -1)
            file.create_dataset(f"{source}/{theirs(name)}", data=array).attrs["need_grad"] = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of four small networks, one of them trained here."""
    folder = tmp_path_factory.mktemp("d3net")
    for source in SOURCES[:3]:
        write_h5(small(source), folder / f"{source}.h5", source)
    save_state(small("vocals"), folder / "vocals.safetensors")
    return folder


@pytest.mark.parametrize("source", ["drums", "bass"])
def test_files_of_nnabla_give_the_network_that_was_written(source, folder):
    path = folder / f"{source}.h5"
    network = small(source)
    state, shape = d3net_state(read_hdf5_state(path), source, path)
    assert shape == network.shape
    given = torch.rand(1, 2, 2049, 37)
    with torch.inference_mode():
        expected = network(given)
        assert torch.equal(load_strictly(D3NetNetwork(shape), state, path)(given), expected)
    assert torch.equal(expected[:, :, 320:], given[:, :, 320:]), "what is not separated is the mixture's"
    assert not torch.allclose(expected[:, :, :320], given[:, :, :320])


@pytest.fixture(scope="module")
def song():
    return noise32(2, 200_000)


def test_networks_of_identity_reconstruct_songs_across_all_patches(folder, song, monkeypatch):
    """Every source takes all of the mixture, so that the filter gives each a quarter; no patch leaves a seam."""
    separator = D3Net(folder)
    monkeypatch.setitem(vars(separator), "_network", dict.fromkeys(SOURCES, lambda magnitudes: magnitudes))
    audio = separator.separate(song, RATE).audio
    assert np.abs(audio - song / 4).max() < 1e-5


def test_both_patches_and_both_orders_of_channels_count(folder, song, monkeypatch):
    """The mean of four: a network that gives the left channel alone, in every second patch."""
    separator = D3Net(folder)
    calls = []

    def network(magnitudes):
        calls.append(magnitudes.shape[-1])
        left = magnitudes * torch.tensor([1.0, 0.0])[:, None, None]
        return left if len(calls) % 2 else torch.zeros_like(magnitudes)

    monkeypatch.setitem(vars(separator), "_network", dict.fromkeys(SOURCES, network))
    audio = separator.separate(song, RATE).audio
    frames = 1 + song.shape[1] // 1024
    expected = [
        PATCHES[source] for source in SOURCES for _ in range(-PATCHES[source] // 2, frames, PATCHES[source] // 2)
    ]
    assert calls == expected
    # both channels get the same, as each is the left one once
    assert np.abs(audio[:, 0].std() - audio[:, 1].std()) < 0.02 * audio.std()


def test_one_source_alone_is_of_one_file_and_keeps_the_mixtures_phase(folder, song, monkeypatch, tmp_path):
    separator = D3Net(folder / "bass.h5", source="bass")
    assert set(separator.weights_sha256()) == {"bass.h5"}
    monkeypatch.setitem(vars(separator), "_network", {"bass": lambda magnitudes: magnitudes / 3})
    stems = separator.separate(song, RATE)
    assert stems.sources == ("bass",)
    assert np.abs(stems.audio[0] - song / 3).max() < 1e-5
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeightsError, match=r"put drums.h5 \(nnabla"):
        D3Net(source="drums").load()
    with pytest.raises(SeparatorError, match="got source='flute'"):
        D3Net(source="flute")


def test_files_of_different_windows_are_refused_together(folder, tmp_path):
    for source in SOURCES[:3]:
        (tmp_path / f"{source}.h5").symlink_to(folder / f"{source}.h5")
    network = D3NetNetwork(D3NetShape(BAND, BAND, BAND, 64, 320, 513))
    save_state(network, tmp_path / "vocals.safetensors", n_fft=1024, split=64, patch=16)
    with pytest.raises(
        SeparatorError, match=r"vocals\.safetensors is of windows of 1024 samples, expected 4096 as in dr"
    ):
        D3Net(tmp_path).load()
    assert D3Net(tmp_path / "vocals.safetensors", source="vocals").separate(noise32(2, 5000), RATE).sources == (
        "vocals",
    )


def test_it_can_be_looked_into(folder, monkeypatch):
    monkeypatch.setitem(PATCHES, "drums", 32)
    found = inspect_separator(D3Net(folder / "drums.h5", source="drums"))
    assert list(found.networks) == ["drums"]
    assert found.parameters == sum(values.numel() for values in small("drums").parameters())


def test_it_keeps_the_rules(folder, monkeypatch):
    for source in SOURCES:
        monkeypatch.setitem(PATCHES, source, 16)
    separator = D3Net(folder)
    check_separator(separator, seconds=0.1)
    assert not separator.separate(np.zeros((2, 9_999), np.float32), RATE).audio.any()
    assert pickle.loads(pickle.dumps(separator)).fingerprint() == separator.fingerprint()
    assert set(separator.weights_sha256()) == {"drums.h5", "bass.h5", "other.h5", "vocals.safetensors"}


def test_what_is_missing_or_another_file_is_said_in_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path / "own"))
    silence = np.zeros((2, 100), np.float32)
    with pytest.raises(MissingWeightsError, match=r"put drums.h5, bass.h5, other.h5, vocals.h5 \(nnabla.org"):
        D3Net().separate(silence, RATE)
    for source in SOURCES:
        (tmp_path / f"{source}.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(SeparatorError, match=r"drums.h5: no weights could be read: is no HDF5 file or a damaged one"):
        D3Net(tmp_path).load()
    with h5py.File(tmp_path / "drums.h5", "w") as file:
        file["drums/conv/W"] = np.zeros((2, 2), np.float32)
    with pytest.raises(SeparatorError, match=r"drums.h5: no D3Net \('features_init.0.bias' is missing\)"):
        D3Net(tmp_path).load()


def test_hdf5_that_leads_elsewhere_or_unpacks_is_refused(tmp_path):
    values = np.zeros(100_000, np.float32)
    (tmp_path / "secret").write_bytes(values.tobytes())
    faults = {
        "compressed": (lambda file: file.create_dataset("a", data=values, compression="gzip"), "is compressed"),
        "in pieces": (lambda file: file.create_dataset("a", data=values, chunks=(100,)), "in pieces"),
        "outside": (
            lambda file: file.create_dataset(
                "a", shape=values.shape, dtype="f4", external=[(str(tmp_path / "secret"), 0, values.nbytes)]
            ),
            "in another file",
        ),
        "soft": (lambda file: file.update(a=h5py.SoftLink("/b"), b=values), "has a link 'a'"),
        "external": (lambda file: file.update(a=h5py.ExternalLink("secret.h5", "/b")), "has a link 'a'"),
        "empty": (lambda file: file.create_dataset("a", shape=(1 << 40,), dtype="f4"), "larger than the file"),
        "text": (lambda file: file.update(a="text"), "is no array of numbers"),
        "loop": (lambda file: file.create_group("a").update(b=file["/"]), "names without end"),
    }
    for name, (write, words) in faults.items():
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            write(file)
        with pytest.raises(ForeignFileError, match=words):
            read_hdf5(path)
