"""The MDX-Mixer's network: an MLP-Mixer that predicts the weights of a segment from its samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemfuse.blending import FusionError

from .weight_grid import WeightGrid

POOLINGS = ("channels", "tokens")
FOLDINGS = ("patches", "consecutive")


def perceptron(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Fully connected, GELU, dropout, fully connected, dropout."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
    )


class MixerLayer(nn.Module):
    """One layer of an MLP-Mixer (Tolstikhin et al. 2021), which mixes across tokens, then across channels.

    What comes in is added to the result of both steps.

    Parameters
    ----------
    tokens, channels : int
        Number of rows and columns.
    token_hidden, channel_hidden : int
        D_T and D_C, the widths of the two perceptrons' hidden layers.
    dropout : float
        p.
    """

    def __init__(self, tokens: int, channels: int, token_hidden: int, channel_hidden: int, dropout: float) -> None:
        super().__init__()
        self.token_norm, self.channel_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.token_mixing = perceptron(tokens, token_hidden, dropout)
        self.channel_mixing = perceptron(channels, channel_hidden, dropout)

    def forward(self, folded: Tensor) -> Tensor:
        """From and to (segment, token, channel)."""
        folded = folded + self.token_mixing(self.token_norm(folded).mT).mT
        mixed: Tensor = folded + self.channel_mixing(self.channel_norm(folded))
        return mixed


class MLPMixerNetwork(nn.Module):
    """Predicts the weights of a segment from its samples.

    Rows are called tokens and columns channels, as in the MLP-Mixer: token mixing works across rows, channel mixing
    across columns.

    Parameters
    ----------
    inputs, outputs : int
        Number of channels, 2 + C and 8.
    segment, fold : int
        T and F, in samples; F divides T.
    layers : int
        N.
    token_hidden, channel_hidden : int, optional
        D_T and D_C; T / F and (2 + C) F when not given.
    dropout : float
        p.
    pooling : {"channels", "tokens"}
        What the global average is taken over: columns, which leaves T / F values, or rows, which leaves (2 + C) F.
    folding : {"patches", "consecutive"}
        A column is a patch of T / F consecutive samples of one input, or a row is F consecutive samples of all.
    grid : WeightGrid, optional
        Which weights are predicted; all, freely, when not given.
    corrects : bool
        Whether the last layer starts at zero, so that training starts at ``base``.

    Attributes
    ----------
    base : Tensor, shape (output, input)
        Constant weights, to which the predicted ones are added.

    Examples
    --------
    >>> network = MLPMixerNetwork(6, 4, segment=64, fold=8, layers=2)
    >>> network(torch.zeros(3, 64, 6)).shape
    torch.Size([3, 4, 6])
    """

    base: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        segment: int = 1 << 18,
        fold: int = 1 << 7,
        layers: int = 8,
        token_hidden: int | None = None,
        channel_hidden: int | None = None,
        dropout: float = 0.0,
        pooling: str = "channels",
        folding: str = "patches",
        grid: WeightGrid | None = None,
        corrects: bool = False,
    ) -> None:
        super().__init__()
        if fold < 1 or segment % fold or layers < 0:
            raise FusionError(
                f"got segment={segment}, fold={fold}, layers={layers}, expected a fold of at least 1 that divides the "
                "segment, and at least 0 layers"
            )
        if pooling not in POOLINGS or folding not in FOLDINGS:
            raise FusionError(
                f"got pooling={pooling!r} and folding={folding!r}, expected one of {', '.join(POOLINGS)} and one of "
                f"{', '.join(FOLDINGS)}"
            )
        self.tokens, self.columns = segment // fold, inputs * fold
        self.pooling, self.folding, self.shape = pooling, folding, (outputs, inputs)
        self.mixer = nn.Sequential(
            *(
                MixerLayer(
                    self.tokens, self.columns, token_hidden or self.tokens, channel_hidden or self.columns, dropout
                )
                for _ in range(layers)
            )
        )
        self.grid = grid or nn.Unflatten(-1, self.shape)
        self.head = nn.Linear(
            self.columns if pooling == "tokens" else self.tokens, grid.size if grid else inputs * outputs
        )
        if corrects:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.register_buffer("base", torch.zeros(self.shape))

    def fold(self, inputs: Tensor) -> Tensor:
        """X_k (segment, time, input) as Z_k (segment, T / F, (2 + C) F): Z[t, c F + f] = X[f T / F + t, c]."""
        if self.folding == "patches":
            inputs = inputs.reshape(len(inputs), -1, self.tokens, inputs.shape[2]).permute(0, 2, 3, 1)
        return inputs.reshape(len(inputs), self.tokens, self.columns)

    def forward(self, inputs: Tensor) -> Tensor:
        """Weights (segment, output, input) of segments (segment, time, input)."""
        mixed = self.mixer(self.fold(inputs))
        pooled = mixed.mean(1 if self.pooling == "tokens" else 2)
        weights: Tensor = self.base + self.grid(self.head(pooled).float())
        return weights
