"""ResUNet143 with subbands as a separator, and what it takes to train it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stemfuse.separators.audio.signals import RATE, Signal
from stemfuse.separators.source_names import REST
from stemfuse.separators.stems import SOURCES

from .network_separator import NetworkSeparator, checked_chunk, checked_source
from .training.trainable import Source, TrainableSource

if TYPE_CHECKING:
    import torch

    from .training.objectives import SeparationObjective


PUBLISHED = {
    "vocals": "resunet143_subbtandtime_vocals_8.7dB_500k_steps_v2.pth",
    REST: "resunet143_subbtandtime_accompaniment_16.4dB_500k_steps_v2.pth",
}
"""Names of the published files, by source."""


class ResUNet143Subband(NetworkSeparator):
    """ResUNet143 in four subbands, which separates vocals: model B of MDX-Mixer.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: from the folder ``resunet143_subband`` of `weights_folder`, as published.
    source : str
        What the weights separate: one of `SOURCES`, or ``"accompaniment"``. Vocals and accompaniment are published.
    segment_s : float
        Length of the chunks in seconds, of which the middle halves are kept.
    device : str
        Torch device that the network runs on, chunk by chunk; songs stay in main memory.

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
        self.sources = checked_source(self.name, source, (*SOURCES, REST))
        self._chunk = checked_chunk(self.name, segment_s)
        self.weights, self.source, self.segment_s, self.device = weights, source, segment_s, device

    def song_to_inspect(self) -> tuple[float, float]:
        """A chunk, of which the middle half is kept."""
        return self.segment_s, 2.0

    @property
    def _names(self) -> Sequence[str]:
        published = PUBLISHED.get(self.source)
        return [f"{self.source}.safetensors", *([published] if published else [])]

    def _build(self) -> Any:
        from stemfuse.separators.weights.tensors import load_strictly, read_state

        from .resunet import ResUNetSubband, resunet_state

        tensors, widths = resunet_state(read_state(self._file), self._file)
        return load_strictly(ResUNetSubband(widths), tensors, self._file).to(self.device)

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        from .chunking import separate_in_halves, tensors_of

        read = tensors_of(mixture)
        for block in separate_in_halves(
            read, mixture.length, lambda chunk: self._network(chunk.to(self.device)), self._chunk
        ):
            yield block[None]


class TrainableResUNet143Subband(TrainableSource):
    """ResUNet143 in subbands to be trained; the defaults are the published sizes.

    The filters of the bands are not trained: they are those of a cosine-modulated bank, for the published ones come
    with the published weights alone.

    Examples
    --------
    >>> TrainableResUNet143Subband().length
    132300
    """

    separator: ClassVar[str] = ResUNet143Subband.name

    source: Source = Field("vocals", description="what it separates")
    widths: tuple[int, ...] = Field(
        (32, 64, 128, 256, 384, 384), min_length=6, max_length=6, description="channels of the levels, from the highest"
    )
    chunk_s: float = Field(3.0, ge=0.1, description="length of a chunk in seconds")
    loss: Literal["l1", "l2", "sdr"] = Field("l1", description="of waveforms")

    @property
    def length(self) -> int:
        """See `TrainableNetwork`."""
        return round(self.chunk_s * RATE)

    def objective(self) -> SeparationObjective:
        """See `TrainableNetwork`."""
        from .resunet import ResUNetSubband
        from .training.objectives import WaveformObjective

        return WaveformObjective(ResUNetSubband(self.widths), sources=self.sources, loss=self.loss)

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `TrainableNetwork`."""
        from stemfuse.separators.weights.tensors import read_state

        from .resunet import resunet_state

        return resunet_state(read_state(path), path)[0]
