"""The projection in museval's own order of operations, for references that are singular to float64."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import scipy
from numpy.typing import NDArray

from stemfuse.analysis.errors import SingularReferencesWarning

from .arithmetic import Arithmetic, Values
from .framing import SourceAudio, raise_not_finite
from .projection import TAPS, CholeskyProjection, Filters, Projection, block_toeplitz, rows, source_channels

Spectrum = NDArray[np.complex128]

DELICATE = 1e-11
"""Reciprocal condition number below which rounding moves museval's ISR, SIR and SAR by some 1e-7 dB and more."""

SINGULAR = 1e-13
"""Reciprocal condition number below which it moves them by some 1e-5 dB and more."""

LONGEST_DELICATE = 1 << 22
"""Longest signal, in samples (95 s at 44 100 Hz), whose delicate references are solved in museval's order."""


def project(references: SourceAudio, span: slice, arithmetic: Arithmetic, frames: Sequence[slice] = ()) -> Projection:
    """Prepare the projection onto references.

    Parameters
    ----------
    references : SourceAudio
        J sources of C channels.
    span : slice
        The samples that count; all others are taken as zero, as museval does at the ends of a signal or frame.
    arithmetic : Arithmetic
        Where to compute.
    frames : sequence of slice
        Frames whose moments are wanted as well, the first of which begins with the span.

    Returns
    -------
    Projection
        By Cholesky factorisation. Where the references are nearly singular (`DELICATE`), museval's filters depend
        on how its sums are rounded. A span up to `LONGEST_DELICATE` is then solved in museval's order of operations;
        a longer one is not, with a warning where that matters (`SINGULAR`).

    Warns
    -----
    SingularReferencesWarning
        See above.
    """
    projection = CholeskyProjection(references, span, arithmetic, frames)
    condition = projection.condition
    if condition < DELICATE and span.stop - span.start + TAPS - 1 <= LONGEST_DELICATE:
        del projection
        return RoundedProjection(references, span, arithmetic)
    if condition < SINGULAR:
        warnings.warn(
            f"the references are singular to float64 (reciprocal condition {condition:.0e}: a band without energy, "
            "or one signal twice): ISR, SIR and SAR may differ from museval's, which then vary with its number of "
            "threads, by up to 0.01 dB and more; references in 16 bits, as musdb reads them, have no such band",
            SingularReferencesWarning,
            stacklevel=4,
        )
    return projection


class RoundedProjection:
    """Distortion filters with the digits that museval 0.4.1 finds, bit for bit.

    Where a band has no energy (decoded AAC in floating point, synthetic sources), or one signal is there twice, the
    filters are amplified rounding errors, and these reach the metrics where the signal is cut at the frames' borders:
    museval's SIR and SAR of one clip differ by 0.01 dB between one and two threads. Better arithmetic would not give
    its values. So the correlations are computed as museval does, by transforms of the whole signal padded to a power of
    two, and solved by the same LU factorisation. The result is equal in every bit as long as the number of BLAS threads
    is the same. Work is saved all the same: half the transforms, by symmetry, and one factorisation for all estimates
    where museval makes one per source.

    Parameters
    ----------
    references, span, arithmetic
        See `project`.
    """

    def __init__(self, references: SourceAudio, span: slice, arithmetic: Arithmetic) -> None:
        self._references, self._span, self._arithmetic = references, span, arithmetic
        self._size = 1 << int(np.ceil(np.log2(span.stop - span.start + TAPS - 1.0)))
        spectra = self._spectra(references)
        pairs = [(first, second) for first in range(len(spectra)) for second in range(first, len(spectra))]
        found = arithmetic.stream(self._correlation, ((spectra[second], spectra[first]) for first, second in pairs))
        lags = np.empty((len(spectra), len(spectra), 2 * TAPS - 1))
        for (first, second), correlation in zip(pairs, found, strict=True):
            lags[second, first] = correlation
            lags[first, second] = correlation[::-1]
        self._matrix = block_toeplitz(lags)

    def filters(self, estimates: Iterable[SourceAudio]) -> Iterator[Filters]:
        """See `CholeskyProjection.filters`; all estimates are solved for together."""
        references, rights = self._spectra(self._references), []
        for audio in estimates:
            others = self._spectra(audio)
            pairs = [(first, second) for first in references for second in others]
            lags = np.array([lags[TAPS - 1 :] for lags in self._arithmetic.stream(self._correlation, pairs)])
            if not np.isfinite(lags).all():
                raise_not_finite(audio, "estimates")
            rights.append(lags.reshape(len(references), -1, TAPS).swapaxes(1, 2))
        if not rights:
            return
        everything = self._solved(self._matrix, rights)
        if len(self._references.sources) == 1:
            yield from (Filters(every, every) for every in everything)
            return
        owns = [np.zeros_like(every) for every in everything]
        for channels in source_channels(self._references):
            taps = slice(channels.start * TAPS, channels.stop * TAPS)
            solved = self._solved(self._matrix[taps, taps], [right[channels, :, channels] for right in rights])
            for own, solution in zip(owns, solved, strict=True):
                own[channels, :, channels] = solution
        yield from map(Filters, everything, owns)

    def _spectra(self, audio: SourceAudio) -> list[Spectrum]:
        waves = rows(audio.read(self._span.start, self._span.stop), self._span.stop - self._span.start)
        return list(self._arithmetic.stream(partial(scipy.fft.rfft, n=self._size), ((wave,) for wave in waves)))

    def _correlation(self, first: Spectrum, second: Spectrum) -> Values:
        """sum_t x(t - lag) y(t) for lags from -511 to 511."""
        # the product as museval writes it and a complex transform: NumPy rounds differently with an ``out`` argument,
        # a real transform rounds in other places; the other half of the product has the same digits
        with np.errstate(over="ignore", invalid="ignore"):
            correlation = scipy.fft.ifft(self._mirrored(first * np.conj(second)), overwrite_x=True).real
        return np.concatenate([correlation[TAPS - 1 : 0 : -1], correlation[:1], correlation[:-TAPS:-1]])

    def _mirrored(self, half: Spectrum) -> Spectrum:
        return np.concatenate([half, half[self._size // 2 - 1 : 0 : -1].conj()])

    def _solved(self, matrix: Values, rights: Sequence[Values]) -> list[Values]:
        square = matrix.copy()
        square[np.diag_indices_from(square)] += np.finfo(np.float64).eps
        inputs, taps, _ = rights[0].shape
        right = np.concatenate(rights, axis=2).reshape(inputs * taps, -1)
        # a column's solution does not depend on the others, but LAPACK solves a single column in another way
        groups = np.split(right, right.shape[1], axis=1) if self._references.channels == 1 else [right]
        with self._arithmetic.threads():
            solution = np.concatenate([_as_museval(square, matrix, group) for group in groups], axis=1)
        return np.split(solution.reshape(inputs, taps, -1), len(rights), axis=2)


def _as_museval(square: Values, matrix: Values, right: Values) -> Values:
    try:
        return np.asarray(np.linalg.solve(square, right), np.float64)
    except np.linalg.LinAlgError:
        # museval intends the same, but raises an AttributeError with NumPy 2
        return np.asarray(np.linalg.lstsq(matrix, right)[0], np.float64)
