"""Least-squares projection of estimates onto the span of the delayed references: BSS Eval's distortion filters."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .arithmetic import Arithmetic, Array, Matrix, NotPositiveDefiniteError
from .framing import SourceAudio, Waves, raise_not_finite

TAPS = 512
"""Length of museval's distortion filters."""

_SIZE = 4096
_STEP = _SIZE - (TAPS - 1)
_BLOCKS = 8
_STRETCH = 4 * _BLOCKS * _STEP
_EPSILON = float(np.finfo(np.float64).eps)


class Filters(NamedTuple):
    """Filters from reference channels to estimate channels, both (input, tap, output) in float64.

    Attributes
    ----------
    every : ndarray
        Best approximation of every estimate from all references.
    own : ndarray
        Best approximation from the reference of the same source; zero from the others.
    """

    every: Matrix
    own: Matrix


class Projection(Protocol):
    """References of a span of time, ready to have estimates projected on them."""

    def filters(self, estimates: SourceAudio) -> Filters:
        """The filters that bring the references closest to the estimates."""
        ...


class CholeskyProjection:
    """The normal equations of all J C 512 delayed reference channels, factored once for any number of estimates.

    The matrix is block-Toeplitz: J C x J C blocks, each of 512 x 512 correlations. It is scaled to a unit
    diagonal; channels without energy get no filter. museval's 2.2e-16 on the diagonal is kept, since it matters to
    audio near silence.

    Parameters
    ----------
    references, span, arithmetic
        See `stemfuse.analysis.rounding.project`.

    Attributes
    ----------
    condition : float
        Reciprocal condition number (1-norm) of the scaled matrix; 0 when it has no Cholesky factor without more on its
        diagonal.

    References
    ----------
    E. Vincent, R. Gribonval, C. Fevotte, "Performance measurement in blind audio source separation", IEEE Trans.
    Audio, Speech, Language Process. 14(4), 2006, section III: the projections P_sj and P_s. E. Vincent et al., "First
    stereo audio source separation evaluation campaign", ICA 2007, eq. 3-6: their multichannel form for images.
    """

    def __init__(self, references: SourceAudio, span: slice, arithmetic: Arithmetic) -> None:
        self._references, self._span, self._arithmetic = references, span, arithmetic
        lags = correlations(references, references, span, arithmetic)
        if not np.isfinite(lags).all():
            raise_not_finite(references, "references")
        energy = np.diagonal(lags[:, :, 0])
        sounding = energy > np.finfo(np.float64).tiny
        self._scale = np.where(sounding, 1 / np.sqrt(np.where(sounding, energy, 1)), 0)
        self._diagonal = np.where(sounding, _EPSILON * self._scale**2, 1)
        self._lags = two_sided(lags * self._scale[:, None, None] * self._scale[:, None])
        self._factor, self.condition = self._factored(slice(None))
        self._own_factors: dict[int, Array] = {}

    def _factored(self, channels: slice) -> tuple[Array, float]:
        """Cholesky factor and condition of the normal equations of some reference channels."""
        ridge = 0.0
        while True:
            matrix = block_toeplitz(self._lags[channels, channels])
            matrix[np.diag_indices_from(matrix)] += np.repeat(self._diagonal[channels] + ridge, TAPS)
            try:
                factor, condition = self._arithmetic.factor(matrix)
            except NotPositiveDefiniteError:
                ridge = max(10 * ridge, _EPSILON)
            else:
                return factor, 0.0 if ridge else condition

    def filters(self, estimates: SourceAudio) -> Filters:
        """The filters that bring the references closest to the estimates.

        Parameters
        ----------
        estimates : SourceAudio
            Of the references' shape.

        Raises
        ------
        AudioError
            A sample is NaN or infinite.
        """
        lags = correlations(self._references, estimates, self._span, self._arithmetic)
        if not np.isfinite(lags).all():
            raise_not_finite(estimates, "estimates")
        right = self._scale[:, None, None] * lags.swapaxes(1, 2)
        every = self._scale[:, None, None] * self._solved(self._factor, right)
        if len(estimates.sources) == 1:
            return Filters(every, every)
        own = np.zeros_like(every)
        for block in source_channels(estimates):
            if block.start not in self._own_factors:
                self._own_factors[block.start], _ = self._factored(block)
            own[block, :, block] = self._solved(self._own_factors[block.start], right[block, :, block])
        return Filters(every, self._scale[:, None, None] * own)

    def _solved(self, factor: Array, right: Matrix) -> Matrix:
        inputs, taps, outputs = right.shape
        return self._arithmetic.solve(factor, right.reshape(inputs * taps, outputs)).reshape(right.shape)


def correlations(references: SourceAudio, others: SourceAudio, span: slice, arithmetic: Arithmetic) -> Matrix:
    """Correlations of reference channels with others, at delays of the reference of 0 to 511 samples.

    One streaming pass by overlapped blocks (Stockham 1966): the cross-spectra of 4096-point blocks are summed, and
    transformed back once.

    Returns
    -------
    ndarray, shape (reference channel, other channel, lag), float64
        sum_t x_a(t - lag) y_b(t).
    """
    parts = arithmetic.stream(partial(_cross_spectra, arithmetic), _stretches(references, others, span))
    total = next(parts)
    for part in parts:
        total += part
    # the references were turned round in time: lag 0 lies in the last place, lag 1 in the first
    lags: Matrix = np.roll(arithmetic.get(arithmetic.waves(total, _SIZE)), 1, axis=2)[:, :, :TAPS]
    return lags


def _stretches(references: SourceAudio, others: SourceAudio, span: slice) -> Iterator[tuple[Waves, Waves]]:
    """Some seconds of the references, with the 511 samples before them, and of the others."""
    before: Waves = np.zeros((len(references.sources), references.channels, TAPS - 1), np.float32)
    for start in range(span.start, span.stop, _STRETCH):
        stop = min(start + _STRETCH, span.stop)
        now = np.concatenate([before, references.read(start, stop)], axis=2)
        yield now, now[:, :, TAPS - 1 :] if others is references else others.read(start, stop)
        before = now[:, :, -(TAPS - 1) :]


def _cross_spectra(arithmetic: Arithmetic, references: Waves, others: Waves) -> Array:
    """Sum of a stretch's cross-spectra over blocks, a few at a time so that they stay in the processor's cache."""
    total: Any = 0
    length = others.shape[2]
    for start in range(0, length, _BLOCKS * _STEP):
        stop = min(start + _BLOCKS * _STEP, length)
        whole = -(-(stop - start) // _STEP) * _STEP
        # a product with the spectrum of the reversed signal is a correlation, without conjugates to be written out
        reversed_blocks = sliding_window_view(
            rows(references[:, :, start : stop + TAPS - 1], whole + TAPS - 1), _SIZE, axis=1
        )[:, ::_STEP, ::-1]
        now = rows(others[:, :, start:stop], whole)
        padded = np.zeros((len(now), whole // _STEP, _SIZE))
        padded[:, :, TAPS - 1 :] = now.reshape(len(now), -1, _STEP)
        # what is not finite is found in the sum, and reported then
        with np.errstate(over="ignore", invalid="ignore"):
            first, second = (
                arithmetic.by_frequency(arithmetic.spectra(blocks, _SIZE)) for blocks in (reversed_blocks, padded)
            )
            total = total + first @ second.swapaxes(1, 2)
    return total


def rows(samples: Waves, length: int) -> Matrix:
    """Channels of all sources one below the other, zero-padded at the end: (source * channel, length), float64."""
    channels = np.zeros((samples.shape[0] * samples.shape[1], length))
    channels[:, : samples.shape[2]] = samples.reshape(len(channels), -1)
    return channels


def source_channels(audio: SourceAudio) -> list[slice]:
    """For every source the rows that are its channels."""
    return [
        slice(first, first + audio.channels) for first in range(0, len(audio.sources) * audio.channels, audio.channels)
    ]


def two_sided(lags: Matrix) -> Matrix:
    """Correlations of all pairs at lags -511 to 511, from those at 0 to 511."""
    return np.concatenate([lags.swapaxes(0, 1)[:, :, :0:-1], lags], axis=2)


def block_toeplitz(lags: Matrix) -> Matrix:
    """The matrix whose block (a, b) has lags[a, b, 511 + k - l] at row k, column l."""
    count = len(lags)
    matrix = np.empty((count, TAPS, count, TAPS))
    for first in range(count):
        for second in range(count):
            matrix[first, :, second] = sliding_window_view(lags[first, second, ::-1], TAPS)[::-1]
    return matrix.reshape(count * TAPS, count * TAPS)
