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
from stemfuse.separators.networks.d3net import BandShape, D3NetNetwork, D3NetShape, d3net_state
from stemfuse.separators.networks.d3net_separator import PATCHES, SPLITS, D3Net
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
    assert (shape == D3NetShape()) == (source in ("vocals", "other"))


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
