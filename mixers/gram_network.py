"""GramMixer's network, which predicts the weights of a frame from its log-Gram, and their loss from moments alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stemfuse.blending import FusionError

from .losses import FLOOR
from .weight_grid import WeightGrid

MOMENT_LOSSES = ("sdr", "median_sdr", "l2")
SOFTNESS_DB = 2.0
"""A frame this far from the median of its sequence counts 1 / e of one at the median, in the soft median."""


class GramNetwork(nn.Module):
    """A small perceptron from features to a correction of constant weights, or to weights under a constraint.

    Parameters
    ----------
    features : int
        Number of features of a frame.
    inputs, outputs : sequence of str
        Labels of channels.
    hidden : int
        Width of the two hidden layers; 0 for a linear map.
    dropout : float
        Share of hidden units dropped in training.
    sides, constraint : str
        See `WeightGrid`; free weights are a correction of the base.

    Examples
    --------
    >>> network = GramNetwork(5, ["a.bass.left", "a.bass.right"], ["bass.left", "bass.right"], constraint="simplex")
    >>> network(torch.zeros(3, 5)).shape, network(torch.zeros(5)).tolist()
    (torch.Size([3, 2, 2]), [[1.0, 0.0], [0.0, 1.0]])
    """

    base: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        features: int,
        inputs: Sequence[str],
        outputs: Sequence[str],
        hidden: int = 64,
        dropout: float = 0.2,
        sides: str = "same",
        constraint: str = "free",
    ) -> None:
        super().__init__()
        self.grid = WeightGrid(inputs, outputs, sides, constraint)
        self.register_buffer("base", torch.zeros(len(outputs), len(inputs)))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        last = nn.Linear(hidden or features, self.grid.size)
        # training starts at the base, or at equal weights
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        layers: list[nn.Module] = []
        for width in (features, hidden) if hidden else ():
            layers += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, last)

    def forward(self, features: Tensor) -> Tensor:
        """Weights (..., output, input) of frames with features (..., feature)."""
        predicted: Tensor = self.grid(self.layers((features - self.mean) / self.deviation))
        return self.base + predicted if self.grid.constraint == "free" else predicted


class GramObjective(nn.Module):
    """Loss of a sequence of frames from second moments, without audio.

    The error of output o in a frame is W_o G W_o' - 2 W_o C_o' + E_o, with G the inputs' moments, C those of references
    and inputs, E the references' energies. Nakano and Goto's absolute error is no quadratic form and cannot be computed
    like this.

    Parameters
    ----------
    network : Module
        From features (..., feature) to weights (..., output, input).
    loss : {"sdr", "median_sdr", "l2"}
        Minus the mean SDR in dB of a sequence's frames, minus their soft median, or the mean squared error relative
        to the mixture's energy. Frames with a silent reference count only in l2; museval leaves them out, too.
    channels : int
        Channels of a source.
    """

    def __init__(self, network: nn.Module, loss: str = "sdr", channels: int = 2) -> None:
        super().__init__()
        if loss not in MOMENT_LOSSES:
            raise FusionError(f"loss {loss!r} is unknown, there are {', '.join(MOMENT_LOSSES)}")
        self.network, self.loss, self.channels = network, loss, channels

    def forward(
        self, features: Tensor, moments: Tensor, cross: Tensor, energies: Tensor, present: Tensor, sounding: Tensor
    ) -> Tensor:
        """Loss per sequence, (sequence,).

        Parameters have the shape (sequence, frame, ...): features, moments (input, input), cross (output, input),
        energies (output), whether there is such a frame, and by source whether it is in the song and all references
        sound.
        """
        weights = self.network(features)
        with torch.autocast(features.device.type, enabled=False):
            weights = weights.float()
            errors = ((weights @ moments - 2 * cross) * weights).sum(-1) + energies
            if self.loss == "l2":
                squared: Tensor = (errors.mean(-1) * present).sum(1) / present.sum(1).clamp(min=1)
                return squared
            signal, error = (
                part.reshape(*part.shape[:-1], -1, self.channels).sum(-1) + FLOOR
                for part in (energies, errors.clamp(min=0))
            )
            decibels = 10 * torch.log10(signal / error)
            loss: Tensor = -(self._shares(decibels.detach(), sounding) * decibels).sum(1).mean(-1)
        return loss

    def _shares(self, decibels: Tensor, sounding: Tensor) -> Tensor:
        """How much each frame counts, (sequence, frame, source): in sum one over the sounding frames of a sequence."""
        counted = sounding.to(decibels.dtype)
        if self.loss == "median_sdr":
            middle = decibels.masked_fill(counted == 0, torch.nan).nanmedian(1, keepdim=True).values
            counted = counted * torch.exp(-(decibels - middle.nan_to_num()).abs() / SOFTNESS_DB)
        shares: Tensor = counted / counted.sum(1, keepdim=True).clamp(min=1e-12)
        return shares
