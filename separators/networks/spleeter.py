"""Spleeter: one U-Net per instrument on magnitude spectra, and its weights in TensorFlow's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.weights.tensors import State

from .spleeter_separator import INSTRUMENTS

CHANNELS = 2
KERNEL, LAST_KERNEL, LAST_DILATION = 5, 4, 2
NORMALISATION_EPSILON = 1e-3
"""Keras' default, which is not PyTorch's."""
RATIO_EPSILON = 1e-10
"""Added to the sum of the sources' power, so that bins in which nothing is found are shared alike."""


@dataclass(frozen=True)
class SpleeterShape:
    """The sizes of a `SpleeterNetwork`, and in what its published editions differ.

    Attributes
    ----------
    instruments : tuple of str
        What each U-Net separates, in the order of the checkpoint.
    widths : tuple of int
        Output channels of the convolutions, from the highest level.
    exponential : bool
        Exponential linear units, otherwise leaky and plain ones.
    competing : bool
        Masks are a softmax over the instruments, otherwise each is a sigmoid.
    """

    instruments: tuple[str, ...] = INSTRUMENTS[2]
    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    exponential: bool = False
    competing: bool = False

    @property
    def divisor(self) -> int:
        """STFT frames and bins are multiples of this: each level halves them."""
        return 1 << len(self.widths)


EDITIONS = {
    2: SpleeterShape(),
    4: SpleeterShape(INSTRUMENTS[4], exponential=True),
    5: SpleeterShape(INSTRUMENTS[5], exponential=True, competing=True),
}
"""The published editions by their number of stems."""


class SpleeterUNet(nn.Module):
    """The U-Net of one instrument, from magnitudes to what its mask is made of.

    Convolutions of stride 2 are followed by normalisation and activation on the way down, and by activation and
    normalisation on the way up. Skip connections and the bottom are the convolutions' own outputs.
    """

    def __init__(self, shape: SpleeterShape) -> None:
        super().__init__()
        widths = shape.widths
        self.activations: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
            (functional.elu, functional.elu)
            if shape.exponential
            else (lambda features: functional.leaky_relu(features, 0.2), functional.relu)
        )
        inputs = (CHANNELS, *widths)
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, KERNEL, 2) for before, after in zip(inputs, widths, strict=False)
        )
        # nothing follows what the lowest level would normalise
        self.down_norm = nn.ModuleList(_normalisation(width) for width in widths[:-1])
        outputs = (*widths[-2::-1], 1)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(before if level == 0 else 2 * before, after, KERNEL, 2, padding=1)
            for level, (before, after) in enumerate(zip(widths[::-1], outputs, strict=True))
        )
        self.dropout = nn.ModuleList(nn.Dropout(0.5 if level < 3 else 0.0) for level in range(len(widths)))
        self.up_norm = nn.ModuleList(_normalisation(width) for width in outputs)
        padding = LAST_DILATION * (LAST_KERNEL - 1) // 2
        self.last = nn.Conv2d(1, CHANNELS, LAST_KERNEL, padding=padding, dilation=LAST_DILATION)

    def forward(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """(batch, 2, frame, bin) to the same shape."""
        down, up = self.activations
        skips: list[torch.Tensor] = []
        features = magnitudes
        for level, convolution in enumerate(self.down):
            if level:
                features = down(self.down_norm[level - 1](features))
            # one bin before and two after, as TensorFlow pads even sizes
            features = convolution(functional.pad(features, (1, 2, 1, 2)))
            skips.append(features)
        skips.pop()
        for convolution, normalisation, dropout in zip(self.up, self.up_norm, self.dropout, strict=True):
            # of the whole result one in front and two at the end are left out
            features = dropout(normalisation(up(convolution(features)[..., :-1, :-1])))
            if skips:
                features = torch.cat([skips.pop(), features], dim=1)
        output: torch.Tensor = self.last(features)
        return output


def _normalisation(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=NORMALISATION_EPSILON)


class SpleeterNetwork(nn.Module):
    """Spleeter: magnitudes of all instruments from a mixture's magnitudes.

    Parameters
    ----------
    shape : SpleeterShape
        Instruments and sizes; those of the two stems when left out.

    References
    ----------
    R. Hennequin, A. Khlif, F. Voituret, M. Moussallam, "Spleeter: a fast and efficient music source separation tool
    with pre-trained models", Journal of Open Source Software 5(50), 2020; the U-Net is that of A. Jansson et al.,
    "Singing voice separation with deep U-Net convolutional networks", ISMIR 2017.

    Examples
    --------
    >>> network = SpleeterNetwork(SpleeterShape(widths=(2, 2, 2))).eval()
    >>> tuple(network(torch.rand(1, 2, 16, 24)).shape)
    (1, 2, 2, 16, 24)
    """

    def __init__(self, shape: SpleeterShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or SpleeterShape()
        self.networks = nn.ModuleList(SpleeterUNet(shape) for _ in shape.instruments)

    def forward(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """Magnitudes (batch, instrument, 2, frame, bin).

        Parameters
        ----------
        magnitudes : Tensor, shape (batch, 2, frame, bin)
            Of the short-time Fourier transform, not scaled; frames and bins are multiples of the shape's ``divisor``.
        """
        return self.masks(magnitudes) * magnitudes[:, None]

    def masks(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """What the mixture's magnitudes are multiplied by, (batch, instrument, 2, frame, bin)."""
        outputs = torch.stack([network(magnitudes) for network in self.networks], dim=1)
        return torch.softmax(outputs, dim=1) if self.shape.competing else torch.sigmoid(outputs)


def ratio_masks(magnitudes: torch.Tensor, exponent: float) -> torch.Tensor:
    r"""Masks that sum to one, :math:`v_j^e / \sum_k v_k^e`, with a little power added to each.

    Parameters
    ----------
    magnitudes : Tensor, shape (..., source, channel, frame, bin)
        Not negative.
    exponent : float
        Of the magnitudes, 2 in Spleeter.

    Examples
    --------
    >>> ratio_masks(torch.tensor([3.0, 1.0]).reshape(2, 1, 1, 1), 2.0).flatten().tolist()
    [0.89999..., 0.10000...]
    """
    power = magnitudes**exponent
    sources = power.shape[-4]
    return (power + RATIO_EPSILON / sources) / (power.sum(dim=-4, keepdim=True) + RATIO_EPSILON)


def spleeter_state(tensors: Mapping[str, torch.Tensor], stems: int, path: Path) -> tuple[State, SpleeterShape]:
    """Weights of a `SpleeterNetwork`.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        As `read_bundle` gives them. Layers of all U-Nets are numbered through, and the first has no number.
    stems : int
        How many are expected.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict of str to Tensor
        In our names and PyTorch's axes.
    shape : SpleeterShape
        That of the edition, with the sizes of these tensors.

    Raises
    ------
    SeparatorError
        The checkpoint has another number of stems, or is not Spleeter's.
    """
    ups = sum(name.startswith("conv2d_transpose") and name.endswith("/bias") for name in tensors)
    downs = sum(name.startswith("conv2d") and name.endswith("/bias") for name in tensors) - ups
    # each U-Net has one convolution more than transposed ones
    found = downs - ups
    if found < 1 or not ups or ups % found:
        raise SeparatorError(f"{path}: no Spleeter (its convolutions are others)")
    if found != stems:
        raise SeparatorError(f"{path}: has weights of {found} stems, got stems={stems}")
    levels = ups // found
    state: State = {}
    try:
        widths = tuple(len(tensors[f"{_layer('conv2d', level)}/bias"]) for level in range(levels))
        for index in range(stems):
            for ours, theirs in _names(index, levels).items():
                values = tensors[theirs]
                # (height, width, input, output), and (height, width, output, input) of transposed convolutions
                state[ours] = values.permute(3, 2, 0, 1).contiguous() if values.dim() == 4 else values
    except KeyError as error:
        raise SeparatorError(f"{path}: no Spleeter ({error} is missing)") from error
    return state, replace(EDITIONS[stems], widths=widths)


_VALUES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def _layer(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _names(index: int, levels: int) -> dict[str, str]:
    """Our names of the tensors of one U-Net, and TensorFlow's."""
    names: dict[str, str] = {}
    for level in range(levels):
        pairs = {f"down.{level}": ("conv2d", levels + 1), f"up.{level}": ("conv2d_transpose", levels)}
        for ours, (kind, count) in pairs.items():
            theirs = _layer(kind, index * count + level)
            names |= {f"{ours}.weight": f"{theirs}/kernel", f"{ours}.bias": f"{theirs}/bias"}
        for ours, shift in (("down_norm", 0), ("up_norm", levels)):
            theirs = _layer("batch_normalization", 2 * levels * index + shift + level)
            if ours == "up_norm" or level < levels - 1:
                names |= {f"{ours}.{level}.{value}": f"{theirs}/{name}" for value, name in _VALUES.items()}
    theirs = _layer("conv2d", index * (levels + 1) + levels)
    names |= {"last.weight": f"{theirs}/kernel", "last.bias": f"{theirs}/bias"}
    return {f"networks.{index}.{ours}": theirs for ours, theirs in names.items()}
