"""What all separators by our own networks share: their files of weights, their device, and the song in chunks."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.audio.signals import Samples
from stemfuse.separators.demucs_files import verified_sha256
from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.separator import BaseSeparator
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights.published import check_published, find_published

if TYPE_CHECKING:
    import torch
from collections.abc import Callable
from typing import TYPE_CHECKING

from stemfuse.separators.weights.folder import find_weights, read_notes

if TYPE_CHECKING:
    import torch

    from .chunking import ChunkedSpectrograms
if TYPE_CHECKING:
    import torch


def checked_source(separator: str, source: str) -> tuple[str]:
    """What a separator of one source separates; an unknown source raises a `SeparatorError`."""
    if source not in SOURCES:
        raise SeparatorError(f"{separator}: source={source!r} came, expected one of {', '.join(SOURCES)}")
    return (source,)


class NetworkSeparator(BaseSeparator):
    """Base of the separators whose network is written here and whose weights lie in a file.

    A subclass says in `_names` which files would do, and separates in `_apply`. Making one touches no file: files are
    looked for when `fingerprint` or `separate` first need them.
    """

    not_in_identity = frozenset({"weights", "device"})
    origin: ClassVar[str]
    """Where its weights are published."""
    weights: str | os.PathLike[str] | None
    device: str

    def __getstate__(self) -> dict[str, Any]:
        # other processes get the options, not the network
        made = self._made_when_needed()
        return {name: value for name, value in vars(self).items() if name not in made}

    @classmethod
    def _made_when_needed(cls) -> list[str]:
        return [name for name in dir(cls) if isinstance(getattr(cls, name), cached_property)]

    def load(self) -> None:
        """Read the weights and build the network now; `separate` does so otherwise.

        Raises
        ------
        MissingWeightsError
            A file is missing.
        SeparatorError
            A file cannot be read, or holds the weights of another network.
        """
        for made in [getattr(self, name) for name in self._made_when_needed()]:
            for part in made.values() if isinstance(made, dict) else [made]:
                if isinstance(part, NetworkSeparator):
                    part.load()

    @property
    def _names(self) -> Sequence[str]:
        """Files in the weights folder that would do, the preferred one first."""
        return [f"{self.name}.safetensors"]

    @property
    def _wanted(self) -> Mapping[str, Sequence[str]]:
        """Names that would do, the preferred one first, for each of the files that are needed."""
        return {self._names[0]: self._names}

    @property
    def _file(self) -> Path:
        return self._files[0]

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        """All files of weights; those that were found, not given, are what was published under their names."""
        files = self._find_files()
        if self.weights is None:
            for path in files:
                check_published(path)
        return files

    def _find_files(self) -> tuple[Path, ...]:
        return (find_weights(self.name, self.weights, self._names, self.origin),)

    def weights_sha256(self) -> dict[str, str]:
        """File name and sha256 of all weights.

        Raises
        ------
        MissingWeightsError
            A file is missing.
        SeparatorError
            A file is not what its name says.
        """
        return {path.name: verified_sha256(path) for path in self._files}

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Data that the weights were trained on, such as ``"musdb18hq/train"``; None when that is not known."""
        try:
            files = self._files
        except MissingWeightsError:
            return None
        published = [find_published(path) for path in files]
        data = [
            read_notes(path).get("trained_on") if row is None else row.trained_on
            for path, row in zip(files, published, strict=True)
        ]
        return None if None in data else tuple(dict.fromkeys(name for names in data for name in names or ()))

    def _option(self, name: str, otherwise: Any = None) -> Any:
        """An option as it was given, or else as the file of weights has it, or else the default."""
        given = getattr(self, name)
        return self._notes.get(name, otherwise) if given is None else given

    @cached_property
    def _notes(self) -> dict[str, Any]:
        return read_notes(self._file)

    @abstractmethod
    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        """Separate (channel, time) into (source, channel, time), both on the CPU."""

    def _separate(self, mixture: Samples) -> NDArray[np.floating]:
        # what is missing is said before torch is imported
        self.weights_sha256()
        import torch

        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise SeparatorError(f"{self.name}: device {self.device!r} cannot be used here ({reason})") from error
        with torch.inference_mode():
            stems = self._apply(torch.from_numpy(np.array(mixture)))
        return np.asarray(stems.numpy())


TAIL = 1024
"""Silence that Danna-Sep appends to songs, in samples."""


class MaskSeparator(NetworkSeparator):
    """Base of the separators of all four sources by masks and a Wiener filter over the whole song."""

    def _filtered(
        self,
        mixture: torch.Tensor,
        n_fft: int,
        tail: int,
        masks: Callable[[torch.Tensor], Callable[[int, int], torch.Tensor]],
    ) -> torch.Tensor:
        """Stems (source, 2, time); ``masks`` of the magnitudes (2, bin, frame) gives what gives those of frames."""
        from torch.nn import functional

        from .spectrogram import OverlapAdd, transformed
        from .wiener import filtered_blocks

        time, hop = mixture.shape[1], n_fft // 4
        # mirrored ends need more than half a window
        padded = functional.pad(mixture, (0, max(tail, n_fft // 2 + 1 - time)))
        spectrum = transformed(padded.to(self.device), n_fft, hop)
        song = OverlapAdd(n_fft, hop, spectrum.shape[-1], device="cpu")
        for start, block in filtered_blocks(spectrum, masks(spectrum.abs())):
            song.add(start, block.to(spectrum.dtype))
        return song.audio(time)


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
