"""Losses per segment of the mix that predicted weights make: absolute error, squared error, SDR."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stemfuse.blending import FusionError

Loss = Callable[[Tensor, Tensor], Tensor]
"""From a mix and its references, both (segment, time, output), to one value per segment."""

FLOOR = 1e-4
"""Energy added to signal and error of the SDR loss, relative to the mixture's: -40 dB."""


def absolute_error(mixed: Tensor, references: Tensor) -> Tensor:
    """Mean of |s - y| per segment: the loss of the MDX-Mixer (Nakano and Goto 2024)."""
    return (references - mixed).abs().mean((1, 2))


def squared_error(mixed: Tensor, references: Tensor) -> Tensor:
    """Mean of (s - y)^2 per segment."""
    return (references - mixed).square().mean((1, 2))


def negative_sdr(mixed: Tensor, references: Tensor, channels: int = 2) -> Tensor:
    """Minus the SDR of each segment in dB, mean over sources; see `FLOOR` for silent ones.

    Examples
    --------
    >>> references = torch.ones(1, 1000, 4)
    >>> round(negative_sdr(0.9 * references, references).item(), 1)
    -20.0
    """
    floor = FLOOR * references.shape[1]
    signal, error = (
        part.square().sum(1).reshape(len(part), -1, channels).sum(2) + floor
        for part in (references, references - mixed)
    )
    return -10 * torch.log10(signal / error).mean(1)


LOSSES: dict[str, Loss] = {"l1": absolute_error, "l2": squared_error, "sdr": negative_sdr}


def loss_named(name: str, channels: int = 2) -> Loss:
    """One of `LOSSES`.

    Raises
    ------
    FusionError
        The name is unknown; the message lists the known ones.
    """
    if name not in LOSSES:
        raise FusionError(f"loss {name!r} is unknown, there are {', '.join(LOSSES)}")
    if name == "sdr":
        return lambda mixed, references: negative_sdr(mixed, references, channels)
    return LOSSES[name]


class MixingObjective(nn.Module):
    """Loss of the mix Y_k = X_k W_k, with the weights W_k that a network predicts for the segment.

    Parameters
    ----------
    network : Module
        From inputs (segment, time, input) to weights (segment, output, input), or (output, input) for all segments.
    loss : {"l1", "l2", "sdr"}
        See `LOSSES`.
    channels : int
        Channels of a source.
    """

    def __init__(self, network: nn.Module, loss: str = "l1", channels: int = 2) -> None:
        super().__init__()
        loss_named(loss)
        self.network, self.loss, self.channels = network, loss, channels

    def forward(self, inputs: Tensor, references: Tensor) -> Tensor:
        """Loss per segment, for inputs (segment, time, input) and references (segment, time, output)."""
        weights = self.network(inputs)
        # the 8 bits of a bfloat16 are too few for audio
        with torch.autocast(inputs.device.type, enabled=False):
            return loss_named(self.loss, self.channels)(inputs @ weights.float().mT, references)
