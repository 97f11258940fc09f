"""GramMixer: weights that follow the song, predicted by a small network from the inputs' log-Gram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from stemfuse.separators import Samples

from .conv1x1 import mean_matrix
from .exact import nearly_solve
from .features import frame_features, signals_of
from .frame_mixer import FrameMixer
from .frame_sequences import Describe, FrameSequences
from .segments import TrackBlocks

if TYPE_CHECKING:
    from torch import nn

    from .gram_network import GramNetwork


@dataclass(eq=False, repr=False)
class GramMixer(FrameMixer):
    """Weights that vary in time, at a thousandth of the MLP-Mixer's cost.

    Each frame of a song is described by its log-Gram: levels of all input signals in a few bands and correlations of
    every pair. From it, a small network predicts a correction of constant weights. The error of a frame is a quadratic
    form in its weights. So training needs only the frames' second moments, and can minimise the score itself: audio is
    read once, before training. Frames overlap by half; their weights are joined under Hann windows.

    Parameters
    ----------
    loss : {"sdr", "median_sdr", "l2"}
        Minus the mean SDR of a sequence's frames, minus their soft median, or the squared error relative to the
        mixture's energy.
    mixture : bool
        Whether the mixture is one of the inputs.
    base : {"least_squares", "conv1x1", "mean"}
        The constant weights that are corrected, when `constraint` is free: those of the least squared error, those of
        the least absolute error (`Conv1x1Mixer` exact; reads the audio once more), or the mean of the separators.
    constraint : {"free", "simplex", "selection"}
        Free correction; or weights over each source's own stems that are positive and sum to one; or the best of these
        stems alone. The last two use no base.
    sides : {"same", "all"}
        Same: left is corrected from left and right from right, by the same value. All: every weight has its own.
    frame_s : float
        Length of a frame in seconds; one starts every half of it.
    edges_hz : sequence of float
        Borders of the frequency bands.
    hidden, dropout : int, float
        Width of the network's two hidden layers, 0 for a linear map, and the share of units dropped in training.
    run : int
        Number of frames in a sequence, which has one loss.
    optimiser, learning_rate, batch, accumulate, epochs, patience, seed
        See `stemfuse.mixers.Recipe`; a batch is so many sequences.

    Examples
    --------
    >>> import numpy as np
    >>> from stemfuse.separators import Track
    >>> generator = np.random.default_rng(0)
    >>> audio = generator.normal(0, 0.1, (4, 2, 16000))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": 2 * audio, "b": audio[::-1]}, rate=8000)
    >>> mixer = GramMixer(epochs=1).fit([track])
    >>> weights = mixer.weights(track)
    >>> weights.matrix.shape, weights.duration_s, bool(abs(mixer.fuse(track).audio - audio).max() < 0.1)
    ((3, 8, 18), 1.0, True)
    """

    kind = "gram_mixer"
    may_be_zero = frozenset({"hidden"})

    loss: Literal["sdr", "median_sdr", "l2"] = "sdr"
    mixture: bool = True
    base: Literal["least_squares", "conv1x1", "mean"] = "least_squares"
    constraint: Literal["free", "simplex", "selection"] = "free"
    sides: Literal["same", "all"] = "same"
    frame_s: float = 1.0
    edges_hz: Sequence[float] = (200.0, 1000.0, 4000.0)
    hidden: int = 64
    dropout: float = 0.2
    run: int = 32
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    batch: int = 8
    accumulate: int = 1
    epochs: int = 100
    patience: int | None = 20
    seed: int = 0

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> GramNetwork:
        """Make the network, not trained, for inputs and outputs of these labels."""
        from .gram_network import GramNetwork

        signals = len(signals_of(inputs))
        features = (len(self.edges_hz) + 1) * signals * (signals + 1) // 2
        return GramNetwork(features, inputs, outputs, self.hidden, self.dropout, self.sides, self.constraint)

    def describe(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Describe:
        """What computes the features of a track's frames, for inputs of these labels."""
        return partial(frame_features, labels=inputs, edges_hz=self.edges_hz)

    def frame_objective(self, network: nn.Module, blocks: TrackBlocks, data: FrameSequences) -> nn.Module:
        """Make the loss; training starts at the base."""
        import torch

        from .gram_network import GramObjective

        network.get_buffer("base").copy_(torch.from_numpy(self._base(blocks, data)))
        return GramObjective(network, self.loss, blocks.tracks[0].channels)

    def _base(self, blocks: TrackBlocks, data: FrameSequences) -> Samples:
        """The constant weights that are corrected, (output, input)."""
        if self.base == "least_squares":
            return data.least_squares()
        return nearly_solve(blocks, self.seed) if self.base == "conv1x1" else mean_matrix(blocks)
