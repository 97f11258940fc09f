"""ResUNet143 with subbands as a separator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from .network_separator import NetworkSeparator, checked_source

if TYPE_CHECKING:
    import torch
from .demucs_v2_separator import checked_segment


class ResUNet143Subband(NetworkSeparator):
    """ResUNet143 in four subbands, which separates vocals: model B of MDX-Mixer.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: from the folder ``resunet143_subband`` of `weights_folder`, as published.
    source : str
        What the weights separate, one of `SOURCES`. The published file of the accompaniment is none of them.
    segment_s : float
        Length of the pieces in seconds, of which the middle halves are kept.
    device : str
        Torch device that the network runs on, piece by piece; songs stay in main memory.

    References
    ----------
    Q. Kong, Y. Cao, H. Liu, K. Choi, Y. Wang, "Decoupling magnitude and phase estimation with deep ResUNet for music
    source separation", ISMIR 2021.

    Examples
    --------
    >>> ResUNet143Subband(segment_s=10.0).sources
    ('vocals',)
    """

    name: ClassVar[str] = "resunet143_subband"
    origin = "zenodo.org/records/5804160"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        source: str = "vocals",
        segment_s: float = 30.0,
        device: str = "cpu",
    ) -> None:
        self.sources = checked_source(self.name, source)
        self._segment = checked_segment(self.name, segment_s)
        self.weights, self.source, self.segment_s, self.device = weights, source, segment_s, device

    @property
    def _names(self) -> Sequence[str]:
        published = ["resunet143_subbtandtime_vocals_8.7dB_500k_steps_v2.pth"]
        return [f"{self.source}.safetensors", *(published if self.source == "vocals" else [])]

    @cached_property
    def _network(self) -> Any:
        from stemfuse.separators.weights.tensors import load_strictly, read_state

        from .resunet import ResUNetSubband, resunet_state

        tensors, widths = resunet_state(read_state(self._file), self._file)
        return load_strictly(ResUNetSubband(widths), tensors, self._file).to(self.device)

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        from .chunking import separate_in_halves

        return separate_in_halves(mixture, lambda piece: self._network(piece.to(self.device)), self._segment)[None]
