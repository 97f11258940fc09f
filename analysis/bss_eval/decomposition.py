"""Energies of the parts that BSS Eval splits an estimate into, frame by frame, without storing the parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from .arithmetic import Arithmetic, DeviceArray, Values
from .framing import SourceAudio, sounding
from .projection import TAPS, Filters, FrameMoments

LONGEST_TRANSFORM = 1 << 17
"""Points of the longest Fourier transform; a frame that fits is one transform, a longer one is filtered in blocks."""

_BLOCK_TRANSFORM = 1 << 15
_GROUP = 50_000
_SLICE = 1024
# share of the energies that a value is a sum or difference of; the real error is up to four times that
_ROUNDING = 1e-15
# share of the value: 2e-8 dB, a fraction of the agreed 1e-6 dB
_TOLERANCE = 1e-9
_Sounding = NDArray[np.bool_]
_Item = tuple[slice, _Sounding, Values, Values]


class Energies(NamedTuple):
    """Energies over time and channels, each (source, frame) in float64.

    Attributes
    ----------
    reference, distortion : ndarray
        Of the reference, and of the estimate minus the reference.
    own, spatial : ndarray
        Of the estimate's projection on its own reference, and of that minus the reference.
    every, interference : ndarray
        Of its projection on all references, and of that minus the one on its own.
    artifacts : ndarray
        Of the estimate minus its projection on all references.
    silent : ndarray, shape (frame,), bool
        Frames in which a reference or an estimate is silent.
    """

    reference: Values
    distortion: Values
    own: Values
    spatial: Values
    every: Values
    interference: Values
    artifacts: Values
    silent: NDArray[np.bool_]


def frame_energies(
    references: SourceAudio, estimates: SourceAudio, filters: Filters, frames: Sequence[slice], arithmetic: Arithmetic
) -> Energies:
    """Energies of the parts of every frame.

    As in museval, each frame of the references is filtered as if the signal were zero around it, and the 511 samples
    after its end count. Where the frame's second moments are known, the energies are products with these. A frame in
    which such a product would be a small difference of large numbers is filtered all the same.

    Parameters
    ----------
    references, estimates : SourceAudio
        J sources of C channels.
    filters : Filters
        From `stemfuse.analysis.bss_eval.projection.Projection.filters`.
    frames : sequence of slice
        See `frame_slices`; the moments, if there are any, are those of the first of them.
    arithmetic : Arithmetic
        Where to compute.
    """
    if filters.moments is None:
        return _filtered(references, estimates, filters, frames, arithmetic)
    with arithmetic.threads():
        energies, exact = energies_of_moments(filters, *filters.moments, references.channels)
    known = np.flatnonzero(exact | energies.silent)
    rest = np.setdiff1d(np.arange(len(frames)), known)
    if not len(rest):
        return energies
    filtered = _filtered(references, estimates, filters, [frames[number] for number in rest], arithmetic)
    order = np.argsort(np.concatenate([known, rest]))
    return Energies._make(
        np.concatenate([found[..., known], other], axis=-1)[..., order]
        for found, other in zip(energies, filtered, strict=True)
    )


def energies_of_moments(
    filters: Filters, references: FrameMoments, estimates: FrameMoments, channels: int
) -> tuple[Energies, NDArray[np.bool_]]:
    """Energies of the parts of frames from their second moments, and for which frames they are exact.

    The energy of filtered references, h' R h, is a sum over lags of the references' correlations times those of the
    filters. Filters are subtracted before they are correlated, so that only the artifacts suffer from cancellation.

    Parameters
    ----------
    filters : Filters
        Of J sources of C channels.
    references, estimates : FrameMoments
        Of the references with themselves, and with the estimates.
    channels : int
        C.

    Returns
    -------
    Energies
        Of the frames that have moments.
    ndarray, shape (frame,), bool
        Where all of them are good to 2e-8 dB.
    """
    frames, inputs, _, taps = references.lags.shape
    identity = np.zeros_like(filters.own)
    identity[range(inputs), 0, range(inputs)] = 1
    kinds = (filters.own, filters.own - identity, filters.every, filters.every - filters.own)
    products = np.stack([_filter_correlations(kind, channels) for kind in kinds])
    forms = references.lags.reshape(frames, -1) @ products.reshape(-1, inputs * inputs * taps).T
    own, spatial, every, interference = forms.T.reshape(4, -1, frames)
    # what rounding can make of a sum of products with correlations that are each off by 1e-16 of the signals' energy
    power = references.energies[:, 0]
    noise = np.sqrt(np.einsum("fa,ksab,fb->ksf", power, np.einsum("ksabl,ksabl->ksab", products, products), power))

    reference, estimate, distortion = (
        values.reshape(frames, -1, channels).sum(axis=2).T for values in (power, *estimates.energies.swapaxes(0, 1))
    )
    cross = np.stack([np.einsum("aol,alo->o", lags, filters.every) for lags in estimates.lags])
    artifacts = estimate - 2 * cross.reshape(frames, -1, channels).sum(axis=2).T + every
    artifact_noise = estimate + noise[2]
    values = np.stack([own, spatial, every, interference, artifacts])
    noise = _ROUNDING * np.concatenate([noise, artifact_noise[None]])
    exact = np.asarray((noise <= _TOLERANCE * values).all(axis=(0, 1)))
    silent = ~np.asarray((references.sounding & estimates.sounding).all(axis=1))
    return Energies(reference, distortion, own, spatial, every, interference, artifacts, silent), exact


def _filter_correlations(taps: Values, channels: int) -> Values:
    """Factors of the references' correlations in the energy that filters pass to a source, (source, a, b, lag)."""
    spectra = scipy.fft.rfft(taps, 2 * TAPS, axis=1)
    by_source = spectra.reshape(*spectra.shape[:2], -1, channels).transpose(2, 1, 0, 3)
    correlations = scipy.fft.irfft(np.moveaxis(by_source @ by_source.conj().swapaxes(2, 3), 1, -1), 2 * TAPS)[
        ..., :TAPS
    ]
    # the correlation of two references at a negative lag is that of the two swapped at the positive one
    correlations[..., 1:] *= 2
    return correlations


def _filtered(
    references: SourceAudio, estimates: SourceAudio, filters: Filters, frames: Sequence[slice], arithmetic: Arithmetic
) -> Energies:
    """Energies of the filtered frames themselves.

    By Parseval's theorem the energies are sums over the frame's spectrum, so no inverse transform is needed. A frame of
    more than `LONGEST_TRANSFORM` points is filtered block by block, by overlap-save.
    """
    longest = max(frame.stop - frame.start for frame in frames)
    if longest + TAPS - 1 <= LONGEST_TRANSFORM:
        size = scipy.fft.next_fast_len(longest + TAPS - 1, real=True)
        measure, items = _Parts(filters, size, arithmetic).whole, _groups(references, estimates, frames, size, longest)
    else:
        measure, items = _Parts(filters, _BLOCK_TRANSFORM, arithmetic).block, _blocks(references, estimates, frames)
    count = len(references.sources)
    energies = np.zeros((7, count * references.channels, len(frames)))
    sounds = np.zeros((2 * count, len(frames)), bool)
    for index, found, values in arithmetic.stream(measure, items):
        energies[:, :, index] += values
        sounds[:, index] |= found
    by_source = energies.reshape(7, count, references.channels, len(frames)).sum(axis=2)
    return Energies._make([*by_source, ~sounds.all(axis=0)])


def _groups(
    references: SourceAudio, estimates: SourceAudio, frames: Sequence[slice], size: int, longest: int
) -> Iterator[_Item]:
    """Some whole frames at a time: their numbers, which sources sound, and both signals (channel, frame, time)."""
    step = max(1, _GROUP // size)
    for first in range(0, len(frames), step):
        group = frames[first : first + step]
        sounds, waves = [], np.zeros((2, len(references.sources) * references.channels, len(group), longest))
        for number, frame in enumerate(group):
            pair = [audio.read(frame.start, frame.stop) for audio in (references, estimates)]
            sounds.append(np.concatenate([sounding(samples) for samples in pair]))
            for rows, samples in zip(waves, pair, strict=True):
                rows[:, number, : frame.stop - frame.start] = samples.reshape(len(rows), -1)
        yield slice(first, first + len(group)), np.stack(sounds, axis=1), waves[0], waves[1]


def _blocks(references: SourceAudio, estimates: SourceAudio, frames: Sequence[slice]) -> Iterator[_Item]:
    """One block of a frame at a time, each with the 511 samples before it; the last with 511 zeros behind it."""
    step = _BLOCK_TRANSFORM - 2 * (TAPS - 1)
    for number, frame in enumerate(frames):
        for start in range(frame.start, frame.stop, step):
            stop, before = min(start + step, frame.stop), max(start - TAPS + 1, frame.start)
            pair = [audio.read(before, stop) for audio in (references, estimates)]
            sounds = np.concatenate([sounding(samples) for samples in pair])
            after = TAPS - 1 if stop == frame.stop else 0
            padding = ((0, 0), (0, 0), (TAPS - 1 - (start - before), after))
            reference, estimate = (
                np.pad(samples.reshape(-1, 1, stop - before).astype(np.float64), padding) for samples in pair
            )
            yield slice(number, number + 1), sounds[:, None], reference, estimate


class _Parts:
    """The seven energies of frames or blocks, (7, channel, frame)."""

    def __init__(self, filters: Filters, size: int, arithmetic: Arithmetic) -> None:
        self._arithmetic, self._size = arithmetic, size
        self._channels = filters.every.shape[2]
        # with one source both projections are one and the same, and their difference is zero as museval has it
        both = filters.every if filters.own is filters.every else np.concatenate([filters.every, filters.own], axis=2)
        self._response = arithmetic.spectra(both.transpose(2, 0, 1), size)
        weights = np.full(size // 2 + 1, 2 / size)
        weights[0] = 1 / size
        weights[-1] = 1 / size if size % 2 == 0 else 2 / size
        self._weights = arithmetic.put(weights)

    def whole(
        self, index: slice, sounds: _Sounding, reference: Values, estimate: Values
    ) -> tuple[slice, _Sounding, Values]:
        """Energies of whole frames, by Parseval's theorem."""
        first, second = (self._arithmetic.spectra(waves, self._size) for waves in (reference, estimate))
        sums: list[Any] = [0] * 5
        # a slice of the frequencies at a time, so that the products stay in the processor's cache
        for start in range(0, len(self._weights), _SLICE):
            part = slice(start, start + _SLICE)
            spectra = self._split(self._response[part] @ first[part], first[part], second[part])
            weights = self._weights[part]
            sums = [
                total + weights @ (values.real**2 + values.imag**2).reshape(len(weights), -1)
                for total, values in zip(sums, spectra, strict=True)
            ]
        projected = [self._arithmetic.get(total).reshape(reference.shape[:2]) for total in sums]
        return index, sounds, np.stack([_energy(reference), _energy(estimate - reference), *projected])

    def block(
        self, index: slice, sounds: _Sounding, reference: Values, estimate: Values
    ) -> tuple[slice, _Sounding, Values]:
        """Energies of one block without the samples before it, by overlap-save."""
        spectra = self._response @ self._arithmetic.spectra(reference, self._size)
        kept = slice(TAPS - 1, reference.shape[2])
        projections, first, second = (
            waves.swapaxes(0, 1)[:, :, kept]
            for waves in (self._arithmetic.get(self._arithmetic.waves(spectra, self._size)), reference, estimate)
        )
        parts = (first, first - second, *self._split(projections, first, second))
        return index, sounds, np.stack([_energy(part).T for part in parts])

    def _split(
        self, projections: DeviceArray, reference: DeviceArray, estimate: DeviceArray
    ) -> tuple[DeviceArray, ...]:
        """The projections and their differences, in the order of `Energies`; channels are the second axis."""
        every, own = projections[:, : self._channels], projections[:, -self._channels :]
        return own, own - reference, every, every - own, estimate - every


def _energy(waves: Values) -> Values:
    energy: Values = np.einsum("...t,...t->...", waves, waves)
    return energy
