"""The voice as what both channels have in common."""

import numpy as np

from stemfuse.separators import BaseSeparator


class MidSide(BaseSeparator):
    """The middle of the stereo image is the voice, the rest is the accompaniment."""

    name, version, sources = "mid_side", "1", ("vocals", "accompaniment")

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def _separate(self, mixture: np.ndarray) -> np.ndarray:
        middle = self.share * mixture.mean(axis=0, keepdims=True).repeat(2, axis=0)
        return np.stack([middle, mixture - middle])
