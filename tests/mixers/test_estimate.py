"""What a training costs: counted by hand, said in the log, and without a trace in what is learnt."""

import logging

import numpy as np
import pytest
import torch

from makers.planted import switching_song
from stemfuse.mixers import Conv1x1Mixer, GramMixer, MLPMixer, Segments, TrackBlocks, TrackPacks, mlp_cost
from stemfuse.mixers.conv1x1_network import Convolution1x1
from stemfuse.mixers.estimate import TrainingEstimate, count_flops
from stemfuse.mixers.losses import MixingObjective
from stemfuse.mixers.mlp_network import MLPMixerNetwork
from stemfuse.separators.training import Execution, Recipe

INPUTS, OUTPUTS, SEGMENT, FOLD, LAYERS = 6, 4, 64, 8, 2


@pytest.fixture(scope="module")
def songs():
    return [switching_song(seed, 2.0)[0] for seed in range(3)]


def batch(count=1):
    return [torch.zeros(count, SEGMENT, INPUTS), torch.zeros(count, SEGMENT, OUTPUTS)]


@pytest.mark.parametrize(("token_hidden", "channel_hidden"), [(None, None), (5, 7)])
def test_operations_of_an_mlp_mixer_are_those_counted_by_hand(token_hidden, channel_hidden):
    network = MLPMixerNetwork(INPUTS, OUTPUTS, SEGMENT, FOLD, LAYERS, token_hidden, channel_hidden, dropout=0.1)
    tokens, columns = SEGMENT // FOLD, INPUTS * FOLD
    # two products of each perceptron, once for each column or token; two operations for each weight
    layer = 4 * tokens * (token_hidden or tokens) * columns + 4 * columns * (channel_hidden or columns) * tokens
    head, mix = 2 * tokens * INPUTS * OUTPUTS, 2 * SEGMENT * INPUTS * OUTPUTS
    state = torch.random.get_rng_state()
    forward, step = count_flops(MixingObjective(network), batch(3))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert forward == 3 * (LAYERS * layer + head + mix)
    # backward: both factors of each product of the network, and of the mix the weights alone
    assert step == 3 * (3 * (LAYERS * layer + head) + 2 * mix)
    cost = mlp_cost(INPUTS, OUTPUTS, SEGMENT, FOLD, LAYERS, token_hidden, channel_hidden)
    # which counts the head's bias as well
    assert cost["flops"] == forward / 3 + 2 * INPUTS * OUTPUTS


def test_operations_of_a_convolution_are_those_counted_by_hand():
    product = 2 * SEGMENT * INPUTS * OUTPUTS
    assert count_flops(MixingObjective(Convolution1x1(INPUTS, OUTPUTS)), batch()) == (product, 2 * product)


def test_an_estimate_has_what_an_epoch_takes(songs, tmp_path):
    blocks, held_out = TrackBlocks(songs[:2]), TrackBlocks(songs[2:])
    inputs, outputs, length = len(blocks.inputs), len(blocks.outputs), blocks.lengths[0]
    objective = MixingObjective(Convolution1x1(inputs, outputs))
    sizes = []
    for kind in ("float32", "float16"):
        data = Segments(TrackPacks(blocks, tmp_path, kind), 512, 256)
        valid = Segments(TrackPacks(held_out, tmp_path, kind), 512, 512, tails=True)
        found = TrainingEstimate.of("conv1x1", objective, data, valid, Recipe(epochs=7))
        assert (found.parameters, found.epochs) == (inputs * outputs, 7)
        assert (found.items, found.valid_items) == (2 * (1 + (length - 512) // 256), -(-length // 512))
        product = 2 * 512 * inputs * outputs
        assert found.epoch_flops == found.items * 2 * product + found.valid_items * product
        sizes.append(found.bytes)
    assert sizes[0] == (found.items + found.valid_items) * 512 * (inputs + outputs) * 4 == 2 * sizes[1]
    # a validation segment has half the operations of a training step
    assert found.epoch_s(10.0) == pytest.approx((found.items + found.valid_items / 2) / 10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv1x1Mixer(segment=512, shift=256, epochs=1),
        lambda: MLPMixer(segment=512, shift=256, fold=32, layers=1, dropout=0.2, epochs=1),
        lambda: GramMixer(epochs=2, run=1, frame_s=0.25),
    ],
    ids=["conv1x1", "mlp", "gram"],
)
def test_it_is_said_before_and_while_training_and_changes_nothing(songs, make, caplog):
    caplog.set_level(logging.DEBUG, "stemfuse.mixers.estimate")
    weights = []
    for estimates in (True, False):
        mixer = make()
        mixer.execution = Execution("cpu", estimates=estimates)
        weights.append(mixer.fit(songs[:2], songs[2:]).weights(songs[2]).matrix)
    np.testing.assert_array_equal(*weights)
    size, pace = caplog.messages
    assert size.startswith(f"{mixer.kind}: ")
    assert "FLOP for each of " in size
    assert ("nothing read per epoch" in size) == (mixer.kind == "gram_mixer")
    assert "items/s on the first steps" in pace
    assert "for an epoch" in pace


def test_small_trainings_are_estimated_for_those_who_want_all(caplog):
    caplog.set_level(logging.DEBUG, "stemfuse.mixers.estimate")
    for flops, epochs, level in ((10**6, 5, logging.DEBUG), (10**12, 50, logging.INFO)):
        caplog.clear()
        estimate = TrainingEstimate("mixer", 10, flops, 3 * flops, 100, 10, 0, epochs)
        estimate.say()
        estimate.say_time(100.0 if level == logging.DEBUG else 1.0)
        assert [record.levelno for record in caplog.records] == [level] * 2
