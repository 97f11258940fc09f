"""Danna-Sep's U-Net as a separator, and what it takes to train it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.errors import SeparatorError, TrainingError

from .network_separator import DANNA_SEP_TAIL, MaskSeparator
from .training.trainable import TrainableMasks

if TYPE_CHECKING:
    import torch

    from .spectrogram import SongSpectrum
    from .training.objectives import SeparationObjective
    from .wiener import Frames

N_FFT = 4096
"""Window of Danna-Sep's U-Net as published, in samples; the hop is a quarter of it."""


class UNetDanna(MaskSeparator):
    """Danna-Sep's U-Net, all four sources.

    Magnitudes are refined by one iteration of the multichannel Wiener filter over the whole song, for which its masks
    are kept: memory grows by 170 MB a minute, and by twice that while they are put together. Files trained here carry
    ``n_fft``, ``used_bins`` and ``heads``; those with LSTMs in place of attention are recognised by their tensors.

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
        shape = replace(shape, **{name: self._notes[name] for name in ("used_bins", "heads") if name in self._notes})
        return load_strictly(UNetDannaNetwork(shape), tensors, self._file).to(self.device)

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        import torch

        def masks(spectrum: SongSpectrum) -> Frames:
            starts = range(0, spectrum.frames, self.frames)
            chunks = (spectrum.frames_between(start, min(start + self.frames, spectrum.frames)) for start in starts)
            whole = torch.cat([self._network(chunk.abs()[None])[0] for chunk in chunks], dim=-1)
            return lambda start, stop: whole[..., start:stop]

        yield from self._filtered(mixture, self._notes.get("n_fft", N_FFT), DANNA_SEP_TAIL, masks)


class TrainableUNetDanna(TrainableMasks):
    """Danna-Sep's U-Net to be trained; the defaults are its published sizes and loss.

    Examples
    --------
    >>> TrainableUNetDanna().length, TrainableUNetDanna().notes()
    (523908, {'n_fft': 4096, 'used_bins': 1487, 'heads': 8})
    """

    separator: ClassVar[str] = UNetDanna.name

    chunk_s: float = Field(11.88, gt=0, description="length of a chunk in seconds")
    wiener: bool | None = Field(False, description="Wiener filter before the loss; Danna-Sep had none for its U-Net")
    growth: int = Field(12, ge=1, description="channels that one convolution adds")
    layers: tuple[int, ...] = Field(
        (5, 4, 3, 2, 2, 2), min_length=2, max_length=10, description="convolutions of a block, from the highest level"
    )
    bottleneck: Literal["attention", "lstm"] = Field(
        "attention", description="lstm: one over bins and one over STFT frames, as the talk names it"
    )
    attention: int = Field(128, ge=1, description="channels of queries, keys and values; units of the LSTMs")
    heads: int = Field(8, ge=1, description="groups of them that are compared")
    bottom: int = Field(256, ge=1, description="output channels of attention or LSTMs")

    def objective(self) -> SeparationObjective:
        """See `TrainableNetwork`."""
        from .unet_danna import UNetDannaNetwork, UNetDannaShape

        self._check_length()
        sizes = {"growth", "layers", "bottleneck", "attention", "heads", "bottom"}
        shape = UNetDannaShape(used_bins=self.used_bins, **self.model_dump(include=sizes))
        if self.attention % self.heads or min(self.layers) < 1 or self.used_bins < shape.fewest_frames:
            raise TrainingError(
                f"{self.separator}: got attention={self.attention}, heads={self.heads}, layers={list(self.layers)}, "
                f"{self.used_bins} bins below bandwidth_hz; expected a multiple of the heads, at least one layer each, "
                f"and at least {shape.fewest_frames} bins"
            )
        return self._masked(UNetDannaNetwork(shape))

    def notes(self) -> dict[str, Any]:
        """See `TrainableNetwork`."""
        return {"n_fft": self.n_fft, "used_bins": self.used_bins, "heads": self.heads}

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `TrainableNetwork`."""
        from stemfuse.separators.weights.tensors import read_state

        from .unet_danna import unet_danna_state

        return unet_danna_state(read_state(path), path)[0]
