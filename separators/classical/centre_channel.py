"""The voice by its place in the stereo image: what both channels have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from stemfuse.separators.audio.signals import Samples, Signal
from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.separator import BaseSeparator

from .masking import Mask, Spectrum, apply_masks, below, check_options, one_part, percussive_mask


class CentreChannel(BaseSeparator):
    """Centre extraction by the similarity of the two channels.

    Engineers put voice and bass in the centre and spread the rest. In each cell of the spectrum the similarity of
    left L and right R is 2 Re(L R*) / (abs(L)^2 + abs(R)^2): 1 in the centre, 0 on one side alone, negative where the
    channels have opposite phase. The mask of the centre is a power of the similarity, and 0 where it is negative.
    Percussion is taken out first, by running medians. Of the tones in the centre, those below the crossover are bass
    and those above it vocals; other is the rest. The four sum to the mixture.

    Strong on bass, and on other in wide mixes; instruments in the centre go to vocals.

    Parameters
    ----------
    crossover_hz : float
        Between bass and vocals.
    selectivity : float
        Exponent of the similarity, above 0: the larger it is, the narrower the centre.
    window : int
        Of the spectrum, in samples; 8192 are 0.19 s.

    Raises
    ------
    SeparatorError
        An option is out of range.

    References
    ----------
    C. Avendano, "Frequency-domain source identification and manipulation in stereo mixes for enhancement,
    suppression and re-panning applications", WASPAA 2003: the similarity, here with the real part, which excludes
    opposite phase.

    Examples
    --------
    >>> left = np.random.default_rng(0).normal(0, 0.1, 44100).astype("float32")
    >>> stems = CentreChannel().separate(np.stack([left, -left]), 44100)
    >>> bool(stems["vocals"].read().any())
    False
    """

    name: ClassVar[str] = "centre_channel"

    def __init__(self, crossover_hz: float = 250.0, selectivity: float = 4.0, window: int = 8192) -> None:
        check_options(crossover_hz, window)
        if not selectivity > 0:
            raise SeparatorError(f"got a selectivity of {selectivity}, expected more than 0")
        self.crossover_hz = crossover_hz
        self.selectivity = selectivity
        self.window = window

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        low = below(self.crossover_hz, self.window)

        def masks(spectrum: Spectrum, first: int) -> list[Mask]:
            percussive = percussive_mask(np.abs(spectrum).mean(axis=0), frames=9, bins=13)
            centre = (1 - percussive) * similarity(spectrum).clip(min=0) ** self.selectivity
            return [percussive, centre * low, centre * (1 - low)]

        hop = self.window // 4
        for drums, bass, vocals, other in apply_masks(
            one_part(mixture), mixture.length, masks, self.window, hop, context=4
        ):
            yield np.stack([drums, bass, other, vocals])


def similarity(spectrum: Spectrum) -> Mask:
    """Similarity of the two channels in every cell, from -1 to 1; 0 where both are silent.

    Parameters
    ----------
    spectrum : ndarray, shape (2, frequency, STFT frame)
        Of left and right.

    Returns
    -------
    ndarray, shape (frequency, STFT frame)
        With L and R the channels, 2 Re(L R*) / (abs(L)^2 + abs(R)^2).

    Examples
    --------
    >>> left = np.ones((1, 4), complex)
    >>> similarity(np.stack([left, [[1, 0, -1, 1j]]]))
    array([[ 1.,  0., -1.,  0.]])
    """
    left, right = spectrum
    power = np.square(np.abs(spectrum)).sum(axis=0)
    alike: Mask = np.divide(2 * (left * right.conj()).real, power, out=np.zeros_like(power), where=power > 0)
    return alike
