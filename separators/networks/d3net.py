"""D3Net for music: densely connected dilated convolutions in two bands and over all of them, one network per source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.weights.tensors import State, renamed

from .d3net_separator import SPLITS, BandShape, D3NetShape

CHANNELS = 2


class Convolution(nn.Module):
    """Normalisation, activation, and a dilated convolution."""

    def __init__(self, in_channels: int, channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, input, frame, bin) to (batch, channel, frame, bin)."""
        output: torch.Tensor = self.conv(functional.relu(self.norm(features)))
        return output


class DilatedConvolutions(nn.Module):
    """Convolutions with doubling dilation; the input of each is the sum of parts of all before it (D2).

    Danna-Sep's blocks differ: they normalise behind the convolutions, and give the outputs of all.
    """

    def __init__(self, in_channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.initial_layer = Convolution(in_channels, growth * layers, 1)
        self.layers = nn.ModuleDict(
            {f"layer{layer}": Convolution(growth, growth * (layers - layer), 1 << layer) for layer in range(1, layers)}
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, input, frame, bin) to (batch, growth, frame, bin)."""
        return _passed_on(self.initial_layer(features), list(self.layers.values()))


class DenseBlock(nn.Module):
    """Groups of dilated convolutions; the input of each is the sum of parts of all before it (D3)."""

    def __init__(self, in_channels: int, growth: int, layers: int, groups: int) -> None:
        super().__init__()
        self.initial_block = DilatedConvolutions(in_channels, growth * groups, layers)
        self.layers = nn.ModuleDict(
            {
                f"layer{group}": DilatedConvolutions(growth, growth * (groups - group), layers)
                for group in range(1, groups)
            }
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, input, frame, bin) to (batch, growth, frame, bin)."""
        return _passed_on(self.initial_block(features), list(self.layers.values()))


def _passed_on(first: torch.Tensor, layers: list[nn.Module]) -> torch.Tensor:
    """Each layer takes the next part of the sum of all outputs so far, and adds to those behind it; the last part."""
    parts = list(first.chunk(len(layers) + 1, dim=1))
    for number, layer in enumerate(layers):
        added = layer(parts[number]).chunk(len(layers) - number, dim=1)
        parts[number + 1 :] = [old + new for old, new in zip(parts[number + 1 :], added, strict=True)]
    return parts[-1]


class Upsampling(nn.Module):
    """Normalisation, and a transposed convolution that doubles STFT frames and bins."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.ConvTranspose2d(channels, channels, 2, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, frame, bin) to twice the frames and bins."""
        output: torch.Tensor = self.conv(self.norm(features))
        return output


class DenseBand(nn.Module):
    """Dense blocks on several scales: downwards by averages, upwards beside the outputs of the way down (MD3)."""

    def __init__(self, shape: BandShape) -> None:
        super().__init__()
        self.levels = levels = shape.levels
        growth, layers = shape.growth, shape.layers
        inputs = [shape.features, *growth[:levels]]

        def block(number: int, in_channels: int) -> DenseBlock:
            return DenseBlock(in_channels, growth[number], layers[number], shape.groups)

        self.ds_layers = nn.ModuleDict({f"dense_block{level}": block(level, inputs[level]) for level in range(levels)})
        self.bottleneck_block = block(levels, inputs[levels])
        self.us_layers = nn.ModuleDict()
        for level in range(levels):
            before, skipped = growth[levels + level], growth[levels - 1 - level]
            self.us_layers[f"upsample{level}"] = Upsampling(before)
            number = levels + 1 + level
            self.us_layers[f"dense_block{number}"] = block(number, before + skipped)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, feature, frame, bin) to (batch, growth of the last block, frame, bin)."""
        skips = []
        for layer in self.ds_layers.values():
            features = layer(features)
            skips.append(features)
            features = functional.avg_pool2d(features, 2)
        features = self.bottleneck_block(features)
        for level in range(self.levels):
            features = torch.cat([self.us_layers[f"upsample{level}"](features), skips.pop()], dim=1)
            features = self.us_layers[f"dense_block{self.levels + 1 + level}"](features)
        return features


class OutputGate(nn.Module):
    """The product of two small convolutions, one of which is between zero and one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.gate = nn.Conv2d(channels, CHANNELS, 1)
        self.filter = nn.Conv2d(channels, CHANNELS, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channel, frame, bin) to (batch, 2, frame, bin)."""
        features = self.norm(features)
        output: torch.Tensor = torch.sigmoid(self.gate(features)) * self.filter(features)
        return output


class Matching(nn.Module):
    """A band of fewer channels is brought to those of the others."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, input, frame, bin) to (batch, channel, frame, bin)."""
        output: torch.Tensor = self.conv(self.norm(features))
        return output


class D3NetNetwork(nn.Module):
    """Magnitudes of one source from a mixture's magnitudes.

    Parameters
    ----------
    shape : D3NetShape
        All sizes; the published ones for vocals and other instruments when left out.

    Notes
    -----
    Written from the papers and from the names and shapes of the published tensors; no output of the authors' program
    was at hand to compare with. The order of the two inputs where bands go upwards, and the axes of the transposed
    convolutions' kernels, are therefore assumed.

    References
    ----------
    N. Takahashi, Y. Mitsufuji, "D3Net: densely connected multidilated DenseNet for music source separation", 2020
    (arXiv 2010.01733); "Densely connected multi-dilated convolutional networks for dense prediction tasks", CVPR 2021.

    Examples
    --------
    >>> band = BandShape(4, (2, 2, 2), (2, 2, 2))
    >>> network = D3NetNetwork(D3NetShape(band, band, band, split=8, used_bins=24, bins=33)).eval()
    >>> tuple(network(torch.rand(1, 2, 33, 10)).shape)
    (1, 2, 33, 10)
    """

    def __init__(self, shape: D3NetShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or D3NetShape()
        bands = (shape.low, shape.high)
        widest = max(band.growth[-1] for band in bands)
        self.in_offset = nn.Parameter(torch.zeros(shape.bins))
        self.in_scale = nn.Parameter(torch.ones(shape.bins))
        self.decode_scale = nn.Parameter(torch.ones(shape.used_bins))
        self.decode_bias = nn.Parameter(torch.zeros(shape.used_bins))
        self.features_init = nn.ModuleList(nn.Conv2d(CHANNELS, band.features, 3, padding=1) for band in bands)
        self.dense_band = nn.ModuleList(DenseBand(band) for band in bands)
        self.match_fm_conv = nn.ModuleDict(
            {
                str(number): Matching(band.growth[-1], widest)
                for number, band in enumerate(bands)
                if band.growth[-1] < widest
            }
        )
        self.features_init_full = nn.Conv2d(CHANNELS, shape.full.features, 3, padding=1)
        self.dense_full = DenseBand(shape.full)
        self.final_dense = DilatedConvolutions(widest + shape.full.growth[-1], shape.final_growth, shape.final_layers)
        self.out_gate = OutputGate(shape.final_growth)

    def forward(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """Magnitudes (batch, 2, bin, frame) of the source; bins that are not separated are the mixture's.

        Parameters
        ----------
        magnitudes : Tensor, shape (batch, 2, bin, frame)
            Of the short-time Fourier transform, not scaled.
        """
        used, frames = self.shape.used_bins, magnitudes.shape[-1]
        # (batch, channel, frame, bin)
        scaled = (magnitudes.transpose(2, 3) - self.in_offset) / self.in_scale
        scaled = functional.pad(scaled[..., :used], (0, 0, 0, -frames % self.shape.divisor))
        split = self.shape.split
        bands = []
        for number, part in enumerate((scaled[..., :split], scaled[..., split:])):
            features = self.dense_band[number](self.features_init[number](part))
            name = str(number)
            bands.append(self.match_fm_conv[name](features) if name in self.match_fm_conv else features)
        full = self.dense_full(self.features_init_full(scaled))
        joined = torch.cat([torch.cat(bands, dim=-1), full], dim=1)
        output = self.out_gate(self.final_dense(joined)) * self.decode_scale + self.decode_bias
        separated = functional.relu(output)[:, :, :frames].transpose(2, 3)
        return torch.cat([separated, magnitudes[:, :, used:]], dim=2)


_RULES = [
    (r"^[a-z]+/(?=in_|decode_|features_|dense_|match_|final_|out_)", ""),
    ("/", "."),
    (r"bottleneck\.norm1\.bn\.", "norm."),
    (r"bottleneck\.conv1\.conv\.", "conv."),
    (r"(upsample\d+)\.upsample\.norm\.bn\.", r"\1.norm."),
    (r"(upsample\d+)\.upsample\.transconv\.deconv\.", r"\1.conv."),
    (r"^(features_init\.\d|features_init_full)\.conv\.", r"\1."),
    (r"^(match_fm_conv\.\d)\.norm\.bn\.", r"\1.norm."),
    (r"^(match_fm_conv\.\d)\.conv\.conv\.", r"\1.conv."),
    (r"^out_gate\.bn\.bn\.", "out_gate.norm."),
    (r"^out_gate\.conv_gate\.conv\.conv\.", "out_gate.gate."),
    (r"^out_gate\.conv_filt\.conv\.conv\.", "out_gate.filter."),
    (r"\.(W|gamma)$", ".weight"),
    (r"\.(b|beta)$", ".bias"),
    (r"\.mean$", ".running_mean"),
    (r"\.var$", ".running_var"),
]
"""From nnabla's names to ours."""


def d3net_state(
    tensors: Mapping[str, torch.Tensor], source: str, path: Path, split: int | None = None
) -> tuple[State, D3NetShape]:
    """Weights of a `D3NetNetwork`.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        As `read_hdf5` gives them, or of our own files.
    source : str
        What they separate, which decides where the low band ends.
    path : Path
        For the message.
    split : int, optional
        Number of bins in the low band, where it is not the published one.

    Returns
    -------
    tensors : dict of str to Tensor
        In our names.
    shape : D3NetShape
        Their sizes; the block that joins the bands has the published number of convolutions.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.

    Examples
    --------
    >>> band = BandShape(4, (2, 2, 2), (2, 2, 2))
    >>> network = D3NetNetwork(D3NetShape(band, band, band, split=8, used_bins=24, bins=33))
    >>> d3net_state(network.state_dict(), "vocals", Path("vocals.h5"), split=8)[1] == network.shape
    True
    """
    state = renamed(tensors, _RULES)
    # nnabla keeps vectors with axes of size one
    state = {
        name: values.flatten() if re.search(r"norm\.|^in_|^decode_", name) and values.dim() > 1 else values
        for name, values in state.items()
    }
    try:
        low, high, full = (
            _band(state, f"{band}.", len(state[f"{features}.bias"]))
            for band, features in (
                ("dense_band.0", "features_init.0"),
                ("dense_band.1", "features_init.1"),
                ("dense_full", "features_init_full"),
            )
        )
        shape = D3NetShape(
            low,
            high,
            full,
            split=SPLITS[source] if split is None else split,
            used_bins=len(state["decode_scale"]),
            bins=len(state["in_scale"]),
            final_growth=len(state["out_gate.norm.bias"]),
            final_layers=1 + _numbered(state, "final_dense.layers.layer"),
        )
    except KeyError as error:
        raise SeparatorError(f"{path}: no D3Net ({error} is missing)") from error
    return state, shape


def _band(state: State, band: str, features: int) -> BandShape:
    """The sizes of a band by its tensors."""
    levels = _numbered(state, f"{band}ds_layers.dense_block")
    blocks = [
        *(f"{band}ds_layers.dense_block{level}." for level in range(levels)),
        f"{band}bottleneck_block.",
        *(f"{band}us_layers.dense_block{levels + 1 + level}." for level in range(levels)),
    ]
    growth, layers, groups = [], [], 1
    for block in blocks:
        groups = 1 + _numbered(state, f"{block}layers.layer")
        layers.append(1 + _numbered(state, f"{block}initial_block.layers.layer"))
        growth.append(len(state[f"{block}initial_block.initial_layer.conv.bias"]) // layers[-1] // groups)
    return BandShape(features, tuple(growth), tuple(layers), groups)


def _numbered(state: State, prefix: str) -> int:
    """How many modules there are whose names are a prefix and a number."""
    found = {name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)}
    return sum(number.isdigit() for number in found)
