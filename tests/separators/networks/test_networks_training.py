"""Networks as they are trained: losses, gradients and a few steps on one song."""

import numpy as np
import pytest
import torch

from stemfuse.separators.networks.chunking import centred
from stemfuse.separators.networks.demucs_v2 import DemucsV2Network
from stemfuse.separators.networks.spectrogram import ComplexAsChannels, transformed
from stemfuse.separators.networks.tfc_tdf import TFCTDFShape, TFCTDFUNet
from stemfuse.separators.networks.training.combination_loss import combination_loss, combination_sums, weighted_sdr_loss
from stemfuse.separators.networks.unet_danna import LocalAttention
from stemfuse.separators.networks.wiener import wiener_filter
from stemfuse.separators.networks.xumx import XUMXNetwork, XUMXShape


@pytest.fixture
def stems():
    """Four tones that swell and fade, one source louder than the others: (1, source, 2, time)."""
    time = torch.arange(16_384) / 44_100
    tones = [torch.sin(2 * torch.pi * pitch * time) * torch.sin(torch.pi * time * 8) for pitch in (90, 400, 1700, 6000)]
    return torch.stack([torch.stack([tone, 0.5 * tone * (index + 1)]) for index, tone in enumerate(tones)])[None] * 0.3


def test_sums_are_of_every_proper_part():
    sums = combination_sums(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))[0].int().tolist()
    assert sorted(sums) == [int(f"{number:b}") for number in range(1, 15)]


def test_loss_in_time_is_zero_for_truth_and_two_for_its_opposite():
    references = torch.randn(3, 2000, generator=torch.Generator().manual_seed(0))
    mixture = references + torch.randn(3, 2000, generator=torch.Generator().manual_seed(1))
    assert weighted_sdr_loss(references, references, mixture) < 1e-6
    opposite = weighted_sdr_loss(-references, references, references)
    assert opposite == pytest.approx(2, abs=1e-5)
    assert torch.isfinite(weighted_sdr_loss(references * 0, references * 0, mixture * 0))


def test_complex_loss_is_the_mean_over_fourteen_sums(stems):
    """Against the definition written out: a mask of one for every source."""
    mixture = stems.sum(1)
    spectrum, true = transformed(mixture, 256, 64), transformed(stems, 256, 64)
    masks = torch.full((1, 4, 2, *spectrum.shape[-2:]), 0.25)
    estimated = wiener_filter((masks * spectrum.abs()[:, None]).double(), spectrum.to(torch.complex128))
    sums = [
        [sum(parts[0, index] for index in range(4) if number >> index & 1) for parts in (estimated, true)]
        for number in range(1, 15)
    ]
    in_frequency = sum((one - other).abs().square().mean() for one, other in sums) / 14
    whole = combination_loss(masks, mixture, stems, 256, 64)
    # the equal parts of four sources are a quarter of the song each
    in_time = weighted_sdr_loss(
        combination_sums((mixture / 4)[:, None].expand(-1, 4, -1, -1)), combination_sums(stems), mixture[:, None]
    )
    assert float(whole) == pytest.approx(float(in_frequency + 10 * in_time), rel=1e-3)


def test_wiener_filter_can_be_trained_through():
    generator = torch.Generator().manual_seed(0)
    magnitudes = torch.rand(1, 3, 2, 2, 5, dtype=torch.double, generator=generator).requires_grad_()
    mixture = torch.randn(1, 2, 2, 5, dtype=torch.complex128, generator=generator)
    assert torch.autograd.gradcheck(lambda given: torch.view_as_real(wiener_filter(given, mixture)), magnitudes)


@pytest.mark.parametrize("spoiled", ["mono", "one side", "silence"])
def test_wiener_filter_bears_singular_songs(spoiled):
    mixture = torch.randn(2, 5, 40, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)) * 100
    mixture[1] = {"mono": mixture[0], "one side": 0 * mixture[0], "silence": 0 * mixture[0]}[spoiled]
    mixture = mixture * (spoiled != "silence")
    halves = (mixture.abs() / 2).expand(2, -1, -1, -1).clone().requires_grad_()
    filtered = wiener_filter(halves, mixture)
    assert torch.isfinite(torch.view_as_real(filtered)).all()
    assert (filtered.sum(0) - mixture).abs().max() <= 1e-3
    torch.view_as_real(filtered).sum().backward()
    assert torch.isfinite(halves.grad).all()


def test_attention_is_to_the_frames_around():
    """Every pair of frames against the definition, in a song of several pairs and an odd number of frames."""
    torch.manual_seed(0)
    layer = LocalAttention(3, 8, 2, 5)
    features = torch.randn(1, 3, 4, 7)
    projected = torch.nn.functional.pad(layer.qkv_conv(features), (0, 1))[0].reshape(2, 3, 4, 4, 8)
    attended = torch.zeros(2, 4, 4, 8)
    for head, frame, row in np.ndindex(2, 8, 4):
        queries, keys, values = projected[head]
        first = frame // 2 * 2 - 3
        frames = [number for number in range(first, first + 8) if 0 <= number < 8]
        scores = [(queries[:, row, frame] @ keys[:, :, number]) / 2 for number in frames]
        # frames beyond the ends are zeros, and are attended to as such
        weights = torch.softmax(torch.cat([*scores, torch.zeros(4 * (8 - len(frames)))]), dim=0)
        seen = torch.cat([values[:, :, number] for number in frames], dim=1)
        attended[head, :, row, frame] = seen @ weights[: seen.shape[1]]
    expected = layer.out_conv(attended.reshape(1, 8, 4, 8)[..., :7])
    assert torch.allclose(layer(features), expected, atol=1e-5)


def tfc_tdf(stems):
    """Squared error of the third source's wave, as the authors' code has it."""
    network = TFCTDFUNet(TFCTDFShape(levels=2, layers=1, growth=8, bins=128))
    transform = ComplexAsChannels(256, 64, 128)

    def loss():
        output = transform.unpack(network(transform.pack(stems.sum(1)[..., : 255 * 64])), 255 * 64)
        return (output - stems[:, 2, :, : 255 * 64]).square().mean()

    return network, loss


def xumx(kind):
    def make(stems):
        network = XUMXNetwork(XUMXShape(bins=129, used_bins=120, hidden=32, layers=1))
        mixture = stems.sum(1)

        def loss():
            return combination_loss(network(transformed(mixture, 256, 64).abs()), mixture, stems, 256, 64, kind)

        return network, loss

    return make


def demucs(stems):
    network = DemucsV2Network(4)
    length = 4000
    valid = network.valid_length(length)

    def loss():
        given = torch.nn.functional.pad(stems.sum(1)[..., :valid], (0, max(0, valid - stems.shape[-1])))
        return (centred(network(given), length) - centred(stems[..., :valid], length)).abs().mean()

    return network, loss


@pytest.mark.parametrize(
    "make", [tfc_tdf, pytest.param(xumx("magnitude"), marks=pytest.mark.slow), xumx("complex"), demucs]
)
def test_networks_learn_one_song(make, stems):
    torch.manual_seed(0)
    network, loss = make(stems)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    first = loss().item()
    for _ in range(15):
        optimiser.zero_grad()
        value = loss()
        value.backward()
        assert all(
            parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in network.parameters()
        )
        optimiser.step()
    assert loss().item() < 0.8 * first
