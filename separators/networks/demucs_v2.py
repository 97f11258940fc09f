"""Demucs v2, and Danna-Sep's variant of it with a decoder for each source: waveforms in, waveforms out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from julius.resample import ResampleFrac, resample_frac
from torch import nn
from torch.nn import functional

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.weights.tensors import State, renamed

from .chunking import centred

KERNEL, STRIDE, DEPTH = 8, 4, 6
"""Of the encoder's convolutions, in samples, and its levels."""
CONTEXT = 3
"""Kernel of the decoder's convolutions."""
SOURCE_COUNT = 4


class RecurrentLayers(nn.Module):
    """Two bidirectional recurrent layers over time, and a linear one that halves their channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers=2, bidirectional=True)
        self.linear = nn.Linear(2 * channels, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, time) to the same."""
        states, _ = self.lstm(features.permute(2, 0, 1))
        output: torch.Tensor = self.linear(states)
        return output.permute(1, 2, 0)


class DemucsV2Network(nn.Module):
    """Demucs of 2019, release v2: encoder, recurrent layers, decoder, at twice the sample rate.

    The class of the demucs package (4.1.0) is not used for these weights: it pads inputs to another length, so that
    its samples differ from those that the weights were published for.

    Parameters
    ----------
    channels : int
        Of the highest level; each level below has twice as many. 64 and 48 were published.
    depth : int
        Levels; 6 were published.
    resample : bool
        Whether the layers work at twice the sample rate, as published.

    Notes
    -----
    Convolutions have no padding: for an output of some length an input of its `valid_length` is needed, and the output
    is the middle of it. Initial weights are rescaled as the authors do.

    References
    ----------
    A. Défossez, N. Usunier, L. Bottou, F. Bach, "Music source separation in the waveform domain", 2019, section 4.

    Examples
    --------
    >>> network = DemucsV2Network(channels=2).eval()
    >>> network.valid_length(441_000)
    447146
    >>> tuple(network(torch.zeros(1, 2, network.valid_length(9000))).shape)
    (1, 4, 2, 9558)
    """

    def __init__(self, channels: int = 64, depth: int = DEPTH, resample: bool = True) -> None:
        super().__init__()
        self.oversampling = 2 if resample else 1
        widths = [channels << level for level in range(depth)]
        self.encoder = nn.ModuleList(_encoder(*pair) for pair in pairwise([2, *widths]))
        self.lstm = RecurrentLayers(widths[-1])
        downwards = widths[::-1]
        self.decoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, 2 * width, CONTEXT),
                nn.GLU(dim=1),
                nn.ConvTranspose1d(width, output, KERNEL, STRIDE),
                *([] if width == channels else [nn.ReLU()]),
            )
            for width, output in pairwise([*downwards, 2 * SOURCE_COUNT])
        )
        rescale(self)

    def valid_length(self, length: int) -> int:
        """Samples that the network needs for an output of ``length`` samples or a little more, from whole strides."""
        needed = self.oversampling * length
        for _ in self.encoder:
            needed = max(1, math.ceil((needed - KERNEL) / STRIDE) + 1) + CONTEXT - 1
        for _ in self.decoder:
            needed = (needed - 1) * STRIDE + KERNEL
        return math.ceil(needed / self.oversampling)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """Separate (batch, 2, time) into (batch, source, 2, less time): drums, bass, other, vocals."""
        # the authors' code divides by a standard deviation of one plus 1e-5
        features = resample_frac(mixture / (1 + 1e-5), 1, self.oversampling)
        skips = []
        for layer in self.encoder:
            features = layer(features)
            skips.append(features)
        features = self.lstm(features)
        for layer in self.decoder:
            features = layer(features + centred(skips.pop(), features.shape[-1]))
        stems: torch.Tensor = resample_frac(features, self.oversampling, 1)
        return stems.reshape(len(stems), SOURCE_COUNT, 2, stems.shape[-1])


class DemucsFourDecodersNetwork(nn.Module):
    """Danna-Sep's Demucs: one encoder, and a narrower decoder for each source, which are groups of convolutions.

    Parameters
    ----------
    channels : int
        Of the highest level; each level below has twice as many. 48 was published.

    Notes
    -----
    The network standardises the mixture itself. The output begins with the input's first sample and is up to some 2,000
    samples shorter.

    References
    ----------
    C.-Y. Yu, K.-W. Cheuk, "Danna-Sep: unite to separate them all", MDX workshop at ISMIR 2021, section 2.3.

    Examples
    --------
    >>> network = DemucsFourDecodersNetwork(channels=2).eval()
    >>> tuple(network(torch.zeros(1, 2, 44_100)).shape)
    (1, 4, 2, 43690)
    """

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        widths = [channels << level for level in range(DEPTH)]
        self.up_sample, self.down_sample = ResampleFrac(1, 2), ResampleFrac(2, 1)
        self.encoder = nn.ModuleList(_encoder(*pair) for pair in pairwise([2, *widths]))
        self.lstm = nn.LSTM(widths[-1], widths[-1], num_layers=2, bidirectional=True)
        self.lstm_linear = nn.Linear(2 * widths[-1], 2 * widths[-1])
        downwards = widths[::-1]
        # kernels of three, in spite of the published name
        self.convs_1x1 = nn.ModuleList(nn.Conv1d(c, 4 * c, 3, padding=1, bias=False) for c in downwards)
        self.dec_pre_convs = nn.ModuleList(
            nn.Conv1d(2 * c, 4 * c, 3, padding=1, groups=SOURCE_COUNT) for c in downwards
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose1d(2 * width, output, KERNEL, STRIDE, groups=SOURCE_COUNT),
                *([] if width == channels else [nn.ReLU()]),
            )
            for width, output in zip(downwards, [*(2 * c for c in downwards[1:]), 2 * SOURCE_COUNT], strict=True)
        )
        rescale(self)

    def output_length(self, length: int) -> int:
        """Samples that are separated of so many; none, or fewer than none, where they are too few.

        Examples
        --------
        >>> DemucsFourDecodersNetwork(channels=2).output_length(441_000)
        438954
        """
        steps = 2 * length
        for _ in self.encoder:
            steps = (steps - KERNEL) // STRIDE + 1
        for _ in self.decoder:
            steps = (steps - 1) * STRIDE + KERNEL
        return steps // 2

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """Separate (batch, 2, time) into (batch, source, 2, less time): drums, bass, other, vocals."""
        mono = mixture.mean(dim=1, keepdim=True)
        mean, deviation = mono.mean(dim=-1, keepdim=True), mono.std(dim=-1, keepdim=True) + 1e-5
        features = self.up_sample((mixture - mean) / deviation)
        skips = []
        for layer in self.encoder:
            features = layer(features)
            skips.append(features)
        states, _ = self.lstm(features.permute(2, 0, 1))
        features = self.lstm_linear(states).permute(1, 2, 0)
        for skipped, before, layer in zip(self.convs_1x1, self.dec_pre_convs, self.decoder, strict=True):
            joined = before(features) + skipped(skips.pop()[..., : features.shape[-1]])
            features = layer(functional.glu(joined.unflatten(1, (SOURCE_COUNT, -1)), dim=2).flatten(1, 2))
        stems: torch.Tensor = self.down_sample(features) * deviation + mean
        return stems.reshape(len(stems), SOURCE_COUNT, 2, stems.shape[-1])


def _encoder(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(in_channels, channels, KERNEL, STRIDE), nn.ReLU(), nn.Conv1d(channels, 2 * channels, 1), nn.GLU(dim=1)
    )


def rescale(network: nn.Module, reference: float = 0.1) -> None:
    """Bring the initial weights of all convolutions nearer to a standard deviation (Défossez 2019, section 4.3)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            scale = (module.weight.detach().std() / reference) ** 0.5
            for parameter in module.parameters():
                parameter.data /= scale


def demucs_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, int, bool]:
    """Weights of a `DemucsV2Network` or of a `DemucsFourDecodersNetwork`.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the form that both authors' code has.
    channels : int
        Of the highest level.
    four_decoders : bool
        Whether they are Danna-Sep's.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", "")])
    missing = [name for name in ("encoder.0.0.bias", "encoder.0.2.weight") if name not in tensors]
    if missing:
        raise SeparatorError(f"{path}: no Demucs v2 ({missing[0]} is missing)")
    return tensors, len(tensors["encoder.0.0.bias"]), "lstm_linear.weight" in tensors
