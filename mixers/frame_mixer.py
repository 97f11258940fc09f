"""Base of mixers that predict the weights of a song frame by frame, from features that need no more than one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stemfuse.blending import FusionError, MixingWeights
from stemfuse.separators import Samples, Track

from .frame_sequences import Describe, FrameSequences
from .mixer import NetworkMixer
from .segments import Normalisation, TrackBlocks, segment_starts

if TYPE_CHECKING:
    from torch import nn


class FrameMixer(NetworkMixer):
    """Weights of each frame from its features; a subclass implements `build`, `describe`, `frame_objective`.

    Frames overlap by half; their weights are joined under Hann windows. The network has buffers ``mean`` and
    ``deviation``, which are set to those of the training frames' features. Training needs no more than features and
    second moments of all frames: audio is read once, before it.

    Attributes
    ----------
    frame_s : float
        Length of a frame in seconds; one starts every half of it.
    run : int
        Number of frames in a sequence, which has one loss.
    """

    frame_s: float
    run: int

    def describe(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Describe:
        """What computes the features of a track's frames, for inputs and outputs of these labels."""
        raise FusionError(f"{type(self).__name__} has no features of its own; use a subclass that implements describe")

    def frame_objective(self, network: nn.Module, blocks: TrackBlocks, data: FrameSequences) -> nn.Module:
        """Make the loss of sequences of frames; the network may be set up by the training frames before."""
        name = type(self).__name__
        raise FusionError(f"{name} has no loss of its own; use a subclass that implements frame_objective")

    def data(self, blocks: TrackBlocks, held_out: TrackBlocks | None) -> tuple[FrameSequences, FrameSequences | None]:
        """Sequences of frames."""
        frame, describe = round(self.frame_s * blocks.rate), self.describe(blocks.inputs, blocks.outputs)
        data = FrameSequences(blocks, frame, self.run, describe)
        return data, None if held_out is None else FrameSequences(held_out, frame, self.run, describe)

    def objective(self, network: nn.Module, blocks: TrackBlocks, data: FrameSequences) -> nn.Module:
        """Make the loss; features are normalised by the mean and deviation of the training frames."""
        import torch

        network.get_buffer("mean").copy_(torch.from_numpy(data.mean))
        network.get_buffer("deviation").copy_(torch.from_numpy(data.deviation))
        return self.frame_objective(network, blocks, data)

    def predict(self, track: Track) -> MixingWeights:
        """Predict the weights of each frame of a track; a frame starts every half frame. The inputs are read once."""
        import torch

        frame = round(self.frame_s * track.rate)
        starts = segment_starts(track.length, frame, frame // 2)
        scale = Normalisation.of(track.mixture).deviation
        features = self.describe(self.inputs_, self.outputs_)(track, frame, scale)
        with torch.no_grad():
            matrix: Samples = self.network_(torch.from_numpy(features)).numpy().astype(np.float32)
        return MixingWeights(matrix, self.inputs_, self.outputs_, starts / track.rate, frame / track.rate)
