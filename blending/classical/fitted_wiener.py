"""A blend, and after it the multichannel Wiener filter of what it gives, as far as songs say that it helps."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending.errors import FusionError
from stemfuse.blending.fusion import BaseFusion, describe_fusion, first_of
from stemfuse.blending.registry import load_fusion
from stemfuse.separators import Samples, Stems, Track, write_whole
from stemfuse.separators.foreign.documents import parse_object, read_text
from stemfuse.separators.foreign.table import DOCUMENT_BYTES, ForeignFileError

from .base import Base, base_fusion, describe_base, made_base
from .spectral import BLOCK, Array, Read, ShortTimeFourier
from .wiener import SpatialFilter, check_exponent

FOLDS = 5
"""Groups of songs that the blend is fitted without, so that what follows is chosen on songs that it has not seen."""
MOST = 20
"""Blocks of a song that exponent and shares are chosen on: 30 s."""
SHARES = np.linspace(0, 1, 21)
"""How far the filter may be followed."""
TINY = 1e-12
"""Energy of a reference below which it counts as silent, relative to the mixture's."""


class FittedWiener(BaseFusion):
    """A blend whose estimates are filtered: (1 - a) y + a f, with f the Wiener filter of the blend's own spectra.

    Stems that are mixed by constant weights still hold what leaks into all of them alike. The mixture, split bin by bin
    in the ratio of the blended stems' powers, holds less of it. The exponent of the powers is fitted, and per source
    how far the filter is followed: a = 0 where it does not help.

    Parameters
    ----------
    base : fusion, str, mapping or MixingWeights
        The blend y: any fusion, its name, its ``{"kind": ..., "arguments": {...}}``, or weights. It is fitted on the
        same tracks, unless it is fitted already.
    exponents : sequence of float
        Exponents of the power to choose from.
    n_fft, hop : int
        Window and hop of the transform in samples.
    rest : bool, optional
        Whether what the blend leaves of the mixture is a source of the filter too. When not given: where it gives a
        single source.

    Attributes
    ----------
    base_ : BaseFusion
        The blend, fitted; `save` writes it beside the rest.
    exponent_ : float
        The one that is used.
    shares_ : dict of str to float
        By source, a; 0 for a source that no training song has.

    Notes
    -----
    Exponent and shares have the highest mean SDR of the training songs, each fused by a blend that was fitted without
    it (in `FOLDS` groups; with a single song, or a blend that learns nothing, by the blend itself). They are a handful
    of numbers: songs that are left out are not needed to choose them, but a blend that has seen the song would be
    trusted too much. They are chosen on at most 30 s of each song, spread evenly; the covariances are of all of it.

    See Also
    --------
    stemfuse.blending.classical.wiener.Wiener : the published filter, with nothing fitted.

    References
    ----------
    Nugraha, Liutkus and Vincent, "Multichannel audio source separation with deep neural networks", IEEE/ACM TASLP
    24(9), 2016: one iteration of its filter. Liutkus and Badeau, "Generalized Wiener filtering with fractional power
    spectrograms", ICASSP 2015: exponents below 1.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> tracks = conformance_tracks()
    >>> fusion = FittedWiener(n_fft=512, hop=128).fit(tracks[:2])
    >>> sorted(fusion.shares_) == sorted(tracks[0].references.sources), 0 < fusion.exponent_ <= 1
    (True, True)
    """

    kind = "fitted_wiener"

    def __init__(
        self,
        base: Base = "least_squares",
        exponents: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 1.0),
        n_fft: int = 4096,
        hop: int = 1024,
        rest: bool | None = None,
    ) -> None:
        self.base = base
        self.exponents = exponents
        self.n_fft = n_fft
        self.hop = hop
        self.rest = rest

    base_: BaseFusion
    exponent_: float
    shares_: dict[str, float]

    def check(self) -> None:
        """Raise unless the transform can be inverted and the exponents are possible."""
        super().check()
        ShortTimeFourier(self.n_fft, self.hop)
        if not len(self.exponents):
            raise FusionError("got no exponents, expected at least one")
        for exponent in self.exponents:
            check_exponent(exponent)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, the base as JSON takes it; what it has learnt is in its own file."""
        given = self.base
        if isinstance(given, BaseFusion):
            return {**super().arguments(), "base": {"kind": given.kind, "arguments": given.arguments()}}
        return {**super().arguments(), "base": describe_base(given)}

    def parts(self) -> tuple[BaseFusion, ...]:
        """The base."""
        return (made_base(self.base),)

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Fit the blend, then exponent and shares.

        Parameters
        ----------
        train : sequence of Track
            With the stems of the same separators, and with references.
        valid : sequence of Track, optional
            For the base.

        Raises
        ------
        FusionError
            The base cannot be fitted, or gives a single source where there is no rest.
        TrackError
            A track has no references.
        """
        self.check()
        first_of(train)
        self.base_ = self._blend(train, valid)
        songs = [self._sdr(track, blend) for track, blend in self._unseen(train, valid)]
        # of a source that no song has, nothing is known: it stays as the blend gives it
        names = dict.fromkeys(name for song in songs for name in song)
        means = {name: np.mean([song[name] for song in songs if name in song], 0) for name in names}
        best = int(np.sum([mean.max(1) for mean in means.values()], 0).argmax()) if means else 0
        self.exponent_ = float(self.exponents[best])
        self.shares_ = {name: round(float(SHARES[mean[best].argmax()]), 2) for name, mean in means.items()}
        return self

    def _blend(self, train: Sequence[Track], valid: Sequence[Track] | None) -> BaseFusion:
        return base_fusion(self.base, train, valid, learn=True, execution=self.inner_execution)

    def _unseen(self, train: Sequence[Track], valid: Sequence[Track] | None) -> Iterator[tuple[Track, BaseFusion]]:
        """Each track, and a blend that has not seen it."""
        made = made_base(self.base)
        folds = min(FOLDS, len(train))
        if made.is_fitted or not made.learns or folds < 2:
            yield from ((track, self.base_) for track in train)
            return
        for fold in range(folds):
            left_out = train[fold::folds]
            blend = self._blend([track for track in train if track not in left_out], valid)
            yield from ((track, blend) for track in left_out)

    def _sdr(self, track: Track, base: BaseFusion) -> dict[str, NDArray[np.float64]]:
        """SDR in dB of one track for every exponent and share, (exponent, share), by source that is heard in it."""
        references = track.required_references()
        blend, read = self._estimates(track, base)
        transform = ShortTimeFourier(self.n_fft, self.hop)
        found = SpatialFilter.of(transform, read, track.length, "estimate")
        sources = [source for source in blend.sources if source in references.sources]
        rows = [blend.sources.index(source) for source in sources]

        def filtered(spectra: Array) -> Array:
            return np.stack([found.split(spectra, exponent)[rows] for exponent in self.exponents])

        # over sources: energies of the blend's error and of the filter's changes, and what both have in common
        moments = np.zeros((len(self.exponents), len(sources), 3))
        energies, loudness = np.zeros(len(sources)), 0.0
        for start in _starts(track.length):
            stop = min(start + BLOCK, track.length)
            both = read(start, stop)
            truth = np.stack([references[source].read(start, stop) for source in sources]).astype(np.float64)
            blended = both[1:][rows]
            error, changes = blended - truth, transform.apply(read, filtered, track.length, start, stop) - blended
            loudness += float(np.square(both[0]).sum())
            energies += np.square(truth).sum((1, 2))
            moments[..., 0] += np.square(error).sum((1, 2))
            moments[..., 1] += (error * changes).sum((2, 3))
            moments[..., 2] += np.square(changes).sum((2, 3))
        left = moments @ np.stack([np.ones_like(SHARES), 2 * SHARES, SHARES**2])
        return {
            source: 10 * np.log10(energies[row] / np.maximum(left[:, row], TINY * energies[row]))
            for row, source in enumerate(sources)
            if energies[row] > TINY * loudness
        }

    def _estimates(self, track: Track, base: BaseFusion) -> tuple[Stems, Read]:
        """The blend's estimates, and how to read mixture, estimates and rest: (1 + source, channel, time)."""
        blend = base.fuse(track)
        has_rest = self.rest if self.rest is not None else len(blend.sources) == 1
        if len(blend.sources) < 2 and not has_rest:
            raise FusionError(
                f"{self.kind}: base gives only {blend.sources[0]}, and a single source cannot be filtered; "
                "rest=true makes one of what it leaves of the mixture"
            )

        def read(start: int, stop: int) -> Array:
            mixture, given = track.mixture.read(start, stop)[None], blend.read(start, stop)
            parts = [mixture, given, *([mixture - given.sum(0)] if has_rest else [])]
            return np.concatenate(parts, dtype=np.float64)

        return blend, read

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, computed range by range: memory does not grow with the song."""
        if not self.is_fitted:
            raise FusionError(f"{self.kind}: not fitted; call fit(tracks) first, or load a fitted one")
        blend, read = self._estimates(track, self.base_)
        transform = ShortTimeFourier(self.n_fft, self.hop)
        shares = np.array([self.shares_.get(source, 0.0) for source in blend.sources])[:, None, None]

        @cache
        def found() -> SpatialFilter:
            return SpatialFilter.of(transform, read, track.length, "estimate")

        def rule(spectra: Array) -> Array:
            count = len(blend.sources)
            filtered = found().split(spectra, self.exponent_)[:count]
            mixed: Array = spectra[1 : count + 1] + shares[..., None] * (filtered - spectra[1 : count + 1])
            return mixed

        def read_all(start: int, stop: int) -> Samples:
            return transform.apply(read, rule, track.length, start, stop).astype(np.float32)

        return Stems.lazy(read_all, blend.sources, track.channels, track.length, track.rate)

    @property
    def fitted_rate(self) -> int | None:
        """Sample rate in Hz of the tracks that it fuses; None where any will do."""
        return self.base_.fitted_rate if self.is_fitted else None

    @property
    def fitted_channels(self) -> int | None:
        """Number of channels of the tracks that it fuses; None where any will do."""
        return self.base_.fitted_channels if self.is_fitted else None

    @property
    def fitted_sources(self) -> tuple[str, ...] | None:
        """Sources that it gives; None where that depends on the stems that it is given."""
        return self.base_.fitted_sources if self.is_fitted else None

    def saved_files(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """The file itself, and those of the blend beside it."""
        base = self.base_ if self.is_fitted else made_base(self.base)
        return (Path(path), *base.saved_files(self._beside(path, base)))

    @staticmethod
    def _beside(path: str | os.PathLike[str], base: BaseFusion) -> Path:
        return Path(path).with_suffix(f".base{base.suffix}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the blend into files of its own, and kind, arguments, separators and what was fitted as JSON."""
        if not self.is_fitted:
            raise FusionError(f"{self.kind}: not fitted; there is nothing to save")
        beside = self._beside(path, self.base_)
        self.base_.save(beside)
        learnt = {"exponent": self.exponent_, "shares": self.shares_, "base_sha256": _sha256(beside)}
        text = json.dumps(json.loads(describe_fusion(self)) | {"learnt": learnt}, ensure_ascii=False, indent=1)
        write_whole(Path(path), lambda file: file.write(text.encode()))

    def restore(self, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote."""
        try:
            learnt = parse_object(read_text(Path(path), DOCUMENT_BYTES))["learnt"]
            self.exponent_ = float(learnt["exponent"])
            self.shares_ = {str(source): float(share) for source, share in learnt["shares"].items()}
            expected = str(learnt["base_sha256"])
            if not all(0 <= share <= 1 for share in self.shares_.values()):
                raise ValueError("a share is not between 0 and 1")
        except (ForeignFileError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise FusionError(f"{path}: what a {self.kind} has learnt is missing ({error}); fit again") from error
        check_exponent(self.exponent_)
        beside = self._beside(path, made_base(self.base))
        self.base_ = load_fusion(beside)
        # a process that was killed between two files, or a copy of one of them
        if _sha256(beside) != expected:
            raise FusionError(f"{path}: {beside.name} is not the blend that it was fitted with; fit again")
        return self


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _starts(length: int) -> list[int]:
    """Where the blocks begin that exponent and shares are chosen on: spread evenly over the song.

    Examples
    --------
    >>> _starts(3 * BLOCK - 1) == [0, BLOCK, 2 * BLOCK], len(_starts(100 * BLOCK))
    (True, 20)
    """
    blocks = -(-length // BLOCK)
    return sorted({BLOCK * (number * blocks // min(blocks, MOST)) for number in range(min(blocks, MOST))})
