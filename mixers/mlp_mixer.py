"""The MDX-Mixer: weights of each segment, predicted by an MLP-Mixer from the segment's own samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from stemfuse.blending import FusionError, MixingWeights, read_inputs
from stemfuse.separators import Samples, Track
from stemfuse.separators.errors import wrong_usage

from .conv1x1 import SEGMENT, SHIFT, mean_matrix
from .exact import nearly_solve
from .mixer import NetworkMixer
from .segments import Segments, TrackBlocks, normalisation_of, segment_starts

if TYPE_CHECKING:
    from torch import nn

    from .mlp_network import MLPMixerNetwork


@dataclass(eq=False, repr=False)
class MLPMixer(NetworkMixer):
    """MDX-Mixer of Nakano and Goto (2024): Y_k = X_k W_k, with W_k predicted from X_k by an MLP-Mixer.

    The T samples of a segment are cut into F patches, which are the columns of what the network sees, one after the
    other for each input: Z[t, c F + f] = X[f T / F + t, c]. Token mixing is a full connection within a patch, channel
    mixing one between patches. The mean over the columns is left at the end, T / F values, and one fully connected
    layer makes the (2 + C) x 8 weights of them. `published` has all arguments of the paper.

    The paper leaves these points open:

    * There is no layer normalisation before the global average, because the paper names none.
    * Layers start as torch's do (uniform within 1 / sqrt(inputs)); with a base, the last one starts at zero.
    * Segments of a song, T / 4 apart, are joined under Hann windows divided by their sum, so that equal weights give
      the constant fusion exactly. The last segment, or that of a song shorter than T, is filled with zeros.

    Parameters
    ----------
    segment, shift : int
        T and S, in samples: a training segment is T long, and one starts every S samples.
    fold : int
        F, which divides T.
    layers : int
        N; the paper has 8 and 16.
    token_hidden, channel_hidden : int, optional
        D_T and D_C; when not given, T / F and (2 + C) F as in the paper.
    dropout : float
        p; the paper has 0 and 0.2.
    mixture : bool
        Whether the mixture is one of the inputs.
    base : {"none", "conv1x1", "mean"}
        Weights from scratch as in the paper, or a correction of constant weights, at which training starts: those of
        the least absolute error (`Conv1x1Mixer` exact), or the mean of the separators.
    pooling : {"channels", "tokens"}
        What the global average is taken over: columns, as published; or rows, as in the MLP-Mixer of Tolstikhin et
        al., which leaves (2 + C) F values and is not the paper's.
    folding : {"patches", "consecutive"}
        A column is a patch of consecutive samples, as published; or a row is F consecutive samples of all inputs, which
        is not the paper's.
    centred : bool
        Whether the mixture's mean is subtracted from all channels before the network sees them, as published. The
        weights are those of the samples as they are: a mix without bias differs by the mean times one minus the sum of
        its weights, in music about 1e-5 of full scale.
    constraint : {"free", "simplex", "selection"}
        All weights, freely, as published; or weights over each source's own stems that are positive and sum to one; or
        the best of these stems alone. The last two are not the paper's, and need base="none".
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

    segment: int = SEGMENT
    shift: int = SHIFT
    fold: int = 1 << 7
    layers: int = 8
    token_hidden: int | None = None
    channel_hidden: int | None = None
    dropout: float = 0.0
    mixture: bool = True
    base: Literal["none", "conv1x1", "mean"] = "none"
    pooling: Literal["channels", "tokens"] = "channels"
    folding: Literal["patches", "consecutive"] = "patches"
    centred: bool = False
    constraint: Literal["free", "simplex", "selection"] = "free"
    loss: Literal["l1", "l2", "sdr"] = "l1"
    optimiser: str = "adam"
    learning_rate: float = 3e-4
    batch: int = 4
    accumulate: int = 1
    epochs: int = 100
    patience: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise unless the arguments make sense and the packages are installed."""
        super().check()
        if self.constraint != "free" and self.base != "none":
            raise wrong_usage(
                FusionError(
                    f"got constraint={self.constraint!r} and base={self.base!r}, expected base='none': weights under a "
                    "constraint correct no others (--option base=none)"
                )
            )

    @classmethod
    def published(cls, layers: Literal[8, 16] = 8, dropout: float = 0.0, **others: Any) -> Self:
        """Make a mixer with all arguments of the paper.

        Parameters
        ----------
        layers : {8, 16}
            N.
        dropout : {0, 0.2}
            p.
        **others
            Arguments that shall differ from the paper's.

        Examples
        --------
        >>> mixer = MLPMixer.published(16, 0.2, seed=1)
        >>> mixer.layers, mixer.dropout, mixer.centred, mixer.segment, mixer.fold
        (16, 0.2, True, 262144, 128)
        """
        return cls(**{"layers": layers, "dropout": dropout, "centred": True, **others})

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> MLPMixerNetwork:
        """Make the network, not trained, for inputs and outputs of these labels."""
        from .mlp_network import MLPMixerNetwork
        from .weight_grid import WeightGrid

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
            None if self.constraint == "free" else WeightGrid(inputs, outputs, constraint=self.constraint),
            corrects=self.base != "none",
        )

    def data(self, blocks: TrackBlocks, held_out: TrackBlocks | None) -> tuple[Segments, Segments | None]:
        """Segments of T samples, one every S."""
        return self.segments(blocks, held_out, self.segment, self.shift)

    def objective(self, network: nn.Module, blocks: TrackBlocks, data: Segments) -> nn.Module:
        """Make the loss of the mix; training starts at the base."""
        import torch

        from .losses import MixingObjective

        if self.base != "none":
            network.get_buffer("base").copy_(torch.tensor(self._base(blocks)))
        return MixingObjective(network, self.loss, blocks.tracks[0].channels)

    def _base(self, blocks: TrackBlocks) -> Samples:
        """The constant weights that are corrected, (output, input)."""
        return mean_matrix(blocks) if self.base == "mean" else nearly_solve(blocks, self.seed)

    def predict(self, track: Track) -> MixingWeights:
        """Predict the weights of each segment of a track, T / 4 apart; a batch of segments is read at a time."""
        import torch

        from stemfuse.separators.training.loop import device_of

        starts = segment_starts(track.length, self.segment, max(1, self.segment // 4))
        scale = normalisation_of(track, self.centred)
        matrix = np.empty((len(starts), len(self.outputs_), len(self.inputs_)), np.float32)
        device = device_of(self.execution)
        network = self.network_.to(device)
        with torch.inference_mode():
            for first in range(0, len(starts), self.batch):
                chosen = starts[first : first + self.batch].tolist()
                inputs = np.zeros((len(chosen), self.segment, len(self.inputs_)), np.float32)
                for row, start in enumerate(chosen):
                    stop = min(start + self.segment, track.length)
                    inputs[row, : stop - start] = scale.apply(read_inputs(track, self.inputs_, start, stop).T)
                matrix[first : first + len(chosen)] = network(torch.from_numpy(inputs).to(device)).cpu().numpy()
        self.network_.cpu()
        return MixingWeights(matrix, self.inputs_, self.outputs_, starts / track.rate, self.segment / track.rate)


def mlp_cost(
    inputs: int,
    outputs: int = 8,
    segment: int = SEGMENT,
    fold: int = 1 << 7,
    layers: int = 8,
    token_hidden: int | None = None,
    channel_hidden: int | None = None,
    pooling: Literal["channels", "tokens"] = "channels",
) -> dict[str, float]:
    """Size of an MLP-Mixer's network, computed without building it.

    The parameters are those of `MLPMixer`, with the numbers of input and output channels.

    Returns
    -------
    dict
        ``parameters``; and ``flops`` of one segment's forward pass: two per multiplication of the fully connected
        layers and of the mix. A training step takes three times as many.

    Examples
    --------
    The paper's T, F and N, with two mixture channels and the stems of three models (B: vocals; C, D: all four).

    >>> paper = mlp_cost(20)
    >>> f"{paper['parameters'] / 1e6:.1f} M, {paper['flops'] / 1e9:.0f} GFLOP"
    '172.4 M, 773 GFLOP'
    """
    tokens, columns = segment // fold, inputs * fold
    token_width, channel_width = token_hidden or tokens, channel_hidden or columns
    token_weights, channel_weights = 2 * tokens * token_width, 2 * columns * channel_width
    biases = token_width + tokens + channel_width + columns + 4 * columns
    head = ((tokens if pooling == "channels" else columns) + 1) * inputs * outputs
    flops = (
        layers * (2 * token_weights * columns + 2 * channel_weights * tokens)
        + 2 * head
        + 2 * segment * inputs * outputs
    )
    return {"parameters": layers * (token_weights + channel_weights + biases) + head, "flops": float(flops)}
