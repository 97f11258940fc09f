"""TFC-TDF-U-Net v2 as a separator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.stems import SOURCES

from .network_separator import checked_source

if TYPE_CHECKING:
    from .chunking import ChunkedSpectrograms
from .network_separator import SpectrogramSeparator

N_FFT = {"drums": 4096, "bass": 16384, "other": 8192, "vocals": 6144}
"""Windows of KUIELab-MDX-Net, in samples."""


class TFCTDF(SpectrogramSeparator):
    """TFC-TDF-U-Net v2 of KUIELab-MDX-Net, which separates one source, or all if trained so.

    Weights are the ONNX files of the challenge, or checkpoints with the names of the authors' training code or of
    their submission; all sizes are read from them. Files trained here bring ``n_fft``, ``hop`` and ``frames`` along.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: ``<source>.onnx`` in the folder ``tfc_tdf_v2`` of `weights_folder`.
    source : str
        What the weights separate, one of `SOURCES`; ``"all"`` for a network that was trained for all four at once.
    frames : int, optional
        Frames in a chunk: when not given, what an ONNX file was made for (512 in leaderboard A), else 256.
    n_fft : int, optional
        Window in samples; when not given, what the weights tell or else the source's in `N_FFT`.
    hop : int, optional
        Distance of windows in samples: 1024 when not given.
    runtime : str
        ``"torch"``, or ``"onnxruntime"`` for ONNX files, which then need their own number of frames and a CPU.
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
            raise SeparatorError(f"{self.name}: runtime={runtime!r} came, expected 'torch' or 'onnxruntime'")
        if runtime == "onnxruntime" and device != "cpu":
            raise SeparatorError(f"{self.name}: device={device!r} came, onnxruntime runs on the CPU here: leave it out")
        self._check(frames=frames, n_fft=n_fft, hop=hop)
        self.sources = SOURCES if source == "all" else checked_source(self.name, source)
        self.weights, self.source, self.frames, self.n_fft = weights, source, frames, n_fft
        self.hop, self.runtime, self.device = hop, runtime, device

    @property
    def _names(self) -> Sequence[str]:
        return [f"{self.source}.safetensors", f"{self.source}.onnx"]

    def _load(self) -> ChunkedSpectrograms:
        from stemfuse.separators.weights.onnx_graph import Graph, OnnxNetwork
        from stemfuse.separators.weights.tensors import load_strictly, read_state

        from .chunking import ChunkedSpectrograms
        from .spectrogram import ComplexAsChannels
        from .tfc_tdf import TFCTDFUNet, tfc_tdf_state

        graph = Graph(self._file) if self._file.suffix == ".onnx" else None
        tensors, shape, told = tfc_tdf_state(graph.state() if graph else read_state(self._file), self._file)
        if shape.sources != len(self.sources):
            raise SeparatorError(
                f"{self.name}: {self._file} has weights for {shape.sources} of {len(SOURCES)} sources, "
                f"source={self.source!r} came: name the one source, or 'all' for all of them"
            )
        n_fft = self._option("n_fft", told or N_FFT.get(self.source, 4096))
        transform = ComplexAsChannels(n_fft, self._option("hop", 1024), shape.bins)
        made_for = graph.frames if graph else None
        frames = self._option("frames", made_for or 256)
        self._check_frames(frames, shape.time_divisor)
        if self.runtime == "torch":
            network = load_strictly(TFCTDFUNet(shape), tensors, self._file).to(self.device)
        elif graph and made_for in (None, frames):
            network = OnnxNetwork(self._file)
        else:
            raise SeparatorError(
                f"{self.name}: runtime='onnxruntime' needs an ONNX file made for {frames} frames, "
                f"{self._file.name} is {f'made for {made_for}' if graph else 'none'}: leave out runtime or frames"
            )
        return ChunkedSpectrograms(network, transform, frames, n_fft // 2, True, self.device)
