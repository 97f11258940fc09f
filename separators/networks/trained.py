"""Three small separators whose weights come with the package, one of each family."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from stemfuse.separators.errors import MissingWeightsError
from stemfuse.separators.weights.folder import WeightFile

from .demucs_v2_separator import DemucsV2
from .network_separator import NetworkSeparator
from .tfc_tdf_separator import TFCTDF
from .xumx_separator import XUMX


class _Packaged(NetworkSeparator):
    """Finds its file of weights in the package."""

    def weight_files(self) -> tuple[WeightFile, ...]:
        """None that anybody has to get."""
        return ()

    def _find_files(self) -> tuple[Path, ...]:
        path = Path(str(files(__package__))) / "trained" / f"{self.name}.safetensors"
        if not path.is_file():
            raise MissingWeightsError(f"{self.name}: {path} is part of the package and is missing: install it again")
        return (path,)


class TFCTDFSmall(_Packaged, TFCTDF):
    """A small TFC-TDF-U-Net v2 for all four sources, trained on songs of the synthetic band; nothing to download.

    Its stems end at 8.3 kHz. See ``docs/model-card.md``.

    Parameters
    ----------
    device : str
        Torch device that the network runs on.

    Examples
    --------
    >>> TFCTDFSmall().sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "tfc_tdf_small"

    def __init__(self, device: str = "cpu") -> None:
        # longer chunks than in training: fewer ends
        super().__init__(source="all", frames=128, device=device)


class XUMXSmall(_Packaged, XUMX):
    """A small X-UMX with Wiener filter, trained on songs of the synthetic band; nothing to download.

    See ``docs/model-card.md``.

    Parameters
    ----------
    device : str
        Torch device that the network and the filter run on.

    Examples
    --------
    >>> XUMXSmall().sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "xumx_small"

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device=device)


class DemucsSmall(_Packaged, DemucsV2):
    """A small Demucs v2, trained on the synthetic band and on real parts; nothing to download.

    See ``docs/model-card.md``.

    Parameters
    ----------
    device : str
        Torch device that the network runs on.

    Examples
    --------
    >>> DemucsSmall().sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "demucs_small"

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(segment_s=20.0, overlap=0.1, device=device)
