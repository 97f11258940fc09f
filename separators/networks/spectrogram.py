"""Short-time Fourier transforms: complex ones as real channels for networks, and the inverse for whole songs."""

from __future__ import annotations

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
    """The inverse transform of a whole song, whose STFT frames are added block by block.

    Parameters
    ----------
    n_fft, hop : int
        As in `transformed`.
    frames : int
        STFT frames of the whole song.
    centred : bool
        As in `transformed`.
    device : str or torch device, optional
        Where the song is put together: the blocks' when not given.

    Examples
    --------
    >>> song = torch.randn(2, 3000)
    >>> spectrum = transformed(song, 256, 64)
    >>> inverse = OverlapAdd(256, 64, spectrum.shape[-1])
    >>> for start in range(0, spectrum.shape[-1], 10):
    ...     inverse.add(start, spectrum[..., start : start + 10])
    >>> bool((inverse.audio(3000) - song).abs().max() < 1e-5)
    True
    """

    def __init__(
        self, n_fft: int, hop: int, frames: int, centred: bool = True, device: str | torch.device | None = None
    ) -> None:
        self.n_fft, self.hop, self.centred, self.device = n_fft, hop, centred, device
        self._time = hop * (frames - 1) + n_fft
        self._sums: torch.Tensor | None = None
        self._weights: torch.Tensor | None = None

    def add(self, start: int, spectrum: torch.Tensor) -> None:
        """Add STFT frames from number ``start``, (..., bin, frame); each is added once."""
        # (..., frame, time of a window)
        windows = torch.fft.irfft(spectrum.transpose(-1, -2), self.n_fft)
        window = torch.hann_window(self.n_fft, dtype=windows.dtype, device=windows.device)
        if self._sums is None or self._weights is None:
            where = {"dtype": windows.dtype, "device": self.device or windows.device}
            self._sums = torch.zeros(*windows.shape[:-2], self._time, **where)
            self._weights = torch.zeros(self._time, **where)
        first = start * self.hop
        squares = (window**2).expand(windows.shape[-2], -1)
        for total, added in ((self._sums, windows * window), (self._weights, squares)):
            summed = self._overlapped(added).to(total.device)
            total[..., first : first + summed.shape[-1]] += summed

    def _overlapped(self, windows: torch.Tensor) -> torch.Tensor:
        """(..., frame, time of a window) to (..., time), windows a hop apart."""
        frames, hops = windows.shape[-2], -(-self.n_fft // self.hop)
        padded = functional.pad(windows, (0, hops * self.hop - self.n_fft))
        parts = padded.reshape(*windows.shape[:-1], hops, self.hop)
        total = parts.new_zeros(*windows.shape[:-2], frames + hops - 1, self.hop)
        for index in range(hops):
            total[..., index : index + frames, :] += parts[..., index, :]
        return total.flatten(-2)[..., : self.hop * (frames - 1) + self.n_fft]

    def audio(self, length: int) -> torch.Tensor:
        """The song, (..., time); zeros beyond its last STFT frame."""
        if self._sums is None or self._weights is None:
            raise SeparatorError("got no STFT frames, expected all of a song: call add first")
        first = self.n_fft // 2 if self.centred else 0
        sums, weights = self._sums[..., first : first + length], self._weights[first : first + length]
        # no division where no window reaches
        audio = sums / torch.where(weights > 1e-11, weights, 1.0)
        return functional.pad(audio, (0, length - audio.shape[-1]))


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
        song = OverlapAdd(self.n_fft, self.hop, frames, self.centred)
        song.add(0, complete)
        return song.audio(length)
