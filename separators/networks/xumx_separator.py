"""X-UMX as a separator, and what it takes to train it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.stems import SOURCES

from .network_separator import DANNA_SEP_TAIL, MaskSeparator
from .training.trainable import TrainableMasks

if TYPE_CHECKING:
    import torch

    from .spectrogram import SongSpectrum
    from .training.chunks import RandomChunks
    from .training.objectives import SeparationObjective
    from .wiener import Frames

ENCODED = 2048
"""STFT frames of a song whose magnitudes are in memory at a time."""


class XUMX(MaskSeparator):
    """X-UMX, all four sources, and Danna-Sep's version of it.

    Weights with asteroid's names (``pretrained_xumx_musdb18HQ.pth``) and Danna-Sep's joined ones
    (``xumx_pretrained.pth``, ``xumx_mwf.pth``) are recognised by the names of their tensors. Magnitudes are refined by
    one iteration of the multichannel Wiener filter over the whole song. The recurrent layers need the whole song, too,
    but not its spectrum: what is kept with the published sizes are 16 MB a minute, more while those layers compute.

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

    def _build(self) -> Any:
        """The network, and the length of the silence that its authors append to songs."""
        from stemfuse.separators.weights.tensors import load_strictly, read_state

        from .xumx import XUMXNetwork, xumx_state

        tensors, shape, joined = xumx_state(read_state(self._file), self._file)
        return load_strictly(XUMXNetwork(shape), tensors, self._file).to(self.device), DANNA_SEP_TAIL if joined else 0

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        import torch

        network, tail = self._network

        def masks(spectrum: SongSpectrum) -> Frames:
            starts = range(0, spectrum.frames, ENCODED)
            blocks = (spectrum.frames_between(start, min(start + ENCODED, spectrum.frames)) for start in starts)
            encoded = network.joined(torch.cat([network.bridge(block.abs()[None]) for block in blocks]))
            return lambda start, stop: network.decode(encoded[start:stop])[0]

        yield from self._filtered(mixture, 2 * network.shape.bins - 2, tail, masks)


class TrainableXUMX(TrainableMasks):
    """X-UMX to be trained; the defaults are the published sizes, and Danna-Sep's loss.

    Examples
    --------
    >>> TrainableXUMX(chunk_s=2.0).length, TrainableXUMX().used_bins
    (88200, 1487)
    """

    separator: ClassVar[str] = XUMX.name

    hidden: int = Field(512, ge=2, multiple_of=2, description="channels inside")
    layers: int = Field(3, ge=1, description="of the recurrent part")

    def objective(self) -> SeparationObjective:
        """See `TrainableNetwork`."""
        from .xumx import XUMXNetwork, XUMXShape

        self._check_length()
        bins = self.n_fft // 2 + 1
        return self._masked(
            XUMXNetwork(XUMXShape(bins=bins, used_bins=self.used_bins, hidden=self.hidden, layers=self.layers))
        )

    def prepare(self, objective: SeparationObjective, data: RandomChunks, count: int) -> None:
        """Scale every bin to mean zero and deviation one (Stöter et al. 2019, Open-Unmix)."""
        import torch

        from .spectrogram import transformed

        songs = [torch.as_tensor(data[number].sum(axis=0)) for number in range(count)]
        mono = [transformed(song, self.n_fft, self.n_fft // 4).abs().mean(dim=0) for song in songs]
        deviation, mean = torch.std_mean(torch.cat(mono, dim=-1), dim=-1)
        # silent bins have no deviation
        scale = 1 / deviation.clamp_min(1e-4 * float(deviation.max()) + 1e-8)
        used = slice(None, objective.network.shape.used_bins)
        for name in SOURCES:
            objective.network.mean_scale[f"input_mean_{name}"].data.copy_(-mean[used])
            objective.network.mean_scale[f"input_scale_{name}"].data.copy_(scale[used])

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `TrainableNetwork`."""
        from stemfuse.separators.weights.tensors import read_state

        from .xumx import xumx_state

        return xumx_state(read_state(path), path)[0]
