"""Danna-Sep as one separator: its three networks, each with the filter that it has, and the published blend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from stemfuse.separators import Separator, separator_class
from stemfuse.separators.weights.folder import WeightFile, find_weights, weights_folder
from stemfuse.separators.weights.published import check_published

from .constant import PRESETS, Fixed
from .fused_separator import FusedSeparator, Part
from .weights import MixingWeights

FILES: Mapping[str, tuple[str, ...]] = {
    "xumx": ("xumx.safetensors", "xumx_mwf.pth"),
    "unet_danna": ("unet_danna.safetensors", "unet_attention.pth"),
    "demucs_danna": ("demucs_danna.safetensors", "demucs_4_decoders.pth"),
}
"""By network, in the order of the blend's roles, names of its file: trained here, or published."""


class DannaSep(FusedSeparator):
    """Danna-Sep: X-UMX, a U-Net with attention and a Demucs with four decoders, blended with one weight per source.

    The first two refine their magnitudes by one iteration of the multichannel Wiener filter before they are blended.
    Commands and recipes keep the stems of the three networks in the store as well, as those of ``xumx``,
    ``unet_danna`` and ``demucs_danna``: they share them.

    Parameters
    ----------
    weights : path-like, optional
        Folder with ``xumx_mwf.pth``, ``unet_attention.pth`` and ``demucs_4_decoders.pth``, or files of your own,
        ``xumx.safetensors``, ``unet_danna.safetensors`` and ``demucs_danna.safetensors``. If not given: the folder
        ``danna_sep`` of `weights_folder`, and then those of the three networks.
    frames : int
        STFT frames of the chunks of the U-Net.
    segment_s : float, optional
        Give Demucs chunks of so many seconds; when not given the whole song, as its authors did, at 5 GB a minute.
    device : str
        Torch device that the networks run on.

    References
    ----------
    C.-Y. Yu, K.-W. Cheuk, "Danna-Sep: unite to separate them all", MDX workshop at ISMIR 2021.

    Examples
    --------
    >>> DannaSep(segment_s=20.0).sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "danna_sep"
    not_in_identity = frozenset({"weights", "device"})
    needs: ClassVar[Mapping[str, str]] = {"torch": "networks", "safetensors": "networks"}
    origin = "huggingface.co/spaces/yoyololicon/Danna-Sep, folder checkpoints"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        frames: int = 2584,
        segment_s: float | None = None,
        device: str = "cpu",
    ) -> None:
        self.weights, self.frames, self.segment_s, self.device = weights, frames, segment_s, device
        # the options are checked now, the files when they are needed
        for name in FILES:
            self._network(name, None)

    def weight_files(self) -> tuple[WeightFile, ...]:
        """A file for each network."""
        return tuple(WeightFile(names) for names in FILES.values())

    def weight_folders(self) -> tuple[Path, ...]:
        """The separator's folder and those of its networks, or the user's own."""
        if self.weights is not None:
            return (Path(self.weights).expanduser(),)
        return super().weight_folders() + tuple(weights_folder() / name for name in FILES)

    @cached_property
    def _files(self) -> dict[str, Path]:
        found = find_weights(self.name, self.weight_files(), self.weight_folders(), self.origin)
        if self.weights is None:
            for path in found:
                check_published(path)
        return dict(zip(FILES, found, strict=True))

    @property
    def fusion(self) -> Fixed:
        """The published blend."""
        blend = {
            source: dict(zip(FILES, shares, strict=True)) for source, shares in PRESETS["danna-sep"].weights.items()
        }
        return Fixed(MixingWeights.same_source(blend)).fit([])

    def parts(self) -> Mapping[str, Part]:
        """The three networks; see `FusedSeparator`."""
        return {name: Part(name, self._network(name, file).options()) for name, file in self._files.items()}

    def _network(self, name: str, file: Path | None) -> Any:
        """The separator of one of the networks."""
        own: dict[str, dict[str, Any]] = {
            "unet_danna": {"frames": self.frames},
            "demucs_danna": {"segment_s": self.segment_s},
        }
        made: Separator = separator_class(name)(
            weights=None if file is None else str(file), device=self.device, **own.get(name, {})
        )
        return made
