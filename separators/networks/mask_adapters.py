"""Networks from magnitudes to masks as separators: then one iteration of the multichannel Wiener filter per song."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from stemfuse.separators.errors import SeparatorError

from .weights import NetworkSeparator

if TYPE_CHECKING:
    import torch

TAIL = 1024
"""Silence that Danna-Sep appends to songs, in samples."""
N_FFT = 4096
"""Window of Danna-Sep's U-Net, in samples; the hop is a quarter of it."""


class MaskSeparator(NetworkSeparator):
    """Base of the separators of all four sources by masks and a Wiener filter over the whole song."""

    def _filtered(
        self,
        mixture: torch.Tensor,
        n_fft: int,
        tail: int,
        masks: Callable[[torch.Tensor], Callable[[int, int], torch.Tensor]],
    ) -> torch.Tensor:
        """Stems (source, 2, time); ``masks`` of the magnitudes (2, bin, frame) gives what gives those of frames."""
        from torch.nn import functional

        from .spectrogram import OverlapAdd, transformed
        from .wiener import filtered_blocks

        time, hop = mixture.shape[1], n_fft // 4
        # mirrored ends need more than half a window
        padded = functional.pad(mixture, (0, max(tail, n_fft // 2 + 1 - time)))
        spectrum = transformed(padded.to(self.device), n_fft, hop)
        song = OverlapAdd(n_fft, hop, spectrum.shape[-1], device="cpu")
        for start, block in filtered_blocks(spectrum, masks(spectrum.abs())):
            song.add(start, block.to(spectrum.dtype))
        return song.audio(time)


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
        from .checkpoints import load_strictly, read_state
        from .layouts import xumx_state
        from .xumx import XUMXNetwork

        tensors, shape, joined = xumx_state(read_state(self._file), self._file)
        return load_strictly(XUMXNetwork(shape), tensors, self._file).to(self.device), TAIL if joined else 0

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        network, tail = self._network

        def masks(magnitudes: torch.Tensor) -> Callable[[int, int], torch.Tensor]:
            encoded = network.encode(magnitudes[None])
            return lambda start, stop: network.decode(encoded[start:stop])[0]

        return self._filtered(mixture, 2 * network.shape.bins - 2, tail, masks)


class UNetDanna(MaskSeparator):
    """Danna-Sep's U-Net, all four sources.

    Magnitudes are refined by one iteration of the multichannel Wiener filter over the whole song.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: ``unet_attention.pth`` from the folder ``unet_danna`` of `weights_folder`.
    frames : int
        The network gets a song in chunks of so many frames, 2584 (a minute) as published, which takes some 8 GB of
        memory; at least 64. Chunks do not overlap.
    device : str
        Torch device that the network and the filter run on.

    References
    ----------
    C.-Y. Yu, K.-W. Cheuk, "Danna-Sep: unite to separate them all", MDX workshop at ISMIR 2021.

    Examples
    --------
    >>> UNetDanna(frames=640).sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "unet_danna"
    origin = "huggingface.co/spaces/yoyololicon/Danna-Sep, folder checkpoints"

    def __init__(self, weights: str | os.PathLike[str] | None = None, frames: int = 2584, device: str = "cpu") -> None:
        if type(frames) is not int or frames < 64:
            raise SeparatorError(f"{self.name}: frames={frames!r} came, expected a whole number of at least 64")
        self.weights, self.frames, self.device = weights, frames, device

    @property
    def _names(self) -> Sequence[str]:
        return ["unet_danna.safetensors", "unet_attention.pth"]

    @cached_property
    def _network(self) -> Any:
        from .checkpoints import load_strictly, read_state
        from .layouts import unet_danna_state
        from .unet_danna import UNetDannaNetwork

        tensors, shape = unet_danna_state(read_state(self._file), self._file)
        return load_strictly(UNetDannaNetwork(shape), tensors, self._file).to(self.device)

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        import torch

        def masks(magnitudes: torch.Tensor) -> Callable[[int, int], torch.Tensor]:
            chunks = torch.split(magnitudes[None], self.frames, dim=-1)
            whole = torch.cat([self._network(chunk)[0] for chunk in chunks], dim=-1)
            return lambda start, stop: whole[..., start:stop]

        return self._filtered(mixture, N_FFT, TAIL, masks)
