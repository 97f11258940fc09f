"""Least-squares projection of estimates onto the span of the delayed references: BSS Eval's distortion filters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stemfuse.analysis.errors import NotPositiveDefiniteError

from .arithmetic import Arithmetic, DeviceArray, Values
from .framing import SourceAudio, Waves, raise_not_finite, sounding

TAPS = 512
"""Length of museval's distortion filters."""

_SIZE = 2048
_STEP = _SIZE - (TAPS - 1)
# just over a second: a frame is seldom more than one block
_BLOCK = 32 * _STEP
_TRANSFORMS = 10
# filtering a shorter frame takes less time than finding its moments
_SHORTEST_FRAME = 8 * TAPS
# correlations: 134 MB, 8.5 minutes of four stereo sources in frames of a second
_MOST_CORRELATIONS = 1 << 24
_EPSILON = float(np.finfo(np.float64).eps)


class FrameMoments(NamedTuple):
    """Second moments of two signals in every frame, each computed as if there were silence around it.

    Attributes
    ----------
    lags : ndarray, shape (frame, reference channel, other channel, lag), float64
        sum_t x_a(t - lag) y_b(t) at lags from 0 to 511.
    energies : ndarray, shape (frame, 2, channel), float64
        Of the other, and of the other minus the reference.
    sounding : ndarray, shape (frame, source), bool
        Where the other is not silent in museval's sense.
    """

    lags: Values
    energies: Values
    sounding: NDArray[np.bool_]


class Filters(NamedTuple):
    """Filters from reference channels to estimate channels, (input, tap, output) in float64.

    Attributes
    ----------
    every : ndarray
        Best approximation of every estimate from all references.
    own : ndarray
        Best approximation from the reference of the same source; zero from the others.
    moments : tuple of FrameMoments
        Of the references with themselves and with the estimates, in the frames whose moments were asked for.
    """

    every: Values
    own: Values
    moments: tuple[FrameMoments, FrameMoments] | None = None


class Projection(Protocol):
    """References of a span of time, ready to project estimates on them."""

    def filters(self, estimates: Iterable[SourceAudio]) -> Iterator[Filters]:
        """The filters that bring the references closest to each of the estimates."""
        ...


class CholeskyProjection:
    """The normal equations of all J C 512 delayed reference channels, factored once for any number of estimates.

    The matrix is block-Toeplitz: J C x J C blocks, each of 512 x 512 correlations. It is scaled to a unit
    diagonal; channels without energy get no filter. museval's 2.2e-16 on the diagonal is kept, since it matters to
    audio near silence.

    Parameters
    ----------
    references, span, arithmetic, frames
        See `stemfuse.analysis.bss_eval.rounding.project`.

    Attributes
    ----------
    condition : float
        Reciprocal condition number (1-norm) of the scaled matrix; 0 when it has a Cholesky factor only after its
        diagonal is raised.

    References
    ----------
    E. Vincent, R. Gribonval, C. Fevotte, "Performance measurement in blind audio source separation", IEEE Trans.
    Audio, Speech, Language Process. 14(4), 2006, section III: the projections P_sj and P_s. E. Vincent et al., "First
    stereo audio source separation evaluation campaign", ICA 2007, eq. 3-6: their multichannel form for images.
    """

    def __init__(
        self, references: SourceAudio, span: slice, arithmetic: Arithmetic, frames: Sequence[slice] = ()
    ) -> None:
        self._references, self._span, self._arithmetic = references, span, arithmetic
        self._frames = _frames_with_moments(frames, len(references.sources) * references.channels)
        lags, self._moments = correlations(references, references, span, arithmetic, self._frames)
        if not np.isfinite(lags).all():
            raise_not_finite(references, "references")
        energy = np.diagonal(lags[:, :, 0])
        audible = energy > np.finfo(np.float64).tiny
        self._scale = np.where(audible, 1 / np.sqrt(np.where(audible, energy, 1)), 0)
        self._diagonal = np.where(audible, _EPSILON * self._scale**2, 1)
        self._lags = two_sided(lags * self._scale[:, None, None] * self._scale[:, None])
        self._factor, self.condition = self._factored(slice(None))
        self._own_factors: dict[int, DeviceArray] = {}

    def _factored(self, channels: slice) -> tuple[DeviceArray, float]:
        """Cholesky factor and condition of the normal equations of some reference channels."""
        lags, diagonal = self._lags[channels, channels], np.repeat(self._diagonal[channels], TAPS)
        ridge = 0.0
        while True:
            try:
                factor, condition = self._arithmetic.factor(_rows_of_toeplitz(lags, diagonal + ridge), len(diagonal))
            except NotPositiveDefiniteError:
                ridge = max(10 * ridge, _EPSILON)
            else:
                return factor, 0.0 if ridge else condition

    def filters(self, estimates: Iterable[SourceAudio]) -> Iterator[Filters]:
        """The filters that bring the references closest to each of the estimates.

        Parameters
        ----------
        estimates : iterable of SourceAudio
            Of the references' shape.

        Yields
        ------
        Filters
            Of one estimate after the other.

        Raises
        ------
        AudioError
            A sample is NaN or infinite.
        """
        for audio in estimates:
            lags, moments = correlations(self._references, audio, self._span, self._arithmetic, self._frames)
            if not np.isfinite(lags).all():
                raise_not_finite(audio, "estimates")
            both = (self._moments, moments) if self._frames else None
            right = self._scale[:, None, None] * lags.swapaxes(1, 2)
            every = self._scale[:, None, None] * self._solved(self._factor, right)
            if len(audio.sources) == 1:
                yield Filters(every, every, both)
                continue
            own = np.zeros_like(every)
            for channels in source_channels(audio):
                first = channels.start
                if first not in self._own_factors:
                    self._own_factors[first], _ = self._factored(channels)
                solved = self._solved(self._own_factors[first], right[channels, :, channels])
                own[channels, :, channels] = solved
            yield Filters(every, self._scale[:, None, None] * own, both)

    def _solved(self, factor: DeviceArray, right: Values) -> Values:
        inputs, taps, outputs = right.shape
        return self._arithmetic.solve(factor, right.reshape(inputs * taps, outputs)).reshape(right.shape)


def _frames_with_moments(frames: Sequence[slice], channels: int) -> Sequence[slice]:
    """The first frames, as many as there is memory for, if they adjoin and so make up the correlations of the span."""
    adjoin = all(frame.stop == following.start for frame, following in pairwise(frames))
    if not adjoin or any(frame.stop - frame.start < _SHORTEST_FRAME for frame in frames):
        return ()
    return frames[: max(1, _MOST_CORRELATIONS // (channels**2 * TAPS))]


def correlations(
    references: SourceAudio, others: SourceAudio, span: slice, arithmetic: Arithmetic, frames: Sequence[slice] = ()
) -> tuple[Values, FrameMoments]:
    """Correlations of reference channels with others, at delays of the reference of 0 to 511 samples.

    One pass that reads block by block. The cross-spectra of overlapping 2048-point transforms (Stockham 1966) are
    summed over a block and transformed back.

    Parameters
    ----------
    references, others, span, arithmetic
        See `stemfuse.analysis.bss_eval.rounding.project`.
    frames : sequence of slice
        Frames to have moments of as well; they adjoin, and the first begins with the span.

    Returns
    -------
    ndarray, shape (reference channel, other channel, lag), float64
        sum_t x_a(t - lag) y_b(t) over the span.
    FrameMoments
        The same in every frame.
    """
    channels = [len(audio.sources) * audio.channels for audio in (references, others)]
    moments = FrameMoments(
        np.zeros((len(frames), *channels, TAPS)),
        np.zeros((len(frames), 2, channels[1])),
        np.zeros((len(frames), len(others.sources)), bool),
    )
    total: Any = 0
    borders: Any = 0
    blocks = _blocks(references, others, span, frames)
    for number, lags, border, *rest in arithmetic.stream(partial(_block_moments, arithmetic), blocks):
        total, borders = total + lags, borders + border
        if number is not None:
            for kept, found in zip(moments, (lags, *rest), strict=True):
                kept[number] += found
    if frames:
        total += _lags(arithmetic, borders)
    return total, moments


def _blocks(
    references: SourceAudio, others: SourceAudio, span: slice, frames: Sequence[slice]
) -> Iterator[tuple[int | None, bool, Waves, Waves, Waves]]:
    """The span in blocks, none of which crosses the border of a frame.

    Each is: number of the frame, whether the frame begins here, the 511 samples of the references before the block,
    the references, and the others.
    """
    before: Waves = np.zeros((len(references.sources), references.channels, TAPS - 1), np.float32)
    rest = slice(frames[-1].stop if frames else span.start, span.stop)
    for number, section in enumerate([*frames, rest]):
        for start in range(section.start, section.stop, _BLOCK):
            stop = min(start + _BLOCK, section.stop)
            now = references.read(start, stop)
            other = now if others is references else others.read(start, stop)
            frame = number if number < len(frames) else None
            yield frame, frame is not None and start == section.start, before, now, other
            before = np.concatenate([before, now[:, :, -(TAPS - 1) :]], axis=2)[:, :, -(TAPS - 1) :]


def _block_moments(
    arithmetic: Arithmetic, frame: int | None, begins: bool, before: Waves, references: Waves, others: Waves
) -> tuple[int | None, Values, DeviceArray, Values, NDArray[np.bool_]]:
    """Number of the frame, correlations in a block and across the border before it, energies, which sources sound."""
    whole = -(-others.shape[2] // _STEP) * _STEP
    reference = rows(np.concatenate([before, references], axis=2), TAPS - 1 + whole)
    other = rows(others, whole)
    # a product with the spectrum of the reversed signal is a correlation, without conjugates to be written out
    first = sliding_window_view(reference, _SIZE, axis=1)[:, ::_STEP, ::-1]
    second = other.reshape(len(other), -1, _STEP)

    def products(first: Values, second: Values) -> DeviceArray:
        """Sum over transforms of the products of all pairs: (frequency, reference channel, other channel)."""
        return arithmetic.spectra(first, _SIZE) @ arithmetic.spectra(second, _SIZE).swapaxes(1, 2)

    border: Any = 0
    # what is not finite is found in the sum, and reported then
    with np.errstate(over="ignore", invalid="ignore"):
        if begins:
            edge = np.zeros((len(reference), 1, _SIZE))
            edge[:, 0, :-TAPS:-1] = reference[:, : TAPS - 1]
            border = products(edge, second[:, :1])
            reference[:, : TAPS - 1] = 0
        # a few transforms at a time, so that they stay in the processor's cache
        starts = range(0, second.shape[1], _TRANSFORMS)
        total = sum(products(first[:, k : k + _TRANSFORMS], second[:, k : k + _TRANSFORMS]) for k in starts)
        energy = _energy(other)
        other -= reference[:, TAPS - 1 :]
        energies = np.stack([energy, _energy(other)])
    return frame, _lags(arithmetic, total), border, energies, sounding(others)


def _energy(waves: Values) -> Values:
    energy: Values = np.einsum("ct,ct->c", waves, waves)
    return energy


def _lags(arithmetic: Arithmetic, products: DeviceArray) -> Values:
    """Correlations at lags 0 to 511: the last places, since the references are reversed in time."""
    lags: Values = arithmetic.get(arithmetic.waves(products, _SIZE))[:, :, -TAPS:]
    return lags


def rows(samples: Waves, length: int) -> Values:
    """Channels of all sources one below the other, zero-padded at the end: (source * channel, length), float64."""
    channels = np.zeros((samples.shape[0] * samples.shape[1], length))
    channels[:, : samples.shape[2]] = samples.reshape(len(channels), -1)
    return channels


def source_channels(audio: SourceAudio) -> list[slice]:
    """For every source the rows that are its channels."""
    return [
        slice(first, first + audio.channels) for first in range(0, len(audio.sources) * audio.channels, audio.channels)
    ]


def two_sided(lags: Values) -> Values:
    """Correlations of all pairs at lags -511 to 511, from those at 0 to 511."""
    return np.concatenate([lags.swapaxes(0, 1)[:, :, :0:-1], lags], axis=2)


def _rows_of_toeplitz(lags: Values, diagonal: Values) -> Iterator[Values]:
    """The rows of `block_toeplitz`, with something added to its diagonal."""
    for index, added in enumerate(diagonal):
        channel, row = divmod(index, TAPS)
        values = lags[channel, :, row : row + TAPS][:, ::-1].flatten()
        values[index] += added
        yield values


def block_toeplitz(lags: Values) -> Values:
    """The matrix whose block (a, b) has lags[a, b, 511 + k - l] at row k, column l."""
    count = len(lags)
    matrix = np.empty((count, TAPS, count, TAPS))
    for first in range(count):
        for second in range(count):
            matrix[first, :, second] = sliding_window_view(lags[first, second, ::-1], TAPS)[::-1]
    return matrix.reshape(count * TAPS, count * TAPS)
