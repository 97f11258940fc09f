"""The 1x1 convolution as a network: one trained matrix, the same for all segments."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Convolution1x1(nn.Module):
    """One W for all segments: a fully connected layer over channels without bias, (2 + C) x 8 parameters.

    Parameters
    ----------
    inputs, outputs : int
        Number of channels.
    initial : ndarray, shape (output, input), optional
        Where training starts; when not given, random as in torch's linear layer: uniform within 1 / sqrt(inputs).
    """

    def __init__(self, inputs: int, outputs: int, initial: NDArray[np.float32] | None = None) -> None:
        super().__init__()
        weight = nn.Linear(inputs, outputs, bias=False).weight.detach() if initial is None else torch.tensor(initial)
        self.weight = nn.Parameter(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """The weights, (output, input), whatever the inputs are."""
        return self.weight
