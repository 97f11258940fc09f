"""The 1x1 convolution as a network: one trained matrix, the same for all segments."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LEAST = 1e-2
"""The smallest weight at which positive ones start: from zero itself they could not grow."""


class Convolution1x1(nn.Module):
    """One W for all segments: a fully connected layer over channels without bias, (2 + C) x 8 parameters.

    Parameters
    ----------
    inputs, outputs : int
        Number of channels.
    initial : ndarray, shape (output, input), optional
        Where training starts; when not given, random as in torch's linear layer: uniform within 1 / sqrt(inputs).
    positive : bool
        Whether weights are above 0: log(1 + exp(v)) of what is trained. They start at the size of the initial ones, at
        least `LEAST`.

    Examples
    --------
    >>> network = Convolution1x1(2, 1, np.array([[0.5, -0.25]], np.float32), positive=True)
    >>> [round(value, 4) for value in network.matrix[0].tolist()]
    [0.5, 0.25]
    """

    def __init__(
        self, inputs: int, outputs: int, initial: NDArray[np.float32] | None = None, positive: bool = False
    ) -> None:
        super().__init__()
        weight = nn.Linear(inputs, outputs, bias=False).weight.detach() if initial is None else torch.tensor(initial)
        self.positive = positive
        self.weight = nn.Parameter(weight.abs().clamp(min=LEAST).expm1().log() if positive else weight)

    @property
    def matrix(self) -> Tensor:
        """The weights, (output, input)."""
        return nn.functional.softplus(self.weight) if self.positive else self.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """The weights, (output, input), whatever the inputs are."""
        return self.matrix
