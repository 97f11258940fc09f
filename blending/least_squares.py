"""Blends in closed form: the weights of least squared error, free or constrained, from Gram statistics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.names import did_you_mean

from .aggregation import aggregate_frames, group_medians
from .errors import FusionError
from .fusion import LinearFusion
from .space import BlendSpace, FrameErrors

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Constraint = Literal["free", "nonnegative", "simplex"]
Weighting = Literal["energy", "frames", "mean", "median"]

CONSTRAINTS = ("free", "nonnegative", "simplex")
"""Any weights; none below zero; none below zero and summing to one for each output channel."""

WEIGHTINGS = ("energy", "frames", "mean", "median")
"""What is minimised: squared error; that over each frame's reference energy; or what leads to the best mean or median
of the frames' SDR, by reweighting."""

RANK = 1e-11
"""Directions of less than this share of the largest energy are left out: float32 stems do not determine them."""

FLOOR_DB = -20.0
"""What is added to the error of a frame that is weighted by its SDR, and the least energy of its reference, relative to
the mean energy of its track's frames. Passages in which a source hardly plays, where every estimate fails, would decide
otherwise."""

RIDGES = (*10.0 ** np.arange(-6.0, 2.1, 0.5), np.inf)
"""Strengths that ``ridge="auto"`` tries beside none; infinite is the plain mean."""

_STEPS = 50
_STILL = 1e-9


def minimise(a: Array, b: Array, constraint: Constraint = "free", groups: Sequence[Any] | None = None) -> Array:
    """Minimise theta' A theta - 2 b' theta.

    Parameters
    ----------
    a, b : ndarray, shapes (weight, weight), (weight,)
        A symmetric and positive semidefinite.
    constraint : {"free", "nonnegative", "simplex"}
        See `CONSTRAINTS`. Free weights that A does not determine are the smallest.
    groups : sequence of index arrays, optional
        Weights that do not interact; the sum of each group is one on the simplex. All weights are one group when not
        given.

    Returns
    -------
    ndarray, shape (weight,)
        The minimum, exact up to rounding.

    Notes
    -----
    With A = M' M and M' d = b, non-negative weights are non-negative least squares of (M, d), for which scipy has
    Lawson and Hanson's active sets. On the simplex b' theta = (b' theta) 1' theta, so that the target can be taken into
    the columns, N = M - d 1', and what is left, the point of least norm in a convex hull, is the non-negative least
    squares solution of (N over 1', 0 over 1) scaled to the sum one: for any direction the best scale
    gives q / (1 + q), which grows with ``q = |N theta|^2``.

    Examples
    --------
    >>> minimise(np.eye(2), np.array([0.9, -0.3]), "simplex").tolist()
    [1.0, 0.0]
    """
    if constraint not in CONSTRAINTS:
        raise FusionError(f"got constraint={constraint!r}, expected one of {', '.join(CONSTRAINTS)}")
    theta = np.zeros(len(b))
    for group in [np.arange(len(b))] if groups is None else groups:
        theta[group] = _minimise_group(a[np.ix_(group, group)], b[group], constraint)
    return theta


def _minimise_group(a: Array, b: Array, constraint: Constraint) -> Array:
    from scipy.optimize import nnls

    scale = np.sqrt(np.where(np.diag(a) > 0, np.diag(a), 1))
    if constraint == "simplex":
        scale[:] = np.sqrt(np.diag(a).max()) or 1.0
    energies, directions = np.linalg.eigh(a / np.outer(scale, scale))
    kept = energies > RANK * max(energies[-1], 0)
    energies, directions = energies[kept], directions[:, kept]
    target = (directions.T @ (b / scale)) / np.sqrt(energies)
    factor = np.sqrt(energies)[:, None] * directions.T
    if constraint == "free":
        solved: Array = directions @ (target / np.sqrt(energies)) / scale
        return solved
    if constraint == "nonnegative":
        return np.asarray(nnls(factor, target, maxiter=30 * len(b))[0]) / scale
    # within the simplex theta is not scaled, but the target is: d belongs to the scaled columns
    target = target / scale[0]
    columns = np.vstack([factor - target[:, None], np.ones(len(b))])
    point = np.asarray(nnls(columns, np.append(np.zeros(len(target)), 1.0), maxiter=30 * len(b))[0])
    convex: Array = point / point.sum()
    return convex


class LeastSquares(LinearFusion):
    """The constant blend of least squared error: one pass over the data, then milliseconds.

    Each source is a problem of its own: its error on a frame is a quadratic form in its weights, known from the
    track's Gram statistics, so that normal equations are sums over frames.

    Parameters
    ----------
    stems : {"same", "all"}
        Mix a source from the separators' stems of this source, or from those of all sources.
    mixture : bool
        Whether the mixture is an input too.
    tied : bool
        The same weights left and right, without crossing over; else any channel may go to any.
    constraint : {"free", "nonnegative", "simplex"}
        See `CONSTRAINTS`.
    weighting : {"energy", "frames", "mean", "median"}
        ``"energy"``: squared error, so that loud passages and songs count most. ``"frames"``: relative to the
        energy of the frame's reference, as in SDR, see `frame_weights`. ``"mean"``: frames are reweighted by one over
        their error until the mean of their SDR in dB (mean over tracks) no longer rises; each step raises it. To
        energy and error `FLOOR_DB` is added.
        ``"median"``: reweighted towards the frames near the median of their track and the tracks near the median; the
        best step is kept. These two begin with the better one of the first two.
    ridge : float or "auto"
        Strength of the pull to equal weights (the plain mean of the source's stems, nothing of anything else), as a
        share of the mean energy of an input. ``"auto"`` tries `RIDGES` and takes, per source, the one that is best, by
        the figure of the weighting, on the validation tracks; when there are none, on training tracks that are left
        out in turn, or on fifths of a single one; 0 where there is nothing to leave out, which is logged.

    Attributes
    ----------
    weights_ : MixingWeights
        After `fit`.
    ridge_ : dict of source to float
        The strengths that were used.
    theta_ : dict of source to dict of str to float
        The weights by name.

    Notes
    -----
    No gradient and no search can find a smaller squared error with the same inputs, so it bounds all other
    constant mixers. Jaureguiberry et al. (2016) use positive weights that sum to one.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> stems = {name: generator.normal(0, 0.1, (4, 2, 44100)).astype("float32") for name in "ab"}
    >>> references = 0.25 * stems["a"] + 0.5 * stems["b"]
    >>> track = Track.from_arrays("planted", references.sum(0), references, stems)
    >>> fusion = LeastSquares().fit([track])
    >>> {name: round(value, 6) for name, value in fusion.theta_["bass"].items()}
    {'a.bass': 0.25, 'b.bass': 0.5}
    """

    kind = "least_squares"

    @property
    def chosen_by_valid(self) -> str:
        """The strength of ``ridge="auto"`` is chosen on validation tracks."""
        return "its ridge" if self.ridge == "auto" else ""

    def __init__(
        self,
        stems: Literal["same", "all"] = "same",
        mixture: bool = False,
        tied: bool = True,
        constraint: Constraint = "free",
        weighting: Weighting = "mean",
        ridge: float | Literal["auto"] = 0.0,
    ) -> None:
        self.stems = stems
        self.mixture = mixture
        self.tied = tied
        self.constraint = constraint
        self.weighting = weighting
        self.ridge = ridge

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Solve for the weights of every source.

        Parameters
        ----------
        train : sequence of Track
            With references and the stems of the same separators.
        valid : sequence of Track, optional
            To choose the strength of ``ridge="auto"``.

        Raises
        ------
        FusionError
            An argument makes no sense, separators differ between tracks, or no frame has all references.
        """
        self.check()
        space = BlendSpace.of(train, self.stems, self.mixture, self.tied)
        validation = space.on(valid) if valid else None
        self.ridge_: dict[str, float] = {}
        solved = {}
        unchosen: list[str] = []
        for source in space.sources:
            frames = space.frames(source)
            if not frames.counted.any():
                raise FusionError(f"{source}: no frame in which every reference sounds; {space.silence(source)}")
            groups, prior = space.groups(source), space.equal(source)
            ridge = self.ridge
            if ridge == "auto":
                left_out = None if validation is None else validation.frames(source)
                chosen = self._choose_ridge(frames, left_out, groups, prior)
                ridge = 0.0 if chosen is None else chosen
                unchosen += [source] if chosen is None else []
            self.ridge_[source] = float(ridge)
            solved[source] = self._solve(frames, float(ridge), groups, prior)
        if unchosen:
            log.warning(
                "ridge='auto' is 0 for %s: nothing to leave out in which every reference sounds; longer or more tracks "
                "would tell",
                ", ".join(unchosen),
            )
        self.weights_ = space.weights(solved)
        self.theta_ = {
            source: dict(zip(space.names(source), values.tolist(), strict=True)) for source, values in solved.items()
        }
        return self

    def check(self) -> None:
        """Raise unless the arguments make sense."""
        super().check()
        for name, known in (("weighting", WEIGHTINGS), ("constraint", CONSTRAINTS)):
            value = str(self.arguments()[name])
            if value not in known:
                near = did_you_mean(value, known)
                raise wrong_usage(FusionError(f"got {name}={value!r}, expected one of {', '.join(known)}{near}"))
        if self.ridge != "auto" and not (isinstance(self.ridge, int | float) and self.ridge >= 0):
            raise wrong_usage(FusionError(f"got ridge={self.ridge!r}, expected a number not below 0, or 'auto'"))

    def _solve(self, frames: FrameErrors, ridge: float, groups: Sequence[Any], prior: Array) -> Array:
        """Weights of one source: one solution, or a few while frames are weighted anew."""

        def solve(weights: Array) -> Array:
            return _penalised(*frames.normal_equations(weights), self.constraint, ridge, groups, prior)

        if self.weighting == "energy":
            return solve(np.ones(len(frames.c)))
        if self.weighting == "frames":
            return solve(frame_weights(frames))
        starts = [solve(np.ones(len(frames.c))), solve(frame_weights(frames))]
        start = max(starts, key=lambda theta: _figure(frames, theta, self.weighting))
        return (_towards_mean if self.weighting == "mean" else _towards_median)(frames, start, solve)

    def _choose_ridge(
        self, frames: FrameErrors, valid: FrameErrors | None, groups: Sequence[Any], prior: Array
    ) -> float | None:
        """The strength of least error on frames that were not fitted to; None where there are none."""
        folds = [(frames, valid)] if valid is not None else _left_out(frames)
        folds = [fold for fold in folds if all(part.counted.any() for part in fold)]
        if not folds:
            return None
        tried = (0.0, *RIDGES)
        figures = [
            sum(
                _figure(left_out, self._solve(fitted, ridge, groups, prior), self.weighting)
                for fitted, left_out in folds
            )
            for ridge in tried
        ]
        return float(tried[int(np.argmax(figures))])


def frame_weights(frames: FrameErrors) -> Array:
    """One over the reference's energy where a frame counts, each track's sum divided by its number of such frames.

    The energy of a reference counts as at least `FLOOR_DB` below the mean of its track's frames. Otherwise frames in
    which the source is almost silent, where every estimate fails, would outweigh all others.
    """
    counts = np.bincount(frames.tracks, frames.counted)
    weighted = np.maximum(frames.c, _floors(frames)) * counts[frames.tracks]
    return np.divide(1.0, weighted, out=np.zeros_like(frames.c), where=frames.counted)


def _floors(frames: FrameErrors) -> Array:
    """`FLOOR_DB` below the mean energy of each frame's track."""
    counts = np.bincount(frames.tracks, frames.counted)
    energies = np.bincount(frames.tracks, np.where(frames.counted, frames.c, 0.0))
    floors: Array = (10 ** (FLOOR_DB / 10) * energies / np.maximum(counts, 1))[frames.tracks]
    return floors


def _figure(frames: FrameErrors, theta: Array, weighting: Weighting) -> float:
    """What a weighting wants to be large."""
    if weighting == "median":
        return aggregate_frames(frames.sdr(theta), frames.tracks)
    if weighting == "mean":
        floors = _floors(frames)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = 10 * np.log10((frames.c + floors) / (frames.errors(theta) + floors))
        return aggregate_frames(np.where(frames.counted, values, np.nan), frames.tracks, "mean", "mean")
    weights = np.ones(len(frames.c)) if weighting == "energy" else frame_weights(frames)
    return -float(weights @ frames.errors(theta))


def _penalised(a: Array, b: Array, constraint: Constraint, ridge: float, groups: Sequence[Any], prior: Array) -> Array:
    if np.isinf(ridge):
        return prior
    strength = ridge * np.trace(a) / len(b)
    return minimise(a + strength * np.eye(len(b)), b + strength * prior, constraint, groups)


def _left_out(frames: FrameErrors, folds: int = 5) -> list[tuple[FrameErrors, FrameErrors]]:
    """Pairs of what is fitted and what is left out: whole tracks in turn, or parts of the only one."""
    owners = np.unique(frames.tracks)
    if len(owners) > 1:
        groups = [np.isin(frames.tracks, owners[fold::folds]) for fold in range(min(folds, len(owners)))]
    else:
        count = len(frames.tracks)
        parts = np.arange(count) * min(folds, count) // count
        groups = [parts == part for part in range(parts[-1] + 1)]
    return [(frames.of(~group), frames.of(group)) for group in groups]


def _even(frames: FrameErrors) -> Array:
    """Weights by which every track counts the same, and so does every frame of it that counts."""
    counts = np.bincount(frames.tracks, frames.counted)[frames.tracks]
    return np.divide(1.0, counts, out=np.zeros(len(counts)), where=frames.counted)


def _towards_mean(frames: FrameErrors, theta: Array, solve: Callable[[Array], Array]) -> Array:
    """Majorise and minimise: the logarithm of an error lies below its tangent, whose slope weights the frame."""
    base, floors = _even(frames), _floors(frames)
    for _ in range(_STEPS):
        # silent references have no floor, and no frame that counts
        following = solve(base / np.maximum(frames.errors(theta) + floors, 1e-300))
        still = np.abs(following - theta).max() < _STILL
        theta = following
        if still:
            break
    return theta


def _towards_median(frames: FrameErrors, theta: Array, solve: Callable[[Array], Array]) -> Array:
    """Reweight by closeness to the medians, ever closer, and keep the step whose median of medians is best."""
    base = _even(frames)
    best, score = theta, aggregate_frames(frames.sdr(theta), frames.tracks)
    for width in np.geomspace(8.0, 0.5, _STEPS):
        errors = np.maximum(frames.errors(theta), 1e-12 * frames.c + 1e-300)
        values = 10 * np.log10(np.maximum(frames.c, 1e-300) / errors)
        medians = group_medians(np.where(frames.counted, values, np.nan), frames.tracks, int(frames.tracks.max()) + 1)
        middle = np.nanmedian(medians)
        centre = np.where(np.isnan(medians), middle, medians)[frames.tracks]
        near = np.exp(-0.5 * ((values - centre) / width) ** 2 - 0.5 * ((centre - middle) / width) ** 2)
        weights = base / errors * near
        if not weights.any():
            break
        theta = solve(weights)
        figure = aggregate_frames(frames.sdr(theta), frames.tracks)
        if figure > score:
            best, score = theta, figure
    return best
