"""The U-Nets of Choi et al. (ISMIR 2020) as a separator, and what it takes to train them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stemfuse.separators.errors import SeparatorError, TrainingError

from .network_separator import SpectrogramSeparator, checked_source
from .training.trainable import Source, TrainableSource

if TYPE_CHECKING:
    from .chunking import ChunkedSpectrograms
    from .training.objectives import SeparationObjective

TRIM = 5000
"""Samples that are cut off both ends of a chunk: by the deprecated code exactly, by the current one in whole hops."""


def whole_trim(hop: int) -> int:
    """`TRIM`, up to whole hops."""
    return -(-TRIM // hop) * hop


class Ismir2020(SpectrogramSeparator):
    """U-Net of complex spectrograms by Choi et al., with any of their blocks, or of magnitudes alone.

    Weights of the authors' current code (Lightning checkpoints) and of the deprecated one (the files
    ``cac_tdc_17_vocals_top1.pt`` and so on in their repository) are distinguished by the names of their tensors, from
    which the block and all sizes are read, too. The published ones separate vocals. Files trained here carry ``n_fft``,
    ``hop`` and ``frames``; those of magnitudes have two channels instead of four.

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
        from .ismir2020 import ismir2020_state, unet_of
        from .spectrogram import ComplexAsChannels

        tensors, shape, deprecated = ismir2020_state(read_state(self._file), self._file)
        for option, given, found in (("block", self.block, shape.block), ("blocks", self.blocks, shape.blocks)):
            if given not in (None, found):
                raise SeparatorError(
                    f"{self.name}: got {option}={given!r}, but {self._file} has {found!r}; leave it out"
                )
        n_fft = self._chosen("n_fft", self.n_fft, 2 * shape.bins)
        network = load_strictly(unet_of(replace(shape, bins=n_fft // 2)), tensors, self._file).to(self.device)
        hop = self._chosen("hop", self.hop, n_fft // 2 if deprecated else 1024)
        frames = self._chosen("frames", self.frames, 64 if deprecated and n_fft == 2048 else 128)
        self._check_frames(frames, shape.time_divisor)
        transform = ComplexAsChannels(n_fft, hop, n_fft // 2 + 1, centred=not deprecated)
        trim = TRIM if deprecated else whole_trim(hop)
        return self._checked(ChunkedSpectrograms(network, transform, frames, trim, deprecated, self.device))


class TrainableIsmir2020(TrainableSource):
    """A U-Net of ISMIR 2020 to be trained; the defaults are the authors' seven blocks of TFC-TDF.

    Examples
    --------
    >>> TrainableIsmir2020(block="tdc", frames=64).length
    64512
    """

    separator: ClassVar[str] = Ismir2020.name

    source: Source = Field("vocals", description="what it separates")
    spectrum: Literal["complex", "magnitude"] = Field(
        "complex", description="complex as channels, or magnitudes with the mixture's phase"
    )
    block: Literal["tdf", "tdc", "tfc", "tfc_tdf", "tdc_rnn"] = Field("tfc_tdf", description="of every level")
    blocks: int = Field(7, ge=3, description="of the whole U, an odd number; published are 7, 9 and 17")
    n_fft: int = Field(2048, ge=32, multiple_of=2, description="window in samples")
    hop: int = Field(1024, ge=1, description="distance of windows in samples")
    frames: int = Field(128, ge=2, description="STFT frames of a chunk, in training and later")
    channels: int = Field(24, ge=1, description="between the blocks, and of each convolution in them")
    layers: int = Field(5, ge=1, description="convolutions of a block")
    kernel: int = Field(3, ge=1, description="their size")
    factor: int = Field(16, ge=1, description="what the fully connected layers' bottleneck divides bins by")
    minimum: int = Field(16, ge=1, description="fewest units of the bottleneck")
    bias: bool = Field(False, description="fully connected layers have biases, as in the large network")
    time_levels: tuple[int, ...] | None = Field(
        None, description="levels, 0 the highest, that halve STFT frames too; the highest three when not given"
    )
    loss: Literal["spectrogram", "l1", "l2", "sdr"] = Field(
        "spectrogram", description="spectrogram: squared error of it, as published; l1, l2, sdr: of waveforms"
    )

    @property
    def length(self) -> int:
        """See `TrainableNetwork`."""
        return self.hop * (self.frames - 1)

    def objective(self) -> SeparationObjective:
        """See `TrainableNetwork`."""
        from .ismir2020 import MAGNITUDE_PARTS, UNetShape, unet_of
        from .spectrogram import ComplexAsChannels
        from .training.objectives import SpectrogramObjective

        levels = self.blocks // 2
        sizes = self.model_dump(include={"block", "blocks", "bias", "channels", "layers", "kernel"})
        shape = UNetShape(
            **sizes,
            growth=self.channels,
            bins=self.n_fft // 2,
            factor=self.factor,
            minimum=self.minimum,
            time_levels=tuple(range(min(levels, 3))) if self.time_levels is None else self.time_levels,
            parts=MAGNITUDE_PARTS if self.spectrum == "magnitude" else 4,
        )
        self._check(shape.time_divisor, 1 << levels, shape.time_levels)
        transform = ComplexAsChannels(self.n_fft, self.hop, shape.bins + 1)
        return SpectrogramObjective(unet_of(shape), transform, sources=self.sources, loss=self.loss)

    def _check(self, frames: int, bins: int, time_levels: tuple[int, ...]) -> None:
        if self.blocks % 2 == 0 or any(not 0 <= level < self.blocks // 2 for level in time_levels):
            raise TrainingError(
                f"{self.separator}: got blocks={self.blocks}, time_levels={list(time_levels)}, expected an odd number "
                f"of blocks, and levels from 0 to {self.blocks // 2 - 1}"
            )
        if self.frames % frames or (self.n_fft // 2) % bins:
            raise TrainingError(
                f"{self.separator}: got frames={self.frames}, n_fft={self.n_fft}, expected multiples of {frames} and "
                f"of {2 * bins}, or fewer blocks or time_levels"
            )
        if self.length <= max(2 * whole_trim(self.hop), self.n_fft // 2):
            raise TrainingError(
                f"{self.separator}: {self.frames} frames are {self.length} samples, expected more than the "
                f"{2 * whole_trim(self.hop)} that are cut off later, and more than half a window: take more frames"
            )

    def notes(self) -> dict[str, Any]:
        """See `TrainableNetwork`."""
        return {"source": self.source, "n_fft": self.n_fft, "hop": self.hop, "frames": self.frames}

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `TrainableNetwork`."""
        from stemfuse.separators.weights.tensors import read_state

        from .ismir2020 import ismir2020_state

        return ismir2020_state(read_state(path), path)[0]
