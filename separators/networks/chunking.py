"""Songs of any length through networks, chunk by chunk: ends that are cut off, middle halves, or fades."""

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
    """Apply a network chunk by chunk, cut ``trim`` samples off both ends of its outputs and join the rest.

    Parameters
    ----------
    mixture : Tensor, shape (channel, time)
        Of any length from one sample; it is continued by zeros.
    network : callable
        Takes (1, channel, chunk) and gives (1, ..., chunk).
    chunk, trim : int
        In samples; a chunk is longer than its two trimmed ends.
    neighbours : bool
        The ends that are cut off hold the audio around the chunk, otherwise zeros.

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
    >>> separate_in_chunks(ramp, lambda audio: 2 * audio, chunk=6, trim=1)[0]
    tensor([ 0.,  2.,  4.,  6.,  8., 10., 12., 14., 16., 18.])
    """
    time = mixture.shape[-1]
    step = chunk - 2 * trim
    outputs = []
    for start in range(0, time, step):
        around = (start - trim, start + chunk - trim) if neighbours else (start, start + step)
        audio = mixture[:, max(0, around[0]) : around[1]]
        before = max(0, -around[0]) if neighbours else trim
        audio = functional.pad(audio, (before, chunk - before - audio.shape[1]))
        outputs.append(network(audio[None])[0, ..., trim : trim + step].to(mixture.device))
    return torch.cat(outputs, dim=-1)[..., :time]


def separate_in_halves(
    mixture: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor], chunk: int
) -> torch.Tensor:
    """Apply a network to chunks half a chunk apart, and keep the middle half of each output.

    Parameters
    ----------
    mixture : Tensor, shape (channel, time)
        Of any length from one sample; it is continued by zeros to a whole number of chunks.
    network : callable
        Takes (1, channel, chunk) and gives (1, ..., chunk).
    chunk : int
        In samples, a multiple of four. The first chunk keeps its beginning, too, and the last its end.

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
    >>> separate_in_halves(ramp, lambda audio: 2 * audio, chunk=4)[0]
    tensor([ 0.,  2.,  4.,  6.,  8., 10., 12., 14., 16., 18.])
    """
    time = mixture.shape[-1]
    padded = functional.pad(mixture, (0, -time % chunk))
    outputs = []
    last = padded.shape[-1] - chunk
    for start in range(0, last + 1, chunk // 2):
        output = network(padded[None, :, start : start + chunk])[0]
        kept = slice(chunk // 4 if start else 0, None if start == last else chunk * 3 // 4)
        outputs.append(output[..., kept].to(mixture.device))
    return torch.cat(outputs, dim=-1)[..., :time]


def separate_overlapping(
    mixture: torch.Tensor,
    network: Callable[[torch.Tensor], torch.Tensor],
    chunk: int,
    overlap: float,
    needed: Callable[[int], int],
) -> torch.Tensor:
    """Apply a network to overlapping chunks, each with the music around it, and fade from one to the next.

    Parameters
    ----------
    mixture : Tensor, shape (channel, time)
        Of any length from one sample.
    network : callable
        Takes (1, channel, needed(length)) and gives (1, ..., at least length), of which the middle is kept.
    chunk : int
        In samples.
    overlap : float
        Of neighbours, as a part of the length; less than 1.
    needed : callable
        From the length of an output to the length of the input that the network needs for it.

    Returns
    -------
    Tensor, shape (..., time)
        On the mixture's device.

    References
    ----------
    A. Défossez, N. Usunier, L. Bottou, F. Bach, "Music source separation in the waveform domain", 2019: the authors'
    code weights the samples of a chunk by a triangle.

    Examples
    --------
    >>> ramp = torch.arange(10.0).expand(2, -1)
    >>> separate_overlapping(ramp, lambda audio: 2 * audio, 4, 0.5, lambda length: length + 2)[0]
    tensor([ 0.,  2.,  4.,  6.,  8., 10., 12., 14., 16., 18.])
    """
    time = mixture.shape[-1]
    half = chunk // 2
    triangle = torch.cat([torch.arange(1, half + 1), torch.arange(chunk - half, 0, -1)]) / (chunk - half)
    joined = torch.zeros(0)
    total = torch.zeros(time)
    for start in range(0, time, max(1, int((1 - overlap) * chunk))):
        stop = min(start + chunk, time)
        audio = _widened(mixture, start, stop, needed(stop - start))
        output = centred(network(audio[None])[0], stop - start).to(mixture.device)
        if start == 0:
            joined = torch.zeros(*output.shape[:-1], time)
        joined[..., start:stop] += triangle[: stop - start] * output
        total[start:stop] += triangle[: stop - start]
    return joined / total


def _widened(mixture: torch.Tensor, start: int, stop: int, length: int) -> torch.Tensor:
    """Part of a song with the music on both sides of it, or zeros beyond its ends."""
    first = start - (length - (stop - start)) // 2
    missing = [max(0, -first), max(0, first + length - mixture.shape[-1])]
    return functional.pad(mixture[:, max(0, first) : first + length], missing)


def centred(audio: torch.Tensor, length: int) -> torch.Tensor:
    """The middle of a longer signal (..., time); of an odd number too many, one more goes at the end.

    Examples
    --------
    >>> centred(torch.arange(6), 3)
    tensor([1, 2, 3])
    """
    start = (audio.shape[-1] - length) // 2
    return audio[..., start : start + length]


@dataclass(frozen=True)
class ChunkedSpectrograms:
    """A network from complex spectrogram to complex spectrogram, applied to songs.

    Parameters
    ----------
    network : Module
        Takes and gives (1, 4, bin, STFT frame); lies on ``device``.
    transform : ComplexAsChannels
        Into its spectrograms.
    frames : int
        STFT frames in a chunk.
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
