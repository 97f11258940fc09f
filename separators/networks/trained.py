"""Three small separators whose weights come with the package, one of each family, trained on the synthetic band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from stemfuse.separators.errors import MissingWeightsError

from .demucs_v2_separator import DemucsV2
from .network_separator import NetworkSeparator
from .tfc_tdf_separator import TFCTDF
from .xumx_separator import XUMX


class _Packaged(NetworkSeparator):
    """Finds its file in the package, and wants none in the weights folder."""

    @property
    def _wanted(self) -> Mapping[str, Sequence[str]]:
        return {}

    def _find_files(self) -> tuple[Path, ...]:
        path = Path(str(files(__package__))) / "trained" / f"{self.name}.safetensors"
        if not path.is_file():
            raise MissingWeightsError(f"{self.name}: {path} belongs to the package and is not there: install it again")
        return (path,)


class TFCTDFSmall(_Packaged, TFCTDF):
    """A small TFC-TDF-U-Net v2 for all four sources, trained on songs of the synthetic band; nothing to download.

    It gives nothing above 8.3 kHz. See ``docs/model-card.md``.

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
        # longer pieces than in training: fewer ends
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
    """A small Demucs v2, trained on songs of the synthetic band; nothing to download.

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
