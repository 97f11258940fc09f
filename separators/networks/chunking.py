"""Songs of any length through networks of a fixed one: in chunks whose ends are cut off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .spectrogram import ComplexAsChannels


def separate_in_chunks(
    mixture: torch.Tensor,
    network: Callable[[torch.Tensor], torch.Tensor],
    chunk: int,
    trim: int,
    neighbours: bool = True,
) -> torch.Tensor:
    """Apply a network chunk by chunk, cut ``trim`` samples off both ends of what it gives and join the rest.

    Parameters
    ----------
    mixture : Tensor, shape (channel, time)
        Of any length from one sample; it is continued by zeros.
    network : callable
        Takes (1, channel, chunk) and gives (1, ..., chunk).
    chunk, trim : int
        In samples; a chunk is longer than its two trimmed ends.
    neighbours : bool
        The ends that will be cut off hold the audio around the chunk, otherwise zeros.

    Returns
    -------
    Tensor, shape (..., time)
        On the mixture's device.

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021: chunks with neighbours. W. Choi et al., ISMIR 2020: without.

    Examples
    --------
    >>> ramp = torch.arange(10.0).expand(2, -1)
    >>> separate_in_chunks(ramp, lambda chunk: 2 * chunk, chunk=6, trim=1)[0]
    tensor([ 0.,  2.,  4.,  6.,  8., 10., 12., 14., 16., 18.])
    """
    time = mixture.shape[-1]
    step = chunk - 2 * trim
    pieces = []
    for start in range(0, time, step):
        around = (start - trim, start + chunk - trim) if neighbours else (start, start + step)
        piece = mixture[:, max(0, around[0]) : around[1]]
        before = max(0, -around[0]) if neighbours else trim
        piece = functional.pad(piece, (before, chunk - before - piece.shape[1]))
        pieces.append(network(piece[None])[0, ..., trim : trim + step].to(mixture.device))
    return torch.cat(pieces, dim=-1)[..., :time]


def separate_in_halves(
    mixture: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor], segment: int
) -> torch.Tensor:
    """Apply a network to segments half a segment apart, and keep the middle half of what it gives for each.

    Parameters
    ----------
    mixture : Tensor, shape (channel, time)
        Of any length from one sample; it is continued by zeros to a whole number of segments.
    network : callable
        Takes (1, channel, segment) and gives (1, ..., segment).
    segment : int
        In samples, a multiple of four. The first segment keeps its beginning, too, and the last its end.

    Returns
    -------
    Tensor, shape (..., time)
        On the mixture's device.

    References
    ----------
    Q. Kong, Y. Cao, H. Liu, K. Choi, Y. Wang, "Decoupling magnitude and phase estimation with deep ResUNet for music
    source separation", ISMIR 2021: the authors' code.

    Examples
    --------
    >>> ramp = torch.arange(10.0).expand(2, -1)
    >>> separate_in_halves(ramp, lambda segment: 2 * segment, segment=4)[0]
    tensor([ 0.,  2.,  4.,  6.,  8., 10., 12., 14., 16., 18.])
    """
    time = mixture.shape[-1]
    padded = functional.pad(mixture, (0, -time % segment))
    pieces = []
    last = padded.shape[-1] - segment
    for start in range(0, last + 1, segment // 2):
        output = network(padded[None, :, start : start + segment])[0]
        kept = slice(segment // 4 if start else 0, None if start == last else segment * 3 // 4)
        pieces.append(output[..., kept].to(mixture.device))
    return torch.cat(pieces, dim=-1)[..., :time]


@dataclass(frozen=True)
class ChunkedSpectrograms:
    """A network from complex spectrogram to complex spectrogram, applied to songs.

    Parameters
    ----------
    network : Module
        Takes and gives (1, 4, bin, frame); lies on ``device``.
    transform : ComplexAsChannels
        Into its spectrograms.
    frames : int
        In a chunk.
    trim : int
        Samples that are cut off both ends of a chunk.
    neighbours : bool
        The ends hold the audio around the chunk, otherwise zeros.
    device : str
        Songs stay where they are, chunks go there.

    Examples
    --------
    >>> whole = ComplexAsChannels(n_fft=64, hop=16, bins=33)
    >>> song = torch.randn(2, 1000)
    >>> same = ChunkedSpectrograms(nn.Identity(), whole, frames=17, trim=32).separate(song)
    >>> bool((same - song).abs().max() < 1e-5)
    True
    """

    network: nn.Module
    transform: ComplexAsChannels
    frames: int
    trim: int
    neighbours: bool = True
    device: str = "cpu"

    @property
    def chunk(self) -> int:
        """Samples in a chunk."""
        between = self.transform.hop * (self.frames - 1)
        return between if self.transform.centred else between + self.transform.n_fft

    def separate(self, mixture: torch.Tensor) -> torch.Tensor:
        """Separate a song (channel, time) of any length into (channel, time)."""
        return separate_in_chunks(mixture, self._separate_chunk, self.chunk, self.trim, self.neighbours)

    def _separate_chunk(self, audio: torch.Tensor) -> torch.Tensor:
        spectrum: torch.Tensor = self.network(self.transform.pack(audio.to(self.device)))
        return self.transform.unpack(spectrum, self.chunk)
