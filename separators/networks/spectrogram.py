"""Short-time Fourier transforms: complex ones as real channels for networks, and the inverse for whole songs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from stemfuse.separators.errors import SeparatorError


def transformed(audio: torch.Tensor, n_fft: int, hop: int, centred: bool = True) -> torch.Tensor:
    """Short-time Fourier transform with a periodic Hann window, not scaled.

    Parameters
    ----------
    audio : Tensor, shape (..., time)
        Longer than half a window when windows are centred, else at least a window.
    n_fft, hop : int
        Window and distance of the windows, in samples.
    centred : bool
        Windows are centred on multiples of the hop, and the ends are mirrored.

    Returns
    -------
    Tensor, shape (..., n_fft // 2 + 1, frame), complex
    """
    window = torch.hann_window(n_fft, dtype=audio.dtype, device=audio.device)
    rows = audio.reshape(-1, audio.shape[-1])
    spectrum = torch.stft(rows, n_fft, hop, window=window, center=centred, pad_mode="reflect", return_complex=True)
    return spectrum.reshape(*audio.shape[:-1], *spectrum.shape[1:])


class OverlapAdd:
    """The inverse transform of a song, whose STFT frames are added, and whose samples are taken, block by block.

    Parameters
    ----------
    n_fft, hop : int
        As in `transformed`.
    centred : bool
        As in `transformed`.
    device : str or torch device, optional
        Where the song is put together: the blocks' when not given.

    Examples
    --------
    >>> song = torch.randn(2, 3000)
    >>> spectrum = transformed(song, 256, 64)
    >>> inverse = OverlapAdd(256, 64)
    >>> blocks = []
    >>> for start in range(0, spectrum.shape[-1], 10):
    ...     inverse.add(start, spectrum[..., start : start + 10])
    ...     blocks.append(inverse.take(min(3000, inverse.finished)))
    >>> bool((torch.cat([*blocks, inverse.take(3000)], dim=-1) - song).abs().max() < 1e-5)
    True
    """

    def __init__(self, n_fft: int, hop: int, centred: bool = True, device: str | torch.device | None = None) -> None:
        self.n_fft, self.hop, self.device = n_fft, hop, device
        self.finished = 0
        """Samples from the beginning of the song that no later STFT frame adds to."""
        # of the first sample of the sums, before the song when windows are centred
        self._first = -(n_fft // 2) if centred else 0
        self._origin = self._first
        self._sums: torch.Tensor | None = None
        self._weights: torch.Tensor | None = None

    def add(self, start: int, spectrum: torch.Tensor) -> None:
        """Add STFT frames from number ``start``, (..., bin, frame); each is added once, in order."""
        # (..., frame, time of a window)
        windows = torch.fft.irfft(spectrum.transpose(-1, -2), self.n_fft)
        window = torch.hann_window(self.n_fft, dtype=windows.dtype, device=windows.device)
        if self._sums is None or self._weights is None:
            where = {"dtype": windows.dtype, "device": self.device or windows.device}
            self._sums = torch.zeros(*windows.shape[:-2], 0, **where)
            self._weights = torch.zeros(0, **where)
        squares = (window**2).expand(windows.shape[-2], -1)
        first = self._origin + start * self.hop - self._first
        self._sums = _added(self._sums, first, self._overlapped(windows * window))
        self._weights = _added(self._weights, first, self._overlapped(squares))
        self.finished = max(0, self._origin + (start + windows.shape[-2]) * self.hop)

    def _overlapped(self, windows: torch.Tensor) -> torch.Tensor:
        """(..., frame, time of a window) to (..., time), windows a hop apart."""
        frames, hops = windows.shape[-2], -(-self.n_fft // self.hop)
        padded = functional.pad(windows, (0, hops * self.hop - self.n_fft))
        parts = padded.reshape(*windows.shape[:-1], hops, self.hop)
        total = parts.new_zeros(*windows.shape[:-2], frames + hops - 1, self.hop)
        for index in range(hops):
            total[..., index : index + frames, :] += parts[..., index, :]
        return total.flatten(-2)[..., : self.hop * (frames - 1) + self.n_fft]

    def take(self, stop: int) -> torch.Tensor:
        """The samples from where the last call stopped, (..., time); zeros beyond the last STFT frame."""
        if self._sums is None or self._weights is None:
            raise SeparatorError("got no STFT frames, expected some of a song: call add first")
        start = max(0, self._first)
        taken = slice(start - self._first, stop - self._first)
        sums, weights = self._sums[..., taken], self._weights[taken]
        # no division where no window reaches
        audio = sums / torch.where(weights > 1e-11, weights, 1.0)
        self._sums, self._weights = (kept[..., taken.stop :].clone() for kept in (self._sums, self._weights))
        self._first = stop
        return functional.pad(audio, (0, stop - start - audio.shape[-1]))


def _added(total: torch.Tensor, first: int, added: torch.Tensor) -> torch.Tensor:
    """A sum, longer where what is added reaches beyond it."""
    stop = first + added.shape[-1]
    longer = functional.pad(total, (0, max(0, stop - total.shape[-1])))
    longer[..., first:stop] += added.to(total.device)
    return longer


@dataclass(frozen=True)
class SongSpectrum:
    """The spectrum of a song, of which STFT frames are computed when they are read.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` gives samples of the song, (channel, time).
    time : int
        Length of the song in samples.
    tail : int
        Zeros after the song, in samples; together they are longer than half a window.
    n_fft, hop : int
        As in `transformed`, with centred windows.
    device : str
        Where it is computed.

    Examples
    --------
    >>> song = torch.randn(2, 3000)
    >>> spectrum = SongSpectrum(lambda a, b: song[:, a:b], 3000, 0, 256, 64)
    >>> whole = transformed(song, 256, 64)
    >>> spectrum.frames, bool((spectrum.frames_between(40, 47) - whole[..., 40:47]).abs().max() < 1e-5)
    (47, True)
    """

    read: Callable[[int, int], torch.Tensor]
    time: int
    tail: int
    n_fft: int
    hop: int
    device: str = "cpu"

    @property
    def frames(self) -> int:
        """Number of STFT frames."""
        return 1 + (self.time + self.tail) // self.hop

    def frames_between(self, start: int, stop: int) -> torch.Tensor:
        """STFT frames from ``start`` to ``stop``, (channel, bin, frame)."""
        places = torch.arange(start * self.hop - self.n_fft // 2, (stop - 1) * self.hop + self.n_fft // 2)
        # mirrored at both ends of song and tail
        places = places.abs()
        end = self.time + self.tail - 1
        places = torch.where(places > end, 2 * end - places, places)
        first, last = int(places.min()), int(places.max()) + 1
        audio = self.read(min(first, self.time), min(last, self.time))
        audio = functional.pad(audio, (0, last - first - audio.shape[-1]))
        return transformed(audio[:, places - first].to(self.device), self.n_fft, self.hop, centred=False)


@dataclass(frozen=True)
class ComplexAsChannels:
    """Short-time Fourier transform whose real and imaginary parts are channels: left, left, right, right.

    The window is Hann's, periodic; nothing is scaled.

    Parameters
    ----------
    n_fft, hop : int
        Window and distance of the windows, in samples.
    bins : int
        How many of the ``n_fft // 2 + 1`` bins are kept, from the lowest; the inverse transform sets others to zero.
    centred : bool
        Windows are centred on multiples of the hop, and the ends are mirrored. Otherwise the first begins with the
        first sample, and half a window at both ends of the inverse transform is unreliable.

    References
    ----------
    W. Choi, M. Kim, J. Chung, D. Lee, S. Jung, "Investigating U-Nets with various intermediate blocks for
    spectrogram-based singing voice separation", ISMIR 2020, section 2.1.

    Examples
    --------
    >>> transform = ComplexAsChannels(n_fft=64, hop=16, bins=33)
    >>> noise = torch.randn(1, 2, 320)
    >>> packed = transform.pack(noise)
    >>> tuple(packed.shape)
    (1, 4, 33, 21)
    >>> bool((transform.unpack(packed, 320) - noise).abs().max() < 1e-5)
    True
    """

    n_fft: int
    hop: int
    bins: int
    centred: bool = True

    def __post_init__(self) -> None:
        if self.n_fft % 2 or not 0 < self.hop <= self.n_fft // 2 or not 0 < self.bins <= self.n_fft // 2 + 1:
            raise SeparatorError(
                f"got n_fft={self.n_fft}, hop={self.hop}, bins={self.bins}, expected an even n_fft, a hop of at most "
                "n_fft / 2, and at most n_fft / 2 + 1 bins"
            )

    def pack(self, audio: torch.Tensor) -> torch.Tensor:
        """Spectrogram (batch, 4, bin, frame) of stereo audio (batch, 2, time)."""
        spectrum = transformed(audio, self.n_fft, self.hop, self.centred)[..., : self.bins, :]
        # (batch, channel, part, bin, frame)
        return torch.view_as_real(spectrum).permute(0, 1, 4, 2, 3).flatten(1, 2)

    def unpack(self, packed: torch.Tensor, length: int) -> torch.Tensor:
        """Stereo audio (batch, 2, ``length``) of a spectrogram (batch, 4, bin, frame)."""
        batch, parts, bins, frames = packed.shape
        spectrum = packed.reshape(batch, parts // 2, 2, bins, frames).permute(0, 1, 3, 4, 2).contiguous()
        missing = self.n_fft // 2 + 1 - bins
        complete = functional.pad(torch.view_as_complex(spectrum), (0, 0, 0, missing))
        song = OverlapAdd(self.n_fft, self.hop, self.centred)
        song.add(0, complete)
        return song.take(length)
