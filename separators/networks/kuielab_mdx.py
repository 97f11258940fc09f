"""KUIELab-MDX-Net: four networks, the Mixer that refines what they give, and the submission's blend with Demucs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights.folder import weights_folder

from .demucs_v2_separator import DemucsV2
from .network_separator import NetworkSeparator
from .tfc_tdf_separator import TFCTDF

if TYPE_CHECKING:
    import torch

ORDER = ("bass", "drums", "other", "vocals")
"""Of the Mixer's rows and columns."""
MIXED = {"bass": 0.5, "drums": 0.5, "other": 0.7, "vocals": 0.9}
"""Share of the Mixer's output in the submission; the rest is Demucs."""
FORMS = (".safetensors", ".onnx", ".ckpt", ".pt", ".pth")
"""Of the four networks' files, the preferred one first."""


def mixer_weights(path: Path) -> torch.Tensor:
    """The Mixer's matrix, (8 outputs, 10 inputs), from the submission's file or a checkpoint of its training.

    Raises
    ------
    SeparatorError
        The file is damaged or holds something else.
    """
    from stemfuse.separators.weights.tensors import read_state

    state = read_state(path)
    weights = state.get("linear.weight", state.get("mixing_layer.weight"))
    if weights is None or tuple(weights.shape) != (2 * len(ORDER), 2 * len(ORDER) + 2):
        raise SeparatorError(f"{path}: no Mixer, expected linear.weight or mixing_layer.weight of shape (8, 10)")
    return weights.float()


def mixed(estimates: torch.Tensor, mixture: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """What the Mixer makes of four estimates and the mixture, sample by sample.

    Parameters
    ----------
    estimates : Tensor, shape (source, 2, time)
        In the order of `ORDER`.
    mixture : Tensor, shape (2, time)
        What they were separated from.
    weights : Tensor, shape (8, 10)
        Outputs and inputs in that order, left before right; the mixture is the last two inputs.

    Returns
    -------
    Tensor, shape (source, 2, time)
    """
    import torch

    inputs = torch.cat([estimates.flatten(0, 1), mixture])
    return torch.matmul(weights, inputs).reshape(estimates.shape)


class KuielabMDX(NetworkSeparator):
    """KUIELab-MDX-Net of leaderboard A: a TFC-TDF-U-Net v2 for each source, and the Mixer.

    Parameters
    ----------
    weights : path-like, optional
        Folder with ``bass``, ``drums``, ``other`` and ``vocals`` as ONNX files or checkpoints, and ``mixer.ckpt``; the
        networks may lie in ``onnx_A`` below it, as they are published. If not given: the folder ``kuielab_mdx`` of
        `weights_folder`.
    frames : int, optional
        Frames in a chunk: when not given, what the ONNX files were made for (512), else 256.
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

    @property
    def _folder(self) -> Path:
        return weights_folder() / self.name if self.weights is None else Path(self.weights).expanduser()

    @property
    def _wanted(self) -> dict[str, list[str]]:
        """The published file's name, and what would do instead, for each of the files."""
        return {f"{source}.onnx": [source + form for form in FORMS] for source in ORDER} | {
            "mixer.ckpt": ["mixer.ckpt"]
        }

    def _find_files(self) -> tuple[Path, ...]:
        found = {name: self._found(names) for name, names in self._wanted.items()}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            raise MissingWeightsError(
                f"{self.name}: weights are not on this machine: put {', '.join(missing)} ({self.origin}) into "
                f"{self._folder}, or pass weights=FOLDER"
            )
        return tuple(path for path in found.values() if path is not None)

    def _found(self, names: Sequence[str]) -> Path | None:
        candidates = [folder / name for folder in (self._folder, self._folder / "onnx_A") for name in names]
        return next((path for path in candidates if path.is_file()), None)

    @cached_property
    def _networks(self) -> dict[str, TFCTDF]:
        return {
            source: TFCTDF(path, source, self.frames, runtime=self.runtime, device=self.device)
            for source, path in zip(ORDER, self._files, strict=False)
        }

    @cached_property
    def _mixer(self) -> torch.Tensor:
        return mixer_weights(self._files[len(ORDER)])

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        import torch

        estimates = torch.cat([self._networks[source]._apply(mixture) for source in ORDER])
        return mixed(estimates, mixture, self._mixer)[[ORDER.index(source) for source in SOURCES]]


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
        Length of the pieces that Demucs gets, which overlap by a half, in seconds.

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

    @property
    def _wanted(self) -> dict[str, list[str]]:
        return super()._wanted | {"demucs-e07c671f.th": ["demucs-e07c671f.th", "demucs.th"]}

    @cached_property
    def _demucs(self) -> DemucsV2:
        return DemucsV2(self._files[-1], segment_s=self.segment_s, overlap=0.5, standardise=True, device=self.device)

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        shares = mixture.new_tensor([MIXED[source] for source in SOURCES])[:, None, None]
        return self._demucs._apply(mixture).lerp_(super()._apply(mixture), shares)
