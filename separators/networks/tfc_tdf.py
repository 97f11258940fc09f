"""TFC-TDF-U-Net v2, the network of KUIELab-MDX-Net: for one source as published, or for several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.weights.tensors import State, count, renamed


@dataclass(frozen=True)
class TFCTDFShape:
    """The sizes of a `TFCTDFUNet`, which decide its tensors.

    Attributes
    ----------
    levels : int
        Halvings of frequency and time: 5 for the published 11 blocks.
    layers, kernel : int
        Convolutions in a block and their size.
    growth : int
        Channels of the highest level; each level below has as many more.
    bins : int
        Frequency bins of the spectrogram.
    factor : int
        The fully connected layers' bottleneck has bins / factor units.
    parts : int
        Channels of the spectrogram: real and imaginary parts of two channels.
    sources : int
        Number of sources; the published networks have one each.
    """

    levels: int = 5
    layers: int = 3
    kernel: int = 3
    growth: int = 32
    bins: int = 2048
    factor: int = 8
    parts: int = 4
    sources: int = 1

    @property
    def time_divisor(self) -> int:
        """The number of STFT frames has to be a multiple of it."""
        return 1 << self.levels


class ConvolutionsThenLinear(nn.Module):
    """A chain of convolutions over time and frequency, to which fully connected layers per STFT frame are added."""

    def __init__(self, channels: int, bins: int, shape: TFCTDFShape) -> None:
        super().__init__()
        convolutions = [
            nn.Sequential(
                nn.Conv2d(channels, channels, shape.kernel, padding=shape.kernel // 2),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for _ in range(shape.layers)
        ]
        self.tfc = nn.ModuleDict({"H": nn.Sequential(*convolutions)})
        units = bins // shape.factor
        self.tdf = nn.Sequential(
            nn.Linear(bins, units, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Linear(units, bins, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, frame, bin) to the same."""
        features = self.tfc["H"](features)
        output: torch.Tensor = features + self.tdf(features)
        return output


class TFCTDFUNet(nn.Module):
    """U-Net from a mixture's complex spectrogram to that of a source or several, whose skip connections multiply.

    Parameters
    ----------
    shape : TFCTDFShape
        All sizes; the published ones when left out.

    Notes
    -----
    Names and shapes of the tensors are those of the authors' training code;
    `stemfuse.separators.networks.tfc_tdf.tfc_tdf_state` brings other published files into this form.

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021, section 2.1.

    Examples
    --------
    >>> network = TFCTDFUNet(TFCTDFShape(levels=2, growth=8, bins=64)).eval()
    >>> tuple(network(torch.zeros(1, 4, 64, 12)).shape)
    (1, 4, 64, 12)
    """

    def __init__(self, shape: TFCTDFShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or TFCTDFShape()
        channels = [shape.growth * (level + 1) for level in range(shape.levels + 1)]
        blocks = [(width, shape.bins >> level, shape) for level, width in enumerate(channels)]
        steps = list(pairwise(channels))
        self.first_conv = nn.Sequential(nn.Conv2d(shape.parts, channels[0], 1), nn.BatchNorm2d(channels[0]), nn.ReLU())
        self.encoding_blocks = nn.ModuleList(ConvolutionsThenLinear(*block) for block in blocks[:-1])
        self.ds = nn.ModuleList(_sampler(nn.Conv2d, upper, lower) for upper, lower in steps)
        self.bottleneck_block = ConvolutionsThenLinear(*blocks[-1])
        self.us = nn.ModuleList(_sampler(nn.ConvTranspose2d, lower, upper) for upper, lower in reversed(steps))
        self.decoding_blocks = nn.ModuleList(ConvolutionsThenLinear(*block) for block in blocks[-2::-1])
        self.final_conv = nn.Sequential(nn.Conv2d(channels[0], shape.sources * shape.parts, 1))

    def forward(self, packed: torch.Tensor) -> torch.Tensor:
        """Spectrogram of the source, (batch, 4, bin, frame), from the mixture's; several sources have 4 channels each.

        Parameters
        ----------
        packed : Tensor, shape (batch, 4, bin, frame)
            As `ComplexAsChannels` packs it; the number of STFT frames is a multiple of the shape's ``time_divisor``.
        """
        features = self.first_conv(packed).transpose(2, 3)
        skips = []
        for block, down in zip(self.encoding_blocks, self.ds, strict=True):
            skips.append(block(features))
            features = down(skips[-1])
        features = self.bottleneck_block(features)
        for up, block in zip(self.us, self.decoding_blocks, strict=True):
            features = block(up(features) * skips.pop())
        output: torch.Tensor = self.final_conv(features.transpose(2, 3))
        return output


def _sampler(convolution: type[nn.Conv2d | nn.ConvTranspose2d], in_channels: int, channels: int) -> nn.Module:
    return nn.Sequential(convolution(in_channels, channels, 2, stride=2), nn.BatchNorm2d(channels), nn.ReLU())


_SUBMISSION = [
    (r"^ds_dense\.", "encoding_blocks."),
    (r"^us_dense\.", "decoding_blocks."),
    (r"^mid_dense\.", "bottleneck_block."),
    (r"^((?:en|de)coding_blocks\.\d+|bottleneck_block)\.H\.", r"\1.tfc.H."),
]
"""From the names of KUIELab's submission to those of its training code."""


def tfc_tdf_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, TFCTDFShape, int | None]:
    """Weights of a `TFCTDFUNet` from KUIELab's training code, its submission or an ONNX `Graph`.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` or `Graph.state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the training code's form, without its constants.
    shape : TFCTDFShape
        Their sizes.
    n_fft : int or None
        The window's length, which only the training code's files have.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", ""), *_SUBMISSION])
    window = tensors.pop("window", None)
    tensors.pop("freq_pad", None)
    try:
        first, linear = tensors["first_conv.0.weight"], tensors["bottleneck_block.tdf.0.weight"]
        levels = count(tensors, "ds")
        shape = TFCTDFShape(
            levels=levels,
            layers=count(tensors, "bottleneck_block.tfc.H"),
            kernel=tensors["bottleneck_block.tfc.H.0.0.weight"].shape[-1],
            growth=first.shape[0],
            bins=linear.shape[1] << levels,
            factor=linear.shape[1] // linear.shape[0],
            parts=first.shape[1],
            sources=len(tensors["final_conv.0.weight"]) // first.shape[1],
        )
    except (KeyError, ZeroDivisionError) as error:
        raise SeparatorError(f"{path}: no TFC-TDF-U-Net v2 ({error} is missing)") from error
    return tensors, shape, None if window is None else len(window)
