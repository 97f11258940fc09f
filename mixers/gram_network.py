"""GramMixer's network, which predicts the weights of a frame from its log-Gram, and their loss from moments alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stemfuse.blending import FusionError
from stemfuse.separators import ChannelLabel

from .features import signals_of
from .losses import FLOOR

CONSTRAINTS = ("free", "simplex", "selection")
SIDES = ("same", "all")
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
    sides : {"same", "all"}
        Same: a correction has one value per source and signal, from left to left and from right to right. All: it has
        one value per output and input.
    constraint : {"free", "simplex", "selection"}
        Free: base plus correction. Simplex: the weights of each source's own stems are positive and
        sum to one (Jaureguiberry et al. 2016). Selection: the largest of these becomes one (Manilow et al. 2017).

    Examples
    --------
    >>> network = GramNetwork(5, ["a.bass.left", "a.bass.right"], ["bass.left", "bass.right"], constraint="simplex")
    >>> network(torch.zeros(3, 5)).shape, network(torch.zeros(5)).tolist()
    (torch.Size([3, 2, 2]), [[1.0, 0.0], [0.0, 1.0]])
    """

    base: Tensor
    mean: Tensor
    deviation: Tensor
    rows: Tensor
    columns: Tensor
    reached: Tensor
    own: Tensor

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
        if constraint not in CONSTRAINTS or sides not in SIDES:
            raise FusionError(
                f"got constraint={constraint!r} and sides={sides!r}, expected one of {', '.join(CONSTRAINTS)}, and one "
                f"of {', '.join(SIDES)}"
            )
        self.constraint = constraint
        self.register_buffer("base", torch.zeros(len(outputs), len(inputs)))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self._place(inputs, outputs, sides if constraint == "free" else "same")
        last = nn.Linear(hidden or features, self.own.numel())
        # training starts at the base, or at equal weights
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        layers: list[nn.Module] = []
        for width in (features, hidden) if hidden else ():
            layers += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, last)

    def _place(self, inputs: Sequence[str], outputs: Sequence[str], sides: str) -> None:
        """Decide which value of the network's grid every weight takes, and which weights take none."""
        gives, takes = ([ChannelLabel.parse(label) for label in labels] for labels in (outputs, inputs))
        sources, signals = list(signals_of(outputs)), list(signals_of(inputs))
        rows, columns = torch.arange(len(outputs)), torch.arange(len(inputs))
        reached = torch.ones(len(outputs), len(inputs))
        own = torch.ones(len(outputs), len(inputs), dtype=torch.bool)
        if sides == "same":
            rows = torch.tensor([sources.index(label.signal) for label in gives])
            columns = torch.tensor([signals.index(label.signal) for label in takes])
            reached = torch.tensor([[float(given.channel == taken.channel) for taken in takes] for given in gives])
            made = {label.signal: label.source for label in takes}
            own = torch.tensor([[made[signal] == source for signal in signals] for source in sources])
        if self.constraint != "free" and not own.any(1).all():
            missing = sources[int((~own.any(1)).nonzero()[0])]
            raise FusionError(f"constraint {self.constraint!r}: no separator gives {missing}; use constraint='free'")
        for name, value in (("rows", rows), ("columns", columns), ("reached", reached), ("own", own)):
            self.register_buffer(name, value, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Weights (..., output, input) of frames with features (..., feature)."""
        grid = self.layers((features - self.mean) / self.deviation).unflatten(-1, self.own.shape)
        if self.constraint != "free":
            grid = torch.softmax(grid.masked_fill(~self.own, -torch.inf), -1)
        if self.constraint == "selection" and not self.training:
            grid = nn.functional.one_hot(grid.argmax(-1), grid.shape[-1]).to(grid.dtype)
        correction: Tensor = grid[..., self.rows, :][..., self.columns] * self.reached
        return self.base + correction if self.constraint == "free" else correction


class GramObjective(nn.Module):
    """Loss of a sequence of frames from second moments, without audio.

    The error of output o in a frame is W_o G W_o' - 2 W_o C_o' + E_o, with G the inputs' moments, C those of references
    and inputs, E the references' energies. Nakano and Goto's absolute error is no quadratic form and cannot be computed
    like this.

    Parameters
    ----------
    network : GramNetwork
        The network to be trained.
    loss : {"sdr", "median_sdr", "l2"}
        Minus the mean SDR in dB of a sequence's frames, minus their soft median, or the mean squared error relative
        to the mixture's energy. Frames with a silent reference count only in l2; museval leaves them out, too.
    channels : int
        Channels of a source.
    """

    def __init__(self, network: GramNetwork, loss: str = "sdr", channels: int = 2) -> None:
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
