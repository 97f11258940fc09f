"""The 1x1 convolution: one matrix for all segments and songs, trained as published or solved exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from stemfuse.blending import FusionError, Mean, MixingWeights
from stemfuse.separators import Samples, Track
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.training import History

from .exact import solve
from .mixer import Mixer, seeded
from .segments import TrackBlocks, identity_of, training_blocks

SEGMENT = 1 << 18
"""T of the MDX-Mixer paper in samples: 5.9 s."""
SHIFT = 1 << 15
"""S of the MDX-Mixer paper in samples: how far apart training segments start."""


@dataclass(eq=False, repr=False)
class Conv1x1Mixer(Mixer):
    """Every output channel is a weighted sum of all input channels; the weights hold for all songs.

    Negative weights, stems of other sources, the other side's channels and the mixture are all allowed. With the
    stems of one separator and the mixture it is KUIELab-MDX-Net's "Mixer" (10 inputs, 8 outputs); with those of
    several, the 1x1 convolution of the MDX-Mixer paper.

    Parameters
    ----------
    solver : {"adam", "exact"}
        Gradient descent as published, or the optimum by `stemfuse.mixers.solve`: the problem is convex for the losses
        l1 and l2. ``exact`` takes every sample once and uses only the arguments loss, mixture, tolerance and seed.
    loss : {"l1", "l2", "sdr"}
        On signals normalised by the mixture: mean ``|s - y|``, mean ``(s - y)^2``, or, by adam, minus SDR of segments.
    mixture : bool
        Whether the mixture is one of the inputs.
    constraint : {"free", "nonnegative"}
        Any weights, as published; or none below zero (adam only).
    segment, shift : int
        T and S, in samples: a training segment is T long, and one starts every S samples.
    initial : {"uniform", "mean"}
        Where adam starts: at random weights, as in a torch layer, or at the mean of the separators. The paper does not
        state which.
    tolerance : float
        For ``exact``: the result's l1 is above the minimum by at most this share of it, as proved by duality.
    optimiser, learning_rate, batch, accumulate, epochs, patience, seed
        See `stemfuse.mixers.Recipe`; the defaults are the paper's.

    Attributes
    ----------
    weights_ : MixingWeights
        One segment.
    history_ : list of dict
        One row per epoch (adam) or pass over the data (exact).
    execution : Execution
        Where adam runs, checkpoints, progress; set it before `fit`.

    References
    ----------
    Nakano and Goto, MDX-Mixer, IEICE Trans. E107-D(8), 2024, section 3; Kim et al., KUIELab-MDX-Net, 2021, section 3.2.

    Examples
    --------
    >>> audio = np.random.default_rng(0).laplace(0, 0.1, (4, 2, 4000))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": 2 * audio})
    >>> mixer = Conv1x1Mixer("exact", mixture=False).fit([track])
    >>> mixer.weights_.matrix[0].diagonal().round(4).tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """

    kind = "conv1x1"

    solver: Literal["adam", "exact"] = "adam"
    loss: Literal["l1", "l2", "sdr"] = "l1"
    mixture: bool = True
    constraint: Literal["free", "nonnegative"] = "free"
    segment: int = SEGMENT
    shift: int = SHIFT
    initial: Literal["uniform", "mean"] = "uniform"
    tolerance: float = 1e-4
    optimiser: str = "adam"
    learning_rate: float = 3e-4
    batch: int = 4
    accumulate: int = 1
    epochs: int = 50
    patience: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise unless the arguments make sense and the packages are installed."""
        super().check()
        if self.solver == "exact" and self.loss not in ("l1", "l2"):
            raise wrong_usage(
                FusionError(f"loss {self.loss!r} has no exact solution; take --option loss=l1 or --option solver=adam")
            )
        if self.solver == "exact" and self.constraint != "free":
            raise wrong_usage(
                FusionError(
                    f"constraint {self.constraint!r} is trained by gradient: take --option solver=adam, or the fusion "
                    "least_squares with --option stems=all --option mixture=true --option constraint=nonnegative"
                )
            )

    @property
    def chosen_by_valid(self) -> str:
        """The epoch that adam keeps; ``exact`` has nothing to choose."""
        return "" if self.solver == "exact" else super().chosen_by_valid

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Learn the matrix.

        Parameters
        ----------
        train : sequence of Track
            With references, and stems of the same separators and sources.
        valid : sequence of Track, optional
            Choose the epoch that adam keeps; without them it is the last. ``exact`` has nothing to choose.

        Raises
        ------
        FusionError
            An argument is unknown, or the tracks differ in their stems.
        AudioError
            A sample is NaN.
        """
        blocks, held_out = training_blocks(train, valid, self.mixture)
        matrix, self.history_ = self._solve(blocks) if self.solver == "exact" else self._descend(blocks, held_out)
        self.weights_ = MixingWeights(matrix, blocks.inputs, blocks.outputs)
        return self

    def _solve(self, blocks: TrackBlocks) -> tuple[Samples, History]:
        """The optimum, and a row per pass over the data."""
        self.check()
        solution = solve(blocks, self.loss, self.tolerance, seed=self.seed, progress=self.execution.progress)
        return solution.matrix.astype(np.float32), solution.history

    def _descend(self, blocks: TrackBlocks, held_out: TrackBlocks | None) -> tuple[Samples, History]:
        """The matrix after gradient descent, and a row per epoch."""
        from .conv1x1_network import Convolution1x1
        from .losses import MixingObjective

        with seeded(self.seed):
            start = mean_matrix(blocks) if self.initial == "mean" else None
            positive = self.constraint == "nonnegative"
            network = Convolution1x1(len(blocks.inputs), len(blocks.outputs), start, positive)
        objective = MixingObjective(network, self.loss, blocks.tracks[0].channels)
        data, valid_data = self.segments(blocks, held_out, self.segment, self.shift)
        history = self.train(objective, data, valid_data, identity_of(self, blocks, held_out))
        return network.matrix.detach().numpy(), history


def mean_matrix(blocks: TrackBlocks) -> Samples:
    """Weights, (output, input), that make each output the mean of the separators' stems of it."""
    weights = Mean().fit(blocks.tracks).weights_
    matrix = np.zeros((len(blocks.outputs), len(blocks.inputs)), np.float32)
    for row, output in enumerate(weights.outputs):
        for column, label in enumerate(weights.inputs):
            matrix[blocks.outputs.index(output), blocks.inputs.index(label)] = weights.matrix[0, row, column]
    return matrix
