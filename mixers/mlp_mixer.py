"""The MDX-Mixer: weights of each segment said by an MLP-Mixer from the segment's own samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from stemfuse.blending import FusionError, MixingWeights, read_inputs
from stemfuse.separators import Samples, Track
from stemfuse.separators.training import Recipe

from .conv1x1 import SEGMENT, SHIFT, mean_matrix
from .exact import solve
from .mixer import NetworkMixer
from .segments import Normalisation, Segments, TrackBlocks, identity_of, segment_starts, training_blocks

if TYPE_CHECKING:
    from .mlp_network import MLPMixerNetwork

BASES = ("none", "conv1x1", "mean")


class MLPMixer(NetworkMixer):
    """MDX-Mixer of Nakano and Goto (2024): Y_k = X_k W_k with W_k from an MLP-Mixer that hears X_k.

    What the paper leaves open is decided here, and switchable where it is ambiguous:

    * The global average is taken over tokens, as in the MLP-Mixer: what is left is one vector of (2 + C) F channels.
      No layer normalisation comes before it, for the paper names none.
    * A token is F consecutive samples of all inputs. The order within it does not matter to a fully connected layer.
    * Layers start as torch's do (uniform within 1 / sqrt(inputs)); with a base, the last one starts at zero.
    * Segments of a song, T / 4 apart, are joined under Hann windows divided by their sum, so that equal weights give
      the constant fusion exactly. The last segment, or that of a song shorter than T, is filled with zeros.
    * Waveforms are divided by the standard deviation of the song's mixture. Its mean, 1e-5 in music, is not taken off:
      a mix without bias could not put it back.

    Parameters
    ----------
    segment, shift : int
        T and S, in samples; a training segment starts every S samples.
    fold : int
        F, which divides T.
    layers : int
        N; the paper has 8 and 16.
    token_hidden, channel_hidden : int, optional
        D_T and D_C; T / F and (2 + C) F as in the paper when not given.
    dropout : float
        p; the paper has 0 and 0.2.
    mixture : bool
        Whether the mixture is one of the inputs.
    base : {"none", "conv1x1", "mean"}
        From scratch as in the paper, or a correction of constant weights at which training starts: of the least
        absolute error (`Conv1x1Mixer` exact), or the mean of the separators.
    pooling : {"tokens", "channels"}
        Axis of the global average.
    folding : {"consecutive", "strided"}
        What a token is.
    loss : {"l1", "l2", "sdr"}
        See `Conv1x1Mixer`.
    optimiser, learning_rate, batch, accumulate, epochs, patience, seed
        See `stemfuse.mixers.Recipe`; the defaults are the paper's.

    References
    ----------
    Nakano and Goto, MDX-Mixer: Music demixing by leveraging source signals separated by existing demixing models, IEICE
    Trans. E107-D(8), 2024, section 3.2; Tolstikhin et al., MLP-Mixer, NeurIPS 2021.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> audio = generator.normal(0, 0.1, (4, 2, 3000))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": 2 * audio}, rate=8000)
    >>> mixer = MLPMixer(segment=1024, shift=512, fold=32, layers=1, base="conv1x1", epochs=1).fit([track])
    >>> weights = mixer.weights(track)
    >>> weights.matrix.shape, weights.starts_s.tolist(), weights.duration_s
    ((9, 8, 10), [0.0, 0.032, 0.064, 0.096, 0.128, 0.16, 0.192, 0.224, 0.256], 0.128)
    """

    kind = "mlp_mixer"

    def __init__(
        self,
        segment: int = SEGMENT,
        shift: int = SHIFT,
        fold: int = 1 << 7,
        layers: int = 8,
        token_hidden: int | None = None,
        channel_hidden: int | None = None,
        dropout: float = 0.0,
        mixture: bool = True,
        base: Literal["none", "conv1x1", "mean"] = "none",
        pooling: Literal["tokens", "channels"] = "tokens",
        folding: Literal["consecutive", "strided"] = "consecutive",
        loss: Literal["l1", "l2", "sdr"] = "l1",
        optimiser: str = "adam",
        learning_rate: float = 3e-4,
        batch: int = 4,
        accumulate: int = 1,
        epochs: int = 100,
        patience: int | None = None,
        seed: int = 0,
    ) -> None:
        self.segment = segment
        self.shift = shift
        self.fold = fold
        self.layers = layers
        self.token_hidden = token_hidden
        self.channel_hidden = channel_hidden
        self.dropout = dropout
        self.mixture = mixture
        self.base = base
        self.pooling = pooling
        self.folding = folding
        self.loss = loss
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.batch = batch
        self.accumulate = accumulate
        self.epochs = epochs
        self.patience = patience
        self.seed = seed

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> MLPMixerNetwork:
        """Make the network, not trained, for inputs and outputs of these labels."""
        from .mlp_network import MLPMixerNetwork

        return MLPMixerNetwork(
            len(inputs),
            len(outputs),
            self.segment,
            self.fold,
            self.layers,
            self.token_hidden,
            self.channel_hidden,
            self.dropout,
            self.pooling,
            self.folding,
            corrects=self.base != "none",
        )

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Learn from segments of tracks.

        Parameters
        ----------
        train : sequence of Track
            With references, and stems of the same separators and sources.
        valid : sequence of Track, optional
            Choose the epoch that is kept; without them it is the last.

        Raises
        ------
        FusionError
            An argument is unknown, or the tracks differ in their stems.
        AudioError
            A sample is NaN.
        """
        import torch

        from stemfuse.separators.training.loop import run_training

        from .objectives import MixingObjective, seeded

        if self.base not in BASES:
            raise FusionError(f"base {self.base!r} is unknown, there are {', '.join(BASES)}")
        blocks, held_out = training_blocks(train, valid, self.mixture)
        with seeded(self.seed):
            network = self.build(blocks.inputs, blocks.outputs)
        if self.base != "none":
            network.base.copy_(torch.tensor(self._base(blocks)))
        objective = MixingObjective(network, self.loss, blocks.tracks[0].channels)
        data = Segments(blocks, self.segment, self.shift)
        judged = None if held_out is None else Segments(held_out, self.segment, self.segment, tails=True)
        identity = identity_of(self, blocks, held_out)
        self.history_ = run_training(objective, data, judged, Recipe.of(self), self.execution, identity)
        return self.learnt(network, blocks.inputs, blocks.outputs, blocks.rate)

    def _base(self, blocks: TrackBlocks) -> Samples:
        return mean_matrix(blocks) if self.base == "mean" else solve(blocks).matrix.astype(np.float32)

    def weights(self, track: Track) -> MixingWeights:
        """Weights per segment of a track, T / 4 apart; reads and hears a batch of segments at a time.

        Raises
        ------
        FusionError
            The mixer is not fitted.
        TrackError
            The track lacks an input or has another rate.
        """
        import torch

        from stemfuse.separators.training.loop import device_of

        self.check_track(track)
        starts = segment_starts(track.length, self.segment, max(1, self.segment // 4))
        scale = np.float32(1 / Normalisation.of(track.mixture).deviation)
        matrix = np.empty((len(starts), len(self.outputs_), len(self.inputs_)), np.float32)
        device = device_of(self.execution)
        network = self.network_.to(device)
        with torch.inference_mode():
            for first in range(0, len(starts), self.batch):
                some = starts[first : first + self.batch].tolist()
                heard = np.zeros((len(some), self.segment, len(self.inputs_)), np.float32)
                for row, start in enumerate(some):
                    stop = min(start + self.segment, track.length)
                    heard[row, : stop - start] = read_inputs(track, self.inputs_, start, stop).T * scale
                matrix[first : first + len(some)] = network(torch.from_numpy(heard).to(device)).cpu().numpy()
        self.network_.cpu()
        return MixingWeights(matrix, self.inputs_, self.outputs_, starts / track.rate, self.segment / track.rate)


def mlp_cost(
    inputs: int,
    outputs: int = 8,
    segment: int = 1 << 18,
    fold: int = 1 << 7,
    layers: int = 8,
    token_hidden: int | None = None,
    channel_hidden: int | None = None,
) -> dict[str, float]:
    """Size of an MLP-Mixer's network without making it.

    Returns
    -------
    dict
        parameters, and flops of one segment forward (two per multiplication of the fully connected layers and
        of the mix; a training step takes three times as many).

    Examples
    --------
    The paper's T, F and N with two mixture channels and the stems of three models (B: vocals; C, D: all four).

    >>> paper = mlp_cost(20)
    >>> f"{paper['parameters'] / 1e6:.1f} M, {paper['flops'] / 1e9:.0f} GFLOP"
    '172.5 M, 773 GFLOP'
    """
    tokens, columns = segment // fold, inputs * fold
    token_width, channel_width = token_hidden or tokens, channel_hidden or columns
    token_weights, channel_weights = 2 * tokens * token_width, 2 * columns * channel_width
    biases = token_width + tokens + channel_width + columns + 4 * columns
    head = (columns + 1) * inputs * outputs
    flops = (
        layers * (2 * token_weights * columns + 2 * channel_weights * tokens)
        + 2 * head
        + 2 * segment * inputs * outputs
    )
    return {"parameters": layers * (token_weights + channel_weights + biases) + head, "flops": float(flops)}
