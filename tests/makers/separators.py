"""Separators that are quick and need no weights."""

import numpy as np

from stemfuse.separators import SOURCES, BaseSeparator

REQUIRED = {
    "audio_separator": {"model": "nothing.onnx"},
    "command": {"arguments": ["a program", "{mixture}", "{folder}"], "stems": ["vocals"], "version": "1"},
    "onnx": {"description": "nowhere.yaml"},
    "torchscript": {"description": "nowhere.yaml", "sha256": "0" * 64},
}
"""Arguments of the registered separators that nothing can be made without."""


class Quarter(BaseSeparator):
    """Gives every source a quarter of the mixture."""

    name = "quarter"

    def __init__(self, gain=0.25, device="cpu"):
        self.gain = gain
        self.device = device

    not_in_identity = frozenset({"device"})

    def _separate(self, mixture):
        return np.stack([self.gain * mixture] * len(SOURCES))
