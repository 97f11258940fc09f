"""The residual of a blend, what its estimates leave of the mixture, and constant gains that give it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending.errors import FusionError
from stemfuse.blending.weights import MixingWeights
from stemfuse.separators.labels import mixture_labels

if TYPE_CHECKING:
    from stemfuse.analysis import GramStatistics

Array = NDArray[np.float64]
Gains = float | Mapping[str, Any]
SHARED = ("one", "source", "sides")
"""Gains that can be fitted: one for all sources, one per source, two per source for the same and the other sides."""
SILENCE = 1e-12
"""Energy below which a residual counts as none, relative to that of all inputs: float32 rounds to 1e-15 of it."""


def redistribute(weights: MixingWeights, gains: Gains) -> MixingWeights:
    """Add a share of the residual, the mixture minus the sum of all estimates, to every estimate of a blend.

    With B the blend's weights, A the gains, M the selection of the mixture and S the sum over sources, the
    result is W = B + A (M - S B): linear again, with the mixture among its inputs.

    Parameters
    ----------
    weights : MixingWeights
        Of at least two sources, constant or per segment.
    gains : float or mapping
        One gain for all sources, or source to its gain, or source to a pair: the gain of the residual's same channel
        and that of each of its other channels. A source that is not named gets none.

    Returns
    -------
    MixingWeights
        Their inputs are those of ``weights`` and the mixture's channels.

    Raises
    ------
    FusionError
        The gains are not of this form, or ``weights`` have a single source.

    Examples
    --------
    >>> blend = MixingWeights.same_source({source: {"a": 1.0} for source in ("bass", "vocals")}, channels=1)
    >>> given_back = redistribute(blend, {"bass": 0.5})
    >>> given_back.inputs, given_back.matrix[0].tolist()
    (('a.bass.mono', 'a.vocals.mono', 'mixture.mono'), [[0.5, -0.5, 0.5], [0.0, 1.0, 0.0]])
    """
    pairs = gain_pairs(gains, weights.sources)
    inputs, blend, residual = _with_residual(weights)
    channels = residual.shape[1]
    sides = np.stack([np.eye(channels), 1 - np.eye(channels)])
    spread = np.concatenate([np.tensordot(pairs[source], sides, 1) for source in weights.sources])
    return replace(weights, matrix=(blend + spread @ residual).astype(np.float32), inputs=inputs)


def gain_pairs(gains: Gains, sources: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Gains of every source for the same and for the other channels; see `redistribute`."""
    given = gains if isinstance(gains, Mapping) else dict.fromkeys(sources, gains)
    if unknown := [source for source in given if source not in sources]:
        raise FusionError(f"got a gain for {unknown[0]!r}, the sources are {', '.join(sources)}")
    pairs = dict.fromkeys(sources, (0.0, 0.0))
    for source, gain in given.items():
        try:
            same, other = gain if isinstance(gain, Sequence) else (gain, 0.0)
            pairs[source] = float(same), float(other)
        except (TypeError, ValueError) as error:
            raise FusionError(f"got gain {gain!r} of {source}, expected a number or a pair of numbers") from error
    return pairs


def check_several(given: Mapping[str, Sequence[str] | None]) -> None:
    """Refuse separators that are known to give one source only, the same; see `BaseFusion.check_inputs`."""
    known = {source for sources in given.values() for source in sources or ()}
    if len(known) == 1 and None not in given.values():
        raise _too_few(known)


def _too_few(sources: Iterable[str]) -> FusionError:
    return FusionError(f"got a blend of {', '.join(sources)}; a residual needs the estimates of all sources")


def _with_residual(weights: MixingWeights) -> tuple[tuple[str, ...], Array, Array]:
    """All inputs; over them the blend, (segment, output, input), and its residual, (segment, channel, input)."""
    count = len(weights.sources)
    if count < 2:
        raise _too_few(weights.sources)
    channels = len(weights.outputs) // count
    mixture = mixture_labels(channels)
    inputs = weights.inputs + tuple(label for label in mixture if label not in weights.inputs)
    added = len(inputs) - len(weights.inputs)
    blend = np.pad(weights.matrix.astype(np.float64), ((0, 0), (0, 0), (0, added)))
    residual = -blend.reshape(len(blend), count, channels, -1).sum(1)
    residual[:, range(channels), [inputs.index(label) for label in mixture]] += 1
    return inputs, blend, residual


def fit_gains(
    weights: MixingWeights, statistics: Iterable[GramStatistics], shared: str = "sides", normalised: bool = False
) -> dict[str, tuple[float, float]]:
    """Gains of `redistribute` that leave the smallest squared error, in closed form.

    The error of a source is quadratic in its gains, so that second moments of the inputs are all that is needed: the
    normal equations are sums over frames.

    Parameters
    ----------
    weights : MixingWeights
        The blend whose residual is given back; constant.
    statistics : iterable of GramStatistics
        Of the tracks to fit on, with the blend's inputs and the mixture; read once, one after the other.
    shared : str
        ``"one"`` gain for all sources, one per ``"source"``, or two, for the same and the other ``"sides"``.
    normalised : bool
        Whether each frame's error counts relative to the energy of its reference, as it does in SDR, so that soft
        passages count as much as loud ones. Frames with a silent reference are then left out.

    Returns
    -------
    dict of source to (same, other)
        ``other`` is zero unless fitted. Gains that the tracks do not determine, as where the estimates
        sum to the mixture anyway, are the smallest that fit.

    Raises
    ------
    FusionError
        ``shared`` is unknown, or the weights are not constant.
    """
    if shared not in SHARED:
        raise FusionError(f"gains={shared!r} is unknown; fitted are {', '.join(SHARED)}, else give numbers")
    inputs, blend, residual = _with_residual(weights)
    if len(blend) > 1:
        raise FusionError(f"got weights of {len(blend)} segments, expected constant ones; fit gains to each")
    channels = residual.shape[1]
    count = 2 if shared == "sides" else 1
    same = residual[0]
    features = np.stack([same, same.sum(0) - same], axis=1)[:, :count]
    blends = blend[0].reshape(-1, channels, len(inputs))
    normal, target, energy = np.zeros((len(blends), count, count)), np.zeros((len(blends), count)), 0.0
    for gram in statistics:
        selected = gram.select(inputs)
        for index, source in enumerate(weights.sources):
            if source not in gram.sources:
                continue  # it is not in this song
            moments, cross = _source_moments(selected, source, channels, normalised)
            projected = features @ moments
            normal[index] += np.einsum("cai,cbi->ab", projected, features)
            target[index] += np.einsum("cai,ci->a", features, cross) - np.einsum("cai,ci->a", projected, blends[index])
            energy += float(np.trace(moments))
    if shared == "one":
        normal[:], target[:] = normal.sum(0), target.sum(0)
    solved = [_least_gains(*pair, SILENCE * energy) for pair in zip(normal, target, strict=True)]
    return {source: (gain[0], [*gain, 0.0][1]) for source, gain in zip(weights.sources, solved, strict=True)}


def _source_moments(gram: GramStatistics, source: str, channels: int, normalised: bool) -> tuple[Array, Array]:
    """Second moments of the inputs, and with one source's reference channels, summed over frames."""
    first = channels * gram.sources.index(source)
    rows = slice(first, first + channels)
    frames = np.ones(len(gram.moments))
    if normalised:
        energies = gram.reference_energies[:, rows].sum(1)
        frames = np.divide(1, energies, out=np.zeros_like(energies), where=~gram.silent)
    moments: Array = np.tensordot(frames, gram.input_moments, 1)
    cross: Array = np.tensordot(frames, gram.cross_moments[:, rows], 1)
    return moments, cross


def _least_gains(normal: Array, target: Array, floor: float) -> list[float]:
    """The smallest solution of normal equations, leaving out directions whose energy is rounding noise."""
    energies, directions = np.linalg.eigh(normal)
    kept = directions[:, energies > floor]
    gains: list[float] = (kept @ ((kept.T @ target) / energies[energies > floor])).tolist()
    return gains
