"""TFC-TDF-U-Net v2 as a separator, and what it takes to train it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stemfuse.separators.errors import SeparatorError, TrainingError
from stemfuse.separators.stems import SOURCES

from .network_separator import SpectrogramSeparator, checked_source
from .training.trainable import Source, TrainableSource, checked_shares

if TYPE_CHECKING:
    from .chunking import ChunkedSpectrograms
    from .training.objectives import SeparationObjective

N_FFT = {"drums": 4096, "bass": 16384, "other": 8192, "vocals": 6144}
"""Windows of KUIELab-MDX-Net, in samples."""


class TFCTDF(SpectrogramSeparator):
    """TFC-TDF-U-Net v2 of KUIELab-MDX-Net, which separates one source, or all four when it was trained to.

    Weights are the ONNX files of the challenge, or checkpoints with the names of the authors' training code or of
    their submission; all sizes are read from them. Files trained here carry ``n_fft``, ``hop`` and ``frames``.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: ``<source>.onnx`` in the folder ``tfc_tdf_v2`` of `weights_folder`.
    source : str
        What the weights separate, one of `SOURCES`; ``"all"`` for a network that was trained for all four at once.
    frames : int, optional
        STFT frames in a chunk: when not given, what an ONNX file was made for (512 in leaderboard A), else 256.
    n_fft : int, optional
        Window in samples; when not given, the one that the weights are of, or else the source's in `N_FFT`.
    hop : int, optional
        Distance of windows in samples: 1024 when not given.
    runtime : str
        ``"torch"``, or ``"onnxruntime"`` for ONNX files, which runs them on the CPU, with the number of STFT frames
        that they were made for.
    device : str
        Torch device that the network runs on.

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021.

    Examples
    --------
    >>> TFCTDF(source="bass").sources
    ('bass',)
    """

    name: ClassVar[str] = "tfc_tdf_v2"
    origin = "onnx_A.zip of zenodo.org/records/5717356"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        source: str = "vocals",
        frames: int | None = None,
        n_fft: int | None = None,
        hop: int | None = None,
        runtime: str = "torch",
        device: str = "cpu",
    ) -> None:
        if runtime not in ("torch", "onnxruntime"):
            raise SeparatorError(f"{self.name}: got runtime={runtime!r}, expected 'torch' or 'onnxruntime'")
        if runtime == "onnxruntime" and device != "cpu":
            raise SeparatorError(f"{self.name}: got device={device!r}, onnxruntime runs on the CPU here: leave it out")
        self._check_sizes(frames=frames, n_fft=n_fft, hop=hop)
        self.sources = SOURCES if source == "all" else checked_source(self.name, source)
        self.weights, self.source, self.frames, self.n_fft = weights, source, frames, n_fft
        self.hop, self.runtime, self.device = hop, runtime, device

    @property
    def _names(self) -> Sequence[str]:
        return [f"{self.source}.safetensors", f"{self.source}.onnx"]

    @property
    def sizes(self) -> dict[str, int]:
        """STFT frames of a chunk, window and hop that it separates with: as given, or as its file has them."""
        chunked: ChunkedSpectrograms = self._network
        return {"frames": chunked.frames, "n_fft": chunked.transform.n_fft, "hop": chunked.transform.hop}

    def _build(self) -> ChunkedSpectrograms:
        from stemfuse.separators.weights.onnx_graph import Graph, OnnxNetwork
        from stemfuse.separators.weights.tensors import load_strictly, read_state

        from .chunking import ChunkedSpectrograms
        from .spectrogram import ComplexAsChannels
        from .tfc_tdf import TFCTDFUNet, tfc_tdf_state

        graph = Graph(self._file) if self._file.suffix == ".onnx" else None
        tensors, shape, window = tfc_tdf_state(graph.state() if graph else read_state(self._file), self._file)
        if shape.sources != len(self.sources):
            raise SeparatorError(
                f"{self.name}: got source={self.source!r}, but {self._file} has weights for {shape.sources} of "
                f"{len(SOURCES)} sources: name the one source, or 'all' for all of them"
            )
        n_fft = self._chosen("n_fft", self.n_fft, window or N_FFT.get(self.source, 4096))
        transform = ComplexAsChannels(n_fft, self._chosen("hop", self.hop, 1024), shape.bins)
        made_for = graph.frames if graph else None
        frames = self._chosen("frames", self.frames, made_for or 256)
        self._check_frames(frames, shape.time_divisor)
        if self.runtime == "torch":
            network = load_strictly(TFCTDFUNet(shape), tensors, self._file).to(self.device)
        elif graph and made_for in (None, frames):
            network = OnnxNetwork(self._file)
        else:
            raise SeparatorError(
                f"{self.name}: --option runtime=onnxruntime needs an ONNX file made for {frames} frames, "
                f"{self._file.name} is {f'made for {made_for}' if graph else 'none'}: leave out runtime or frames"
            )
        return self._checked(ChunkedSpectrograms(network, transform, frames, n_fft // 2, True, self.device))


class TrainableTFCTDF(TrainableSource):
    """TFC-TDF-U-Net v2 to be trained; the defaults are KUIELab-MDX-Net's for vocals.

    Examples
    --------
    >>> TrainableTFCTDF(source="drums", frames=128).length
    130048
    """

    separator: ClassVar[str] = TFCTDF.name

    source: Source | Literal["all"] = Field("vocals", description="what it separates; all: one network for all four")
    n_fft: int | None = Field(None, ge=32, description="window in samples; as published for the source when not given")
    hop: int = Field(1024, ge=1, description="distance of windows in samples")
    bins: int = Field(2048, ge=2, description="frequency bins, from the lowest")
    frames: int = Field(256, ge=2, description="STFT frames of a chunk, in training and later")
    levels: int = Field(5, ge=1, description="halvings of frequency and time")
    layers: int = Field(3, ge=1, description="convolutions of a block")
    growth: int = Field(32, ge=1, description="channels of the highest level, and more for each below")
    factor: int = Field(8, ge=1, description="what the fully connected layers' bottleneck divides bins by")
    loss: Literal["l1", "l2", "sdr"] = Field("l1", description="of waveforms: l1 as in the paper, l2 as in its code")
    weights: tuple[float, ...] = Field((), description="of the sources in the loss; equal when not given")

    @property
    def sources(self) -> tuple[str, ...]:
        """See `TrainableNetwork`."""
        return SOURCES if self.source == "all" else (self.source,)

    @property
    def window(self) -> int:
        """Window of the transform, in samples."""
        return self.n_fft or N_FFT.get(self.source, 4096)

    @property
    def length(self) -> int:
        """See `TrainableNetwork`."""
        return self.hop * (self.frames - 1)

    def objective(self) -> SeparationObjective:
        """See `TrainableNetwork`."""
        from .spectrogram import ComplexAsChannels
        from .tfc_tdf import TFCTDFShape, TFCTDFUNet
        from .training.objectives import SpectrogramObjective

        divisor = 1 << self.levels
        if self.frames % divisor or self.bins % (divisor * self.factor) or self.length <= self.window:
            raise TrainingError(
                f"{self.separator}: got frames={self.frames}, bins={self.bins}, expected multiples of {divisor} and "
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
        shares = checked_shares(self.weights, self.sources)
        return SpectrogramObjective(TFCTDFUNet(shape), transform, sources=self.sources, loss=self.loss, weights=shares)

    def notes(self) -> dict[str, Any]:
        """See `TrainableNetwork`."""
        return {"source": self.source, "n_fft": self.window, "hop": self.hop, "frames": self.frames}

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `TrainableNetwork`."""
        from stemfuse.separators.weights.onnx_graph import Graph
        from stemfuse.separators.weights.tensors import read_state

        from .tfc_tdf import tfc_tdf_state

        state = Graph(path).state() if path.suffix == ".onnx" else read_state(path)
        return tfc_tdf_state(state, path)[0]
