"""GramMixer: weights that follow the song, predicted by a small network from the inputs' log-Gram."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stemfuse.blending import FusionError
from stemfuse.separators import Samples
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.training import Execution, History

from .conv1x1 import mean_matrix
from .exact import nearly_solve
from .features import frame_features, signals_of
from .frame_mixer import FrameMixer
from .frame_sequences import Describe, FrameSequences
from .segments import TrackBlocks

if TYPE_CHECKING:
    from torch import nn

    from .gram_network import GramNetwork

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class GramMixer(FrameMixer):
    """Weights that vary in time, at a thousandth of the MLP-Mixer's cost.

    Each frame of a song is described by its log-Gram: levels of all input signals in a few bands and correlations of
    every pair. From it, a small network predicts a correction of constant weights. The error of a frame is a quadratic
    form in its weights. So training needs only the frames' second moments, and can minimise the score itself: audio is
    read once, before training. Frames overlap by half; their weights are joined under Hann windows.

    The number of epochs is chosen on songs that are not trained on: validation tracks or, without any, the training
    tracks, left out in turn. None is a choice too, so that the constant weights are kept where following the song gains
    nothing.

    Parameters
    ----------
    loss : {"sdr", "median_sdr", "l2"}
        Minus the mean SDR of a sequence's frames, minus their soft median, or the squared error relative to the
        mixture's energy.
    mixture : bool
        Whether the mixture is one of the inputs.
    base : {"least_squares", "conv1x1", "mean"}
        The constant weights that are corrected, when `constraint` is free: those of the least squared error (under a
        loss in dB, reweighted for the best mean SDR of frames, as in `LeastSquares`), those of the least absolute error
        (`Conv1x1Mixer` exact; reads the audio once more), or the mean of the separators.
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
    folds : int
        Groups of training songs that are left out in turn to choose the number of epochs, when there are no validation
        tracks; 0 trains all epochs. The base of `conv1x1` has seen all songs.
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
    ((7, 8, 18), 0.5, True)
    """

    kind = "gram_mixer"
    may_be_zero = frozenset({"hidden"})

    loss: Literal["sdr", "median_sdr", "l2"] = "sdr"
    mixture: bool = True
    base: Literal["least_squares", "conv1x1", "mean"] = "least_squares"
    constraint: Literal["free", "simplex", "selection"] = "free"
    sides: Literal["same", "all"] = "same"
    frame_s: float = 0.5
    edges_hz: Sequence[float] = (200.0, 1000.0, 4000.0)
    hidden: int = 64
    dropout: float = 0.2
    run: int = 32
    folds: int = 3
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

    def check(self) -> None:
        """Raise unless the arguments make sense and the packages are installed."""
        super().check()
        if self.folds < 0 or self.folds == 1:
            raise wrong_usage(FusionError(f"got folds={self.folds}, expected at least 2, or 0 for none"))

    def frame_objective(self, network: nn.Module, blocks: TrackBlocks, data: FrameSequences) -> nn.Module:
        """Make the loss; training starts at the base."""
        import torch

        from .gram_network import GramObjective

        network.get_buffer("base").copy_(torch.from_numpy(self._base(blocks, data)))
        return GramObjective(network, self.loss, blocks.tracks[0].channels)

    def _base(self, blocks: TrackBlocks, data: FrameSequences) -> Samples:
        """The constant weights that are corrected, (output, input)."""
        if self.base == "least_squares":
            return self._least_squares(data)
        return nearly_solve(blocks, self.seed) if self.base == "conv1x1" else mean_matrix(blocks)

    def _least_squares(self, data: FrameSequences) -> Samples:
        """The constant weights that are best by the loss itself; by the mean SDR for that of the median."""
        from .losses import FLOOR

        return data.least_squares(None if self.loss == "l2" else FLOOR)

    def train(
        self,
        objective: nn.Module,
        data: Any,
        valid_data: Any,
        identity: Mapping[str, Any],
        epochs: int | None = None,
    ) -> History:
        """Train as many epochs as songs that are left out ask for, where no validation tracks choose the epoch."""
        if epochs is None and valid_data is None and self.epochs and min(self.folds, data.songs) > 1:
            epochs = self._proven_epochs(objective, data)
        return super().train(objective, data, valid_data, identity, epochs)

    def _proven_epochs(self, objective: nn.Module, data: FrameSequences) -> int:
        """The number of epochs of the smallest loss on songs that are left out in turn; 0 keeps the start."""
        from stemfuse.separators.training.loop import run_training

        quiet = Execution(self.execution.accelerator)
        recipe = replace(self.recipe, patience=None)
        folds = min(self.folds, data.songs)
        losses = np.zeros(self.epochs + 1)
        for fold in range(folds):
            left_out = list(range(fold, data.songs, folds))
            rest = data.of([song for song in range(data.songs) if song not in left_out])
            held = data.of(left_out)
            history = run_training(self._anew(objective, rest), rest, held, recipe, quiet)
            losses += len(held) * np.array([row["valid_loss"] for row in history])
        best, losses = int(losses.argmin()), losses / len(data)
        log.info(
            "gram_mixer: on training songs left out in turn the loss is %.3f before training, and smallest after %d of "
            "%d epochs, %.3f%s",
            losses[0], best, self.epochs, losses[best],
            "" if best else "; the constant weights are kept",
        )  # fmt: skip
        return best

    def _anew(self, objective: nn.Module, data: FrameSequences) -> nn.Module:
        """The loss of a network that is not trained, set up by these songs alone."""
        import torch

        anew = copy.deepcopy(objective)
        buffers = {"mean": data.mean, "deviation": data.deviation}
        if self.base == "least_squares" and self.constraint == "free":
            buffers["base"] = self._least_squares(data)
        for name, values in buffers.items():
            anew.get_buffer(f"network.{name}").copy_(torch.from_numpy(values))
        return anew
