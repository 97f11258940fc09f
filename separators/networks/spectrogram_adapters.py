"""Networks on complex spectrograms as separators: one source each, in chunks as their authors did it."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.stems import SOURCES

from .weights import NetworkSeparator, checked_source

if TYPE_CHECKING:
    import torch

    from .chunking import ChunkedSpectrograms

N_FFT = {"drums": 4096, "bass": 16384, "other": 8192, "vocals": 6144}
"""Windows of KUIELab-MDX-Net, in samples."""


class SpectrogramSeparator(NetworkSeparator):
    """Base of the separators of one source by a network on complex spectrograms."""

    def _check(self, **sizes: int | None) -> None:
        if any(size is not None and (type(size) is not int or size < 2) for size in sizes.values()):
            raise SeparatorError(f"{self.name}: {sizes} came, expected whole numbers of at least 2")

    @cached_property
    def _chunked(self) -> ChunkedSpectrograms:
        chunked = self._load()
        if chunked.chunk <= 2 * chunked.trim:
            raise SeparatorError(
                f"{self.name}: {chunked.frames} frames are {chunked.chunk} samples, "
                f"expected more than the {2 * chunked.trim} that are cut off"
            )
        return chunked

    @abstractmethod
    def _load(self) -> ChunkedSpectrograms:
        """The network and how songs are given to it."""

    def _check_frames(self, frames: int, divisor: int) -> None:
        if frames % divisor:
            raise SeparatorError(f"{self.name}: frames={frames} came, expected a multiple of {divisor}")

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        return self._chunked.separate(mixture).reshape(len(self.sources), *mixture.shape)


class Ismir2020(SpectrogramSeparator):
    """U-Net of complex spectrograms by Choi et al., with any of their blocks.

    Weights of the authors' current code (Lightning checkpoints) and of the deprecated one (the files
    ``cac_tdc_17_vocals_top1.pt`` and so on in their repository) are told apart by their names, and so are the block
    and all sizes. The published ones separate vocals.

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
        Window in samples; what the weights tell when not given, or 2048 where they do not.
    hop : int, optional
        Distance of windows: 1024 when not given, or for weights of the deprecated code half a window.
    frames : int, optional
        Frames in a chunk: 128 when not given, or for weights of the deprecated code with windows of 2048 samples 64.
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
        self._check(blocks=blocks, n_fft=n_fft, hop=hop, frames=frames)
        self.sources = checked_source(self.name, source)
        self.weights, self.source, self.block, self.blocks = weights, source, block, blocks
        self.n_fft, self.hop, self.frames, self.device = n_fft, hop, frames, device

    @property
    def _names(self) -> Sequence[str]:
        published = ("vocals_epoch=2007.ckpt", "vocals_epoch=891.ckpt", "cac_tfc_tdf_large_vocals.pt")
        tops = [f"cac_{block}_17_vocals_top{place}.pt" for block in ("tfc_tdf", "tdc") for place in (1, 2, 3)]
        return [f"{self.source}.safetensors", *((*published, *tops) if self.source == "vocals" else ())]

    def _load(self) -> ChunkedSpectrograms:
        from .checkpoints import load_strictly, read_state
        from .chunking import ChunkedSpectrograms
        from .ismir2020 import CaCUNet
        from .layouts import ismir2020_state
        from .spectrogram import ComplexAsChannels

        tensors, shape, deprecated = ismir2020_state(read_state(self._file), self._file)
        for option, told in {"block": shape.block, "blocks": shape.blocks}.items():
            if getattr(self, option) not in (None, told):
                raise SeparatorError(
                    f"{self.name}: {option}={getattr(self, option)!r} came, {self._file} has {told!r}; leave it out"
                )
        n_fft = self._option("n_fft", 2 * shape.bins)
        network = load_strictly(CaCUNet(replace(shape, bins=n_fft // 2)), tensors, self._file).to(self.device)
        hop = self._option("hop", n_fft // 2 if deprecated else 1024)
        frames = self._option("frames", 64 if deprecated and n_fft == 2048 else 128)
        self._check_frames(frames, shape.time_divisor)
        transform = ComplexAsChannels(n_fft, hop, n_fft // 2 + 1, centred=not deprecated)
        trim = 5000 if deprecated else -(-5000 // hop) * hop
        return ChunkedSpectrograms(network, transform, frames, trim, deprecated, self.device)


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
        from .checkpoints import load_strictly, read_state
        from .chunking import ChunkedSpectrograms
        from .layouts import tfc_tdf_state
        from .onnx_graph import Graph, OnnxNetwork
        from .spectrogram import ComplexAsChannels
        from .tfc_tdf import TFCTDFUNet

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
