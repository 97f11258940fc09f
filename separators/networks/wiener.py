"""One iteration of the multichannel Wiener filter: for whole songs in little memory, and for losses in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce

import torch

EPSILON = 2.0**-52
"""Added to divisors, for silent bins; in any precision."""
LOUDEST = 10.0
"""Largest magnitude of a spectrum that is filtered as it is; louder spectra are scaled down, and back afterwards."""
BLOCK = 128
"""STFT frames of a song that are filtered at a time."""


def wiener_filter(magnitudes: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
    r"""Estimate complex spectra of stereo sources from their magnitudes and the mixture.

    With the mixture's phase, magnitudes become estimates :math:`y_j`. Their power averaged over channels is
    :math:`p_j(t, f)` and :math:`R_j(f) = \sum_t y_j y_j^H / \sum_t p_j` their spatial covariance. The result is
    :math:`p_j R_j (\sum_k p_k R_k)^{-1} x`. It is differentiable in the magnitudes.

    Parameters
    ----------
    magnitudes : Tensor, shape (..., source, 2, bin, frame)
        Not negative.
    mixture : Tensor, shape (..., 2, bin, frame), complex
        Double precision is better: the covariances of sources on one side only are nearly singular.

    Returns
    -------
    Tensor, shape (..., source, 2, bin, frame), complex
        As norbert's ``wiener(magnitudes, mixture, iterations=1)`` gives it.

    References
    ----------
    S. Uhlich et al., "Improving music source separation based on deep neural networks through data augmentation and
    network blending", ICASSP 2017, equations 3 to 5.

    Examples
    --------
    >>> mixture = torch.randn(2, 9, 50, dtype=torch.complex128)
    >>> halves = (mixture.abs() / 2).expand(2, -1, -1, -1)
    >>> bool((wiener_filter(halves, mixture).sum(0) - mixture).abs().max() < 1e-5)
    True
    """
    # one scale for all items, by the loudest bin
    scale = _scale(mixture.abs().max())
    mixture, magnitudes = mixture / scale, magnitudes / scale
    return _filtered(magnitudes, mixture, _covariances(_sums(magnitudes, mixture))) * scale


Frames = Callable[[int, int], torch.Tensor]
"""From the numbers of a first and a last STFT frame to what lies between, whose last axis is that of STFT frames."""


def filtered_blocks(spectrum: Frames, frames: int, masks: Frames) -> Iterator[tuple[int, torch.Tensor]]:
    """Filter a whole song's spectrum block by block, in double precision.

    Only the sums for the covariances of the song grow with it: by 5 MB a minute for four sources and a hop of a quarter
    of a window.

    Parameters
    ----------
    spectrum : callable
        ``spectrum(start, stop)`` gives STFT frames of the mixture, (2, bin, frame), complex. Called three times for
        every STFT frame: for the loudness of the song, for its covariances, then for the sources.
    frames : int
        STFT frames of the song.
    masks : callable
        ``masks(start, stop)`` gives the masks of STFT frames, (source, 2, bin, frame); their products with the
        mixture's magnitudes are the sources' magnitudes. Called twice for every STFT frame.

    Yields
    ------
    int
        First STFT frame of a block.
    Tensor, shape (source, 2, bin, frame), complex
        The sources in it, as `wiener_filter` gives them.

    Examples
    --------
    >>> mixture = torch.randn(2, 9, 500, dtype=torch.complex128)
    >>> masks = torch.rand(4, 2, 9, 500)
    >>> blocks = filtered_blocks(lambda a, b: mixture[..., a:b], 500, lambda a, b: masks[..., a:b])
    >>> whole = wiener_filter(masks * mixture.abs(), mixture)
    >>> bool((torch.cat([block for _, block in blocks], dim=-1) - whole).abs().max() < 1e-9)
    True
    """
    ranges = [(start, min(start + BLOCK, frames)) for start in range(0, frames, BLOCK)]
    loudest = reduce(torch.maximum, (spectrum(*between).abs().max() for between in ranges))
    scale = _scale(loudest).double()

    def block(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        mixture = spectrum(start, stop).to(torch.complex128) / scale
        return masks(start, stop) * mixture.abs(), mixture

    # in one tensor from the start: many small ones between large ones would leave holes in memory
    sums = torch.empty(0)
    for number, between in enumerate(ranges):
        summed = _sums(*block(*between))
        sums = sums if number else summed.new_empty(len(ranges), *summed.shape)
        sums[number] = summed
    covariances = _covariances(sums.sum(dim=0))
    del sums
    for between in ranges:
        yield between[0], _filtered(*block(*between), covariances) * scale


def masked_blocks(
    spectrum: Frames, frames: int, masks: Callable[[int, int], torch.Tensor]
) -> Iterator[tuple[int, torch.Tensor]]:
    """The sources of a song without the filter: masks times the mixture's spectrum, whose phase they keep.

    Parameters
    ----------
    spectrum, frames, masks
        As in `filtered_blocks`; each STFT frame is read once.

    Yields
    ------
    int
        First STFT frame of a block.
    Tensor, shape (source, 2, bin, frame), complex
        The sources in it.

    Examples
    --------
    >>> mixture = torch.randn(2, 9, 500, dtype=torch.complex128)
    >>> masks = torch.rand(1, 2, 9, 500)
    >>> blocks = masked_blocks(lambda a, b: mixture[..., a:b], 500, lambda a, b: masks[..., a:b])
    >>> bool((torch.cat([block for _, block in blocks], dim=-1) == masks * mixture).all())
    True
    """
    for start in range(0, frames, BLOCK):
        between = start, min(start + BLOCK, frames)
        yield start, masks(*between) * spectrum(*between)


def _scale(loudest: torch.Tensor) -> torch.Tensor:
    return (loudest / LOUDEST).clamp_min(1.0)


def _sums(magnitudes: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
    """Outer products of the estimates summed over STFT frames, (..., source, 4, bin).

    These are left by left, right by right, real and imaginary part of left by right. Estimates have the mixture's
    phase, so that all sources share one difference between the channels.
    """
    loudness = mixture.abs()
    left, right = torch.where(loudness > 0, mixture / loudness, torch.ones_like(mixture)).unbind(dim=-3)
    difference = left * right.conj()
    squares = magnitudes.square().sum(dim=-1)
    both = magnitudes[..., 0, :, :] * magnitudes[..., 1, :, :]
    across = torch.einsum("...sft,...ftp->...spf", both, torch.view_as_real(difference))
    return torch.cat([squares, across], dim=-2)


def _covariances(sums: torch.Tensor) -> torch.Tensor:
    power = sums[..., :2, :].mean(dim=-2, keepdim=True)
    return sums / (EPSILON + power)


def _filtered(magnitudes: torch.Tensor, mixture: torch.Tensor, covariances: torch.Tensor) -> torch.Tensor:
    power = magnitudes.square().mean(dim=-3)
    total = torch.einsum("...sft,...spf->...pft", power, covariances)
    left, right = total[..., 0, :, :] + EPSILON**0.5, total[..., 1, :, :] + EPSILON**0.5
    across = torch.complex(total[..., 2, :, :], total[..., 3, :, :])
    # the inverse of a Hermitian two by two matrix, applied to the mixture
    x_left, x_right = mixture.unbind(dim=-3)
    determinant = left * right - total[..., 2, :, :].square() - total[..., 3, :, :].square()
    whitened = torch.stack(
        [(right * x_left - across * x_right) / determinant, (left * x_right - across.conj() * x_left) / determinant],
        dim=-3,
    )
    own_left, own_right, real, imaginary = covariances.unbind(dim=-2)
    rows = [
        torch.stack([own_left + 0j, torch.complex(real, imaginary)], dim=-2),
        torch.stack([torch.complex(real, -imaginary), own_right + 0j], dim=-2),
    ]
    return torch.einsum("...scdf,...dft->...scft", torch.stack(rows, dim=-3), whitened) * power.unsqueeze(-3)
