"""KUIELab-MDX-Net as a separator: four networks and the Mixer, and the submission's blend with Demucs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.blocks import ForwardReader
from stemfuse.separators.separator import Separator
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights.folder import WeightFile, find_weights

from .demucs_v2_separator import DemucsV2
from .network_separator import NetworkSeparator
from .tfc_tdf_separator import TFCTDF

if TYPE_CHECKING:
    import torch

ORDER = ("bass", "drums", "other", "vocals")
"""Sources of the four networks, in the order of the Mixer's rows and columns."""

MIXED = {"bass": 0.5, "drums": 0.5, "other": 0.7, "vocals": 0.9}
"""Share of the Mixer's output in the submission; the rest is Demucs."""

FORMS = (".safetensors", ".onnx", ".ckpt", ".pt", ".pth")
"""Suffixes of the four networks' files, the preferred one first."""


MIXERS = ("mixer.safetensors", "mixer.ckpt")
"""Names of the Mixer's file: one of our own, which has notes, and the published one."""


class KuielabMDX(NetworkSeparator):
    """KUIELab-MDX-Net of leaderboard A: a TFC-TDF-U-Net v2 for each source, and the Mixer.

    Parameters
    ----------
    weights : path-like, optional
        Folder with ``bass``, ``drums``, ``other`` and ``vocals`` as ONNX files, checkpoints or files that were trained
        here, and ``mixer.ckpt`` or ``mixer.safetensors``; the networks may lie in ``onnx_A`` below it, as they are
        published. `stemfuse.blending.exchange.export_kuielab_mdx` writes such a folder. If not given: the folder
        ``kuielab_mdx`` of `weights_folder`.
    frames : int, optional
        STFT frames in a chunk: when not given, what each file was made for (the published ones for 512), else 256.
    runtime : str
        ``"torch"``, or ``"onnxruntime"`` for ONNX files.
    device : str
        Torch device that the networks run on.

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021, sections 2.2 and 2.3.

    Examples
    --------
    >>> KuielabMDX().sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "kuielab_mdx"
    origin = "zenodo.org/records/5717356"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        frames: int | None = None,
        runtime: str = "torch",
        device: str = "cpu",
    ) -> None:
        self.weights, self.frames, self.runtime, self.device = weights, frames, runtime, device
        # the options are checked now, the files when they are needed
        TFCTDF(frames=frames, runtime=runtime, device=device)

    def weight_files(self) -> tuple[WeightFile, ...]:
        """A file for each network, and the Mixer's."""
        networks = [WeightFile(tuple(source + form for form in FORMS)) for source in ORDER]
        return (*networks, WeightFile(MIXERS))

    def weight_folders(self) -> tuple[Path, ...]:
        """The separator's folder, or the user's own; then the folder of the published archive in it."""
        folder = super().weight_folders()[0] if self.weights is None else Path(self.weights).expanduser()
        return folder, folder / "onnx_A"

    def _find_files(self) -> tuple[Path, ...]:
        return find_weights(self.name, self.weight_files(), self.weight_folders(), self.origin)

    def _build(self) -> Any:
        """The four networks' separators, and the Mixer's matrix."""
        from .kuielab_mdx import mixer_weights

        *networks, mixer = self._files[: len(ORDER) + 1]
        separators = [
            TFCTDF(path, source, self.frames, runtime=self.runtime, device=self.device)
            for source, path in zip(ORDER, networks, strict=True)
        ]
        for separator in separators:
            separator.load()
        return separators, mixer_weights(mixer)

    def members(self) -> Mapping[str, Separator]:
        """The separators of the four networks, and of Demucs where it is one more."""
        self.load()
        separators, _, *demucs = self._network
        return dict(zip((*ORDER, "demucs"), [*separators, *demucs], strict=False))

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        return self._mixed(mixture, *self._network)

    def _mixed(self, mixture: Signal, separators: list[TFCTDF], mixer: torch.Tensor) -> Iterator[torch.Tensor]:
        import torch

        from .kuielab_mdx import mixed

        readers = [_reader(separator, mixture) for separator in separators]
        for start, samples in mixture.blocks():
            stop = start + samples.shape[1]
            estimates = torch.from_numpy(np.concatenate([reader.read(start, stop) for reader in readers]))
            song = torch.from_numpy(np.array(samples))
            yield mixed(estimates, song, mixer)[[ORDER.index(source) for source in SOURCES]]


def _reader(separator: NetworkSeparator, mixture: Signal) -> ForwardReader:
    """What a separator makes of a song, to be read in blocks of other lengths than its own."""
    return ForwardReader(block.numpy() for block in separator.apply(mixture))


class KuielabMDXDemucs(KuielabMDX):
    """The submission of KUIELab to leaderboard A: MDX-Net with its Mixer, and Demucs v2, blended per source.

    Parameters
    ----------
    weights : path-like, optional
        Folder as for `KuielabMDX`, with ``demucs-e07c671f.th`` besides. If not given: the folder
        ``kuielab_mdx_demucs`` of `weights_folder`.
    frames, runtime, device
        As for `KuielabMDX`.
    segment_s : float
        Length in seconds of the chunks that Demucs is given; they overlap by a half.

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021, section 2.4; the shares are the submission's, `MIXED`.

    Examples
    --------
    >>> KuielabMDXDemucs(frames=256).name
    'kuielab_mdx_demucs'
    """

    name: ClassVar[str] = "kuielab_mdx_demucs"
    origin = "zenodo.org/records/5717356, and dl.fbaipublicfiles.com/demucs/v3.0/"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        frames: int | None = None,
        runtime: str = "torch",
        device: str = "cpu",
        segment_s: float = 40.0,
    ) -> None:
        super().__init__(weights, frames, runtime, device)
        self.segment_s = segment_s
        DemucsV2(segment_s=segment_s, overlap=0.5)

    def weight_files(self) -> tuple[WeightFile, ...]:
        """Those of `KuielabMDX`, and Demucs'."""
        return (*super().weight_files(), WeightFile(("demucs-e07c671f.th", "demucs.th")))

    def _build(self) -> Any:
        """The same as for `KuielabMDX`, and Demucs' separator."""
        demucs = DemucsV2(self._files[-1], segment_s=self.segment_s, overlap=0.5, standardise=True, device=self.device)
        demucs.load()
        return *super()._build(), demucs

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        import torch

        separators, mixer, demucs = self._network
        shares = torch.tensor([MIXED[source] for source in SOURCES])[:, None, None]
        reader, start = _reader(demucs, mixture), 0
        for blended in self._mixed(mixture, separators, mixer):
            stop = start + blended.shape[-1]
            stems = torch.from_numpy(np.array(reader.read(start, stop)))
            yield stems.lerp_(blended, shares)
            start = stop
