"""Which weights a network predicts: all, one per source and signal, or positive ones that sum to one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stemfuse.blending import FusionError
from stemfuse.separators import ChannelLabel

from .features import signals_of

CONSTRAINTS = ("free", "simplex", "selection")
SIDES = ("same", "all")


class WeightGrid(nn.Module):
    """Brings the values that a network predicts to their places in a matrix of weights.

    Parameters
    ----------
    inputs, outputs : sequence of str
        Labels of channels.
    sides : {"same", "all"}
        Same: one value per source and signal, from left to left and from right to right. All: one value per output and
        input. Under a constraint it is always the same.
    constraint : {"free", "simplex", "selection"}
        Free: the values are the weights. Simplex: the weights of each source's own stems are positive and sum to one.
        Selection: the largest of these becomes one; while it is trained, it is the simplex.

    Attributes
    ----------
    size : int
        Number of values.

    Raises
    ------
    FusionError
        An argument is unknown, or under a constraint there is no stem of a source.

    Examples
    --------
    >>> grid = WeightGrid(["a.bass.left", "a.bass.right"], ["bass.left", "bass.right"], constraint="simplex")
    >>> grid.size, grid(torch.zeros(1)).tolist()
    (1, [[1.0, 0.0], [0.0, 1.0]])
    """

    rows: Tensor
    columns: Tensor
    reached: Tensor
    own: Tensor

    def __init__(
        self, inputs: Sequence[str], outputs: Sequence[str], sides: str = "same", constraint: str = "free"
    ) -> None:
        super().__init__()
        if constraint not in CONSTRAINTS or sides not in SIDES:
            raise FusionError(
                f"got constraint={constraint!r} and sides={sides!r}, expected one of {', '.join(CONSTRAINTS)}, and one "
                f"of {', '.join(SIDES)}"
            )
        self.constraint = constraint
        gives, takes = ([ChannelLabel.parse(label) for label in labels] for labels in (outputs, inputs))
        sources, signals = list(signals_of(outputs)), list(signals_of(inputs))
        rows, columns = torch.arange(len(outputs)), torch.arange(len(inputs))
        reached = torch.ones(len(outputs), len(inputs))
        own = torch.ones(len(outputs), len(inputs), dtype=torch.bool)
        if sides == "same" or constraint != "free":
            rows = torch.tensor([sources.index(label.signal) for label in gives])
            columns = torch.tensor([signals.index(label.signal) for label in takes])
            reached = torch.tensor([[float(given.channel == taken.channel) for taken in takes] for given in gives])
            made = {label.signal: label.source for label in takes}
            own = torch.tensor([[made[signal] == source for signal in signals] for source in sources])
        if constraint != "free" and not own.any(1).all():
            missing = sources[int((~own.any(1)).nonzero()[0])]
            raise FusionError(f"constraint {constraint!r}: no separator gives {missing}; take --option constraint=free")
        for name, value in (("rows", rows), ("columns", columns), ("reached", reached), ("own", own)):
            self.register_buffer(name, value, persistent=False)

    @property
    def size(self) -> int:
        """Number of values."""
        return self.own.numel()

    def forward(self, values: Tensor) -> Tensor:
        """Weights (..., output, input) of predicted values (..., value)."""
        grid = values.reshape(*values.shape[:-1], *self.own.shape)
        if self.constraint != "free":
            grid = torch.softmax(grid.masked_fill(~self.own, -torch.inf), -1)
        if self.constraint == "selection" and not self.training:
            grid = nn.functional.one_hot(grid.argmax(-1), grid.shape[-1]).to(grid.dtype)
        weights: Tensor = grid[..., self.rows, :][..., self.columns] * self.reached
        return weights
