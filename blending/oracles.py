"""Oracles: weights of each group of frames that are best by a figure of whole tracks, with the references known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .aggregation import aggregate_frames, group_medians
from .least_squares import RANK, frame_weights
from .space import FrameErrors

Array = NDArray[np.float64]

_STEPS = 15

FAR = 100.0
"""Widths from the median beyond which all frames are equally far."""

NEAR_DB, FAR_DB = 0.5, 300.0
"""How near a median a frame is on neither side of it, and the SDR of a frame that counts as perfect."""

Solution = tuple[Array, Array]
"""Weights (part, frame, weight) and errors (frame,)."""


class Score:
    """The stated figure of a rule: over all tracks at once for a rule of all tracks, track by track for finer ones.

    So no track falls from a coarse rule to a finer one.

    Parameters
    ----------
    whole : FrameErrors
        Of one source.
    over_frames, over_tracks : str
        How frames and tracks become one figure; see `stemfuse.blending.aggregation.aggregate_frames`.
    """

    def __init__(self, whole: FrameErrors, over_frames: str, over_tracks: str) -> None:
        self.whole, self.over_frames, self.over_tracks = whole, over_frames, over_tracks
        self.tracks = np.unique(whole.tracks, return_inverse=True)[1]
        counts = np.bincount(self.tracks, whole.counted)[self.tracks]
        self.even = np.ones(len(counts)) if over_tracks == "pooled" else 1 / np.maximum(counts, 1.0)

    def figure(self, values: Array, over: str) -> Array:
        """The figure of what each frame is scored with, (frame,); minus infinity where no frame counts."""
        if over != "corpus" and self.over_tracks != "pooled":
            return _by_group(values, self.tracks, self.over_frames)
        figure = aggregate_frames(values, self.tracks, self.over_frames, self.over_tracks)
        return np.full(len(values), -np.inf if np.isnan(figure) else figure)

    def better(self, one: Solution, other: Solution, over: str, groups: NDArray[np.intp]) -> Solution:
        """The solution of the higher figure, and then whatever in each group of frames may raise it."""
        best = self._higher(one, other, over)
        values, rivals = self.whole.sdr_of(best[1]), self.whole.sdr_of(other[1])
        gains = self._gain(rivals, values, over) - self._gain(values, values, over)
        numbers = np.unique(groups, return_inverse=True)[1]
        take = np.bincount(numbers, np.nan_to_num(gains))[numbers] > 0
        # where the figure stays, frames nearer to what decides it let a later step raise it
        return self._higher(best, _picked(take, other, best), over, np.greater_equal)

    def _higher(self, one: Solution, other: Solution, over: str, above: Any = np.greater) -> Solution:
        figures = (self.figure(self.whole.sdr_of(errors), over) for _, errors in (other, one))
        return _picked(above(*figures), other, one)

    def _gain(self, values: Array, against: Array, over: str) -> Array:
        """What each frame adds to the figure: its SDR to a mean, and to a median on which side of it the frame is."""
        if self.over_frames == "mean":
            return np.clip(values, -FAR_DB, FAR_DB)
        with np.errstate(invalid="ignore"):
            above = np.clip((values - self.figure(against, over)) / NEAR_DB, -FAR, FAR)
        gain: Array = np.tanh(above)
        return gain

    def distances(self, values: Array, over: str) -> Array:
        """Squared distance in dB from the frames that decide a median, (frame,); zeros for a mean."""
        if self.over_frames == "mean":
            return np.zeros(len(values))
        stated = self.figure(values, over)
        own = stated if self.over_tracks == "pooled" else _by_group(values, self.tracks, "median")
        with np.errstate(invalid="ignore"):
            squared = np.square(values - own) + (np.square(own - stated) if self.over_tracks == "median" else 0.0)
        return np.nan_to_num(squared, posinf=np.inf)


def _picked(take: NDArray[np.bool_], one: Solution, other: Solution) -> Solution:
    """Frame by frame the one solution where it is taken, else the other."""
    return np.where(take[None, :, None], one[0], other[0]), np.where(take, one[1], other[1])


def climb(
    parts: Sequence[FrameErrors],
    groups: NDArray[np.intp],
    whole: FrameErrors,
    starts: Sequence[Solution],
    score: Score,
    over: str,
) -> Solution:
    """Weights of each group with the best figure of all that reweighting visits; no track is worse than with a start.

    As in ``LeastSquares(weighting="median")``, for all groups at once, towards the figure of the whole track.

    Parameters
    ----------
    parts : sequence of FrameErrors
        Of every part of the spectrum, each with weights of its own.
    groups : ndarray of int, shape (frame,)
        Frames with the same weights.
    whole : FrameErrors
        Of the whole spectrum.
    starts : sequence of Solution
        Weights that the groups may have, of coarser rules.
    score : Score
        The figure.
    over : str
        What the rule knows the references of: ``"corpus"``, ``"track"``, ``"segment"`` or ``"frame"``.
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    best = starts[0]
    for start in starts[1:]:
        best = score.better(best, start, over, groups)
    for theta in (least_weights(parts, groups, whole), least_weights(parts, groups, whole, np.ones(len(groups)))):
        errors = summed_errors(parts, theta)
        best = score.better(best, (theta, errors), over, groups)
        for width in np.geomspace(8.0, 0.5, _STEPS) if numbers.max() + 1 < len(numbers) else ():
            # perfect frames are infinitely far, and of no weight unless all of the group are
            away = -0.5 * np.minimum(score.distances(whole.sdr_of(errors), over) / width**2, FAR**2)
            nearest = np.full(numbers.max() + 1, -np.inf)
            np.maximum.at(nearest, numbers[whole.counted], away[whole.counted])
            near = score.even * np.exp(np.where(whole.counted, away - nearest[numbers], 0.0))
            # what does not count may be silent, and its error too small to divide by
            floored = np.maximum(errors, 1e-12 * whole.c + 1e-300)
            theta = least_weights(
                parts, groups, whole, np.divide(near, floored, out=np.zeros_like(near), where=whole.counted)
            )
            errors = summed_errors(parts, theta)
            best = score.better(best, (theta, errors), over, groups)
    return best


def _by_group(values: Array, places: NDArray[np.intp], over_frames: str) -> Array:
    """Median or mean of each frame's group, (frame,); minus infinity where no frame counts."""
    if over_frames == "mean":
        known = ~np.isnan(values)
        counts, totals = np.bincount(places, known), np.bincount(places, np.where(known, values, 0.0))
        figures = np.divide(totals, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    else:
        figures = group_medians(values, places, int(places.max()) + 1)
    by_frame: Array = np.where(np.isnan(figures), -np.inf, figures)[places]
    return by_frame


def _solve_many(a: Array, b: Array) -> Array:
    """Smallest solutions of many normal equations."""
    energies, directions = np.linalg.eigh(a)
    floor = RANK * np.maximum(energies[:, -1:], 0)
    inverse = np.divide(1.0, energies, out=np.zeros_like(energies), where=energies > np.maximum(floor, 1e-300))
    solved: Array = np.einsum("gij,gj,gkj,gk->gi", directions, inverse, directions, b, optimize=True)
    return solved


def summed_errors(parts: Sequence[FrameErrors], theta: Array) -> Array:
    """Errors of all parts of the spectrum together, for weights (part, frame, weight)."""
    total: Array = np.sum([part.errors(own) for part, own in zip(parts, theta, strict=True)], axis=0)
    return total


def least_weights(
    parts: Sequence[FrameErrors], groups: NDArray[np.intp], whole: FrameErrors, weights: Array | None = None
) -> Array:
    """Weights of least squared error of each group, (part, frame, weight); frames relative to their references."""
    weights = frame_weights(whole) if weights is None else weights
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    number = np.empty(len(groups), np.intp)
    number[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(groups))))
    solved = []
    for part in parts:
        a = np.add.reduceat(weights[order, None, None] * part.a[order], starts)
        b = np.add.reduceat(weights[order, None] * part.b[order], starts)
        solved.append(_solve_many(a, b)[number])
    return np.stack(solved)
