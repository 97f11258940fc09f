"""X-UMX: one recurrent network per source on magnitude spectra, bridged by two averages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights.tensors import State, renamed


@dataclass(frozen=True)
class XUMXShape:
    """The sizes of an `XUMXNetwork`, which decide its tensors.

    Attributes
    ----------
    bins : int
        Frequency bins of input and output.
    used_bins : int
        How many of them, from the lowest, are used by the network: 1487 are 16 kHz.
    hidden : int
        Channels inside.
    layers : int
        Of the recurrent part.
    channels : int
        Of the audio.
    """

    bins: int = 2049
    used_bins: int = 1487
    hidden: int = 512
    layers: int = 3
    channels: int = 2


class XUMXNetwork(nn.Module):
    """CrossNet-Open-Unmix: masks for all four sources from a mixture's magnitudes.

    Parameters
    ----------
    shape : XUMXShape
        All sizes; the published ones when left out.

    Notes
    -----
    Names and shapes of the tensors are asteroid's, without the windows;
    `stemfuse.separators.networks.xumx.xumx_state` brings Danna-Sep's files into this form. `decode` works on
    single STFT frames, so that the masks of a long song are never in memory as a whole.

    References
    ----------
    R. Sawata, S. Uhlich, S. Takahashi, Y. Mitsufuji, "All for one and one for all: improving music separation by
    bridging networks", ICASSP 2021, section 3.

    Examples
    --------
    >>> network = XUMXNetwork(XUMXShape(bins=33, used_bins=24, hidden=8, layers=1)).eval()
    >>> tuple(network(torch.rand(1, 2, 33, 10)).shape)
    (1, 4, 2, 33, 10)
    """

    def __init__(self, shape: XUMXShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or XUMXShape()
        inputs, outputs, hidden = shape.channels * shape.used_bins, shape.channels * shape.bins, shape.hidden
        self.layer_enc = nn.ModuleDict(
            {name: nn.ModuleDict({"enc": _normalised(inputs, hidden, nn.Tanh())}) for name in SOURCES}
        )
        self.layer_lstm = nn.ModuleDict(
            {
                name: nn.LSTM(
                    hidden, hidden // 2, shape.layers, bidirectional=True, dropout=0.4 if shape.layers > 1 else 0.0
                )
                for name in SOURCES
            }
        )
        self.layer_dec = nn.ModuleDict(
            {
                name: nn.ModuleDict(
                    {"dec": nn.Sequential(*_normalised(2 * hidden, hidden, nn.ReLU()), *_normalised(hidden, outputs))}
                )
                for name in SOURCES
            }
        )
        self.mean_scale = nn.ParameterDict(
            {
                f"{side}_{kind}_{name}": torch.full((bins,), initial)
                for side, bins in (("input", shape.used_bins), ("output", shape.bins))
                for kind, initial in (("mean", 0.0 if side == "input" else 1.0), ("scale", 1.0))
                for name in SOURCES
            }
        )

    def encode(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """Input of the decoders, for a whole song: (frame, batch, 2 * hidden) from (batch, channel, bin, frame)."""
        return self.joined(self.bridge(magnitudes))

    def bridge(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """The sources' mean of any STFT frames: (frame, batch, hidden) from (batch, channel, bin, frame)."""
        # (frame, batch, channel, bin)
        used = magnitudes[:, :, : self.shape.used_bins].permute(3, 0, 1, 2)
        first = []
        for name in SOURCES:
            scaled = (used + self.mean_scale[f"input_mean_{name}"]) * self.mean_scale[f"input_scale_{name}"]
            encoded = self.layer_enc[name]["enc"](scaled.flatten(2).flatten(0, 1))  # type: ignore[index]
            first.append(encoded.unflatten(0, used.shape[:2]))
        return torch.stack(first).mean(dim=0)

    def joined(self, bridge: torch.Tensor) -> torch.Tensor:
        """What `bridge` gives for a whole song, beside the output of the recurrent layers: input of the decoders."""
        second = torch.stack([self.layer_lstm[name](bridge)[0] for name in SOURCES]).mean(dim=0)
        return torch.cat([bridge, second], dim=-1)

    def decode(self, encoded: torch.Tensor) -> torch.Tensor:
        """Masks (batch, source, channel, bin, frame) from any STFT frames of the output of `encode`."""
        frames, batch, _ = encoded.shape
        masks = []
        for name in SOURCES:
            decoded = self.layer_dec[name]["dec"](encoded.flatten(0, 1))  # type: ignore[index]
            decoded = decoded.reshape(frames, batch, self.shape.channels, self.shape.bins)
            scaled = decoded * self.mean_scale[f"output_scale_{name}"] + self.mean_scale[f"output_mean_{name}"]
            masks.append(torch.relu(scaled).permute(1, 2, 3, 0))
        return torch.stack(masks, dim=1)

    def forward(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """Masks (batch, source, channel, bin, frame), sources as in `SOURCES`, of a mixture's magnitudes.

        Parameters
        ----------
        magnitudes : Tensor, shape (batch, channel, bin, frame)
            Of the short-time Fourier transform, not scaled.
        """
        return self.decode(self.encode(magnitudes))


def _normalised(inputs: int, outputs: int, *activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), *activation)


def xumx_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, XUMXShape, bool]:
    """Weights of an `XUMXNetwork` from asteroid or, with the sources' tensors joined, from Danna-Sep.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In asteroid's form, without its windows.
    shape : XUMXShape
        Their sizes.
    joined : bool
        Whether they are Danna-Sep's, who append silence to songs.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", "")])
    joined = "affine1.0.weight" in tensors
    try:
        if joined:
            tensors = _split(tensors)
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(".window")}
        hidden, inputs = tensors["layer_enc.drums.enc.0.weight"].shape
        used_bins = len(tensors["mean_scale.input_mean_drums"])
        shape = XUMXShape(
            bins=len(tensors["mean_scale.output_mean_drums"]),
            used_bins=used_bins,
            hidden=hidden,
            layers=sum(bool(re.fullmatch(r"layer_lstm\.drums\.weight_hh_l\d+", name)) for name in tensors),
            channels=inputs // used_bins,
        )
    except KeyError as error:
        raise SeparatorError(f"{path}: no X-UMX ({error} is missing)") from error
    return tensors, shape, joined


_JOINED = {
    "input_means": "mean_scale.input_mean_{}",
    "input_scale": "mean_scale.input_scale_{}",
    "output_means": "mean_scale.output_mean_{}",
    "output_scale": "mean_scale.output_scale_{}",
    "affine1.": "layer_enc.{}.enc.",
    "affine2.": "layer_dec.{}.dec.",
}
"""Beginnings of Danna-Sep's names, and the names of the four parts."""


def _split(tensors: Mapping[str, torch.Tensor]) -> State:
    state: State = renamed(tensors, [(r"^(\w+)_lstm\.", r"layer_lstm.\1.")])
    for beginning, part in _JOINED.items():
        for name in [name for name in state if name.startswith(beginning)]:
            tensor = state.pop(name)
            # kernels of one frame are matrices; a count of steps is the same for all
            tensor = tensor.squeeze(-1) if tensor.dim() == 3 else tensor
            parts = tensor.chunk(len(SOURCES)) if tensor.dim() else [tensor] * len(SOURCES)
            for source, values in zip(SOURCES, parts, strict=True):
                state[part.format(source) + name.removeprefix(beginning)] = values
    return state
