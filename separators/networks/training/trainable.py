"""What it takes to train a separator's network: sizes, loss, notes in its file of weights; and who can be trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from stemfuse.separators.audio.signals import RATE
from stemfuse.separators.errors import TrainingError
from stemfuse.separators.registry import Registry
from stemfuse.separators.stems import SOURCES

if TYPE_CHECKING:
    from .chunks import RandomChunks
    from .objectives import SeparationObjective

Source = Literal["drums", "bass", "other", "vocals"]

TRAINABLE = Registry(
    "separator to train",
    "stemfuse.trainable",
    {
        "d3net": "stemfuse.separators.networks.d3net_separator:TrainableD3Net",
        "demucs_danna": "stemfuse.separators.networks.demucs_v2_separator:TrainableDemucsDanna",
        "demucs_v2": "stemfuse.separators.networks.demucs_v2_separator:TrainableDemucsV2",
        "ismir2020": "stemfuse.separators.networks.ismir2020_separator:TrainableIsmir2020",
        "resunet143_subband": "stemfuse.separators.networks.resunet_separator:TrainableResUNet143Subband",
        "tfc_tdf_v2": "stemfuse.separators.networks.tfc_tdf_separator:TrainableTFCTDF",
        "unet_danna": "stemfuse.separators.networks.unet_danna_separator:TrainableUNetDanna",
        "xumx": "stemfuse.separators.networks.xumx_separator:TrainableXUMX",
    },
    TrainingError,
)
"""`TrainableNetwork` classes by the separator's name; other packages join by the entry point group."""


class TrainableNetwork(BaseModel):
    """Base of the networks that can be trained: their options, every one of which has a default.

    A subclass lies beside its separator, has the network's sizes and loss as pydantic fields, and makes its objective.

    Attributes
    ----------
    separator : str
        Name of the separator that loads the weights.
    standardise : bool
        Whether every song is divided by the standard deviation of its mixture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    separator: ClassVar[str]
    standardise: ClassVar[bool] = False

    @property
    def sources(self) -> tuple[str, ...]:
        """What the network separates."""
        return SOURCES

    def options(self) -> dict[str, Any]:
        """Arguments of the separator beside ``weights`` that load the file."""
        return {}

    @property
    def file_name(self) -> str:
        """Name under which the separator finds the weights in the weights folder."""
        return f"{self.separator}.safetensors"

    @property
    @abstractmethod
    def length(self) -> int:
        """Length of a chunk to train on."""

    @abstractmethod
    def objective(self) -> SeparationObjective:
        """A network with random weights and its loss."""

    def size(self) -> int:
        """Number of parameters that are trained; no memory is taken for them. Wrong sizes raise a `TrainingError`."""
        import torch

        with torch.device("meta"):
            parameters = self.objective().network.parameters()
        return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)

    def prepare(self, objective: SeparationObjective, data: RandomChunks, count: int) -> None:
        """Set the parameters of the network that are measured on ``count`` chunks before training, if there are any."""

    def notes(self) -> dict[str, Any]:
        """Options that go into the file of weights."""
        return {}

    @abstractmethod
    def state(self, path: Path) -> Mapping[str, Any]:
        """Tensors of the network from a file of weights in any published form."""


class TrainableSource(TrainableNetwork):
    """Base of the networks that separate one source, each with a file of its own."""

    source: str

    @property
    def sources(self) -> tuple[str, ...]:
        """See `TrainableNetwork`."""
        return (self.source,)

    def options(self) -> dict[str, Any]:
        """See `TrainableNetwork`."""
        return {"source": self.source}

    @property
    def file_name(self) -> str:
        """See `TrainableNetwork`."""
        return f"{self.source}.safetensors"


class TrainableMasks(TrainableNetwork):
    """Base of the networks that give masks of all four sources, and are trained by the combination loss."""

    n_fft: int = Field(4096, ge=32, multiple_of=4, description="window in samples; the hop is a quarter of it")
    bandwidth_hz: float = Field(16_000, gt=0, le=RATE / 2, description="highest frequency of the network's input")
    chunk_s: float = Field(6.0, gt=0, description="length of a chunk in seconds")
    loss: Literal["magnitude", "complex", "sdr"] = Field(
        "complex", description="magnitude, complex: squared error of spectra; sdr: of Wiener filtered waveforms, in dB"
    )
    wiener: bool | None = Field(
        None, description="Wiener filter before the loss; when not given with complex, not with magnitude"
    )
    combinations: bool = Field(True, description="loss of all sums of sources; false: of the four sources alone")
    time_weight: float = Field(10.0, ge=0, description="of the loss in time beside that of spectra; 0: none")

    @property
    def length(self) -> int:
        """See `TrainableNetwork`."""
        return round(self.chunk_s * RATE)

    @property
    def used_bins(self) -> int:
        """Bins below the bandwidth: 1487 of 2049 for the published 16 kHz."""
        return min(self.n_fft // 2 + 1, int(self.bandwidth_hz * self.n_fft / RATE) + 1)

    def _masked(self, network: Any) -> SeparationObjective:
        """The objective of a network from magnitudes to masks."""
        from .objectives import MaskObjective

        terms = self.model_dump(include={"wiener", "combinations", "time_weight"})
        return MaskObjective(network, self.n_fft, {"kind": self.loss, **terms})

    def _check_length(self) -> None:
        if self.length <= self.n_fft:
            raise TrainingError(f"{self.separator}: got chunk_s={self.chunk_s}, expected more than a window")


def list_trainable() -> list[str]:
    """Names of the separators that can be trained, sorted.

    Examples
    --------
    >>> "xumx" in list_trainable()
    True
    """
    return TRAINABLE.names()


def trainable_class(separator: str) -> type[TrainableNetwork]:
    """The options to train a separator by.

    Parameters
    ----------
    separator : str
        One of `list_trainable`.

    Raises
    ------
    TrainingError
        It cannot be trained; the message lists those that can.

    Examples
    --------
    >>> trainable_class("demucs_v2")(channels=8).notes()
    {'standardise': True, 'resample': True}
    """
    made: type[TrainableNetwork] = TRAINABLE.find(separator)
    return made


def checked_shares(weights: Sequence[float], sources: Sequence[str]) -> Sequence[float]:
    """Weights of the sources in a loss; a wrong number or negative ones raise a `TrainingError`."""
    if weights and (len(weights) != len(sources) or min(weights) < 0 or not any(weights)):
        raise TrainingError(f"got weights={list(weights)}, expected one of each of {', '.join(sources)}, at least 0")
    return weights
