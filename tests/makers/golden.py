"""Golden numbers of other authors' code: the weights and inputs that they were made with, and their limits."""

import zlib

import julius
import numpy as np
import pytest
import torch

from makers.places import GOLDEN


def filled(name):
    """The weights that the golden numbers were made with."""
    return {key: CONSTANTS.get(flag, fill)(key, shape) for key, shape, flag in keys(name)}


def keys(name):
    """Rows (key, shape, flag) of a table of keys, whose own names the rule of filling goes by."""
    rows = [line.split("\t") for line in (GOLDEN / f"{name}.keys.tsv").read_text().splitlines()[1:]]
    return [(row[0], () if row[1] == "scalar" else tuple(map(int, row[1].split("x"))), row[3]) for row in rows]


def constant(key, shape):
    """What the networks' construction gives."""
    if key.startswith("pqmf."):
        return torch.from_numpy(np.load(GOLDEN / "pqmf_4_64.npz")[key].astype(np.float32))
    if key.endswith("kernel"):
        return julius.ResampleFrac(*((1, 2) if key.startswith("up") else (2, 1))).kernel
    return torch.hann_window(*shape) if key.endswith("window") else torch.zeros(shape)


CONSTANTS = {"untouched": constant, "integer: zero": lambda key, shape: torch.zeros(shape, dtype=torch.int64)}


def fill(key, shape):
    """Noise that a weight's name is the seed of, at the level of its kind."""
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if key.endswith("running_var"):
        noise = 1 + np.float32(0.1) * np.abs(noise)
    elif key.endswith("running_mean"):
        noise = np.float32(0.1) * noise
    elif len(shape) == 1:
        noise = 1 + np.float32(0.1) * noise if key.endswith("weight") else np.float32(0.05) * noise
    else:
        noise = noise / np.sqrt(np.float32(np.prod(shape[1:])))
    return torch.from_numpy(noise)


def golden(file):
    """Golden numbers and the input that belongs to them."""
    numbers = np.load(GOLDEN / f"{file}.npz")
    noise = np.random.RandomState(int(numbers["input_seed"])).standard_normal(tuple(numbers["input_shape"]))
    given = noise.astype(np.float32) * np.float32(numbers["input_scale"])
    return numbers, np.abs(given) if numbers.get("input_abs", False) else given


def assert_golden(numbers, output):
    """Within the file's own limits: largest and mean difference, energy, and energy of each block of time."""
    output = np.asarray(output)
    assert output.shape == tuple(numbers["output_shape"])
    whole = output.astype(float).ravel()
    expected = numbers["output"].ravel() if "output" in numbers else numbers["output_sample"]
    difference = (whole if "output" in numbers else whole[:: int(numbers["stride"])]) - expected
    rms = np.sqrt(numbers["sum_squares"] / whole.size)
    assert np.abs(difference).max() <= numbers["tol_rel_max"] * numbers["max_abs"]
    assert np.sqrt(np.mean(difference**2)) <= numbers["tol_rel_rms"] * rms
    assert np.square(whole).sum() == pytest.approx(numbers["sum_squares"], rel=1e-4)
    if "block_sum_squares" in numbers:
        blocks = numbers["block_sum_squares"]
        missing = blocks.shape[-1] * int(numbers["block_len"]) - output.shape[-1]
        padded = np.pad(output.astype(float), [(0, 0)] * (output.ndim - 1) + [(0, missing)])
        energies = np.square(padded.reshape(*blocks.shape, -1)).sum(axis=-1)
        np.testing.assert_allclose(energies, blocks, rtol=1e-3, atol=1e-3 * blocks.max())


def wiener_numbers(loudness):
    """Magnitudes, mixture and output of one iteration of norbert's filter: (frame, bin, channel[, source])."""
    path = GOLDEN / "mwf_one_iteration.npz"
    if not path.is_file():
        pytest.skip("needs the golden numbers beside the repository")
    numbers = np.load(path, allow_pickle=False)
    return [numbers[f"{loudness}_{what}"] for what in ("magnitudes", "mixture", "output")]


def settle(network, bias=0.1):
    """Random statistics and biases for a network that was just made, for inference."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif name.endswith(("running_mean", "bias")) or "_mean_" in name:
            tensor.normal_(0, bias)
    return network.eval()
