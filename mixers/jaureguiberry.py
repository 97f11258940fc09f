"""Fusion by positive weights that sum to one, as Jaureguiberry, Vincent and Richard (2016) compare them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from .power_spectra import own_stems
from .stem_mixer import StemMixer

if TYPE_CHECKING:
    from torch import nn

    from .frame_sequences import FrameSequences
    from .segments import TrackBlocks
    from .stem_network import StemNetwork


@dataclass(eq=False, repr=False)
class Jaureguiberry2016(StemMixer):
    """Weights of each source's own stems, positive and of sum one, by short-time power spectra.

    The paper fuses several estimates of one voice; here every source has weights of its own, from the power spectra of
    the mixture and of the separators' estimates of this source. Trained weights minimise the squared error.

    The facts at hand leave open, and this class decides: bands and frames, the width of the network, Adam as the
    optimiser, that frames overlap by half under Hann windows. For averaging they say no more than that weights are
    posterior probabilities of models: here that of each estimate and its rest as independent Gaussian signals, given
    the mixture (`stemfuse.mixers.power_spectra.log_evidence`), with one factor of each source, which is trained, on
    its logarithm.

    Parameters
    ----------
    variant : {"adaptive", "constant", "averaging"}
        Weights of each frame from a small network; the same weights for all songs; Bayesian model averaging.
    frame_s, bands, hidden, dropout, run, optimiser, learning_rate, batch, accumulate, epochs, patience, seed
        See `stemfuse.mixers.stem_mixer.StemMixer`.

    References
    ----------
    Jaureguiberry, Vincent and Richard, Fusion methods for speech enhancement and audio source separation, IEEE/ACM
    Transactions on Audio, Speech, and Language Processing 24(7), 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from stemfuse.separators import Track
    >>> generator = np.random.default_rng(0)
    >>> audio = generator.normal(0, 0.1, (4, 2, 16000))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": audio, "b": audio[::-1]}, rate=8000)
    >>> weights = Jaureguiberry2016("constant", learning_rate=0.1, epochs=50).fit([track]).weights(track)
    >>> weights.matrix.shape, bool(weights.matrix[0, 0, 0] > 0.9), round(float(weights.matrix[0, 0].sum()), 5)
    ((3, 8, 16), True, 1.0)
    """

    kind: ClassVar[str] = "jaureguiberry2016"

    variant: Literal["adaptive", "constant", "averaging"] = "adaptive"

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> StemNetwork:
        """Make the network, not trained, for inputs and outputs of these labels."""
        from .stem_network import StemNetwork

        stems = own_stems(inputs, outputs)
        return StemNetwork(inputs, outputs, stems, self.bands, self.hidden, self.dropout, self.variant)

    def frame_objective(self, network: nn.Module, blocks: TrackBlocks, data: FrameSequences) -> nn.Module:
        """Make the loss, the squared error relative to the mixture's energy; training starts at equal weights."""
        from .gram_network import GramObjective

        return GramObjective(network, "l2", blocks.tracks[0].channels)
