"""The loss that X-UMX is trained by: errors of sources and of all their sums, in frequency and in time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional

from stemfuse.separators.networks.spectrogram import transformed
from stemfuse.separators.networks.wiener import wiener_filter

TIME_WEIGHT = 10.0
"""Of the loss in time against that in frequency."""
_SMALL = 1e-10

Products = Sequence[torch.Tensor]
"""Three inner products of two signals."""


def combination_sums(stems: torch.Tensor) -> torch.Tensor:
    """Sums of one, of two and so on, but not of all sources.

    Parameters
    ----------
    stems : Tensor, shape (batch, source, ...)

    Returns
    -------
    Tensor, shape (batch, combination, ...)
        Of four sources 4, 6 and 4, 14 in all.

    References
    ----------
    R. Sawata, S. Uhlich, S. Takahashi, Y. Mitsufuji, "All for one and one for all: improving music separation by
    bridging networks", ICASSP 2021, section 3.3.

    Examples
    --------
    >>> combination_sums(torch.tensor([[1.0, 10.0, 100.0]]))
    tensor([[  1.,  10., 100.,  11., 101., 110.]])
    """
    sources = range(stems.shape[1])
    chosen = [some for count in sources if count for some in itertools.combinations(sources, count)]
    return torch.stack([stems[:, list(some)].sum(dim=1) for some in chosen], dim=1)


def weighted_sdr_loss(estimates: torch.Tensor, references: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
    """Weighted SDR loss: angles between estimates and references, and between their remainders, from 0 to 2.

    The remainder is the mixture minus the signal. The loss is one minus a weighted mean of two cosines, that between
    estimate and reference and that between their remainders; weights are the energies of reference and remainder.

    Parameters
    ----------
    estimates, references : Tensor, shape (..., time)
        Sources, or sums of them.
    mixture : Tensor, which broadcasts to them
        The mixture that they are part of.

    Returns
    -------
    Tensor, shape ()
        Mean over all signals.

    References
    ----------
    H.-S. Choi, J.-H. Kim, J. Huh, A. Kim, J.-W. Ha, K. Lee, "Phase-aware speech enhancement with deep complex U-Net",
    ICLR 2019, equation 9.

    Examples
    --------
    >>> song = torch.randn(2, 4, 1000)
    >>> float(weighted_sdr_loss(song / 2, song / 2, song)) < 1e-5
    True
    """
    rest = mixture - references
    pairs = (estimates, references), (mixture - estimates, rest)
    products = [[(one * other).sum(dim=-1) for one, other in ((a, a), (a, b), (b, b))] for a, b in pairs]
    return _weighted_sdr(*products)


def _weighted_sdr(signal: Products, rest: Products) -> torch.Tensor:
    """The same from inner products: estimate, estimate and reference, reference; and those of the remainders."""
    weight = signal[2] / (signal[2] + rest[2] + _SMALL)
    similarity, rest_similarity = (
        across / (own.clamp_min(_SMALL**2).sqrt() * true.clamp_min(_SMALL**2).sqrt())
        for own, across, true in (signal, rest)
    )
    loss: torch.Tensor = (1 - weight * similarity - (1 - weight) * rest_similarity).mean()
    return loss


def _loss_in_time(
    estimates: torch.Tensor, references: torch.Tensor, mixture: torch.Tensor, combinations: bool = True
) -> torch.Tensor:
    """`weighted_sdr_loss` over all combinations, from the inner products of all signals: no sums are computed."""
    count = references.shape[1]
    signals = torch.cat([estimates, references, mixture[:, None]], dim=1).transpose(1, 2).double()
    gram = signals @ signals.transpose(-1, -2)
    singles = torch.eye(count, dtype=gram.dtype, device=gram.device)
    chosen = combination_sums(singles[None])[0] if combinations else singles
    # the signals that each sum of estimates, and each sum of references, consists of
    estimated = functional.pad(chosen, (0, count + 1))
    true = functional.pad(chosen, (count, 1))
    whole = torch.eye(2 * count + 1, dtype=gram.dtype, device=gram.device)[-1]
    products = [
        [torch.einsum("ki,...ij,kj->...k", one, gram, other) for one, other in ((a, a), (a, b), (b, b))]
        for a, b in ((estimated, true), (whole - estimated, whole - true))
    ]
    return _weighted_sdr(*products).to(estimates.dtype)


def _mean_over_combinations(differences: torch.Tensor) -> torch.Tensor:
    """Mean square of all `combination_sums` of (batch, source, ...), without computing them."""
    count = differences.shape[1]
    # how many of the sums have one source, and how many have two sources together
    alone, together = 2 ** (count - 1) - 1, 2 ** (count - 2) - 1
    squares = differences.square().sum(dim=1).mean()
    square_of_sum = differences.sum(dim=1).square().mean()
    mean: torch.Tensor = ((alone - together) * squares + together * square_of_sum) / (2**count - 2)
    return mean


def _mean_square(differences: torch.Tensor) -> torch.Tensor:
    """Mean square of single sources."""
    mean: torch.Tensor = differences.square().mean()
    return mean


def combination_loss(
    masks: torch.Tensor,
    mixture: torch.Tensor,
    references: torch.Tensor,
    n_fft: int = 4096,
    hop: int = 1024,
    kind: Literal["magnitude", "complex"] = "complex",
    wiener: bool | None = None,
    combinations: bool = True,
    time_weight: float = TIME_WEIGHT,
) -> torch.Tensor:
    """Loss of masks over all combinations of sources, in frequency and, ten times, in time.

    Every term can be switched, as in the ablation of Danna-Sep's slides.

    Parameters
    ----------
    masks : Tensor, shape (batch, source, 2, bin, frame)
        Output of the network for the mixture's magnitudes.
    mixture : Tensor, shape (batch, 2, time)
        The mixture that they are applied to.
    references : Tensor, shape (batch, source, 2, time)
        The true sources.
    n_fft, hop : int
        Of the transform, in samples.
    kind : str
        ``"magnitude"``, as X-UMX was published: squared error of magnitudes. ``"complex"``, as Danna-Sep: squared error
        of complex spectra.
    wiener : bool, optional
        Whether one iteration of the multichannel Wiener filter comes before both terms; otherwise signals have the
        mixture's phase. When not given, as published: with ``"complex"``, not with ``"magnitude"``.
    combinations : bool
        All sums of sources, or only single ones.
    time_weight : float
        Of the loss in time; without it, none is computed.

    Returns
    -------
    Tensor, shape ()
        Differentiable in the masks.

    References
    ----------
    R. Sawata et al., ICASSP 2021, section 3.3. C.-Y. Yu, K.-W. Cheuk, "Danna-Sep: unite to separate them all", MDX
    workshop at ISMIR 2021, section 2.1.

    Examples
    --------
    >>> stems = torch.randn(1, 4, 2, 4096)
    >>> spectra = transformed(stems, 256, 64).abs()
    >>> song = stems.sum(1)
    >>> ideal = spectra / transformed(song, 256, 64).abs()[:, None]
    >>> bool(combination_loss(ideal, song, stems, 256, 64) < combination_loss(ideal.flip(1), song, stems, 256, 64))
    True
    """
    spectrum = transformed(mixture, n_fft, hop)
    true = transformed(references, n_fft, hop)
    magnitudes = masks * spectrum.abs()[:, None]
    if kind == "complex" if wiener is None else wiener:
        # single precision is not enough for signals on one side only
        estimated = wiener_filter(magnitudes.double(), spectrum.to(torch.complex128)).to(spectrum.dtype)
        magnitudes = estimated.abs()
    else:
        estimated = masks * spectrum[:, None]
    mean = _mean_over_combinations if combinations else _mean_square
    if kind == "complex":
        # the sum over both parts of a complex number, not their mean
        in_frequency = 2 * mean(torch.view_as_real(estimated - true))
    else:
        in_frequency = mean(magnitudes - true.abs())
    if not time_weight:
        return in_frequency
    window = torch.hann_window(n_fft, dtype=mixture.dtype, device=mixture.device)
    rows = torch.istft(estimated.flatten(0, 2), n_fft, hop, window=window, length=mixture.shape[-1])
    in_time = _loss_in_time(rows.reshape(references.shape), references, mixture, combinations)
    return in_frequency + time_weight * in_time
