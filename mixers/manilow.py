"""Selection by predicted SDR, after Manilow, Seetharaman, Pishdadian and Pardo (2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from stemfuse.blending import FusionError
from stemfuse.separators.errors import wrong_usage

from .power_spectra import own_stems
from .stem_mixer import StemMixer

if TYPE_CHECKING:
    from torch import nn

    from .frame_sequences import FrameSequences
    from .segments import TrackBlocks
    from .stem_network import StemNetwork


@dataclass(eq=False, repr=False)
class Manilow2017(StemMixer):
    """A network predicts the SDR of each separator's stem in each segment; the best one is taken.

    The paper selects; the soft blend is this class's: weights are the softmax of the predicted SDRs. The facts at hand
    leave open what the network is given and how long a segment is: here levels of the mixture and of the source's stems
    in bands, and one second. Segments overlap by half and are joined under Hann windows.

    Parameters
    ----------
    choice : {"hard", "soft"}
        The stem of the largest predicted SDR alone, or weights by `softness_db`.
    softness_db : float
        A stem this much below the best one has 1 / e of its weight.
    frame_s, bands, hidden, dropout, run, optimiser, learning_rate, batch, accumulate, epochs, patience, seed
        See `stemfuse.mixers.stem_mixer.StemMixer`; `frame_s` is the length of a segment.

    References
    ----------
    Manilow, Seetharaman, Pishdadian and Pardo, Predicting algorithm efficacy for adaptive multi-cue source separation,
    WASPAA 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from stemfuse.separators import Track
    >>> generator = np.random.default_rng(0)
    >>> audio = generator.normal(0, 0.1, (4, 2, 16000))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": audio, "b": audio[::-1]}, rate=8000)
    >>> weights = Manilow2017(epochs=1).fit([track]).weights(track)
    >>> weights.matrix.shape, weights.matrix[0, 0, [0, 8]].tolist()
    ((3, 8, 16), [1.0, 0.0])
    """

    kind: ClassVar[str] = "manilow2017"

    choice: Literal["hard", "soft"] = "hard"
    softness_db: float = 2.0

    def check(self) -> None:
        """Raise unless the arguments make sense and the packages are installed."""
        super().check()
        if not self.softness_db > 0:
            raise wrong_usage(FusionError(f"got softness_db={self.softness_db}, expected a positive number, such as 2"))

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> StemNetwork:
        """Make the network, not trained, for inputs and outputs of these labels."""
        from .stem_network import StemNetwork

        return StemNetwork(
            inputs,
            outputs,
            own_stems(inputs, outputs),
            self.bands,
            self.hidden,
            self.dropout,
            constraint="selection" if self.choice == "hard" else "simplex",
            scale=1 / self.softness_db,
        )

    def frame_objective(self, network: nn.Module, blocks: TrackBlocks, data: FrameSequences) -> nn.Module:
        """Make the loss, the squared error of predicted SDRs in dB; training starts at each stem's mean SDR.

        Frames in which a reference is silent do not count.
        """
        from .stem_network import ScoreObjective, StemNetwork

        if not isinstance(network, StemNetwork):
            raise FusionError(f"got a network of type {type(network).__name__}, expected one that build has made")
        objective = ScoreObjective(network, blocks.inputs, blocks.outputs)
        objective.start_at_means(data)
        return objective
