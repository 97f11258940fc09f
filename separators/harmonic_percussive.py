"""Harmonic and percussive parts by running medians, in two passes that let the voice change sides."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .audio import Samples
from .masking import Array, apply_masks, below, percussive_mask, split_percussive
from .separator import BaseSeparator


class HarmonicPercussive(BaseSeparator):
    """Two passes of harmonic/percussive separation and a bass band.

    Seen through a long window, instruments that hold their pitch are lines along time; drums are not, and neither
    is a voice, which glides and trembles. The first pass takes the two out together. Seen through a short window the
    voice is a line along time as well, and the second pass takes it out of the drums. What is left of the first
    pass is bass below the crossover and other above it. The voice is sought above the crossover too.

    Strong on drums; the voice's steady vowels stay in other, and strokes of guitars go to vocals.

    Parameters
    ----------
    crossover_hz : float
        Between bass and other, and below the voice.
    window : int
        Window of the first pass in samples; 4096 are 93 ms.
    voice_window : int
        Window of the second pass in samples; 1024 are 23 ms.

    References
    ----------
    D. Fitzgerald, "Harmonic/percussive separation using median filtering", DAFx 2010.
    D. Fitzgerald and M. Gainza, "Single channel vocal separation using median filtering and factorisation
    techniques", ISAST Transactions on Electronic and Signal Processing 4(1), 2010: the two passes.
    H. Tachibana et al., "Melody line estimation in homophonic music audio signals based on temporal-variability of
    melodic source", ICASSP 2010: the voice between two windows.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (2, 44100)).astype("float32")
    >>> stems = HarmonicPercussive().separate(noise, 44100)
    >>> bool(np.abs(stems.audio.sum(axis=0) - noise).max() < 1e-6)
    True
    """

    name: ClassVar[str] = "harmonic_percussive"

    def __init__(self, crossover_hz: float = 250.0, window: int = 4096, voice_window: int = 1024) -> None:
        self.crossover_hz = crossover_hz
        self.window = window
        self.voice_window = voice_window

    def _separate(self, mixture: Samples) -> Samples:
        percussive, bass, other = split_percussive(mixture, self.crossover_hz, self.window)
        above = 1 - below(self.crossover_hz, self.voice_window)

        def voice(spectrum: NDArray[np.complex128], first: int) -> list[Array]:
            return [(1 - percussive_mask(np.abs(spectrum).mean(axis=0), frames=17, bins=17)) * above]

        vocals, drums = apply_masks(percussive, voice, self.voice_window, self.voice_window // 4, context=8)
        return np.stack([drums, bass, other, vocals])
