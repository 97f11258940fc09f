"""The voice as the part that does not repeat: REPET-SIM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray

from stemfuse.separators.audio.signals import RATE, Samples, Signal
from stemfuse.separators.blocks import ForwardReader
from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.separator import BaseSeparator

from .masking import Mask, Spectrum, apply_masks, below, check_options, one_part, split_percussive, transform

ROWS = 256
"""STFT frames compared at a time, so that the similarity matrix is never whole in memory."""


class RepetSim(BaseSeparator):
    """REPET-SIM for the voice, then harmonic/percussive separation and a bass band for the rest.

    An accompaniment repeats, a voice seldom does. For every STFT frame, the STFT frames most similar to it by the
    cosine are found. Their median W is a model of the accompaniment, without what sounds only once. The part of the
    magnitude V that exceeds it is the voice, above the crossover: its mask is 1 - min(W, V) / V. The rest is split into
    drums, by running medians, bass below the crossover and other above it. The four sum to the mixture.

    Strong on vocals over loops, and on other; everything that sounds once, such as a solo, goes to vocals.

    Parameters
    ----------
    crossover_hz : float
        Bass is below it, voice and other are above. The paper cuts the voice at 100 Hz.
    distance_s : float
        Least distance between two of the STFT frames that one is similar to. The paper has 1 s.
    neighbours : int
        The most STFT frames that a median is taken over, the frame itself among them. The paper has 100.
    reach_s : float
        How far before and after an STFT frame similar ones are looked for. It limits time, which otherwise grows with
        the square of the length, and memory, which otherwise grows by some 40 MB a minute; songs up to this length are
        compared as a whole.
    window : int
        Of the spectrum, in samples, half overlapping as in the paper; 2048 are 46 ms.

    Raises
    ------
    SeparatorError
        An option is out of range.

    References
    ----------
    Z. Rafii and B. Pardo, "Music/voice separation using the similarity matrix", ISMIR 2012.

    Examples
    --------
    A loop repeats and is no voice:

    >>> loop = np.tile(np.random.default_rng(0).normal(0, 0.1, (2, 22528)).astype("float32"), 4)
    >>> stems = RepetSim().separate(loop, 44100)
    >>> float(np.square(stems["vocals"].read(22528, 67584)).sum() / np.square(loop).sum()) < 1e-3
    True
    """

    name: ClassVar[str] = "repet_sim"

    def __init__(
        self,
        crossover_hz: float = 250.0,
        distance_s: float = 0.5,
        neighbours: int = 40,
        reach_s: float = 120.0,
        window: int = 2048,
    ) -> None:
        check_options(crossover_hz, window)
        for name, value in (("distance_s", distance_s), ("neighbours", neighbours), ("reach_s", reach_s)):
            if not value > 0:
                raise SeparatorError(f"got {name}={value}, expected more than 0")
        self.crossover_hz = crossover_hz
        self.distance_s = distance_s
        self.neighbours = neighbours
        self.reach_s = reach_s
        self.window = window

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        hop = self.window // 2
        last = -(-mixture.length // hop) - 1
        model = ForwardReader(self._accompaniment(mixture), axis=0)
        high = 1 - below(self.crossover_hz, self.window)

        def voice(spectrum: Spectrum, first: int) -> list[Mask]:
            magnitude = np.abs(spectrum).mean(axis=0)
            # a block extends beyond both ends of the song by STFT frames that are cut off later
            frames = np.arange(first, first + magnitude.shape[1]).clip(0, last)
            excess = np.maximum(magnitude - model.read(frames[0], frames[-1] + 1)[frames - frames[0]].T, 0)
            return [high * np.divide(excess, magnitude, out=np.zeros_like(magnitude), where=magnitude > 0)]

        parts = apply_masks(one_part(mixture), mixture.length, voice, self.window, hop)
        for vocals, drums, bass, other in split_percussive(parts, mixture.length, self.crossover_hz, part=1):
            yield np.stack([drums, bass, other, vocals])

    def _accompaniment(self, mixture: Signal) -> Iterator[NDArray[np.float32]]:
        """Median of the STFT frames that are similar to each one, in consecutive blocks (STFT frame, frequency)."""
        hop = self.window // 2
        frames_per_s = RATE / hop
        distance = max(1, round(self.distance_s * frames_per_s))
        reach = max(1, round(self.reach_s * frames_per_s))
        count = -(-mixture.length // hop)
        spectrogram = ForwardReader(map(_beside_unit, magnitudes(mixture, self.window, hop)), axis=1)
        for start in range(0, count, ROWS):
            first, stop = max(0, start - reach), min(start + ROWS, count)
            magnitude, unit = spectrogram.read(first, min(start + ROWS + reach, count))
            cosine = unit[start - first : stop - first] @ unit.T
            # a similar frame is a peak: none nearer than the distance is more similar
            cosine[cosine < scipy.ndimage.maximum_filter1d(cosine, 2 * distance + 1, axis=1, mode="nearest")] = 0
            model = magnitude[start - first : stop - first].copy()
            for frame, row in enumerate(cosine, start):
                peaks = np.flatnonzero(row > 0)
                peaks = peaks[np.abs(first + peaks - frame) <= reach]
                similar = peaks[np.argsort(-row[peaks], kind="stable")[: self.neighbours]]
                if len(similar):
                    model[frame - start] = np.median(magnitude[similar], axis=0)
            yield model


def _beside_unit(magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
    """Magnitudes (STFT frame, frequency), and the same with every STFT frame scaled to length one."""
    norm = np.linalg.norm(magnitude, axis=1, keepdims=True)
    return np.stack([magnitude, np.divide(magnitude, norm, out=np.zeros_like(magnitude), where=norm > 0)])


def magnitudes(mixture: Signal, window: int, hop: int) -> Iterator[NDArray[np.float32]]:
    """Magnitudes of a spectrum, the mean of the channels, in consecutive blocks (STFT frame, frequency).

    STFT frame n is around sample ``n * hop``; the hop divides the window.
    """
    stft = transform(window, hop)
    count = -(-mixture.length // hop)
    for start in range(0, count, ROWS):
        stop = min(start + ROWS, count)
        first = max(0, start * hop - window)
        samples = mixture.read(first, min(mixture.length, stop * hop + window))
        padded = np.pad(samples, ((0, 0), (0, max(0, window - samples.shape[1]))))
        spectrum = stft.stft(padded, start - first // hop, stop - first // hop)
        yield np.abs(spectrum).mean(axis=0).T.astype(np.float32, order="C")
