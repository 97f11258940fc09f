"""The separators that can be trained: sizes, losses, and what their files of weights have to tell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from stemfuse.separators.audio.signals import RATE
from stemfuse.separators.errors import TrainingError
from stemfuse.separators.networks.tfc_tdf_separator import N_FFT
from stemfuse.separators.stems import SOURCES

if TYPE_CHECKING:
    from .chunks import RandomChunks
    from .objectives import SeparationObjective

Source = Literal["drums", "bass", "other", "vocals"]


class System(BaseModel):
    """Base of what is said of a separator to train; every field has a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    separator: ClassVar[str]
    standardise: ClassVar[bool] = False

    @property
    def sources(self) -> tuple[str, ...]:
        """What it separates."""
        return SOURCES

    @property
    @abstractmethod
    def samples(self) -> int:
        """Length of a piece to train on."""

    @abstractmethod
    def objective(self) -> SeparationObjective:
        """A network with random weights and its loss."""

    def prepare(self, objective: SeparationObjective, data: RandomChunks, count: int) -> None:
        """Set what is measured on so many pieces of data before training, if there is such."""

    def notes(self) -> dict[str, Any]:
        """Options that go into the file of weights."""
        return {}

    @abstractmethod
    def state(self, path: Path) -> Mapping[str, Any]:
        """Tensors of the network from a file of weights in any published form."""

    @property
    def file_name(self) -> str:
        """Name that the weights are found by in the weights folder."""
        return f"{self.separator}.safetensors"


class TFCTDFSystem(System):
    """TFC-TDF-U-Net v2; the defaults are KUIELab-MDX-Net's for vocals."""

    separator: ClassVar[str] = "tfc_tdf_v2"

    source: Source | Literal["all"] = Field("vocals", description="what it separates; all: one network for all four")
    n_fft: int | None = Field(None, ge=32, description="window in samples; as published for the source when not given")
    hop: int = Field(1024, ge=1, description="distance of windows in samples")
    bins: int = Field(2048, ge=2, description="frequency bins, from the lowest")
    frames: int = Field(256, ge=2, description="frames of a piece, in training and later")
    levels: int = Field(5, ge=1, description="halvings of frequency and time")
    layers: int = Field(3, ge=1, description="convolutions of a block")
    growth: int = Field(32, ge=1, description="channels of the highest level, and more for each below")
    factor: int = Field(8, ge=1, description="what the fully connected layers' bottleneck divides bins by")
    loss: Literal["l1", "l2"] = Field("l1", description="of waveforms: the paper says l1, its code l2")
    weights: tuple[float, ...] = Field((), description="of the sources in the loss; equal when not given")

    @property
    def sources(self) -> tuple[str, ...]:
        """See `System`."""
        return SOURCES if self.source == "all" else (self.source,)

    @property
    def window(self) -> int:
        """Of the transform, in samples."""
        return self.n_fft or N_FFT.get(self.source, 4096)

    @property
    def samples(self) -> int:
        """See `System`."""
        return self.hop * (self.frames - 1)

    def objective(self) -> SeparationObjective:
        """See `System`."""
        from stemfuse.separators.networks.spectrogram import ComplexAsChannels
        from stemfuse.separators.networks.tfc_tdf import TFCTDFShape, TFCTDFUNet

        from .objectives import SpectrogramObjective

        divisor = 1 << self.levels
        if self.frames % divisor or self.bins % (divisor * self.factor) or self.samples <= self.window:
            raise TrainingError(
                f"{self.separator}: frames={self.frames}, bins={self.bins} came, expected multiples of {divisor} and "
                f"of {divisor * self.factor}, and more samples than a window of {self.window}"
            )
        shape = TFCTDFShape(
            levels=self.levels,
            layers=self.layers,
            growth=self.growth,
            bins=self.bins,
            factor=self.factor,
            sources=len(self.sources),
        )
        transform = ComplexAsChannels(self.window, self.hop, self.bins)
        weights = _weights_of(self.weights, self.sources)
        return SpectrogramObjective(TFCTDFUNet(shape), transform, sources=self.sources, loss=self.loss, weights=weights)

    def notes(self) -> dict[str, Any]:
        """See `System`."""
        return {"source": self.source, "n_fft": self.window, "hop": self.hop, "frames": self.frames}

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `System`."""
        from stemfuse.separators.networks.tfc_tdf import tfc_tdf_state
        from stemfuse.separators.weights.onnx_graph import Graph
        from stemfuse.separators.weights.tensors import read_state

        state = Graph(path).state() if path.suffix == ".onnx" else read_state(path)
        return tfc_tdf_state(state, path)[0]

    @property
    def file_name(self) -> str:
        """See `System`."""
        return f"{self.source}.safetensors"


class XUMXSystem(System):
    """X-UMX; the defaults are the published sizes, and Danna-Sep's loss."""

    separator: ClassVar[str] = "xumx"

    n_fft: int = Field(4096, ge=32, multiple_of=4, description="window in samples; the hop is a quarter of it")
    bandwidth_hz: float = Field(16_000, gt=0, le=RATE / 2, description="what the network hears")
    hidden: int = Field(512, ge=2, multiple_of=2, description="channels inside")
    layers: int = Field(3, ge=1, description="of the recurrent part")
    chunk_s: float = Field(6.0, gt=0, description="length of a piece in seconds")
    loss: Literal["magnitude", "complex"] = Field("complex", description="magnitude as X-UMX, complex as Danna-Sep")

    @property
    def samples(self) -> int:
        """See `System`."""
        return round(self.chunk_s * RATE)

    def objective(self) -> SeparationObjective:
        """See `System`."""
        from stemfuse.separators.networks.xumx import XUMXNetwork, XUMXShape

        from .objectives import MaskObjective

        if self.samples <= self.n_fft:
            raise TrainingError(f"{self.separator}: chunk_s={self.chunk_s} came, expected more than a window")
        bins = self.n_fft // 2 + 1
        # 1487 of 2049 bins for the published 16 kHz
        used = min(bins, int(self.bandwidth_hz * self.n_fft / RATE) + 1)
        network = XUMXNetwork(XUMXShape(bins=bins, used_bins=used, hidden=self.hidden, layers=self.layers))
        return MaskObjective(network, self.n_fft, loss=self.loss)

    def prepare(self, objective: SeparationObjective, data: RandomChunks, count: int) -> None:
        """Scale every bin to mean zero and deviation one (Stöter et al. 2019, Open-Unmix)."""
        import torch

        from stemfuse.separators.networks.spectrogram import transformed

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
        """See `System`."""
        from stemfuse.separators.networks.xumx import xumx_state
        from stemfuse.separators.weights.tensors import read_state

        return xumx_state(read_state(path), path)[0]


class DemucsSystem(System):
    """Demucs v2; the defaults are the published sizes."""

    separator: ClassVar[str] = "demucs_v2"
    standardise: ClassVar[bool] = True

    channels: int = Field(64, ge=1, description="of the highest level; each below has twice as many")
    depth: int = Field(6, ge=1, description="levels")
    resample: bool = Field(True, description="whether the layers work at twice the sample rate")
    chunk_s: float = Field(10.0, gt=0, description="length of the separated middle of a piece in seconds")
    loss: Literal["l1", "l2"] = Field("l1", description="of waveforms")
    weights: tuple[float, ...] = Field((), description="of the sources in the loss; equal when not given")

    def _network(self) -> Any:
        from stemfuse.separators.networks.demucs_v2 import DemucsV2Network

        return DemucsV2Network(self.channels, self.depth, self.resample)

    @property
    def samples(self) -> int:
        """See `System`; a little longer than what comes out."""
        import torch

        with torch.device("meta"):
            return int(self._network().valid_length(round(self.chunk_s * RATE)))

    def objective(self) -> SeparationObjective:
        """See `System`."""
        from .objectives import WaveformObjective

        return WaveformObjective(self._network(), loss=self.loss, weights=_weights_of(self.weights, SOURCES))

    def notes(self) -> dict[str, Any]:
        """See `System`."""
        return {"standardise": self.standardise, "resample": self.resample}

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `System`."""
        from stemfuse.separators.networks.demucs_v2 import demucs_state
        from stemfuse.separators.weights.tensors import read_state

        return demucs_state(read_state(path), path)[0]


def _weights_of(weights: Sequence[float], sources: Sequence[str]) -> Sequence[float]:
    if weights and (len(weights) != len(sources) or min(weights) < 0 or not any(weights)):
        raise TrainingError(f"weights={list(weights)} came, expected one of each of {', '.join(sources)}, at least 0")
    return weights


SYSTEMS: dict[str, type[System]] = {system.separator: system for system in (TFCTDFSystem, XUMXSystem, DemucsSystem)}
"""By the separator's name."""
