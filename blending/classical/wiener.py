"""Rules that give the mixture's remainder to the sources bin by bin: energy-weighted consistency and Wiener filter."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending.errors import FusionError
from stemfuse.blending.fusion import BaseFusion, WeightlessFusion
from stemfuse.separators import Samples, Stems, Track

from .base import Base, base_fusion, describe_base, made_base
from .spectral import BLOCK, Array, Read, ShortTimeFourier


class _SpectralRule(WeightlessFusion):
    """Base of rules over the spectra of the mixture and of a fusion's estimates."""

    precision: ClassVar[type[np.floating]] = np.float32

    def __init__(self, base: Base = "mean", n_fft: int = 4096, hop: int = 1024) -> None:
        self.base = base
        self.n_fft = n_fft
        self.hop = hop

    def check(self) -> None:
        """Raise unless the transform can be inverted."""
        super().check()
        ShortTimeFourier(self.n_fft, self.hop)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, the base as JSON takes it."""
        return {**super().arguments(), "base": describe_base(self.base)}

    def parts(self) -> tuple[BaseFusion, ...]:
        """The base."""
        return (made_base(self.base),)

    def _estimates(self, track: Track) -> tuple[Stems, Read]:
        """The base's estimates, and how to read the mixture and then them: (1 + source, channel, time)."""
        stems = base_fusion(self.base, [track]).fuse(track)
        if len(stems.sources) < 2:
            raise FusionError(f"{self.kind}: base gives only {stems.sources[0]}, expected all sources of the mixture")

        def read(start: int, stop: int) -> Array:
            parts = [track.mixture.read(start, stop)[None], stems.read(start, stop)]
            return np.concatenate(parts, dtype=self.precision)

        return stems, read


class EnergyConsistency(_SpectralRule):
    """Estimates that sum to the mixture: each gets a share of what they leave of it, by its energy, in every bin.

    Parameters
    ----------
    base : fusion, str, mapping or MixingWeights
        What gives the estimates: a fusion that learns nothing or is fitted, its name, its
        ``{"kind": ..., "arguments": {...}}``, or weights.
    n_fft, hop : int
        Window and hop of the transform in samples.

    See Also
    --------
    stemfuse.blending.classical.residual.MixtureConsistency : equal shares, which is linear.

    References
    ----------
    Wisdom et al., "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019: the
    weighted projection, with shares ``|X_j|^2 / sum |X_j|^2``, here summed over channels.

    Examples
    --------
    >>> stems = np.ones((4, 2, 9000), "float32") * np.array([1, 2, 0, 0], "float32")[:, None, None]
    >>> track = Track.from_arrays("song", 8 * stems[0], stems={"a": stems})
    >>> EnergyConsistency().fuse(track).read(4000, 4001)[:, 0, 0].round(4).tolist()
    [2.0, 6.0, 0.0, 0.0]
    """

    kind = "energy_consistency"

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, computed range by range: memory does not grow with the song."""
        stems, read = self._estimates(track)
        transform = ShortTimeFourier(self.n_fft, self.hop)

        def read_all(start: int, stop: int) -> Samples:
            return transform.apply(read, _share_by_energy, track.length, start, stop)

        return Stems.lazy(read_all, stems.sources, track.channels, track.length, track.rate)


def _share_by_energy(spectra: Array) -> Array:
    mixture, estimates = spectra[0], spectra[1:]
    energies = np.square(np.abs(estimates)).sum(1, keepdims=True)
    total = energies.sum(0)
    shares = np.divide(energies, total, out=np.full_like(energies, 1 / len(energies)), where=total > 0)
    shared: Array = estimates + shares * (mixture - estimates.sum(0))
    return shared


class Wiener(_SpectralRule):
    """One iteration of the multichannel Wiener filter over a fusion's estimates.

    The spatial covariance of every source over the whole song follows from its estimate; the filter then splits the
    mixture anew. Published systems have magnitudes only, and give each the mixture's phase.

    Parameters
    ----------
    base : fusion, str, mapping or MixingWeights
        What gives the estimates: a fusion that learns nothing or is fitted, its name, its
        ``{"kind": ..., "arguments": {...}}``, or weights.
    n_fft, hop : int
        Window and hop of the transform in samples; those of X-UMX and Danna-Sep when not given.
    phase : {"mixture", "estimate"}
        The phase that the estimates are given for the covariances: the mixture's as published, or their own.
    exponent : float
        Of the estimates' power, in (0, 1]: the smaller, the more alike the sources' shares in a bin. 1 as published.

    See Also
    --------
    stemfuse.blending.classical.fitted_wiener.FittedWiener : the exponent, and how far it is followed, are fitted.

    Notes
    -----
    The result is that of ``norbert.wiener(magnitudes, mixture, iterations=1)``, which needs all spectra of the song at
    once, several GB; with ``phase="estimate"`` that of one step of its expectation maximisation. Here the song is read
    twice: once for the covariances, when the result is read for the first time, and once to filter. So memory does not
    grow with the song, and any range is the same range of the whole.

    References
    ----------
    Nugraha, Liutkus and Vincent, "Multichannel audio source separation with deep neural networks", IEEE/ACM TASLP
    24(9), 2016: the first iteration of its spatial parameters and filter, as the norbert library writes it.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> stems = generator.normal(0, 0.1, (4, 2, 20000))
    >>> track = Track.from_arrays("song", stems.sum(0), stems={"a": stems + generator.normal(0, 0.05, stems.shape)})
    >>> fused = Wiener().fuse(track)
    >>> bool(np.abs(fused.audio.sum(0) - track.mixture.read()).max() < 1e-4)
    True
    """

    kind = "wiener"
    precision = np.float64

    def __init__(
        self, base: Base = "mean", n_fft: int = 4096, hop: int = 1024, phase: str = "mixture", exponent: float = 1.0
    ) -> None:
        super().__init__(base, n_fft, hop)
        self.phase = phase
        self.exponent = exponent

    def check(self) -> None:
        """Raise unless phase and exponent are possible too."""
        super().check()
        if self.phase not in PHASES:
            raise FusionError(f"got phase={self.phase!r}, expected one of {', '.join(PHASES)}")
        check_exponent(self.exponent)

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, computed range by range: memory does not grow with the song."""
        stems, read = self._estimates(track)
        transform = ShortTimeFourier(self.n_fft, self.hop)

        @cache
        def split() -> Rule:
            found = SpatialFilter.of(transform, read, track.length, self.phase)
            return partial(found.split, exponent=self.exponent)

        def read_all(start: int, stop: int) -> Samples:
            return transform.apply(read, split(), track.length, start, stop).astype(np.float32)

        return Stems.lazy(read_all, stems.sources, track.channels, track.length, track.rate)


Rule = Callable[[Array], Array]
"""Of spectra (1 + source, channel, frame, bin): the mixture, then the estimates."""

PHASES = ("mixture", "estimate")


def check_exponent(exponent: float) -> None:
    """Raise unless a power can be raised to it."""
    if not 0 < exponent <= 1:
        raise FusionError(f"got exponent={exponent}, expected a number above 0 and at most 1")


class SpatialFilter:
    """The multichannel Wiener filter of sources with one spatial covariance each per bin, the same at all times.

    Spectra are (1 + source, channel, frame, bin): the mixture x, then the estimates. With y_j the estimates, under the
    mixture's phase or their own, p_j their power averaged over channels, m the mixture's largest magnitude over 10, at
    least 1, e = 2^-52 and q an exponent, the covariances are R_j = sum_t y_j y_j' / (m^2 e + sum_t p_j) and the output
    is p_j^q R_j (sum_j p_j^q R_j + m^2q sqrt(e) I)^-1 x.

    Parameters
    ----------
    phase : {"mixture", "estimate"}
        Of the estimates y_j.
    """

    def __init__(self, phase: str = "mixture") -> None:
        self.phase = phase
        self.outer: NDArray[np.complex128] = np.zeros((1, 1, 1, 1), complex)
        self.peak = 0.0

    @classmethod
    def of(cls, transform: ShortTimeFourier, read: Read, length: int, phase: str) -> Self:
        """The filter of a whole song, whose mixture and estimates are read once, block by block."""
        first, last = transform.touching(0, length)
        step = max(1, BLOCK // transform.hop)
        result = cls(phase)
        for start in range(first, last, step):
            result.add(transform.spectra(read, length, start, min(start + step, last)))
        return result

    def add(self, spectra: Array) -> None:
        """Add some STFT frames to the covariances."""
        estimates = spectra[1:] if self.phase == "estimate" else _with_phase(spectra)
        self.outer = self.outer + np.einsum("scfb,sdfb->scdb", estimates, estimates.conj())
        self.peak = max(self.peak, float(np.abs(spectra[0]).max()))

    def split(self, spectra: Array, exponent: float = 1.0) -> Array:
        """The mixture of some STFT frames, split: (source, channel, frame, bin)."""
        channels = spectra.shape[1]
        scale, epsilon = max(1.0, self.peak / 10) ** 2, np.finfo(np.float64).eps
        powers = np.einsum("sccb->sb", self.outer).real / channels
        covariances = self.outer / (scale * epsilon + powers)[:, None, None]
        power = np.square(np.abs(spectra[1:])).mean(1)
        if exponent != 1:
            power **= exponent
        rounding = scale**exponent * np.sqrt(epsilon) * np.eye(channels)
        total = np.einsum("sfb,scdb->fbcd", power, covariances) + rounding
        whitened = _solve(total, np.moveaxis(spectra[0], 0, -1))
        split: Array = np.einsum("scdb,fbd->scfb", covariances, whitened) * power[:, None]
        return split


def _with_phase(spectra: Array) -> Array:
    """Estimates with their own magnitude and the mixture's phase, which is zero where the mixture is silent."""
    size = np.abs(spectra[0])
    phase = np.divide(spectra[0], size, out=np.ones_like(spectra[0]), where=size > 0)
    estimates: Array = np.abs(spectra[1:]) * phase
    return estimates


def _solve(matrices: Array, vectors: Array) -> Array:
    """Solutions of small systems, (..., channel, channel) by (..., channel); of two channels by Cramer's rule."""
    if vectors.shape[-1] != 2:
        solved: Array = np.linalg.solve(matrices, vectors[..., None])[..., 0]
        return solved
    (a, b), (c, d) = np.moveaxis(matrices, (-2, -1), (0, 1))
    left, right = np.moveaxis(vectors, -1, 0)
    both: Array = np.stack([d * left - b * right, a * right - c * left], axis=-1) / (a * d - b * c)[..., None]
    return both
