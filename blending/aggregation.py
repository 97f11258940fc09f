"""Frames, then tracks: one figure from the scores of many frames of several tracks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import FusionError

Array = NDArray[np.float64]
OverFrames = Literal["median", "mean", "song"]
OverTracks = Literal["median", "mean", "pooled"]

OVER_FRAMES = ("median", "mean", "song")
OVER_TRACKS = ("median", "mean", "pooled")


def check_aggregation(over_frames: str, over_tracks: str, whole_songs: bool = False) -> None:
    """Raise a FusionError unless there are such aggregates; ``"song"`` only where ``whole_songs`` can be scored."""
    frames = OVER_FRAMES if whole_songs else OVER_FRAMES[:2]
    for name, given, known in (("over_frames", over_frames, frames), ("over_tracks", over_tracks, OVER_TRACKS)):
        if given not in known:
            raise FusionError(f"got {name}={given!r}, expected one of {', '.join(known)}")


def middle_places(counts: ArrayLike) -> NDArray[np.intp]:
    """Places of the middle value, or of the two middle ones, among so many sorted values: (2, group).

    Examples
    --------
    >>> middle_places([5, 6]).T.tolist()
    [[2, 2], [2, 3]]
    """
    counts = np.asarray(counts)
    return np.stack([np.maximum(counts - 1, 0) // 2, np.maximum(counts, 1) // 2])


def group_medians(values: Array, groups: NDArray[np.intp], count: int) -> Array:
    """Median of each group's values, (group,), for groups numbered from 0; NaN values are left out.

    Examples
    --------
    >>> group_medians(np.array([3.0, 1.0, 2.0, np.nan]), np.array([0, 0, 2, 2]), 3).tolist()
    [2.0, nan, 2.0]
    """
    known = ~np.isnan(values)
    values, groups = values[known], groups[known]
    ranked = values[np.lexsort((values, groups))]
    counts = np.bincount(groups, minlength=count)
    some = counts > 0
    low, high = (middle_places(counts) + np.cumsum(counts) - counts)[:, some]
    medians = np.full(count, np.nan)
    medians[some] = (ranked[low] + ranked[high]) / 2
    return medians


def across_tracks(values: Array, over_tracks: str) -> Array:
    """Score of each candidate, (candidate,), from those of its tracks, (candidate, track), none of which is NaN.

    A single column, such as that of pooled frames, is taken as it is.
    """
    if over_tracks != "mean":
        # numpy's median costs more than all the rest on so few tracks
        ranked = np.sort(values, axis=1)
        values = ranked[:, middle_places(values.shape[1])]
    scores: Array = values.mean(1)
    return scores


def aggregate_frames(
    values: Array, tracks: Iterable[int], over_frames: str = "median", over_tracks: str = "median"
) -> float:
    """One figure from the frames of several tracks: over frames, then over tracks.

    Parameters
    ----------
    values : ndarray, shape (frame,)
        Scores; NaN frames are left out.
    tracks : iterable of int
        Which track each frame is of.
    over_frames : {"median", "mean"}
        How the frames of a track become one value.
    over_tracks : {"median", "mean", "pooled"}
        How tracks become one value; pooled applies ``over_frames`` to all frames of all tracks at once.

    Returns
    -------
    float
        NaN where no frame has a score.

    Raises
    ------
    FusionError
        There is no such aggregate.

    Examples
    --------
    >>> aggregate_frames(np.array([1.0, 3.0, 9.0, np.nan]), [0, 0, 1, 1], "mean", "median")
    5.5
    """
    check_aggregation(over_frames, over_tracks)
    known = ~np.isnan(values)
    values, owners = values[known], np.asarray(list(tracks))[known]
    if not len(values):
        return float("nan")
    if over_tracks == "pooled":
        owners = np.zeros_like(owners)
    numbers, groups = np.unique(owners, return_inverse=True)
    if over_frames == "median":
        by_track = group_medians(values, groups, len(numbers))
    else:
        by_track = np.array([np.mean(values[groups == number]) for number in range(len(numbers))])
    return float(across_tracks(by_track[None], over_tracks)[0])
