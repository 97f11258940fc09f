"""Danna-Sep's U-Net of densely connected dilated convolutions, with local attention or LSTMs at its bottom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.weights.tensors import State, count, renamed

SOURCE_COUNT = 4
MISSING = 0.25
"""Mask of the bins that the network does not use: every source gets an equal part."""


@dataclass(frozen=True)
class UNetDannaShape:
    """The sizes of a `UNetDannaNetwork`, which decide its tensors.

    Attributes
    ----------
    used_bins : int
        How many bins, from the lowest, are used by the network.
    growth : int
        Channels that one convolution adds.
    layers : tuple of int
        Convolutions in a block of each level, from the highest.
    attention, heads : int
        Channels of queries, keys and values each, and in how many groups they are compared; with LSTMs, units of each
        direction, and nothing.
    bottom : int
        Output channels of the attention, or of the LSTMs.
    bottleneck : str
        ``"attention"``, as published, or ``"lstm"``.
    """

    used_bins: int = 1487
    growth: int = 12
    layers: tuple[int, ...] = (5, 4, 3, 2, 2, 2)
    attention: int = 128
    heads: int = 8
    bottom: int = 256
    bottleneck: str = "attention"

    @property
    def fewest_frames(self) -> int:
        """Fewest STFT frames: so many are halved to one at the bottom."""
        return 1 << len(self.layers)


class DilatedConvolutions(nn.Module):
    """Convolutions with doubling dilation; the input of each is a part of the outputs of all before it (D2)."""

    def __init__(self, in_channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(
            nn.Conv2d(
                growth if layer else in_channels,
                growth * (layers - layer),
                3,
                padding=1 << layer,
                dilation=1 << layer,
                bias=False,
            )
            for layer in range(layers)
        )
        self.bn_layers = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(growth), nn.ReLU()) for _ in range(layers))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, bin, frame) to (batch, growth * layers, bin, frame)."""
        pending: list[torch.Tensor] = []
        outputs: list[torch.Tensor] = []
        for convolution, activation in zip(self.conv_layers, self.bn_layers, strict=True):
            parts = convolution(outputs[-1] if outputs else features).chunk(len(self.conv_layers) - len(outputs), dim=1)
            pending = [old + new for old, new in zip(pending, parts, strict=True)] if pending else list(parts)
            outputs.append(activation(pending.pop(0)))
        return torch.cat(outputs, dim=1)


class DenseBlock(nn.Module):
    """Two groups of dilated convolutions, each joined to all before it (D3)."""

    def __init__(self, in_channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.d2_layers = nn.ModuleList(
            DilatedConvolutions(in_channels + index * growth * layers, growth, layers) for index in range(2)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, bin, frame) to (batch, channel + 2 * growth * layers, bin, frame)."""
        for layer in self.d2_layers:
            features = torch.cat([features, layer(features)], dim=1)
        return features


class LocalAttention(nn.Module):
    """Attention of pairs of STFT frames to all bins of these and of the three STFT frames on either side."""

    PAIR, FLANK = 2, 3

    def __init__(self, in_channels: int, channels: int, heads: int, out_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_conv = nn.Conv2d(in_channels, 3 * channels, 3, padding=1)
        self.out_conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, bin, frame) to (batch, output, bin, frame)."""
        batch, _, bins, frames = features.shape
        padded = functional.pad(self.qkv_conv(features), (0, frames % self.PAIR))
        # (batch, head, channel, bin, frame) each
        queries, keys, values = padded.reshape(batch, self.heads, -1, *padded.shape[2:]).chunk(3, dim=2)
        memory = self.PAIR + 2 * self.FLANK
        keys, values = (functional.pad(part, (self.FLANK, self.FLANK)) for part in (keys, values))
        attended = functional.scaled_dot_product_attention(
            _windows(queries, self.PAIR, self.PAIR),
            _windows(keys, memory, self.PAIR),
            _windows(values, memory, self.PAIR),
        )
        # (batch, head, pair, bin and frame, channel) to (batch, head and channel, bin, frame)
        joined = attended.reshape(batch, self.heads, -1, bins, self.PAIR, attended.shape[-1]).permute(0, 1, 5, 3, 2, 4)
        output: torch.Tensor = self.out_conv(joined.reshape(batch, -1, bins, padded.shape[-1])[..., :frames])
        return output


def _windows(parts: torch.Tensor, length: int, step: int) -> torch.Tensor:
    """(batch, head, channel, bin, frame) to (batch, head, window, bin and frame, channel)."""
    windows = parts.unfold(-1, length, step).permute(0, 1, 4, 3, 5, 2)
    return windows.reshape(*windows.shape[:3], -1, windows.shape[-1])


class TwoAxisRecurrence(nn.Module):
    """A bidirectional LSTM over the bins of each STFT frame, then one over the STFT frames of each bin.

    Danna-Sep's talk names it as what local attention was compared with; its sizes are not told.
    """

    def __init__(self, in_channels: int, units: int, out_channels: int) -> None:
        super().__init__()
        self.over_bins = nn.LSTM(in_channels, units, batch_first=True, bidirectional=True)
        self.over_frames = nn.LSTM(2 * units, units, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * units, out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, bin, frame) to (batch, output, bin, frame)."""
        batch, _, bins, frames = features.shape
        # (batch and frame, bin, channel), then (batch and bin, frame, channel)
        states, _ = self.over_bins(features.permute(0, 3, 2, 1).flatten(0, 1))
        states, _ = self.over_frames(states.reshape(batch, frames, bins, -1).transpose(1, 2).flatten(0, 1))
        output: torch.Tensor = self.linear(states)
        return output.reshape(batch, bins, frames, -1).permute(0, 3, 1, 2)


class UNetDannaNetwork(nn.Module):
    """Masks for all four sources from a mixture's magnitudes.

    Parameters
    ----------
    shape : UNetDannaShape
        All sizes; the published ones when left out.

    References
    ----------
    C.-Y. Yu, K.-W. Cheuk, "Danna-Sep: unite to separate them all", MDX workshop at ISMIR 2021, section 2.2; the blocks
    are those of N. Takahashi, Y. Mitsufuji, "Densely connected multi-dilated convolutional networks for dense
    prediction tasks", CVPR 2021.

    Examples
    --------
    >>> network = UNetDannaNetwork(UNetDannaShape(used_bins=70, growth=2, attention=16, bottom=16)).eval()
    >>> tuple(network(torch.rand(1, 2, 80, 75)).shape)
    (1, 4, 2, 80, 75)
    """

    def __init__(self, shape: UNetDannaShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or UNetDannaShape()
        growth = shape.growth
        widths = [2]
        for layers in shape.layers:
            widths.append(widths[-1] + 2 * growth * layers)
        self.down_convs = nn.ModuleList(
            nn.Sequential(DenseBlock(width, growth, layers), nn.AvgPool2d(2))
            for width, layers in zip(widths, shape.layers, strict=False)
        )
        if shape.bottleneck == "lstm":
            recurrence = TwoAxisRecurrence(widths[-1], shape.attention, shape.bottom)
            self.lstm = nn.Sequential(recurrence, nn.BatchNorm2d(shape.bottom), nn.ReLU())
        else:
            self.attn = nn.Sequential(
                LocalAttention(widths[-1], shape.attention, shape.heads, shape.bottom),
                nn.BatchNorm2d(shape.bottom),
                nn.ReLU(),
                LocalAttention(shape.bottom, shape.attention, shape.heads, shape.bottom),
                nn.BatchNorm2d(shape.bottom),
                nn.ReLU(),
            )
        inputs = [widths[-1] + shape.bottom, *(2 * width for width in widths[-2:1:-1])]
        self.up_convs = nn.ModuleList(
            nn.Sequential(
                DenseBlock(width, growth, layers),
                nn.ConvTranspose2d(width + 2 * growth * layers, output, 3, 2, padding=1, bias=False),
                nn.BatchNorm2d(output),
                nn.ReLU(),
                nn.Dropout2d(0.4 if level < 3 else 0.0),
            )
            for level, (width, layers, output) in enumerate(
                zip(inputs, shape.layers[-2::-1], widths[-2:0:-1], strict=True)
            )
        )
        self.end = nn.Sequential(
            nn.ConvTranspose2d(2 * widths[1], widths[1], 5, 2, padding=2, bias=False),
            nn.BatchNorm2d(widths[1]),
            nn.ReLU(),
            nn.Conv2d(widths[1], 2 * SOURCE_COUNT, 3, padding=2, dilation=2),
            nn.Sigmoid(),
        )

    def forward(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """Masks (batch, source, 2, bin, frame): drums, bass, other, vocals.

        Parameters
        ----------
        magnitudes : Tensor, shape (batch, 2, bin, frame)
            Of the short-time Fourier transform, not scaled; a song of fewer STFT frames than the shape's
            ``fewest_frames`` is followed by silence.
        """
        batch, channels, bins, frames = magnitudes.shape
        more = max(0, self.shape.fewest_frames - frames)
        features = functional.pad(magnitudes[:, :, : self.shape.used_bins], (0, more))
        skips = []
        for layer in self.down_convs:
            features = layer(features)
            skips.append(features)
        bottom = self.lstm if self.shape.bottleneck == "lstm" else self.attn
        features = torch.cat([skips.pop(), bottom(features)], dim=1)
        for layer in self.up_convs:
            skip = skips.pop()
            features = torch.cat([_as_large(layer(features), skip.shape, 0.0), skip], dim=1)
        masks = _as_large(self.end(features), (bins, frames), MISSING)
        return masks.reshape(batch, SOURCE_COUNT, channels, bins, frames)


def _as_large(features: torch.Tensor, shape: tuple[int, ...], value: float) -> torch.Tensor:
    """Features continued, or cut, to the last two sizes of a shape."""
    bins, frames = shape[-2:]
    return functional.pad(features, (0, frames - features.shape[-1], 0, bins - features.shape[-2]), value=value)


def unet_danna_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, UNetDannaShape]:
    """Weights of a `UNetDannaNetwork`.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the authors' form, which is ours.
    shape : UNetDannaShape
        Their sizes; the number of bins and of heads is the published one.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", "")])
    levels = range(count(tensors, "down_convs"))
    try:
        shape = UNetDannaShape(
            growth=len(tensors["down_convs.0.0.d2_layers.0.bn_layers.0.0.bias"]),
            layers=tuple(count(tensors, f"down_convs.{level}.0.d2_layers.0.conv_layers") for level in levels),
            **_bottom_sizes(tensors),
        )
    except KeyError as error:
        raise SeparatorError(f"{path}: no U-Net of Danna-Sep ({error} is missing)") from error
    return tensors, shape


def _bottom_sizes(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    if (linear := tensors.get("lstm.0.linear.weight")) is not None:
        return {"bottleneck": "lstm", "attention": linear.shape[1] // 2, "bottom": linear.shape[0]}
    return {
        "attention": len(tensors["attn.0.qkv_conv.bias"]) // 3,
        "bottom": len(tensors["attn.0.out_conv.weight"]),
    }
