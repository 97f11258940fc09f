"""Base of mixers that weigh each source's own stems, frame by frame, from short-time power spectra."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from .frame_mixer import FrameMixer
from .frame_sequences import Describe
from .power_spectra import own_stems, power_features


@dataclass(eq=False, repr=False, kw_only=True)
class StemMixer(FrameMixer):
    """A network's scores of each source's stems become positive weights that sum to one.

    A subclass implements `build` and `frame_objective`.

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

    mixture = False

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

    def describe(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Describe:
        """What computes the features of a track's frames, for inputs and outputs of these labels."""
        return partial(power_features, inputs=inputs, stems=own_stems(inputs, outputs), bands=self.bands)
