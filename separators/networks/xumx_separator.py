"""X-UMX as a separator."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
from .network_separator import TAIL, MaskSeparator


class XUMX(MaskSeparator):
    """X-UMX, all four sources, and Danna-Sep's version of it.

    Weights with asteroid's names (``pretrained_xumx_musdb18HQ.pth``) and Danna-Sep's joined ones
    (``xumx_pretrained.pth``, ``xumx_mwf.pth``) are told apart. Magnitudes are refined by one iteration of the
    multichannel Wiener filter over the whole song. Memory grows by some 300 MB a minute.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: from the folder ``xumx`` of `weights_folder`, as published.
    device : str
        Torch device that the network and the filter run on.

    References
    ----------
    R. Sawata, S. Uhlich, S. Takahashi, Y. Mitsufuji, "All for one and one for all: improving music separation by
    bridging networks", ICASSP 2021. C.-Y. Yu, K.-W. Cheuk, "Danna-Sep: unite to separate them all", MDX workshop at
    ISMIR 2021.

    Examples
    --------
    >>> XUMX().sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "xumx"
    origin = "zenodo.org/records/4740378, or huggingface.co/spaces/yoyololicon/Danna-Sep, folder checkpoints"

    def __init__(self, weights: str | os.PathLike[str] | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device

    @property
    def _names(self) -> Sequence[str]:
        published = ("xumx_mwf.pth", "pretrained_xumx_musdb18HQ.pth", "pretrained_xumx.pth", "xumx_pretrained.pth")
        return ["xumx.safetensors", *published]

    @cached_property
    def _network(self) -> Any:
        """The network, and how much silence its authors append to songs."""
        from stemfuse.separators.weights.tensors import load_strictly, read_state

        from .xumx import XUMXNetwork, xumx_state

        tensors, shape, joined = xumx_state(read_state(self._file), self._file)
        return load_strictly(XUMXNetwork(shape), tensors, self._file).to(self.device), TAIL if joined else 0

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        network, tail = self._network

        def masks(magnitudes: torch.Tensor) -> Callable[[int, int], torch.Tensor]:
            encoded = network.encode(magnitudes[None])
            return lambda start, stop: network.decode(encoded[start:stop])[0]

        return self._filtered(mixture, 2 * network.shape.bins - 2, tail, masks)
