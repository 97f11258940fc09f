"""Residual rules: what the estimates leave of the mixture is given back to the sources by constant gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from stemfuse.blending.fusion import BaseFusion, LinearFusion, first_of
from stemfuse.separators import Track

from .base import Base, base_fusion, base_weights, describe_base, made_base
from .gains import Gains, check_several, fit_gains, gain_pairs, redistribute


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
    >>> import numpy as np
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

    def parts(self) -> tuple[BaseFusion, ...]:
        """The base."""
        return (made_base(self.base),)

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
            The base is not linear, is not fitted although it learns, or gives a single source.
        """
        weights = base_weights(base_fusion(self.base, [first_of(train)]))
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
    >>> import numpy as np
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

    def parts(self) -> tuple[BaseFusion, ...]:
        """The base."""
        return (made_base(self.base),)

    def check_inputs(self, given: Mapping[str, Sequence[str] | None]) -> None:
        """Raise where all separators are known to give one source, the same, or what the base says."""
        super().check_inputs(given)
        check_several(given)

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
        weights = base_weights(base_fusion(self.base, train, valid, learn=True, execution=self.inner_execution))
        gains = self.gains
        if isinstance(gains, str):
            from stemfuse.analysis import GramStatistics

            statistics = (GramStatistics.of(track) for track in train)
            gains = fit_gains(weights, statistics, gains, self.normalised)
        self.weights_ = redistribute(weights, gains)
        self.gains_ = gain_pairs(gains, weights.sources)
        return self
