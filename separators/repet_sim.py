"""The voice by what does not repeat: REPET-SIM."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from .audio import RATE, Samples
from .masking import Array, apply_masks, below, split_percussive, transform
from .separator import BaseSeparator

ROWS = 256
"""Frames compared with the others at a time: the similarity matrix is never whole in memory."""


class RepetSim(BaseSeparator):
    name: ClassVar[str] = "repet_sim"

    def __init__(self, crossover_hz=250.0, distance_s=0.5, neighbours=20, reach_s=120.0, window=2048):
        self.crossover_hz = crossover_hz
        self.distance_s = distance_s
        self.neighbours = neighbours
        self.reach_s = reach_s
        self.window = window

    def _separate(self, mixture: Samples) -> Samples:
        hop = self.window // 2
        repeating = self._repeating(mixture, hop)
        above = 1 - below(self.crossover_hz, self.window)

        def voice(spectrum: NDArray[np.complex128], first: int) -> list[Array]:
            magnitude = np.abs(spectrum).mean(axis=0)
            frames = np.arange(first, first + magnitude.shape[1]).clip(0, len(repeating) - 1)
            model = np.minimum(repeating[frames].T, magnitude)
            background = np.divide(model, magnitude, out=np.ones_like(magnitude), where=magnitude > 0)
            return [(1 - background) * above]

        vocals, background = apply_masks(mixture, voice, self.window, hop)
        return np.concatenate([split_percussive(background, self.crossover_hz), vocals[None]])

    def _repeating(self, mixture, hop):
        stft = transform(self.window, hop)
        padded = np.pad(mixture, ((0, 0), (0, max(0, self.window - mixture.shape[1]))))
        count = -(-mixture.shape[1] // hop)
        magnitude = np.concatenate(
            [np.abs(stft.stft(padded, p, min(p + ROWS, count))).mean(axis=0).T.astype(np.float32) for p in range(0, count, ROWS)]
        )
        norm = np.linalg.norm(magnitude, axis=1, keepdims=True)
        unit = np.divide(magnitude, norm, out=np.zeros_like(magnitude), where=norm > 0)
        distance = max(1, round(self.distance_s * RATE / hop))
        reach = max(1, round(self.reach_s * RATE / hop))
        out = np.empty_like(magnitude)
        for start in range(0, count, ROWS):
            first = max(0, start - reach)
            similarity = unit[start : start + ROWS] @ unit[first : start + ROWS + reach].T
            peak = similarity >= maximum_filter1d(similarity, 2 * distance + 1, axis=1, mode="constant")
            similarity[~peak] = 0
            k = min(self.neighbours, similarity.shape[1])
            best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            for row, columns in enumerate(best):
                columns = columns[similarity[row, columns] > 0]
                out[start + row] = np.median(magnitude[first + columns], axis=0) if len(columns) else magnitude[start+row]
        return out
