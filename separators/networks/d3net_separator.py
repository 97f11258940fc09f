"""D3Net as a separator."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights.folder import WeightFile, find_weights

from .network_separator import MaskSeparator

if TYPE_CHECKING:
    import torch

    from .spectrogram import SongSpectrum
    from .wiener import Frames

N_FFT = 4096
"""Window in samples; the hop is a quarter of it."""

SPLITS: Mapping[str, int] = {"drums": 128, "bass": 192, "other": 256, "vocals": 256}
"""Bins of the low band of the published networks."""

PATCHES: Mapping[str, int] = {"drums": 256, "bass": 384, "other": 256, "vocals": 256}
"""STFT frames that the published networks are given at a time; each is in two patches."""

QUIETEST = 1e-10
"""Magnitudes below this are taken for it, where a source's are divided by the mixture's."""


class D3Net(MaskSeparator):
    """D3Net, all four sources: one network each, and a multichannel Wiener filter over the whole song.

    Every STFT frame is separated four times, in two patches and with its channels as they are and exchanged. Bins
    above 17.2 kHz are shared alike. The filter is the one of the other networks here; the authors' own is regularised
    a little differently. Memory grows by 170 MB a minute for the masks, and by twice that while they are put together.

    Parameters
    ----------
    weights : path-like, optional
        Folder with ``drums.h5``, ``bass.h5``, ``other.h5`` and ``vocals.h5``, or files of these names that end in
        ``.safetensors``. If not given: the folder ``d3net`` of `weights_folder`.
    device : str
        Torch device that the networks and the filter run on.

    References
    ----------
    N. Takahashi, Y. Mitsufuji, "D3Net: densely connected multidilated DenseNet for music source separation", 2020.

    Examples
    --------
    >>> D3Net().sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "d3net"
    origin = "nnabla.org/pretrained-models/ai-research-code/d3net/mss/d3net-mss.zip"
    needs: ClassVar[Mapping[str, str]] = {**MaskSeparator.needs, "h5py": "networks"}

    def __init__(self, weights: str | os.PathLike[str] | None = None, device: str = "cpu") -> None:
        self.weights, self.device = weights, device

    def weight_files(self) -> tuple[WeightFile, ...]:
        """A file for each source."""
        return tuple(WeightFile((f"{source}.safetensors", f"{source}.h5")) for source in SOURCES)

    def weight_folders(self) -> tuple[Path, ...]:
        """The separator's part of the weights folder, or the user's own folder."""
        return super().weight_folders() if self.weights is None else (Path(self.weights).expanduser(),)

    def _find_files(self) -> tuple[Path, ...]:
        return find_weights(self.name, self.weight_files(), self.weight_folders(), self.origin)

    def _build(self) -> Any:
        """By source, its network."""
        from stemfuse.separators.weights.tensors import load_strictly, read_hdf5_state, read_state

        from .d3net import D3NetNetwork, d3net_state

        networks = {}
        for source, path in zip(SOURCES, self._files, strict=True):
            read = read_hdf5_state if path.suffix == ".h5" else read_state
            state, shape = d3net_state(read(path), source, path)
            networks[source] = load_strictly(D3NetNetwork(shape), state, path).to(self.device)
        return networks

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        import torch

        def masks(spectrum: SongSpectrum) -> Frames:
            whole = torch.stack([self._mask(spectrum, source) for source in SOURCES])
            return lambda start, stop: whole[..., start:stop]

        yield from self._filtered(mixture, N_FFT, 0, masks)

    def _mask(self, spectrum: SongSpectrum, source: str) -> torch.Tensor:
        """Mask (2, bin, frame) of one source: the mean of what the two patches around each STFT frame give."""
        import torch
        from torch.nn import functional

        network, patch, frames = self._network[source], PATCHES[source], spectrum.frames
        total = torch.zeros(2, N_FFT // 2 + 1, frames, device=self.device)
        for start in range(-patch // 2, frames, patch // 2):
            first, last = max(0, start), min(start + patch, frames)
            magnitudes = spectrum.frames_between(first, last).abs()
            # silence before and after the song
            given = functional.pad(magnitudes, (first - start, start + patch - last))
            both = network(torch.stack([given, given.flip(0)]))
            mean = (both[0] + both[1].flip(0)) / 2
            total[..., first:last] += mean[..., first - start : last - start] / 2 / magnitudes.clamp_min(QUIETEST)
        return total
