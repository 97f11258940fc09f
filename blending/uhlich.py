"""Network blending of Uhlich et al. (2017): one weight per separator, the same for all sources."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track, check_fields, in_order
from stemfuse.separators.errors import wrong_usage

from .errors import FusionError
from .fusion import LinearFusion, given_sources
from .space import BlendSpace
from .weights import MixingWeights

Array = NDArray[np.float64]

FINEST = 1e-7
"""The last step of the solver ``"exact"``."""


@dataclass(eq=False, repr=False)
class Uhlich2017(LinearFusion):
    """One weight per separator for all sources, chosen by the average SDR: positive weights that sum to one.

    The paper blends two networks, 0.25 feed-forward + 0.75 BLSTM (the preset ``uhlich2017`` of `Fixed`); it chose the
    weight on a development set. It leaves open how finely weights were tried, how frames and songs became one SDR, and
    how more than two separators would be blended: here by all weights on a grid over the simplex.

    Parameters
    ----------
    solver : {"grid", "exact"}
        The best of a grid; or, starting there, moves of weight from one separator to another, by half the step and so
        on down to `FINEST`, as long as they help: a maximum up to that step.
    step : float
        Of the grid; one divided by a whole number.
    over_frames, over_tracks : str
        How the frames' SDR and the tracks' become one figure of a source; sources are averaged.

    Attributes
    ----------
    weights_ : MixingWeights
        What is chosen.
    theta_ : dict of str to float
        The same, by separator.
    score_ : float
        Average SDR in dB that it has on the training tracks.

    References
    ----------
    Uhlich, Porcu, Giron, Enenkl, Kemp, Takahashi and Mitsufuji, Improving music source separation based on deep neural
    networks through data augmentation and network blending, ICASSP 2017.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> stems = {name: generator.normal(0, 0.1, (4, 2, 44100)).astype("float32") for name in "ab"}
    >>> references = 0.3 * stems["a"] + 0.7 * stems["b"]
    >>> track = Track.from_arrays("planted", references.sum(0), references, stems)
    >>> Uhlich2017("exact", step=0.25).fit([track]).weights_.matrix[0, 0, [0, 8]].round(4)
    array([0.3, 0.7], dtype=float32)
    """

    kind: ClassVar[str] = "uhlich2017"

    solver: Literal["grid", "exact"] = "grid"
    step: float = 0.05
    over_frames: Literal["median", "mean", "song"] = "median"
    over_tracks: Literal["median", "mean", "pooled"] = "median"

    def __post_init__(self) -> None:
        check_fields(self, FusionError)

    def check(self) -> None:
        """Raise unless the arguments make sense."""
        super().check()
        if not 0 < self.step <= 1 or abs(1 / self.step - round(1 / self.step)) > 1e-6:
            raise wrong_usage(
                FusionError(f"got step={self.step}, expected one divided by a whole number, such as 0.05")
            )

    def check_inputs(self, given: Mapping[str, Sequence[str] | None]) -> None:
        """Raise where a separator is known not to give a source that another one gives."""
        known = {separator: sources for separator, sources in given.items() if sources is not None}
        _check_all_give(in_order(source for sources in known.values() for source in sources), known)

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Choose the weights.

        Parameters
        ----------
        train : sequence of Track
            The development set: with references, and stems of every source by every separator.
        valid : sequence of Track, optional
            Not used.

        Raises
        ------
        FusionError
            A separator gives only some of the sources, or no frame has all references.
        """
        self.check()
        space, given = BlendSpace.of(train), given_sources(train)
        separators = list(given)
        _check_all_give(space.sources, given)
        score = self._score(space, separators)
        grid = _simplex(len(separators), round(1 / self.step))
        scores = score(grid)
        if np.isnan(scores).all():
            raise FusionError(f"no frame in which every reference sounds; {space.silence(space.sources[0])}")
        best, self.score_ = grid[np.nanargmax(scores)], float(np.nanmax(scores))
        step = self.step / 2
        while self.solver == "exact" and step >= FINEST and len(separators) > 1:
            moved = _moves(best, step)
            scores = score(moved)
            if np.nanmax(scores) > self.score_:
                best, self.score_ = moved[np.nanargmax(scores)], float(np.nanmax(scores))
            else:
                step /= 2
        self.theta_ = dict(zip(separators, best.tolist(), strict=True))
        self.weights_ = MixingWeights.same_source(dict.fromkeys(space.sources, self.theta_), train[0].channels)
        return self

    def _score(self, space: BlendSpace, separators: Sequence[str]) -> Callable[[Array], Array]:
        """The average SDR, (candidate,), of weights (candidate, separator)."""
        from .candidates import CandidateScorer

        scorers = []
        for source in space.sources:
            terms = {separator: space.terms(source)[f"{separator}.{source}"] for separator in separators}
            scorers.append(CandidateScorer(space.grams_of(source), source, terms, self.over_frames, self.over_tracks))
        return lambda candidates: np.mean([scorer.score_many(candidates) for scorer in scorers], axis=0)


def _check_all_give(sources: Sequence[str], given: Mapping[str, Sequence[str]]) -> None:
    """Refuse separators that lack a source."""
    for source in sources:
        if missing := [separator for separator, own in given.items() if source not in own]:
            raise FusionError(
                f"{source}: got no stem of it by {', '.join(missing)}; one weight for all sources needs separators "
                "that give them all: choose sources that they share (--sources), or other separators"
            )


def _simplex(count: int, steps: int) -> Array:
    """All weights that are multiples of 1 / steps and sum to one, (candidate, weight).

    Examples
    --------
    >>> _simplex(2, 2).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    bars = np.array(list(itertools.combinations(range(steps + count - 1), count - 1)), int)
    bars = bars.reshape(-1, count - 1)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, steps + count - 1)))
    weights: Array = (np.diff(edges, axis=1) - 1) / steps
    return weights


def _moves(weights: Array, step: float) -> Array:
    """Weights of which a step, or what is left, has moved from one to another, (candidate, weight)."""
    pairs = list(itertools.permutations(range(len(weights)), 2))
    moved = np.tile(weights, (len(pairs), 1))
    for row, (giving, taking) in enumerate(pairs):
        share = min(step, weights[giving])
        moved[row, giving] -= share
        moved[row, taking] += share
    return moved
