"""What separators by a file of somebody's network share: the file, and the description of what it takes and gives."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.separators.audio.signals import Samples, Signal
from stemfuse.separators.errors import MissingWeightsError
from stemfuse.separators.separator import BaseSeparator
from stemfuse.separators.weights.digests import verified_sha256

from .network_description import NetworkDescription, read_description

if TYPE_CHECKING:
    from .described_network import DescribedNetwork


class DescribedSeparator(BaseSeparator):
    """Base of the separators by a file of somebody's network and its description.

    A subclass runs the file in `_open`. Making one touches no file.
    """

    not_in_identity = frozenset({"description", "device"})
    description: str | os.PathLike[str]

    def __getstate__(self) -> dict[str, Any]:
        # other processes get the options, not the network
        return {name: value for name, value in vars(self).items() if name not in ("_described", "_network")}

    @cached_property
    def _described(self) -> NetworkDescription:
        return read_description(self.description, self.name)

    @property
    def _file(self) -> Path:
        path = Path(self.description).expanduser().parent / Path(self._described.file).expanduser()
        if not path.is_file():
            raise MissingWeightsError(f"{self.name}: {path} is missing, which {self.description} describes")
        return path

    @property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]  # the description says so
        """What it separates."""
        return self._described.sources

    @property
    def rate(self) -> int:  # type: ignore[override]
        """Sample rate in Hz."""
        return self._described.rate

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Of the mixtures that it takes."""
        return self._described.channels

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """As the description says; None when it does not."""
        return self._described.trained_on

    def weights_sha256(self) -> dict[str, str]:
        """Name and sha256 of the network's file.

        Raises
        ------
        MissingWeightsError
            The description or the file is missing.
        """
        return {self._file.name: verified_sha256(self._file)}

    def describe(self) -> dict[str, Any]:
        """All that the output depends on, with the description but for the file's name."""
        return super().describe() | {"network": self._described.model_dump(mode="json", exclude={"file", "trained_on"})}

    @abstractmethod
    def _open(self) -> DescribedNetwork:
        """The network, ready to run."""

    @cached_property
    def _network(self) -> DescribedNetwork:
        return self._open()

    def load(self) -> None:
        """Read the network now, see `BaseSeparator`."""
        self.weights_sha256()
        _ = self._network

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        self.weights_sha256()
        yield from self._network.separate(mixture)
