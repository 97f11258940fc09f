"""Harmonic and percussive parts by running medians, in two passes between which the voice changes sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from stemfuse.separators.audio.signals import Samples, Signal
from stemfuse.separators.separator import BaseSeparator

from .masking import Mask, Spectrum, apply_masks, below, check_options, one_part, percussive_mask, split_percussive


class HarmonicPercussive(BaseSeparator):
    """Two passes of harmonic/percussive separation and a bass band.

    In a spectrogram with a long window, an instrument that holds its pitch is a line along time. Drums are not, and
    neither is a voice, which glides and trembles: the first pass takes both out together. With a short window the voice
    is a line along time too, and the second pass takes it out of the drums, above the crossover. The rest of the first
    pass is bass below the crossover and other above it. The four sum to the mixture.

    Strong on drums and vocals; steady vowels stay in other, bent notes of instruments go to vocals.

    Parameters
    ----------
    crossover_hz : float
        Bass is below it, voice and other are above.
    window : int
        Window of the first pass in samples; 16384 are 0.37 s. The shorter it is, the more of the voice counts as other.
    voice_window : int
        Window of the second pass in samples; 1024 are 23 ms.

    Raises
    ------
    SeparatorError
        An option is out of range.

    References
    ----------
    D. Fitzgerald, "Harmonic/percussive separation using median filtering", DAFx 2010.

    D. Fitzgerald and M. Gainza, "Single channel vocal separation using median filtering and factorisation
    techniques", ISAST Transactions on Electronic and Signal Processing 4(1), 2010: the two passes.

    H. Tachibana, T. Ono, N. Ono and S. Sagayama, "Melody line estimation in homophonic music audio signals based on
    temporal-variability of melodic source", ICASSP 2010: the voice between two windows.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (2, 44100)).astype("float32")
    >>> stems = HarmonicPercussive().separate(noise, 44100)
    >>> bool(np.abs(stems.audio.sum(axis=0) - noise).max() < 1e-6)
    True
    """

    name: ClassVar[str] = "harmonic_percussive"

    def __init__(self, crossover_hz: float = 250.0, window: int = 16384, voice_window: int = 1024) -> None:
        check_options(crossover_hz, window, voice_window)
        self.crossover_hz = crossover_hz
        self.window = window
        self.voice_window = voice_window

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        high = 1 - below(self.crossover_hz, self.voice_window)

        def voice(spectrum: Spectrum, first: int) -> list[Mask]:
            return [(1 - percussive_mask(np.abs(spectrum).mean(axis=0), frames=17, bins=17)) * high]

        # percussive, bass, other
        first_pass = split_percussive(one_part(mixture), mixture.length, self.crossover_hz, self.window)
        hop = self.voice_window // 4
        for vocals, drums, bass, other in apply_masks(
            first_pass, mixture.length, voice, self.voice_window, hop, context=8
        ):
            yield np.stack([drums, bass, other, vocals])
