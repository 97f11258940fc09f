"""The U-Net frame of Choi et al. (ISMIR 2020) on complex spectrograms or magnitudes, and its interchangeable blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.weights.tensors import State, count, renamed

BLOCKS: Final = ("tdf", "tdc", "tfc", "tfc_tdf", "tdc_rnn")
"""Names of the blocks: fully connected (tdf), convolutions within an STFT frame (tdc) or over several (tfc), joined."""

MAGNITUDE_PARTS: Final = 2
"""Of the spectrograms of a `MagnitudeUNet`: left and right."""

_SMALL = 1e-8
"""Smallest magnitude that is divided by."""

_SWAPPED = [0, 2, 1, 3]
"""Between left, left, right, right and real, real, imaginary, imaginary; the same way back."""


@dataclass(frozen=True)
class UNetShape:
    """The sizes of a `CaCUNet` or a `MagnitudeUNet`, which decide its tensors.

    Attributes
    ----------
    block : str
        One of `BLOCKS`.
    blocks : int
        Of the whole U, an odd number: levels going down, one in the middle, levels going up.
    bins : int
        Frequency bins inside, half the window; the network takes one more.
    bias : bool
        The fully connected layers have biases, and their normalisations scale and shift.
    time_levels : tuple of int
        Levels, 0 the highest, that halve the number of STFT frames too, where the samplers are two-dimensional.
    channels, growth, layers, kernel : int
        Channels between the blocks; channels, number and kernel size of a block's convolutions.
    factor, minimum : int
        The bottleneck of the fully connected layers has bins / factor units, but at least so many.
    parts : int
        Channels of input and output: 4 for real and imaginary parts of two channels, 2 for their magnitudes.
    """

    block: str = "tfc_tdf"
    blocks: int = 7
    bins: int = 1024
    bias: bool = False
    time_levels: tuple[int, ...] = (0, 1, 2)
    channels: int = 24
    growth: int = 24
    layers: int = 5
    kernel: int = 3
    factor: int = 16
    minimum: int = 16
    parts: int = 4

    @property
    def time_divisor(self) -> int:
        """The number of STFT frames has to be a multiple of it."""
        return 2 ** len(self.time_levels) if self.two_dimensional else 1

    @property
    def two_dimensional(self) -> bool:
        """Whether the samplers between the levels cover several STFT frames."""
        return self.block in ("tfc", "tfc_tdf", "tdc_rnn")


class FrameConvolution(nn.Conv1d):
    """Convolution along frequency, frame by frame, of (batch, channel, frame, bin)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's name
        """(batch, input, frame, bin) to (batch, output, frame, bin / stride)."""
        kernel = self.weight.unsqueeze(2)
        return functional.conv2d(input, kernel, self.bias, (1, *self.stride), (0, int(self.padding[0])))


class FrameTransposedConvolution(nn.ConvTranspose1d):
    """Transposed convolution along frequency, frame by frame, of (batch, channel, frame, bin)."""

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:  # noqa: A002
        """(batch, input, frame, bin) to (batch, output, frame, bin * stride)."""
        return functional.conv_transpose2d(input, self.weight.unsqueeze(2), self.bias, (1, *self.stride))


class DenseConvolutions(nn.Module):
    """Convolutions, each on the outputs of all before it; the last one's output is the block's (TDC, TFC)."""

    def __init__(self, in_channels: int, shape: UNetShape, over_frames: bool) -> None:
        super().__init__()
        convolution: Any = nn.Conv2d if over_frames else FrameConvolution
        self.H = nn.ModuleList(
            nn.Sequential(
                convolution(in_channels + index * shape.growth, shape.growth, shape.kernel, padding=shape.kernel // 2),
                nn.BatchNorm2d(shape.growth),
                nn.ReLU(),
            )
            for index in range(shape.layers)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, frame, bin) to (batch, growth, frame, bin)."""
        output = features
        for layer in self.H:
            output = layer(features)
            features = torch.cat([output, features], dim=1)
        return output


class FrameLinear(nn.Module):
    """Two fully connected layers over the bins of each frame and channel, with a bottleneck (TDF)."""

    def __init__(self, channels: int, in_bins: int, bins: int, shape: UNetShape, bias: bool, affine: bool) -> None:
        super().__init__()
        units = max(bins // shape.factor, shape.minimum)
        self.tif = nn.Sequential(
            nn.Linear(in_bins, units, bias=bias),
            nn.BatchNorm2d(channels, affine=affine),
            nn.ReLU(),
            nn.Linear(units, bins, bias=bias),
            nn.BatchNorm2d(channels, affine=affine),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, frame, bin of the input) to (batch, channel, frame, bin)."""
        output: torch.Tensor = self.tif(features)
        return output


class ConvolutionsThenLinear(nn.Module):
    """Dense convolutions over time and frequency, then fully connected layers added to them (TFC-TDF)."""

    def __init__(self, in_channels: int, bins: int, shape: UNetShape) -> None:
        super().__init__()
        self.tfc = DenseConvolutions(in_channels, shape, over_frames=True)
        self.tif = FrameLinear(shape.growth, bins, bins, shape, shape.bias, shape.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, frame, bin) to (batch, growth, frame, bin)."""
        output: torch.Tensor = self.tfc(features)
        return torch.add(output, self.tif(output))


class ConvolutionsThenRecurrence(nn.Module):
    """Dense convolutions within frames, then a recurrent layer over time added to them (TDC-RNN)."""

    def __init__(self, in_channels: int, bins: int, shape: UNetShape) -> None:
        super().__init__()
        units = max(bins // shape.factor, shape.minimum)
        self.tic = DenseConvolutions(in_channels, shape, over_frames=False)
        self.bn = nn.BatchNorm2d(shape.growth)
        self.rnn = nn.GRU(bins, units, bias=shape.bias, batch_first=True, bidirectional=True)
        self.tif_f1_to_f2 = FrameLinear(shape.growth, 2 * units, bins, shape, shape.bias, affine=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, frame, bin) to (batch, growth, frame, bin)."""
        output: torch.Tensor = self.bn(self.tic(features))
        # one sequence per channel
        states, _ = self.rnn(output.flatten(0, 1))
        return torch.add(output, self.tif_f1_to_f2(states.unflatten(0, output.shape[:2])))


class FrameSampler(nn.Module):
    """Halves or doubles the number of bins, frame by frame."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        convolution: Any = FrameTransposedConvolution if up else FrameConvolution
        self.conv = convolution(channels, channels, 2, stride=2)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, frame, bin) to (batch, channel, frame, bin / 2 or bin * 2)."""
        output: torch.Tensor = self.bn(self.conv(features))
        return output


def _block(in_channels: int, bins: int, shape: UNetShape) -> nn.Module:
    if shape.block == "tfc_tdf":
        return ConvolutionsThenLinear(in_channels, bins, shape)
    if shape.block == "tdc_rnn":
        return ConvolutionsThenRecurrence(in_channels, bins, shape)
    if shape.block != "tdf":
        return DenseConvolutions(in_channels, shape, over_frames=shape.block == "tfc")
    linear = FrameLinear(in_channels, bins, bins, shape, shape.bias, shape.bias)
    # fully connected layers keep the number of channels, which the skip connections double
    return linear if in_channels == shape.channels else nn.Sequential(linear, nn.Conv2d(in_channels, shape.channels, 1))


def _sampler(level: int, shape: UNetShape, up: bool) -> nn.Module:
    if not shape.two_dimensional:
        return FrameSampler(shape.channels, up)
    convolution: Any = nn.ConvTranspose2d if up else nn.Conv2d
    kernel = (2 if level in shape.time_levels else 1, 2)
    return nn.Sequential(
        convolution(shape.channels, shape.channels, kernel, stride=kernel), nn.BatchNorm2d(shape.channels)
    )


class CaCUNet(nn.Module):
    """U-Net from a mixture's complex spectrogram to a source's, with one kind of block.

    Parameters
    ----------
    shape : UNetShape
        The block and all sizes.

    Notes
    -----
    Names and shapes of the tensors are those of the authors' current code without the prefix ``spec2spec.``;
    `stemfuse.separators.networks.ismir2020.ismir2020_state` brings their earlier files into this form.

    References
    ----------
    W. Choi, M. Kim, J. Chung, D. Lee, S. Jung, "Investigating U-Nets with various intermediate blocks for
    spectrogram-based singing voice separation", ISMIR 2020, sections 2 and 3.

    Examples
    --------
    >>> network = CaCUNet(UNetShape(block="tdc", blocks=3, bins=32)).eval()
    >>> tuple(network(torch.zeros(1, 4, 33, 5)).shape)
    (1, 4, 33, 5)
    """

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        channels, levels = shape.channels, range(shape.blocks // 2)
        bins = [shape.bins >> level for level in (*levels, len(levels))]
        self.first_conv = nn.Sequential(nn.Conv2d(shape.parts, channels, (1, 2)), nn.BatchNorm2d(channels), nn.ReLU())
        self.encoders = nn.ModuleList(_block(channels, bins[level], shape) for level in levels)
        self.downsamplings = nn.ModuleList(_sampler(level, shape, up=False) for level in levels)
        self.mid_block = _block(channels, bins[-1], shape)
        self.upsamplings = nn.ModuleList(_sampler(level, shape, up=True) for level in reversed(levels))
        self.decoders = nn.ModuleList(_block(2 * channels, bins[level], shape) for level in reversed(levels))
        self.last_conv = nn.Sequential(nn.Conv2d(channels, shape.parts, (1, 2), padding=(0, 1)))

    def forward(self, packed: torch.Tensor) -> torch.Tensor:
        """Spectrogram of the source, (batch, 4, bin, frame), from the mixture's.

        Parameters
        ----------
        packed : Tensor, shape (batch, 4, bins + 1, frame)
            As `ComplexAsChannels` packs it; the number of STFT frames is a multiple of the shape's ``time_divisor``.
        """
        return self._output(packed[:, _SWAPPED])[:, _SWAPPED]

    def compared(self, packed: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the loss of spectrograms compares: the source's, from the mixture's, and the true one, as packed."""
        return self(packed), target

    def _output(self, channels: torch.Tensor) -> torch.Tensor:
        """(batch, part, bin, frame) to the same, through the U."""
        features = self.first_conv(channels.transpose(2, 3))
        skips = []
        for encoder, down in zip(self.encoders, self.downsamplings, strict=True):
            skips.append(encoder(features))
            features = down(skips[-1])
        features = self.mid_block(features)
        for up, decoder in zip(self.upsamplings, self.decoders, strict=True):
            features = decoder(torch.cat([up(features), skips.pop()], dim=1))
        output: torch.Tensor = self.last_conv(features)
        return output.transpose(2, 3)


class MagnitudeUNet(CaCUNet):
    """The same U-Net on magnitudes alone, which the paper compares with: the source has the mixture's phase.

    It takes and gives complex spectrograms as `CaCUNet` does.

    Parameters
    ----------
    shape : UNetShape
        The block and all sizes, with ``parts=2``.

    Examples
    --------
    >>> network = MagnitudeUNet(UNetShape(block="tdc", blocks=3, bins=32, parts=2)).eval()
    >>> tuple(network(torch.zeros(1, 4, 33, 5)).shape)
    (1, 4, 33, 5)
    """

    def forward(self, packed: torch.Tensor) -> torch.Tensor:
        """See `CaCUNet`."""
        loudness = magnitudes(packed)
        # in training nothing keeps the output above zero but the loss: cut there, a silent network would never learn
        gains = functional.relu(self._output(loudness)) / loudness.clamp_min(_SMALL)
        # the left channel's two parts come before the right one's
        return packed * gains.repeat_interleave(2, dim=1)

    def compared(self, packed: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `CaCUNet`: magnitudes."""
        return self._output(magnitudes(packed)), magnitudes(target)


def magnitudes(packed: torch.Tensor) -> torch.Tensor:
    """Magnitudes (batch, 2, bin, frame) of a packed spectrogram (batch, 4, bin, frame).

    Examples
    --------
    >>> magnitudes(torch.tensor([3.0, 4.0, 0.0, 2.0]).reshape(1, 4, 1, 1)).flatten()
    tensor([5., 2.])
    """
    batch, parts, bins, frames = packed.shape
    return packed.reshape(batch, parts // 2, 2, bins, frames).square().sum(dim=2).sqrt()


def unet_of(shape: UNetShape) -> CaCUNet:
    """The network of some sizes: on magnitudes when these have two parts."""
    return MagnitudeUNet(shape) if shape.parts == MAGNITUDE_PARTS else CaCUNet(shape)


def ismir2020_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, UNetShape, bool]:
    """Weights of a `CaCUNet` or `MagnitudeUNet` from the authors' current or their deprecated code, or from ours.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it: with ``spec2spec.`` or without, or deprecated, with ``module.`` or without.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the current code's form.
    shape : UNetShape
        Their sizes; ``bins`` has its default when no tensor depends on it.
    deprecated : bool
        Whether they are of the deprecated code, which has another transform.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    # checkpoints of training hold more than the network
    inside = {name: tensor for name, tensor in state.items() if "spec2spec." in name}
    tensors = renamed(inside or state, [(r"^(module|model)\.", ""), (r"^spec2spec\.", "")])
    deprecated = "final_conv.0.weight" in tensors
    if deprecated:
        sampling = [("^downsampling", "downsamplings"), ("^upsampling", "upsamplings"), ("^final_conv", "last_conv")]
        tensors = renamed(tensors, sampling)
    try:
        if deprecated:
            # there, frequency is before time, and both parts of the left channel are before those of the right
            tensors["first_conv.0.weight"] = tensors["first_conv.0.weight"].transpose(2, 3)[:, _SWAPPED]
            tensors["last_conv.0.weight"] = tensors["last_conv.0.weight"].transpose(2, 3)[_SWAPPED]
            tensors["last_conv.0.bias"] = tensors["last_conv.0.bias"][_SWAPPED]
        return tensors, _ismir2020_shape(tensors), deprecated
    except (KeyError, IndexError) as error:
        raise SeparatorError(f"{path}: no U-Net of ISMIR 2020 ({error} is missing)") from error


def _ismir2020_shape(tensors: Mapping[str, torch.Tensor]) -> UNetShape:
    levels = count(tensors, "encoders")
    block = _ismir2020_block(tensors)
    dense = {"tfc_tdf": "encoders.0.tfc.H", "tdc_rnn": "encoders.0.tic.H"}.get(block, "encoders.0.H")
    linear = {"tfc_tdf": "encoders.0.tif.tif", "tdc_rnn": "encoders.0.tif_f1_to_f2.tif"}.get(block, "encoders.0.tif")
    channels, parts = tensors["first_conv.0.weight"].shape[:2]
    sizes: dict[str, Any] = {"block": block, "blocks": 2 * levels + 1, "channels": channels, "parts": parts}
    if block != "tdf":
        first = tensors[f"{dense}.0.0.weight"]
        sizes |= {"layers": count(tensors, dense), "growth": first.shape[0], "kernel": first.shape[-1]}
    if f"{linear}.0.weight" in tensors:
        sizes |= {"bins": tensors[f"{linear}.3.weight"].shape[0], "bias": f"{linear}.0.bias" in tensors}
    samplers = [tensors.get(f"downsamplings.{level}.0.weight") for level in range(levels)]
    halved = tuple(level for level, kernel in enumerate(samplers) if kernel is not None and kernel.shape[2] == 2)
    return UNetShape(**sizes, time_levels=halved)


def _ismir2020_block(tensors: Mapping[str, torch.Tensor]) -> str:
    if "encoders.0.tfc.H.0.0.weight" in tensors:
        return "tfc_tdf"
    if "encoders.0.tic.H.0.0.weight" in tensors:
        return "tdc_rnn"
    if "encoders.0.tif.0.weight" in tensors:
        return "tdf"
    return "tfc" if tensors["encoders.0.H.0.0.weight"].dim() == 4 else "tdc"
