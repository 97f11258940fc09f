"""What the training of separators minimises: the error of a network's stems, in the form that each family needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stemfuse.separators.networks.chunking import centred, mean_masks
from stemfuse.separators.networks.spectrogram import ComplexAsChannels, transformed
from stemfuse.separators.networks.wiener import wiener_filter
from stemfuse.separators.stems import SOURCES

from .combination_loss import combination_loss

FLOOR = 1e-3
"""Energy added to signal and error of the SDR, relative to the mixture's: 30 dB below the mixture is silence."""

ERRORS: dict[str, Callable[[Tensor], Tensor]] = {"l1": torch.abs, "l2": torch.square}
"""Error of a sample, from its difference to the reference."""

SDR = "sdr"
"""Name of the loss that is minus the SDR of each source of a chunk in dB."""

SDR_FLOOR = 1e-2
"""As `FLOOR`, in that loss: without it silent sources would take most of every step."""

SPECTROGRAM = "spectrogram"
"""Name of the loss that compares spectrograms, not waveforms."""


def sdr_db(estimates: Tensor, references: Tensor, mixture: Tensor, floor: float = FLOOR) -> Tensor:
    """SDR of each source of each chunk in dB.

    Parameters
    ----------
    estimates, references : Tensor, shape (batch, source, channel, time)
    mixture : Tensor, shape (batch, channel, time)
    floor : float
        Energy added to signal and error, relative to the mixture's, for silent sources.

    Returns
    -------
    Tensor, shape (batch, source)

    Examples
    --------
    >>> references = torch.ones(1, 2, 2, 1000)
    >>> [round(float(db), 1) for db in sdr_db(0.9 * references, references, references.sum(1))[0]]
    [18.6, 18.6]
    """
    energy = floor * mixture.square().sum(dim=(1, 2))[:, None] + 1e-9
    signal, error = (part.square().sum(dim=(2, 3)) + energy for part in (references, references - estimates))
    return 10 * torch.log10(signal / error)


class SeparationObjective(nn.Module, ABC):
    """Loss per chunk in training, and minus the SDR in dB per chunk in validation.

    Parameters
    ----------
    network : Module
        The network to train; only its own tensors are saved.
    sources : sequence of str
        The sources that it gives.
    loss : {"l1", "l2", "sdr"}
        Mean absolute or squared error of the waveforms, or minus their SDR in dB, to which soft sources count as much
        as loud ones.
    weights : sequence of float, optional
        Weights of the sources in the loss; equal when not given.
    """

    def __init__(
        self, network: nn.Module, sources: Sequence[str] = SOURCES, loss: str = "l1", weights: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.loss = loss
        self.shares: Tensor
        self.chosen = [SOURCES.index(source) for source in sources]
        shares = torch.tensor(weights or [1.0] * len(sources))
        self.register_buffer("shares", shares / shares.sum(), persistent=False)

    def forward(self, stems: Tensor) -> Tensor:
        """One value per chunk, of stems (batch, source, channel, time)."""
        mixture, references = stems.sum(dim=1), stems[:, self.chosen]
        if self.training:
            return self.losses(mixture, references)
        estimates = self.separate(mixture)
        length = estimates.shape[-1]
        return -sdr_db(estimates, self.covered(references, length), self.covered(mixture, length)).mean(dim=1)

    def covered(self, audio: Tensor, length: int) -> Tensor:
        """The part of audio (..., time) that outputs of a length are of: the middle."""
        return centred(audio, length)

    @abstractmethod
    def separate(self, mixture: Tensor) -> Tensor:
        """Stems (batch, source, channel, time) of mixtures (batch, channel, time), or the part that is `covered`."""

    def losses(self, mixture: Tensor, references: Tensor) -> Tensor:
        """Mean error of each chunk, sources weighted."""
        estimates = self.separate(mixture)
        references, mixture = (self.covered(audio, estimates.shape[-1]) for audio in (references, mixture))
        if self.loss == SDR:
            errors = -sdr_db(estimates, references, mixture, SDR_FLOOR)
        else:
            errors = ERRORS[self.loss](estimates - references).mean(dim=(2, 3))
        weighted: Tensor = errors @ self.shares
        return weighted


class SpectrogramObjective(SeparationObjective):
    """TFC-TDF-U-Nets: the loss is of the waveform after the inverse transform, or of the spectrogram.

    The former is that of Kim et al. (2021, section 2.2), the latter that of Choi et al. (ISMIR 2020).

    Parameters
    ----------
    transform : ComplexAsChannels
        Into the spectrograms that the network takes.
    loss : {"l1", "l2", "sdr", "spectrogram"}
        ``"spectrogram"`` is the mean squared error of what the network ``compared``: only networks of one source.
    network, **more
        See `SeparationObjective`.
    """

    def __init__(self, network: nn.Module, transform: ComplexAsChannels, **more: Any) -> None:
        super().__init__(network, **more)
        self.transform = transform

    def separate(self, mixture: Tensor) -> Tensor:
        """See `SeparationObjective`."""
        # the inverse transform needs single precision
        spectra = self.network(self.transform.pack(mixture)).float()
        rows = self.transform.unpack(spectra, mixture.shape[-1])
        return rows.reshape(len(mixture), len(self.chosen), *mixture.shape[1:])

    def losses(self, mixture: Tensor, references: Tensor) -> Tensor:
        """See `SeparationObjective`."""
        if self.loss != SPECTROGRAM:
            return super().losses(mixture, references)
        estimated, true = self.network.compared(*(self.transform.pack(audio) for audio in (mixture, references[:, 0])))
        errors: Tensor = (estimated.float() - true).square().mean(dim=(1, 2, 3))
        return errors


class MaskObjective(SeparationObjective):
    """X-UMX and Danna-Sep's U-Net: the multi-domain combination loss; in validation stems are always Wiener filtered.

    Parameters
    ----------
    n_fft : int
        Window in samples; the hop is a quarter of it.
    terms : mapping
        ``kind``, ``wiener``, ``combinations``, ``time_weight`` of
        `stemfuse.separators.networks.training.combination_loss.combination_loss`; with the kind ``"sdr"`` the loss is
        that of `SeparationObjective`, of Wiener filtered stems.
    network, **more
        See `SeparationObjective`.
    """

    def __init__(self, network: nn.Module, n_fft: int, terms: Mapping[str, Any], **more: Any) -> None:
        super().__init__(network, loss=terms["kind"], **more)
        self.n_fft, self.hop, self.terms = n_fft, n_fft // 4, dict(terms)

    def _masks(self, spectrum: Tensor) -> Tensor:
        masks: Tensor = self.network(spectrum.abs())
        return masks.float()

    def separate(self, mixture: Tensor) -> Tensor:
        """See `SeparationObjective`."""
        spectrum = transformed(mixture, self.n_fft, self.hop)
        magnitudes = self._masks(spectrum) * spectrum.abs()[:, None]
        filtered = wiener_filter(magnitudes.double(), spectrum.to(torch.complex128)).to(spectrum.dtype)
        window = torch.hann_window(self.n_fft, dtype=mixture.dtype, device=mixture.device)
        rows = torch.istft(filtered.flatten(0, 2), self.n_fft, self.hop, window=window, length=mixture.shape[-1])
        return rows.reshape(len(mixture), len(self.chosen), *mixture.shape[1:])

    def losses(self, mixture: Tensor, references: Tensor) -> Tensor:
        """The same value for all chunks, as the loss is a mean over them; but the SDR is that of each, filtered."""
        if self.loss == SDR:
            return super().losses(mixture, references)
        masks = self._masks(transformed(mixture, self.n_fft, self.hop))
        value = combination_loss(masks, mixture, references, self.n_fft, self.hop, **self.terms)
        return value.expand(len(mixture))


class MagnitudeObjective(SeparationObjective):
    """D3Net: the mean squared error of one source's magnitudes in the bins that are separated.

    In validation stems have the mixture's phase, and patches and channels are averaged as the separator does it.

    Parameters
    ----------
    network : Module
        From the mixture's magnitudes to the source's.
    n_fft : int
        Window in samples; the hop is a quarter of it.
    patch : int
        STFT frames that are separated at a time, see `stemfuse.separators.networks.chunking.mean_masks`.
    **more
        See `SeparationObjective`.

    References
    ----------
    N. Takahashi, Y. Mitsufuji, "D3Net: densely connected multidilated DenseNet for music source separation", 2020,
    section 3.
    """

    def __init__(self, network: nn.Module, n_fft: int, patch: int, **more: Any) -> None:
        super().__init__(network, **more)
        self.n_fft, self.hop, self.patch = n_fft, n_fft // 4, patch

    def separate(self, mixture: Tensor) -> Tensor:
        """See `SeparationObjective`."""
        spectrum = transformed(mixture, self.n_fft, self.hop)
        loudness = spectrum.abs()
        masks = mean_masks(self.network, lambda start, stop: loudness[..., start:stop], loudness.shape[-1], self.patch)
        window = torch.hann_window(self.n_fft, dtype=mixture.dtype, device=mixture.device)
        rows = torch.istft(
            (masks * spectrum).flatten(0, 1), self.n_fft, self.hop, window=window, length=mixture.shape[-1]
        )
        return rows.reshape(len(mixture), 1, *mixture.shape[1:])

    def losses(self, mixture: Tensor, references: Tensor) -> Tensor:
        """See `SeparationObjective`."""
        given, true = (transformed(audio, self.n_fft, self.hop).abs() for audio in (mixture, references[:, 0]))
        used = slice(None, self.network.shape.used_bins)
        difference = self.network(given).float()[:, :, used] - true[:, :, used]
        errors: Tensor = difference.square().mean(dim=(1, 2, 3))
        return errors


class WaveformObjective(SeparationObjective):
    """Demucs and ResUNet143: the output is the middle of the input (Défossez et al. 2019, section 4), or all of it."""

    def separate(self, mixture: Tensor) -> Tensor:
        """See `SeparationObjective`."""
        stems: Tensor = self.network(mixture)
        return stems.float().reshape(len(mixture), len(self.chosen), mixture.shape[1], -1)


class BeginningObjective(WaveformObjective):
    """Danna-Sep's Demucs: the output begins where the input does, and ends before it."""

    def covered(self, audio: Tensor, length: int) -> Tensor:
        """See `SeparationObjective`."""
        return audio[..., :length]
