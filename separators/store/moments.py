"""Second moments of a mixture, its references and stems, channel by channel and part by part of a song."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.stems import Stems

BLOCK_S = 10
"""Seconds that are read at a time at most; shorter songs are read in `PARTS`."""

PARTS = 5
"""Parts of a short song, and parts that are looked at where one is not enough."""

Products = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Products of all channels with one another, summed over each part of a song.

    Attributes
    ----------
    sums : ndarray, shape (part, row)
        Sums of the samples.
    products : ndarray, shape (part, row, row)
        Sums of products; rows are the mixture, the references, the stems, each with all its channels.
    starts : tuple of int
        Where each part begins, in samples of the mixture.
    size, length : int
        Samples of a part, but for the last one, and of all parts together.
    channels : int
        Rows of each signal.
    references, stems : tuple of str
        Sources in the order of the rows.
    """

    sums: NDArray[np.float64]
    products: Products
    starts: tuple[int, ...]
    size: int
    length: int
    channels: int
    references: tuple[str, ...]
    stems: tuple[str, ...]

    def rows(self, group: str, source: str = "") -> slice:
        """Rows of a signal: of the ``"mixture"``, of a source among ``"references"`` or among ``"stems"``."""
        place = 0
        if group == "references":
            place = 1 + self.references.index(source)
        elif group == "stems":
            place = 1 + len(self.references) + self.stems.index(source)
        return slice(self.channels * place, self.channels * (place + 1))

    def is_audible(self, source: str) -> bool:
        """Whether a stem is more than rounding errors beside the mixture."""
        return self._energy(self.rows("stems", source)) > 1e-9 * self._energy(self.rows("mixture"))

    def against(self, source: str) -> str:
        """What a stem is compared with: the ``"references"`` where its own sounds, else the ``"mixture"``."""
        if source not in self.references:
            return "mixture"
        sounds = self._energy(self.rows("references", source)) > 1e-6 * self._energy(self.rows("mixture"))
        return "references" if sounds else "mixture"

    def _energy(self, rows: slice) -> float:
        return float(self.products.diagonal(axis1=1, axis2=2)[:, rows].sum())

    def centred(self) -> Products:
        """Products without the mean of each row in each part: (part, row, row)."""
        counts = np.minimum(self.size, self.starts[0] + self.length - np.array(self.starts))
        means: Products = self.sums[:, :, None] * self.sums[:, None, :] / counts[:, None, None]
        return self.products - means

    def gram(self) -> Products:
        """Gram matrix of [mixture, stems] over the song, summed over channels."""
        signals = 1 + len(self.references) + len(self.stems)
        total = self.products.sum(0).reshape(signals, self.channels, signals, self.channels)
        kept = [0, *range(1 + len(self.references), signals)]
        gram: Products = np.einsum("icjc->ij", total)[np.ix_(kept, kept)]
        return gram

    def explained(self) -> float:
        """How much of the mixture's energy the sum of the references has in common with it: a squared correlation."""
        total, count = self.products.sum(0), self.channels
        block = total[count : count * (1 + len(self.references)), count : count * (1 + len(self.references))]
        cross = total[:count, count : count * (1 + len(self.references))]
        along = sum(np.trace(cross[:, start : start + count]) for start in range(0, cross.shape[1], count))
        energy = np.einsum("icjc->", block.reshape(len(self.references), count, len(self.references), count))
        norm = float(energy * np.trace(total[:count, :count]))
        return float(along**2 / norm) if norm > 0 else 0.0

    def follows(self) -> float:
        """How much of the mixture's energy the sum of the stems has in common with it: a squared correlation."""
        gram = self.gram()
        norm = float(gram[0, 0] * gram[1:, 1:].sum())
        return float(gram[0, 1:].sum() ** 2 / norm) if norm > 0 else 0.0

    def loudest(self, target: slice, other: slice | Sequence[slice], most: int = PARTS) -> list[int]:
        """Starts of the parts where two signals are both loudest, the loudest first; nearly silent parts are left out.

        Parameters
        ----------
        target : slice
            Rows of one signal.
        other : slice or sequence of slice
            Rows of one or several others.
        most : int
            How many parts.
        """
        energy = self.products.diagonal(axis1=1, axis2=2)
        others = [other] if isinstance(other, slice) else other
        loudness = energy[:, target].sum(1) * sum(energy[:, rows].sum(1) for rows in others)
        order = np.argsort(-loudness, kind="stable")[:most]
        return [self.starts[part] for part in order if loudness[part] > 1e-4 * loudness[order[0]]] or [self.starts[0]]


def measure_moments(
    mixture: Signal, references: Stems | None, stems: Stems, late: Mapping[str, int] | None = None
) -> Moments:
    """Read everything once, a part at a time.

    Parameters
    ----------
    mixture : Signal
        Of the references' and the stems' shape.
    references, stems : Stems
        References may be missing.
    late : mapping of str to int, optional
        Samples by which each stem is read later; what then has no counterpart is left out.

    Raises
    ------
    AudioError
        A sample is not finite, or a file is damaged.
    """
    late = late or {}
    shifts = [late.get(source, 0) for source in stems.sources]
    first, last = max(0, -min(shifts)), mixture.length - max(0, *shifts)
    first, last = (first, last) if first < last else (0, mixture.length)
    size = min(BLOCK_S * mixture.rate, max(-(-(last - first) // PARTS), mixture.rate))
    names = references.sources if references is not None else ()
    sums, products, starts = [], [], list(range(first, last, size))
    for start in starts:
        stop = min(start + size, last)
        parts = [mixture.read(start, stop)]
        parts += [references[source].read(start, stop) for source in names] if references is not None else []
        parts += [
            read_clipped(stems[source], start + by, stop + by) for source, by in zip(stems.sources, shifts, strict=True)
        ]
        rows = np.concatenate(parts).astype(np.float64)
        sums.append(rows.sum(1))
        products.append(rows @ rows.T)
    return Moments(
        np.array(sums),
        np.array(products),
        tuple(starts),
        size,
        last - first,
        mixture.channels,
        tuple(names),
        tuple(stems.sources),
    )


def read_clipped(signal: Signal, start: int, stop: int) -> NDArray[np.float32]:
    """Samples of a range, with zeros before the beginning and after the end of the signal."""
    inside = signal.read(*(min(max(place, 0), signal.length) for place in (start, stop)))
    before = min(max(-start, 0), stop - start)
    return np.pad(inside, ((0, 0), (before, stop - start - before - inside.shape[1])))
