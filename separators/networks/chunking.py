"""Songs of any length through networks, chunk by chunk: ends that are cut off, middle halves, fades, or means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stemfuse.separators.audio.signals import Signal

from .spectrogram import ComplexAsChannels

ReadTensor = Callable[[int, int], torch.Tensor]
"""Samples (channel, time) of a range that is inside a song."""

QUIETEST = 1e-10
"""Magnitudes below this are taken for it, where a source's are divided by the mixture's."""


def tensors_of(mixture: Signal) -> ReadTensor:
    """Reads a song's ranges as tensors, which are copies."""
    return lambda start, stop: torch.from_numpy(np.array(mixture.read(start, stop)))


def widened(read: ReadTensor, time: int, start: int, stop: int) -> torch.Tensor:
    """Part of a song, and zeros where it is beyond the song's ends."""
    audio = read(max(0, start), min(stop, time))
    return functional.pad(audio, (max(0, -start), max(0, stop - time)))


def separate_in_chunks(
    read: ReadTensor,
    time: int,
    network: Callable[[torch.Tensor], torch.Tensor],
    chunk: int,
    trim: int,
    neighbours: bool = True,
) -> Iterator[torch.Tensor]:
    """Apply a network chunk by chunk, and cut ``trim`` samples off both ends of its outputs.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives samples of the mixture, (channel, time).
    time : int
        Length of the mixture in samples, from one; it is continued by zeros.
    network : callable
        Takes (1, channel, chunk) and gives (1, ..., chunk).
    chunk, trim : int
        In samples; a chunk is longer than its two trimmed ends.
    neighbours : bool
        The ends that are cut off hold the audio around the chunk, otherwise zeros.

    Yields
    ------
    Tensor, shape (..., some time)
        The separated song, one block after the other, on the CPU.

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021: chunks with neighbours. W. Choi et al., ISMIR 2020: without.

    Examples
    --------
    >>> ramp = torch.arange(10.0).expand(2, -1)
    >>> [block[0] for block in separate_in_chunks(lambda a, b: ramp[:, a:b], 10, lambda audio: 2 * audio, 8, trim=1)]
    [tensor([ 0.,  2.,  4.,  6.,  8., 10.]), tensor([12., 14., 16., 18.])]
    """
    step = chunk - 2 * trim
    for start in range(0, time, step):
        if neighbours:
            audio = widened(read, time, start - trim, start - trim + chunk)
        else:
            audio = functional.pad(widened(read, time, start, start + step), (trim, trim))
        kept = min(step, time - start)
        yield network(audio[None])[0, ..., trim : trim + kept].cpu()


def separate_in_halves(
    read: ReadTensor, time: int, network: Callable[[torch.Tensor], torch.Tensor], chunk: int
) -> Iterator[torch.Tensor]:
    """Apply a network to chunks half a chunk apart, and keep the middle half of each output.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives samples of the mixture, (channel, time).
    time : int
        Length of the mixture in samples, from one; it is continued by zeros to a whole number of chunks.
    network : callable
        Takes (1, channel, chunk) and gives (1, ..., chunk).
    chunk : int
        In samples, a multiple of four. The first chunk keeps its beginning, too, and the last its end.

    Yields
    ------
    Tensor, shape (..., some time)
        The separated song, one block after the other, on the CPU.

    References
    ----------
    Q. Kong, Y. Cao, H. Liu, K. Choi, Y. Wang, "Decoupling magnitude and phase estimation with deep ResUNet for music
    source separation", ISMIR 2021: the authors' code.

    Examples
    --------
    >>> ramp = torch.arange(7.0).expand(2, -1)
    >>> [block[0] for block in separate_in_halves(lambda a, b: ramp[:, a:b], 7, lambda audio: 2 * audio, chunk=4)]
    [tensor([0., 2., 4.]), tensor([6., 8.]), tensor([10., 12.])]
    """
    last = -(-time // chunk) * chunk - chunk
    for start in range(0, last + 1, chunk // 2):
        first = start + chunk // 4 if start else 0
        stop = min(time, last + chunk if start == last else start + chunk * 3 // 4)
        # the last chunks may hold nothing but zeros
        if first < stop:
            output = network(widened(read, time, start, start + chunk)[None])[0]
            yield output[..., first - start : stop - start].cpu()


def separate_overlapping(
    read: ReadTensor,
    time: int,
    network: Callable[[torch.Tensor], torch.Tensor],
    chunk: int,
    overlap: float,
    needed: Callable[[int], int],
) -> Iterator[torch.Tensor]:
    """Apply a network to overlapping chunks, each with the music around it, and fade from one to the next.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives samples of the mixture, (channel, time).
    time : int
        Length of the mixture in samples, from one.
    network : callable
        Takes (1, channel, needed(length)) and gives (1, ..., at least length), of which the middle is kept.
    chunk : int
        In samples.
    overlap : float
        Of neighbours, as a part of the length; less than 1.
    needed : callable
        From the length of an output to the length of the input that the network needs for it.

    Yields
    ------
    Tensor, shape (..., some time)
        The separated song, one block after the other, on the CPU.

    References
    ----------
    A. Défossez, N. Usunier, L. Bottou, F. Bach, "Music source separation in the waveform domain", 2019: the authors'
    code weights the samples of a chunk by a triangle.

    Examples
    --------
    >>> ramp = torch.arange(6.0).expand(2, -1)
    >>> blocks = separate_overlapping(
    ...     lambda a, b: ramp[:, a:b], 6, lambda audio: 2 * audio, 4, 0.5, lambda length: length + 2
    ... )
    >>> [block[0] for block in blocks]
    [tensor([0., 2.]), tensor([4., 6.]), tensor([ 8., 10.])]
    """
    half = chunk // 2
    triangle = torch.cat([torch.arange(1, half + 1), torch.arange(chunk - half, 0, -1)]) / (chunk - half)
    step = max(1, int((1 - overlap) * chunk))
    # what later chunks add to is kept: sums of weighted outputs, and of weights
    total = torch.zeros(chunk)
    joined = torch.zeros(0)
    for start in range(0, time, step):
        stop = min(start + chunk, time)
        length = stop - start
        before = (needed(length) - length) // 2
        audio = widened(read, time, start - before, start - before + needed(length))
        output = centred(network(audio[None])[0], length).cpu()
        if start == 0:
            joined = torch.zeros(*output.shape[:-1], chunk)
        joined[..., :length] += triangle[:length] * output
        total[:length] += triangle[:length]
        done = min(step, length)
        yield joined[..., :done] / total[:done]
        joined, total = (functional.pad(kept[..., done:], (0, done)) for kept in (joined, total))


def mean_masks(
    network: Callable[[torch.Tensor], torch.Tensor],
    magnitudes: Callable[[int, int], torch.Tensor],
    frames: int,
    patch: int,
) -> torch.Tensor:
    """Masks of one source by a network of magnitudes: the mean of four outputs for every STFT frame.

    Patches overlap by half, so that a frame is in two of them; each is given with its channels as they are and
    exchanged. Before and after the song there is silence.

    Parameters
    ----------
    network : callable
        From magnitudes (batch, 2, bin, frame) of the mixture to those of the source.
    magnitudes : callable
        ``magnitudes(start, stop)`` gives those of the mixture's STFT frames, (batch, 2, bin, frame).
    frames : int
        STFT frames of the song.
    patch : int
        STFT frames that the network is given at a time, an even number.

    Returns
    -------
    Tensor, shape (batch, 2, bin, frame)
        The source's magnitudes over the mixture's.

    References
    ----------
    N. Takahashi, Y. Mitsufuji, "D3Net: densely connected multidilated DenseNet for music source separation", 2020.

    Examples
    --------
    >>> song = torch.rand(1, 2, 5, 11) + 0.1
    >>> masks = mean_masks(lambda given: given / 4, lambda start, stop: song[..., start:stop], 11, 4)
    >>> tuple(masks.shape), bool(torch.allclose(masks, torch.tensor(0.25)))
    ((1, 2, 5, 11), True)
    """
    total = torch.empty(0)
    for start in range(-patch // 2, frames, patch // 2):
        first, last = max(0, start), min(start + patch, frames)
        given = magnitudes(first, last)
        padded = functional.pad(given, (first - start, start + patch - last))
        one, other = network(torch.cat([padded, padded.flip(1)])).float().chunk(2)
        mean = (one + other.flip(1))[..., first - start : last - start] / 2
        if start < 0:
            total = mean.new_zeros(*mean.shape[:-1], frames)
        total[..., first:last] += mean / 2 / given.clamp_min(QUIETEST)
    return total


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
    >>> blocks = ChunkedSpectrograms(nn.Identity(), whole, frames=17, trim=32).separate(lambda a, b: song[:, a:b], 1000)
    >>> bool((torch.cat([*blocks], dim=-1) - song).abs().max() < 1e-5)
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

    def separate(self, read: ReadTensor, time: int) -> Iterator[torch.Tensor]:
        """Separate a song (channel, time) of any length into blocks (channel, some time)."""
        return separate_in_chunks(read, time, self._separate_chunk, self.chunk, self.trim, self.neighbours)

    def _separate_chunk(self, audio: torch.Tensor) -> torch.Tensor:
        spectrum: torch.Tensor = self.network(self.transform.pack(audio.to(self.device)))
        return self.transform.unpack(spectrum, self.chunk)
