"""X-UMX: one recurrent network per source on magnitude spectra, bridged by two averages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from stemfuse.separators.stems import SOURCES


@dataclass(frozen=True)
class XUMXShape:
    """All that decides the tensors of an `XUMXNetwork`.

    Attributes
    ----------
    bins : int
        Of the spectra that go in and come out.
    used_bins : int
        How many of them, from the lowest, the network sees: 1487 are 16 kHz.
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
    `stemfuse.separators.networks.layouts.xumx_state` brings Danna-Sep's files into this form. `decode` works frame by
    frame, so that the masks of a long song need never be in memory as a whole.

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
        """What the decoders need of a whole song: (frame, batch, 2 * hidden) of (batch, channel, bin, frame)."""
        # (frame, batch, channel, bin)
        used = magnitudes[:, :, : self.shape.used_bins].permute(3, 0, 1, 2)
        first = []
        for name in SOURCES:
            scaled = (used + self.mean_scale[f"input_mean_{name}"]) * self.mean_scale[f"input_scale_{name}"]
            encoded = self.layer_enc[name]["enc"](scaled.flatten(2).flatten(0, 1))  # type: ignore[index]
            first.append(encoded.unflatten(0, used.shape[:2]))
        bridge = torch.stack(first).mean(dim=0)
        second = torch.stack([self.layer_lstm[name](bridge)[0] for name in SOURCES]).mean(dim=0)
        return torch.cat([bridge, second], dim=-1)

    def decode(self, encoded: torch.Tensor) -> torch.Tensor:
        """Masks (batch, source, channel, bin, frame) of any frames that `encode` gave."""
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
