"""Danna-Sep's U-Net as a separator."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.errors import SeparatorError

from .network_separator import DANNA_SEP_TAIL, MaskSeparator

if TYPE_CHECKING:
    import torch

    from .spectrogram import SongSpectrum
    from .wiener import Frames

N_FFT = 4096
"""Window of Danna-Sep's U-Net, in samples; the hop is a quarter of it."""


class UNetDanna(MaskSeparator):
    """Danna-Sep's U-Net, all four sources.

    Magnitudes are refined by one iteration of the multichannel Wiener filter over the whole song, for which its masks
    are kept: memory grows by 170 MB a minute, and by twice that while they are put together.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: ``unet_attention.pth`` from the folder ``unet_danna`` of `weights_folder`.
    frames : int
        STFT frames of the chunks in which the network is given a song; they do not overlap. At least 64. The published
        2584 are a minute, which takes some 8 GB of memory.
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
            raise SeparatorError(f"{self.name}: got frames={frames!r}, expected a whole number of at least 64")
        self.weights, self.frames, self.device = weights, frames, device

    @property
    def _names(self) -> Sequence[str]:
        return ["unet_danna.safetensors", "unet_attention.pth"]

    def _build(self) -> Any:
        from stemfuse.separators.weights.tensors import load_strictly, read_state

        from .unet_danna import UNetDannaNetwork, unet_danna_state

        tensors, shape = unet_danna_state(read_state(self._file), self._file)
        return load_strictly(UNetDannaNetwork(shape), tensors, self._file).to(self.device)

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        import torch

        def masks(spectrum: SongSpectrum) -> Frames:
            starts = range(0, spectrum.frames, self.frames)
            chunks = (spectrum.frames_between(start, min(start + self.frames, spectrum.frames)) for start in starts)
            whole = torch.cat([self._network(chunk.abs()[None])[0] for chunk in chunks], dim=-1)
            return lambda start, stop: whole[..., start:stop]

        yield from self._filtered(mixture, N_FFT, DANNA_SEP_TAIL, masks)
