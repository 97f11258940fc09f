"""Residual rules: what the estimates leave of the mixture, given back to the sources by constant gains."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending.constant import Fixed
from stemfuse.blending.errors import FusionError
from stemfuse.blending.fusion import Fusion, LinearFusion, first_of, make_fusion
from stemfuse.blending.weights import MIXTURE, MixingWeights, channel_names
from stemfuse.separators import Track

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
    pairs = _pairs(gains, weights.sources)
    inputs, blend, residual = _with_residual(weights)
    channels = residual.shape[1]
    sides = np.stack([np.eye(channels), 1 - np.eye(channels)])
    spread = np.concatenate([np.tensordot(pairs[source], sides, 1) for source in weights.sources])
    return replace(weights, matrix=(blend + spread @ residual).astype(np.float32), inputs=inputs)


def _pairs(gains: Gains, sources: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Gains of every source for the same and for the other channels."""
    given = gains if isinstance(gains, Mapping) else dict.fromkeys(sources, gains)
    if unknown := [source for source in given if source not in sources]:
        raise FusionError(f"a gain for {unknown[0]!r} came, the sources are {', '.join(sources)}")
    pairs = dict.fromkeys(sources, (0.0, 0.0))
    for source, gain in given.items():
        try:
            same, other = gain if isinstance(gain, Sequence) else (gain, 0.0)
            pairs[source] = float(same), float(other)
        except (TypeError, ValueError) as error:
            raise FusionError(f"gain {gain!r} of {source} came, expected a number or a pair of numbers") from error
    return pairs


def _with_residual(weights: MixingWeights) -> tuple[tuple[str, ...], Array, Array]:
    """All inputs; over them the blend, (segment, output, input), and its residual, (segment, channel, input)."""
    count = len(weights.sources)
    if count < 2:
        raise FusionError(
            f"a blend of {', '.join(weights.sources)} came; a residual needs the estimates of all sources"
        )
    channels = channel_names(len(weights.outputs) // count)
    mixture = [f"{MIXTURE}.{channel}" for channel in channels]
    inputs = weights.inputs + tuple(label for label in mixture if label not in weights.inputs)
    added = len(inputs) - len(weights.inputs)
    blend = np.pad(weights.matrix.astype(np.float64), ((0, 0), (0, 0), (0, added)))
    residual = -blend.reshape(len(blend), count, len(channels), -1).sum(1)
    residual[:, range(len(channels)), [inputs.index(label) for label in mixture]] += 1
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
        raise FusionError(f"weights of {len(blend)} segments came, expected constant ones; fit gains to each")
    channels = residual.shape[1]
    count = 2 if shared == "sides" else 1
    same = residual[0]
    features = np.stack([same, same.sum(0) - same], axis=1)[:, :count]
    blends = blend[0].reshape(-1, channels, len(inputs))
    normal, target, energy = np.zeros((len(blends), count, count)), np.zeros((len(blends), count)), 0.0
    for gram in statistics:
        for index, source in enumerate(weights.sources):
            moments, cross = _source_moments(gram.select(inputs), source, channels, normalised)
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
    if source not in gram.sources:
        raise FusionError(f"track {gram.track!r} has no reference of {source}, only of {', '.join(gram.sources)}")
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


Base = str | Mapping[str, Any] | MixingWeights | Fusion
"""What a rule builds on: a fusion, its name, ``{"kind": ..., "arguments": {...}}``, or given weights."""


def base_fusion(
    base: Base, train: Sequence[Track], valid: Sequence[Track] | None = None, learn: bool = False
) -> Fusion:
    """The fusion that a rule builds on, fitted: one that is fitted already stays as it is.

    Raises
    ------
    FusionError
        It learns from references and is not fitted, and ``learn`` does not allow that.
    """
    made: Any = base
    if isinstance(base, str):
        made = make_fusion(base)
    elif isinstance(base, MixingWeights):
        made = Fixed(base)
    elif isinstance(base, Mapping) and "matrix" in base:
        made = Fixed(MixingWeights(**base))
    elif isinstance(base, Mapping):
        made = make_fusion(str(base.get("kind")), **base.get("arguments", {}))
    if _is_fitted(made):
        return cast("Fusion", made)
    if getattr(made, "learns", True) and not learn:
        raise FusionError(f"base {made!r} has to learn from references first; fit it and give the fitted fusion")
    return cast("Fusion", copy.deepcopy(made).fit(train, valid))


def _is_fitted(fusion: Any) -> bool:
    return any(name.endswith("_") and not name.startswith("_") for name in vars(fusion))


def describe_base(base: Base) -> Any:
    """The base as JSON takes it; fitted constant weights are written out.

    Raises
    ------
    FusionError
        The base has learnt something that is no constant weights.
    """
    if isinstance(base, str | Mapping):
        return base
    weights = base if isinstance(base, MixingWeights) else getattr(base, "weights_", None)
    if isinstance(weights, MixingWeights) and len(weights.matrix) == 1:
        return {"matrix": weights.matrix[0].tolist(), "inputs": weights.inputs, "outputs": weights.outputs}
    if weights is not None or _is_fitted(base) or not hasattr(base, "arguments"):
        raise FusionError(f"base {base!r} cannot be written into another fusion's file; save it on its own")
    fusion: Any = base
    return {"kind": fusion.kind, "arguments": fusion.arguments()}


class MixtureConsistency(LinearFusion):
    """Estimates that sum to the mixture: each gets the same share of what they leave of it.

    The least change of a blend, in squared error, after which its estimates sum to the mixture.

    Parameters
    ----------
    base : fusion, str, mapping or MixingWeights
        What gives the estimates: a linear fusion that learns nothing or is fitted, its name, its
        ``{"kind": ..., "arguments": {...}}``, or weights.

    See Also
    --------
    Residual : gains that are given or fitted.
    stemfuse.blending.classical.wiener.EnergyConsistency : the share by energy, which is not linear.

    References
    ----------
    Wisdom et al., "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019: the
    projection with uniform weights.

    Examples
    --------
    >>> stems = np.ones((4, 2, 1000), "float32")
    >>> track = Track.from_arrays("song", 8 * stems[0], stems={"a": stems})
    >>> MixtureConsistency().fit([track]).fuse(track).read(0, 1)[:, 0, 0].tolist()
    [2.0, 2.0, 2.0, 2.0]
    """

    kind = "mixture_consistency"
    learns = False

    def __init__(self, base: Base = "mean") -> None:
        self.base = base

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, the base as JSON takes it."""
        return {"base": describe_base(self.base)}

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Bring the rule into a matrix for these tracks; their audio is not read.

        Parameters
        ----------
        train : sequence of Track
            With the stems of the same separators.
        valid : sequence of Track, optional
            Not used.

        Raises
        ------
        FusionError
            The base is not linear, has yet to learn, or gives a single source.
        """
        weights = _constant(base_fusion(self.base, [first_of(train)]))
        self.weights_ = redistribute(weights, 1 / len(weights.sources))
        return self


class Residual(LinearFusion):
    """A blend whose residual, the mixture minus the sum of all estimates, is given back by constant gains.

    Parameters
    ----------
    gains : str, float or mapping
        ``"one"`` gain for all sources, one per ``"source"``, or two per source, for the residual's same and other
        ``"sides"``: fitted. Or the gains themselves, as `redistribute` takes them: a number, or source to a number or
        to a pair (same, other).
    base : fusion, str, mapping or MixingWeights
        What gives the estimates: any linear fusion whose weights are the same for all tracks, its name, its
        ``{"kind": ..., "arguments": {...}}``, or weights. It is fitted on the same tracks, unless it is fitted already.
    normalised : bool
        How frames count in the fit; see `fit_gains`.

    Attributes
    ----------
    gains_ : dict of source to (same, other)
        After `fit`.

    Notes
    -----
    KUIELab's published mixer of 8 x 10 weights is, but for some percent of its energy, this rule with two gains each.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> references = generator.normal(0, 0.1, (4, 2, 44100))
    >>> halves = Track.from_arrays("song", references.sum(0), references, {"a": 0.5 * references})
    >>> fusion = Residual("one").fit([halves])
    >>> round(fusion.gains_["bass"][0], 2)
    0.25
    """

    kind = "residual"

    def __init__(self, gains: str | Gains = "sides", base: Base = "mean", normalised: bool = False) -> None:
        self.gains = gains
        self.base = base
        self.normalised = normalised

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, the base as JSON takes it."""
        return {**super().arguments(), "base": describe_base(self.base)}

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Fit the base, and the gains that are not given, to the references.

        Parameters
        ----------
        train : sequence of Track
            With the stems of the same separators, and with references unless the gains are given; read once.
        valid : sequence of Track, optional
            For the base.

        Raises
        ------
        FusionError
            The base's weights are not the same for all tracks, or the gains are not as they have to be.
        TrackError
            A track has no references.
        """
        first_of(train)
        weights = _constant(base_fusion(self.base, train, valid, learn=True))
        gains = self.gains
        if isinstance(gains, str):
            from stemfuse.analysis import GramStatistics

            statistics = (GramStatistics.of(track) for track in train)
            gains = fit_gains(weights, statistics, gains, self.normalised)
        self.weights_ = redistribute(weights, gains)
        self.gains_ = _pairs(gains, weights.sources)
        return self


def _constant(base: Fusion) -> MixingWeights:
    """Weights of a fusion that are the same for all tracks."""
    weights = getattr(base, "weights_", None)
    if not isinstance(weights, MixingWeights) or len(weights.matrix) > 1:
        raise FusionError(
            f"base {base!r} has no weights that hold for all tracks at all times; redistribute(base.weights(track), "
            "gains) does the same to the weights of one track"
        )
    return weights
