"""Weights of each frequency band: any fusion, fitted on stems that are split into bands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from stemfuse.separators import ChannelLabel, Samples, Signal, Stems, Track

from .bounds import BAND_EDGES_HZ
from .classical.spectral import BandSplit, check_edges
from .errors import FusionError
from .fusion import BaseFusion
from .registry import load_fusion, make_fusion
from .weights import MixingWeights


class Bandwise(BaseFusion):
    """Every band of every stem is an input of its own, so that weights may depend on frequency: W_k,b.

    The bands have linear phase and no delay, and they add up to the stems: weights that are equal in all bands are
    those of the fusion without bands. The mixture is not split. Choose a fusion whose weights are free; one whose
    weights sum to one over its inputs would spread that sum over the bands as well.

    Parameters
    ----------
    fusion : str
        Name of the fusion that finds the weights.
    options : mapping, optional
        Its arguments.
    edges_hz : sequence of float
        Where one band gives way to the next, ascending.
    width_hz : float
        Width of the transitions; see `Crossover`.

    Attributes
    ----------
    fusion_ : BaseFusion
        Fitted on the bands: separator ``a`` is ``a@0-250``, ``a@250-1000`` ... to it.

    Examples
    --------
    >>> import numpy as np
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44100))
    >>> split = BandSplit((2000.0,), 60.0, 44100)
    >>> low = split.apply(lambda start, stop: audio[None, ..., start:stop], 44100, 0, 44100, slice(1))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": audio + 2 * low})  # 3 times too loud below 2 kHz
    >>> fusion = Bandwise(edges_hz=[2000]).fit([track])
    >>> fusion.fusion_.weights_.to_frame().query("weight > 0.1").head(2).weight.astype(float).round(2).tolist()
    [0.33, 1.0]
    """

    kind = "bandwise"
    fusion_: BaseFusion | None = None

    def __init__(
        self,
        fusion: str = "least_squares",
        options: Mapping[str, Any] | None = None,
        edges_hz: Sequence[float] = BAND_EDGES_HZ,
        width_hz: float = 60.0,
    ) -> None:
        self.fusion = fusion
        self.options = options
        self.edges_hz = edges_hz
        self.width_hz = width_hz

    def check(self) -> None:
        """Raise unless the fusion that finds the weights can be made and fitted, and bands can have such edges."""
        super().check()
        check_edges(self.edges_hz, self.width_hz)
        self._made().check()

    def parts(self) -> tuple[BaseFusion, ...]:
        """The fusion that finds the weights."""
        return (self._made(),)

    @property
    def needs_one_rate(self) -> bool:
        """Whether the fusion that finds the weights needs tracks of one sample rate."""
        return self._made().needs_one_rate

    @property
    def fitted_rate(self) -> int | None:
        """Sample rate in Hz of the tracks that it fuses; None where any will do."""
        return None if self.fusion_ is None else self.fusion_.fitted_rate

    @property
    def fitted_channels(self) -> int | None:
        """Number of channels of the tracks that it fuses; None where any will do."""
        return None if self.fusion_ is None else self.fusion_.fitted_channels

    @property
    def fitted_sources(self) -> tuple[str, ...] | None:
        """Sources that it gives; None where that depends on the stems that it is given."""
        return None if self.fusion_ is None else self.fusion_.fitted_sources

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Fit the fusion on the bands of the tracks' stems.

        Raises
        ------
        FusionError
            The edges do not fit the sample rate, or the fusion cannot be fitted.
        """
        fitted, validation = ([self.split(track) for track in part] for part in (train, valid or ()))
        self.fusion_ = self._made().trained_by(self.inner_execution).fit(fitted, validation)
        return self

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track."""
        return self._fitted().fuse(self.split(track))

    def split(self, track: Track) -> Track:
        """The track with the bands of its stems in their place, filtered when they are read."""
        filters = BandSplit(tuple(self.edges_hz), self.width_hz, track.rate)
        return Track(
            track.name,
            track.mixture,
            track.subset,
            track.references,
            {label: part for name, stems in track.stems.items() for label, part in _bands(name, stems, filters)},
            data=track.data,
        )

    @property
    def band_weights(self) -> dict[str, MixingWeights]:
        """Weights of each band, lowest first, by its name such as ``"0-250"``; none where they are not constant.

        The mixture, which is not split, has the same weights in all bands.
        """
        weights = self._fitted().constant_weights
        if weights is None:
            return {}
        labels = [ChannelLabel.parse(label) for label in weights.inputs]
        bands = dict.fromkeys(label.separator.rpartition("@")[2] for label in labels if not label.is_mixture)
        found = {}
        for band in bands:
            kept = [n for n, label in enumerate(labels) if label.is_mixture or label.separator.endswith(f"@{band}")]
            names = [labels[n]._replace(separator=labels[n].separator.removesuffix(f"@{band}")) for n in kept]
            found[band] = MixingWeights(weights.matrix[:, :, kept], tuple(map(str, names)), weights.outputs)
        return found

    def _fitted(self) -> BaseFusion:
        if self.fusion_ is None:
            raise FusionError(f"{self.kind}: not fitted; call fit(tracks) first, or load a fitted one")
        return self.fusion_

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``path``, which ends in ``.json``, and beside it the file of the fusion that finds the weights."""
        self._fitted().save(self._inner(path))
        super().save(path)

    def restore(self, path: str | os.PathLike[str]) -> Self:
        """Read the fusion that `save` wrote."""
        self.fusion_ = load_fusion(self._inner(path))
        return self

    def saved_files(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """``path`` and the files of the fusion that finds the weights."""
        return (Path(path), *self._made().saved_files(self._inner(path)))

    def packages(self) -> tuple[str, ...]:
        """Those of the fusion that finds the weights."""
        return self._made().packages()

    def _inner(self, path: str | os.PathLike[str]) -> Path:
        return Path(path).with_suffix(f".bands{self._made().suffix}")

    def _made(self) -> BaseFusion:
        """The fusion that finds the weights, not fitted."""
        return make_fusion(self.fusion, **(self.options or {}))


class _BandSignal(Signal):
    """One band of a signal, filtered when it is read."""

    def __init__(self, signal: Signal, filters: BandSplit, band: int) -> None:
        self.signal, self.filters, self.band = signal, filters, slice(band, band + 1)
        self.rate, self.channels, self.length = signal.rate, signal.channels, signal.length

    def _read(self, start: int, stop: int) -> Samples:
        return self.filters.apply(self._read_whole, self.length, start, stop, self.band)

    def _read_whole(self, start: int, stop: int) -> Samples:
        return self.signal.read(start, stop)[None]

    def __str__(self) -> str:
        return f"band {self.band.start + 1} of {self.signal}"


def _bands(name: str, stems: Stems, filters: BandSplit) -> Iterator[tuple[str, Stems]]:
    """Every band of a separator's stems under a name of its own."""
    for band, (low, high) in enumerate(pairwise((0, *filters.edges_hz, stems.rate / 2))):
        signals = {source: _BandSignal(stems[source], filters, band) for source in stems.sources}
        yield f"{name}@{low:g}-{high:g}", Stems.from_signals(signals)
