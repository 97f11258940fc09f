"""What it takes to train a separator's network: sizes, loss, notes in its file of weights; and who can be trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

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
        "demucs_v2": "stemfuse.separators.networks.demucs_v2_separator:TrainableDemucsV2",
        "tfc_tdf_v2": "stemfuse.separators.networks.tfc_tdf_separator:TrainableTFCTDF",
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

    def prepare(self, objective: SeparationObjective, data: RandomChunks, count: int) -> None:
        """Set the parameters of the network that are measured on ``count`` chunks before training, if there are any."""

    def notes(self) -> dict[str, Any]:
        """Options that go into the file of weights."""
        return {}

    @abstractmethod
    def state(self, path: Path) -> Mapping[str, Any]:
        """Tensors of the network from a file of weights in any published form."""


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
