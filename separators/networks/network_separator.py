"""What all separators by our own networks share: their files of weights, their device, and the song in chunks."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stemfuse.separators.audio.signals import RATE, Samples, Signal
from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.optional import import_optional
from stemfuse.separators.separator import BaseSeparator
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights.digests import verified_sha256
from stemfuse.separators.weights.folder import WeightFile, find_weights, given_weights, read_notes
from stemfuse.separators.weights.published import check_published, find_called, find_published

if TYPE_CHECKING:
    import torch

    from .chunking import ChunkedSpectrograms
    from .spectrogram import SongSpectrum
    from .wiener import Frames

DANNA_SEP_TAIL = 1024
"""Silence that Danna-Sep's three networks are given after a song, in samples."""


def checked_source(separator: str, source: str, known: Sequence[str] = SOURCES) -> tuple[str]:
    """The one source that a separator separates; an unknown one raises a `SeparatorError`."""
    if source not in known:
        raise SeparatorError(f"{separator}: got source={source!r}, expected one of {', '.join(known)}")
    return (source,)


def checked_chunk(separator: str, seconds: float) -> int:
    """Samples of a chunk whose quarters are whole; a length that no network takes raises a `SeparatorError`."""
    if not isinstance(seconds, (int, float)) or not 0.5 <= seconds < float("inf"):
        raise SeparatorError(f"{separator}: got segment_s={seconds!r}, expected at least 0.5 seconds")
    return round(seconds * RATE / 4) * 4


class NetworkSeparator(BaseSeparator):
    """Base of the separators whose network is written here and whose weights lie in a file.

    A subclass names the files that would do in `_names`, makes its network of one of them in `_build`, and separates
    in `apply`. Making a separator touches no file: files are looked for when `fingerprint` or `separate` first need
    them.

    Attributes
    ----------
    origin : str
        Where its weights are published.
    weights : path-like or None
        The user's own file; None for the weights folder.
    device : str
        Torch device that the network runs on.
    """

    not_in_identity = frozenset({"weights", "device"})
    needs: ClassVar[Mapping[str, str]] = {"torch": "networks", "safetensors": "networks"}
    origin: ClassVar[str]
    weights: str | os.PathLike[str] | None
    device: str

    def __getstate__(self) -> dict[str, Any]:
        # other processes get the options, not the network
        return {name: value for name, value in vars(self).items() if name not in ("_files", "_notes", "_network")}

    @property
    def _names(self) -> Sequence[str]:
        """File names that would do, the preferred one first: what is trained here, then what is published."""
        return [f"{self.name}.safetensors"]

    def weight_files(self) -> tuple[WeightFile, ...]:
        """The one file of weights, under the names that would do."""
        names = self._names if self.weights is None else [Path(self.weights).name]
        return (WeightFile(tuple(names), self.options().get("source", "")),)

    def weight_folders(self) -> tuple[Path, ...]:
        """The separator's part of the weights folder, or the folder of the user's own file."""
        return super().weight_folders() if self.weights is None else (Path(self.weights).expanduser().parent,)

    def _find_files(self) -> tuple[Path, ...]:
        if self.weights is not None:
            return (given_weights(self.name, self.weights),)
        return find_weights(self.name, self.weight_files(), self.weight_folders(), self.origin)

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        """All files of weights. Those that were found, not given, are checked against what is published."""
        files = self._find_files()
        if self.weights is None:
            for path in files:
                check_published(path)
        return files

    @property
    def _file(self) -> Path:
        return self._files[0]

    def weights_sha256(self) -> dict[str, str]:
        """File name and sha256 of all weights.

        Raises
        ------
        MissingWeightsError
            A file is missing.
        SeparatorError
            A file's sha256 is not the one in its name.
        """
        return {path.name: verified_sha256(path) for path in self._files}

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Data that the weights were trained on, such as ``"musdb18hq/train"``; None when that is not known."""
        try:
            files = self._files
        except MissingWeightsError:
            return None
        # of some published files nothing but the name is known
        find = find_published if self.weights is not None else lambda path: find_published(path) or find_called(path)
        published = [find(path) for path in files]
        data = [
            read_notes(path).get("trained_on") if row is None else row.trained_on
            for path, row in zip(files, published, strict=True)
        ]
        return None if None in data else tuple(dict.fromkeys(name for names in data for name in names or ()))

    @cached_property
    def _notes(self) -> dict[str, Any]:
        return read_notes(self._file)

    def _chosen(self, name: str, given: Any, otherwise: Any) -> Any:
        """An option as it was given, or else as in the notes of the file of weights, or else the default."""
        return self._notes.get(name, otherwise) if given is None else given

    @abstractmethod
    def _build(self) -> Any:
        """The network with its weights, on its device, and whatever else `apply` needs."""

    @cached_property
    def _network(self) -> Any:
        return self._build()

    def _torch(self) -> Any:
        """PyTorch; a missing package raises a `SeparatorError`."""
        import_optional("safetensors", "networks", self.name)
        return import_optional("torch", "networks", self.name)

    def load(self) -> None:
        """Read the weights and build the network now; `separate` does so otherwise.

        Raises
        ------
        MissingWeightsError
            A file is missing.
        SeparatorError
            A file cannot be read, or holds the weights of another network.
        """
        self.weights_sha256()
        self._torch()
        _ = self._network

    def networks(self) -> Mapping[str, Any]:
        """Its network, by its source where it has one."""
        self.load()
        built = self._network
        network = built[0] if isinstance(built, tuple) else built
        return {str(self.options().get("source", self.name)): network}

    @abstractmethod
    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """Separate a song into blocks (source, channel, some time) on the CPU, in order; nothing is checked."""

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        # missing files are reported before torch is imported
        self.weights_sha256()
        torch = self._torch()
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise SeparatorError(f"{self.name}: device {self.device!r} cannot be used here ({reason})") from error
        blocks = self.apply(mixture)
        while True:
            # not around the yield: what the reader of the blocks computes is not ours
            with torch.inference_mode():
                stems = next(blocks, None)
            if stems is None:
                return
            yield np.asarray(stems.numpy())


class MaskSeparator(NetworkSeparator):
    """Base of the separators by masks, of all four sources with a Wiener filter over the whole song."""

    def _filtered(
        self, mixture: Signal, n_fft: int, tail: int, masks: Callable[[SongSpectrum], Frames], wiener: bool = True
    ) -> Iterator[torch.Tensor]:
        """Stems of a mixture in blocks (source, 2, some time).

        ``masks`` takes the song's spectrum and gives a function from a first and a last STFT frame to the masks between
        them. ``tail`` is the silence after the song, in samples. Without ``wiener`` sources have the mixture's phase.
        """
        import torch

        from .chunking import tensors_of
        from .spectrogram import OverlapAdd, SongSpectrum
        from .wiener import filtered_blocks, masked_blocks

        time, hop = mixture.length, n_fft // 4
        # mirrored ends need more than half a window
        tail = max(tail, n_fft // 2 + 1 - time)
        spectrum = SongSpectrum(tensors_of(mixture), time, tail, n_fft, hop, self.device)
        song = OverlapAdd(n_fft, hop, device="cpu")
        taken = 0
        blocks = filtered_blocks if wiener else masked_blocks
        for start, block in blocks(spectrum.frames_between, spectrum.frames, masks(spectrum)):
            song.add(start, block.to(torch.complex64))
            stop = time if start + block.shape[-1] == spectrum.frames else min(song.finished, time)
            if stop > taken:
                yield song.take(stop)
                taken = stop


class SpectrogramSeparator(NetworkSeparator):
    """Base of the separators by a network on complex spectrograms, chunk by chunk."""

    def _check_sizes(self, **sizes: int | None) -> None:
        if any(size is not None and (type(size) is not int or size < 2) for size in sizes.values()):
            raise SeparatorError(f"{self.name}: got {sizes}, expected whole numbers of at least 2")

    def _check_frames(self, frames: int, divisor: int) -> None:
        if frames % divisor:
            raise SeparatorError(f"{self.name}: got frames={frames}, expected a multiple of {divisor}")

    def networks(self) -> Mapping[str, Any]:
        """See `NetworkSeparator`."""
        self.load()
        return {str(self.options().get("source", "all")): self._network.network}

    def song_to_inspect(self) -> tuple[float, float]:
        """One chunk without the ends that are cut off."""
        self.load()
        return (self._network.chunk - 2 * self._network.trim) / self.rate, 1.0

    def highest_hz(self) -> float | None:
        """Of the last bin that the network is given."""
        self.load()
        transform = self._network.transform
        return float(transform.bins * self.rate / transform.n_fft)

    def _checked(self, chunked: ChunkedSpectrograms) -> ChunkedSpectrograms:
        """The same; chunks that are shorter than their trimmed ends raise a `SeparatorError`."""
        if chunked.chunk <= 2 * chunked.trim:
            raise SeparatorError(
                f"{self.name}: {chunked.frames} frames are {chunked.chunk} samples, "
                f"expected more than the {2 * chunked.trim} that are cut off"
            )
        return chunked

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        from .chunking import tensors_of

        chunked: ChunkedSpectrograms = self._network
        for block in chunked.separate(tensors_of(mixture), mixture.length):
            yield block.reshape(len(self.sources), mixture.channels, -1)
