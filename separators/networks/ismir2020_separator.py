"""The U-Nets of Choi et al. (ISMIR 2020) as a separator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from stemfuse.separators.errors import SeparatorError

from .network_separator import SpectrogramSeparator, checked_source

if TYPE_CHECKING:
    from .chunking import ChunkedSpectrograms


class Ismir2020(SpectrogramSeparator):
    """U-Net of complex spectrograms by Choi et al., with any of their blocks.

    Weights of the authors' current code (Lightning checkpoints) and of the deprecated one (the files
    ``cac_tdc_17_vocals_top1.pt`` and so on in their repository) are distinguished by the names of their tensors, from
    which the block and all sizes are read, too. The published ones separate vocals.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: from the folder ``ismir2020`` of `weights_folder`.
    source : str
        What the weights separate, one of `SOURCES`.
    block : str, optional
        Refuse weights of other blocks than ``"tdf"``, ``"tdc"``, ``"tfc"``, ``"tfc_tdf"`` or ``"tdc_rnn"``.
    blocks : int, optional
        Refuse weights of another number of blocks: 7, 9 and 17 were published.
    n_fft : int, optional
        Window in samples; when not given, the one that the weights are of, or 2048 when that cannot be read from them.
    hop : int, optional
        Distance of windows: 1024 when not given, or for weights of the deprecated code half a window.
    frames : int, optional
        STFT frames in a chunk: 128 when not given, or 64 for weights of the deprecated code with windows of 2048.
    device : str
        Torch device that the network runs on.

    References
    ----------
    W. Choi, M. Kim, J. Chung, D. Lee, S. Jung, "Investigating U-Nets with various intermediate blocks for
    spectrogram-based singing voice separation", ISMIR 2020.

    Examples
    --------
    >>> Ismir2020(weights="cac_tdc_17_vocals_top1.pt", block="tdc").sources
    ('vocals',)
    """

    name: ClassVar[str] = "ismir2020"
    origin = "github.com/ws-choi/ISMIR2020_U_Nets_SVS, for vocals only"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        source: str = "vocals",
        block: str | None = None,
        blocks: int | None = None,
        n_fft: int | None = None,
        hop: int | None = None,
        frames: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._check_sizes(blocks=blocks, n_fft=n_fft, hop=hop, frames=frames)
        self.sources = checked_source(self.name, source)
        self.weights, self.source, self.block, self.blocks = weights, source, block, blocks
        self.n_fft, self.hop, self.frames, self.device = n_fft, hop, frames, device

    @property
    def _names(self) -> Sequence[str]:
        published = ("vocals_epoch=2007.ckpt", "vocals_epoch=891.ckpt", "cac_tfc_tdf_large_vocals.pt")
        tops = [f"cac_{block}_17_vocals_top{place}.pt" for block in ("tfc_tdf", "tdc") for place in (1, 2, 3)]
        return [f"{self.source}.safetensors", *((*published, *tops) if self.source == "vocals" else ())]

    def _build(self) -> ChunkedSpectrograms:
        from stemfuse.separators.weights.tensors import load_strictly, read_state

        from .chunking import ChunkedSpectrograms
        from .ismir2020 import CaCUNet, ismir2020_state
        from .spectrogram import ComplexAsChannels

        tensors, shape, deprecated = ismir2020_state(read_state(self._file), self._file)
        for option, given, found in (("block", self.block, shape.block), ("blocks", self.blocks, shape.blocks)):
            if given not in (None, found):
                raise SeparatorError(
                    f"{self.name}: got {option}={given!r}, but {self._file} has {found!r}; leave it out"
                )
        n_fft = self._chosen("n_fft", self.n_fft, 2 * shape.bins)
        network = load_strictly(CaCUNet(replace(shape, bins=n_fft // 2)), tensors, self._file).to(self.device)
        hop = self._chosen("hop", self.hop, n_fft // 2 if deprecated else 1024)
        frames = self._chosen("frames", self.frames, 64 if deprecated and n_fft == 2048 else 128)
        self._check_frames(frames, shape.time_divisor)
        transform = ComplexAsChannels(n_fft, hop, n_fft // 2 + 1, centred=not deprecated)
        trim = 5000 if deprecated else -(-5000 // hop) * hop
        return self._checked(ChunkedSpectrograms(network, transform, frames, trim, deprecated, self.device))
