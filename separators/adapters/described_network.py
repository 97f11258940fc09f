"""A described network, applied to songs chunk by chunk: transform, axes, masks and phases on the way in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from stemfuse.separators.audio.signals import Samples, Signal
from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.networks.chunking import separate_in_chunks, separate_overlapping, tensors_of
from stemfuse.separators.networks.spectrogram import OverlapAdd, transformed

from .network_description import NetworkDescription, OutputDescription, axes_of, kind_of

if TYPE_CHECKING:
    from .network_description import StftDescription

Run = Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]]
"""The network itself: from its input to all of its outputs, in the order of the description."""


class DescribedNetwork:
    """A network with the description of what it takes and gives.

    Parameters
    ----------
    description : NetworkDescription
        Of the network.
    run : callable
        The network: takes the input as described, float32, and gives the outputs in the description's order.
    what : str
        Its name in messages.

    Examples
    --------
    >>> from stemfuse.separators import ArraySignal
    >>> halving = NetworkDescription.model_validate(
    ...     {
    ...         "file": "half.onnx",
    ...         "chunk": 4,
    ...         "input": "channel time",
    ...         "outputs": [{"sources": ["vocals"], "axes": "channel time"}],
    ...         "rest": "accompaniment",
    ...     }
    ... )
    >>> network = DescribedNetwork(halving, lambda audio: [audio / 2], "half")
    >>> [block.shape for block in network.separate(ArraySignal(np.ones((2, 6))))]
    [(2, 2, 4), (2, 2, 2)]
    """

    def __init__(self, description: NetworkDescription, run: Run, what: str) -> None:
        self.description, self.run, self.what = description, run, what

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the axes that do not depend on the network."""
        given = self.description
        sizes = {"channel": given.channels, "part": 2}
        if given.stft is None:
            return sizes | {"time": given.samples}
        return sizes | {"bin": given.stft.kept, "frame": given.chunk, "time": given.samples}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the network's input."""
        given = self.description
        spectrum = None
        if given.stft is not None:
            spectrum = torch.zeros(given.channels, given.stft.n_fft // 2 + 1, given.chunk, dtype=torch.complex64)
        return self._packed(torch.zeros(given.channels, given.samples), spectrum).shape

    def separate(self, mixture: Signal) -> Iterator[Samples]:
        """Separate a song into blocks (source, channel, some time), in the order of the description's sources."""
        given = self.description
        read, chunk = tensors_of(mixture), given.samples
        if given.overlap is None:
            blocks = separate_in_chunks(read, mixture.length, self._separate_chunk, chunk, given.trim)
        else:
            # the last chunk is filled up with zeros
            blocks = separate_overlapping(
                read, mixture.length, self._separate_chunk, chunk, given.overlap, lambda length: chunk
            )
        start, order = 0, [given.given.index(source) for source in given.sources]
        while (block := _next(blocks)) is not None:
            stems = block
            if given.rest is not None:
                rest = mixture.read(start, start + stems.shape[-1]) - stems.sum(axis=0)
                stems = np.concatenate([stems, rest[None]])
            start += stems.shape[-1]
            if not np.isfinite(stems).all():
                raise SeparatorError(f"{self.what}: gave NaN or infinite samples before sample {start} of the song")
            yield stems[order]

    def _separate_chunk(self, audio: torch.Tensor) -> torch.Tensor:
        """Samples (1, channel, chunk) to (1, source, channel, chunk)."""
        spectrum = None if self.description.stft is None else _spectrum(audio[0], self.description.stft)
        outputs = self.run(self._packed(audio[0], spectrum))
        parts = [
            self._waveforms(output, described, spectrum)
            for output, described in zip(outputs, self.description.outputs, strict=True)
        ]
        return torch.cat(parts)[None]

    def _packed(self, audio: torch.Tensor, spectrum: torch.Tensor | None) -> NDArray[np.float32]:
        """The network's input."""
        import einops

        pattern = self.description.input
        if spectrum is None or kind_of(pattern) == "waveform":
            values, axes = audio, ["channel", "time"]
        else:
            kept = spectrum[:, : self.sizes["bin"]]
            is_complex = kind_of(pattern) == "spectrogram"
            values = torch.view_as_real(kept) if is_complex else kept.abs()
            axes = ["channel", "bin", "frame", *["part"] * is_complex]
        named = [axis for axis in axes if axis in axes_of(pattern)]
        # a mono network need not name its channel
        values = values if len(named) == len(axes) else values[0]
        packed = einops.rearrange(values.numpy(), f"{' '.join(named)} -> {pattern}")
        return np.ascontiguousarray(packed, dtype=np.float32)

    def _waveforms(
        self, output: NDArray[Any], described: OutputDescription, spectrum: torch.Tensor | None
    ) -> torch.Tensor:
        """An output of the network as (source, channel, time)."""
        kind = kind_of(described.axes)
        inner = {"waveform": ["time"], "spectrogram": ["bin", "frame", "part"], "magnitude": ["bin", "frame"]}[kind]
        values = torch.from_numpy(self._unpacked(output, described, inner))
        if spectrum is None or self.description.stft is None or kind == "waveform":
            return values
        mixture = spectrum[:, : values.shape[2]]
        if kind == "spectrogram":
            found = torch.view_as_complex(values)
            found = found * mixture if described.mask else found
        else:
            found = values * (mixture if described.mask else torch.polar(torch.ones(()), mixture.angle()))
        return _audio(found, self.description.stft, self.description.samples)

    def _unpacked(
        self, output: NDArray[Any], described: OutputDescription, inner: Sequence[str]
    ) -> NDArray[np.float32]:
        """An output with the axes source, channel, and the inner ones."""
        import einops

        named = axes_of(described.axes)
        outer = {"source": len(described.sources), "channel": self.description.channels}
        sizes = {axis: size for axis, size in (self.sizes | outer).items() if axis in named}
        target = " ".join([axis if axis in named else "1" for axis in outer] + list(inner))
        try:
            values = einops.rearrange(np.asarray(output), f"{described.axes} -> {target}", **sizes)
        except einops.EinopsError as error:
            shape = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
            raise SeparatorError(
                f"{self.what}: got an output of shape {list(np.shape(output))}, expected {described.axes} with {shape}"
            ) from error
        return np.ascontiguousarray(values, dtype=np.float32)


def _next(blocks: Iterator[torch.Tensor]) -> Samples | None:
    # not around a yield: what the reader of the blocks computes is not ours
    with torch.inference_mode():
        block = next(blocks, None)
    return None if block is None else np.asarray(block.numpy())


def _spectrum(audio: torch.Tensor, stft: StftDescription) -> torch.Tensor:
    """Spectrogram (channel, bin, frame) of a chunk, with all bins."""
    spectrum = transformed(audio, stft.n_fft, stft.hop, stft.centred)
    return spectrum / stft.n_fft**0.5 if stft.normalised else spectrum


def _audio(spectrum: torch.Tensor, stft: StftDescription, length: int) -> torch.Tensor:
    """Samples (source, channel, time) of spectrograms (source, channel, bin, frame); bins that are missing are zero."""
    missing = stft.n_fft // 2 + 1 - spectrum.shape[-2]
    complete = functional.pad(spectrum, (0, 0, 0, missing))
    song = OverlapAdd(stft.n_fft, stft.hop, stft.centred)
    song.add(0, complete * stft.n_fft**0.5 if stft.normalised else complete)
    return song.take(length)
