"""Base of mixers that weigh each source's own stems, frame by frame, from short-time power spectra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stemfuse.blending import FusionError, MixingWeights
from stemfuse.separators import Samples, Track

from .frame_sequences import Describe, FrameSequences
from .mixer import NetworkMixer, seeded
from .power_spectra import own_stems, power_features
from .segments import Normalisation, TrackBlocks, segment_starts, training_blocks

if TYPE_CHECKING:
    from .stem_network import StemNetwork


@dataclass(eq=False, repr=False, kw_only=True)
class StemMixer(NetworkMixer):
    """A network's scores of each source's stems become positive weights that sum to one; a subclass implements `fit`.

    Parameters
    ----------
    frame_s : float
        Length of a frame in seconds; one starts every half of it.
    bands : int
        In which levels are measured; see `stemfuse.mixers.power_spectra.band_levels`.
    hidden, dropout : int, float
        Width of each source's network, and the share of units dropped in training.
    run : int
        Number of frames in a sequence, which has one loss.
    optimiser, learning_rate, batch, accumulate, epochs, patience, seed
        See `stemfuse.mixers.Recipe`; a batch is so many sequences.
    """

    frame_s: float = 1.0
    bands: int = 16
    hidden: int = 32
    dropout: float = 0.2
    run: int = 32
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    batch: int = 8
    accumulate: int = 1
    epochs: int = 100
    patience: int | None = 20
    seed: int = 0

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> StemNetwork:
        """Make the network, not trained, for inputs and outputs of these labels."""
        raise FusionError(f"{type(self).__name__} has no network of its own; use a subclass that implements build")

    def _frames(
        self, train: Sequence[Track], valid: Sequence[Track] | None
    ) -> tuple[TrackBlocks, TrackBlocks | None, FrameSequences, FrameSequences | None, StemNetwork]:
        """Tracks, their frames, and the network, not trained, that knows the features' mean and deviation."""
        import torch

        self.check()
        blocks, held_out = training_blocks(train, valid, mixture=False)
        with seeded(self.seed):
            network = self.build(blocks.inputs, blocks.outputs)
        describe, frame = self._describe(blocks.inputs, blocks.outputs), round(self.frame_s * blocks.rate)
        data = FrameSequences(blocks, frame, self.run, describe)
        valid_data = None if held_out is None else FrameSequences(held_out, frame, self.run, describe)
        network.mean.copy_(torch.from_numpy(data.mean))
        network.deviation.copy_(torch.from_numpy(data.deviation))
        return blocks, held_out, data, valid_data, network

    def _describe(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Describe:
        return partial(power_features, inputs=inputs, stems=own_stems(inputs, outputs), bands=self.bands)

    def weights(self, track: Track) -> MixingWeights:
        """Predict the weights of each frame of a track; a frame starts every half frame. The inputs are read once.

        Raises
        ------
        FusionError
            The mixer is not fitted.
        TrackError
            An input is missing, or the track has another sample rate.
        """
        import torch

        self.check_track(track)
        frame = round(self.frame_s * track.rate)
        starts = segment_starts(track.length, frame, frame // 2)
        scale = Normalisation.of(track.mixture).deviation
        features = self._describe(self.inputs_, self.outputs_)(track, frame, scale)
        with torch.no_grad():
            matrix: Samples = self.network_(torch.from_numpy(features)).numpy().astype(np.float32)
        return MixingWeights(matrix, self.inputs_, self.outputs_, starts / track.rate, frame / track.rate)
