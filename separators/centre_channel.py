"""The voice by its place: what both loudspeakers play alike."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .audio import Samples
from .masking import Array, apply_masks, below, percussive_mask
from .separator import BaseSeparator


class CentreChannel(BaseSeparator):
    """Centre extraction by the similarity of the channels.

    Engineers put voice, bass and kick drum in the centre and spread the rest. In every cell of the spectrum the
    similarity of left L and right R is 2 Re(L R*) / (|L|^2 + |R|^2): 1 in the centre, 0 at a side, negative where the
    channels oppose each other. Its power is the centre's mask. Percussion is taken out first, by running medians; then
    what is tonal is bass below the crossover; above it, vocals are the centre and other is the rest.

    Strong on other where the mix is wide; whatever else stands in the centre goes to vocals.

    Parameters
    ----------
    crossover_hz : float
        Between bass and the others.
    selectivity : float
        Exponent of the similarity: the larger, the narrower the centre.
    window : int
        Of the spectrum, in samples.

    References
    ----------
    C. Avendano, "Frequency-domain source identification and manipulation in stereo mixes for enhancement,
    suppression and re-panning applications", WASPAA 2003, equation 2 (here the real part, which leaves out what is
    in opposite phase).

    Examples
    --------
    >>> left = np.random.default_rng(0).normal(0, 0.1, 44100).astype("float32")
    >>> stems = CentreChannel().separate(np.stack([left, -left]), 44100)
    >>> bool(stems["vocals"].read().any())
    False
    """

    name: ClassVar[str] = "centre_channel"

    def __init__(self, crossover_hz: float = 250.0, selectivity: float = 4.0, window: int = 4096) -> None:
        self.crossover_hz = crossover_hz
        self.selectivity = selectivity
        self.window = window

    def _separate(self, mixture: Samples) -> Samples:
        low = below(self.crossover_hz, self.window)

        def masks(spectrum: NDArray[np.complex128], first: int) -> list[Array]:
            left, right = spectrum
            power = np.abs(left) ** 2 + np.abs(right) ** 2
            cross = 2 * (left * right.conj()).real.clip(min=0)
            centre = np.divide(cross, power, out=np.zeros_like(power), where=power > 0) ** self.selectivity
            percussive = percussive_mask(np.abs(spectrum).mean(axis=0), frames=15, bins=9)
            tonal = 1 - percussive
            return [percussive, tonal * low, tonal * (1 - low) * centre]

        drums, bass, vocals, other = apply_masks(mixture, masks, self.window, self.window // 4, context=7)
        return np.stack([drums, bass, other, vocals])
