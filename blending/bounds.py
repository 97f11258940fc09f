"""Bounds: what single separators, constant, time-varying and band-wise linear mixes could reach at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track
from stemfuse.separators.labels import ChannelLabel

from .aggregation import aggregate_frames, check_aggregation, group_medians
from .errors import FusionError
from .least_squares import RANK, frame_weights, minimise
from .space import BlendSpace, FrameErrors

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

BAND_EDGES_HZ = (250.0, 1000.0, 4000.0)
"""Where bands part by default: each band below the highest is two octaves wide."""

MEAN = "mean"

_STEPS = 15

FAR = 100.0
"""Widths from the median beyond which a frame has no weight in double precision."""


def bounds(
    tracks: Sequence[Track],
    stems: Literal["same", "all"] = "all",
    mixture: bool = True,
    tied: bool = True,
    segment_frames: int = 6,
    bands_hz: Sequence[float] | None = None,
    over_frames: str = "median",
    over_tracks: str = "median",
) -> pd.DataFrame:
    """What separators and linear mixes reach on some tracks when they are chosen or fitted with the references known.

    Parameters
    ----------
    tracks : sequence of Track
        With references and the stems of the same separators; audio is read only for bands.
    stems, mixture, tied
        Inputs of the linear mixes; see `LeastSquares`.
    segment_frames : int
        Length of a segment in frames: 6 s with the usual frames, as long as MDX-Mixer's segments.
    bands_hz : sequence of float, optional
        Where bands part; without it there are no rows of bands. Bands are cut in each frame's own Fourier transform,
        more sharply than any filter can, so that these rows are upper bounds.
    over_frames, over_tracks : str
        How frames and tracks become one figure; see `stemfuse.blending.aggregation.aggregate_frames`.

    Returns
    -------
    DataFrame
        Columns bound, source (the last one is the mean over sources), sdr_db, ratio_db, weights. ``sdr_db`` is the
        aggregated SDR of the best weights that reweighted least squares visits, begun with those of the row before: in
        every track, segment or frame its figure over frames never falls from row to row. ``ratio_db`` is -10 log10 of
        the mean over tracks and frames of error over reference energy (see `frame_weights`) for the weights that make
        it largest, so that in this column each oracle is a bound of all rows that it contains.
        ``weights`` is the number of weights that the references choose.

    Notes
    -----
    ``best single`` takes the separator that is best on all these tracks, ``best per track`` and ``best per frame``
    choose anew. ``oracle corpus``, ``track``, ``segment`` and ``frame`` are fitted to the very frames they are scored
    on. A median has no closed-form maximum, so that ``sdr_db`` of an oracle of few weights may lie a little below that
    of a blend that was searched for it.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> table = bounds(conformance_tracks())
    >>> table[table["source"] == "bass"]["bound"].tolist()[:4]
    ['best single', 'best per track', 'best per frame', 'oracle corpus']
    """
    import pandas as pd

    check_aggregation(over_frames, over_tracks)
    space = BlendSpace.of(tracks, stems, mixture, tied)
    banded = [] if bands_hz is None else _banded(tracks, space, bands_hz)
    rows = []
    for source in space.sources:
        whole, singles = space.frames(source), _singles(space.equal(source), space.groups(source))
        bands = [part.frames(source) for part in banded]
        for bound, errors, least, count in _every_bound(whole, singles, segment_frames, bands, over_frames):
            figures = {
                "sdr_db": aggregate_frames(whole.sdr_of(errors), whole.tracks, over_frames, over_tracks),
                "ratio_db": _ratio(whole, least),
            }
            rows.append({"bound": bound, "source": source, **figures, "weights": count})
    table = pd.DataFrame(rows)
    means = table.groupby("bound", sort=False, as_index=False)[["sdr_db", "ratio_db", "weights"]].mean()
    return pd.concat([table, means.assign(source=MEAN)], ignore_index=True)[
        ["bound", "source", "sdr_db", "ratio_db", "weights"]
    ]


def _banded(tracks: Sequence[Track], space: BlendSpace, bands_hz: Sequence[float]) -> list[BlendSpace]:
    """The space in every band."""
    from stemfuse.analysis import band_statistics

    by_track = [band_statistics(track, bands_hz) for track in tracks]
    return [replace(space, grams=grams) for grams in zip(*by_track, strict=True)]


def _every_bound(
    whole: FrameErrors,
    singles: Sequence[Array],
    segment_frames: int,
    bands: Sequence[FrameErrors],
    over_frames: str,
) -> Iterator[tuple[str, Array, Array, int]]:
    """Name, errors of every frame by SDR and by least squares, and number of weights of each bound."""
    count, size = whole.b.shape
    groups = _frame_groups(whole.tracks, segment_frames)
    start = np.zeros((1, count, size))
    if singles:
        alone = np.stack(singles)
        errors = np.stack([whole.errors(theta) for theta in singles])
        for name, over in (("best single", "corpus"), ("best per track", "track"), ("best per frame", "frame")):
            chosen = _best(whole, errors, groups[over])
            if over == "corpus":
                start[0] = alone[chosen]
            best = errors[chosen, np.arange(count)]
            yield name, best, best, len(np.unique(groups[over]))
    climbed = {}
    for over, frames in groups.items():
        start = climbed[over] = _climb([whole], frames, whole, start, over_frames)
        least = _summed([whole], _least([whole], frames, whole))
        yield f"oracle {over}", whole.errors(start[0]), least, size * len(np.unique(frames))
    for over in ("corpus", "track") if bands else ():
        frames, repeated = groups[over], np.repeat(climbed[over], len(bands), axis=0)
        theta = _climb(bands, frames, whole, repeated, over_frames)
        least = _summed(bands, _least(bands, frames, whole))
        yield f"oracle {over}, bands", _summed(bands, theta), least, size * len(bands) * len(np.unique(frames))


def _frame_groups(tracks: NDArray[np.intp], segment_frames: int) -> dict[str, NDArray[np.intp]]:
    """The group of every frame for rules that know the references of all tracks, a track, a segment or a frame."""
    count = len(tracks)
    return {
        "corpus": np.zeros_like(tracks),
        "track": tracks,
        "segment": tracks * (count + 1) + _within(tracks) // segment_frames,
        "frame": np.arange(count),
    }


def _summed(parts: Sequence[FrameErrors], theta: Array) -> Array:
    """Errors of all parts of the spectrum together, for weights (part, frame, weight)."""
    total: Array = np.sum([part.errors(own) for part, own in zip(parts, theta, strict=True)], axis=0)
    return total


def _within(tracks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number of every frame within its track."""
    starts = np.flatnonzero(np.diff(tracks, prepend=-1))
    lengths = np.diff(np.append(starts, len(tracks)))
    return np.arange(len(tracks)) - np.repeat(starts, lengths)


def _singles(equal: Array, groups: Sequence[NDArray[np.intp]]) -> list[Array]:
    """Weights of every separator alone."""
    own = [group[equal[group] > 0] for group in groups]
    singles = []
    for places in zip(*own, strict=True):
        alone = np.zeros(len(equal))
        alone[list(places)] = 1.0
        singles.append(alone)
    return singles


def _best(whole: FrameErrors, errors: Array, groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number of the separator with the best median SDR over each group of frames, for every frame."""
    chosen = np.zeros(len(whole.c), np.intp)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(whole.counted, whole.c / errors, np.nan)
    for group in np.unique(groups):
        counted = (groups == group) & whole.counted
        if counted.any():
            chosen[groups == group] = int(np.median(values[:, counted], axis=1).argmax())
    return chosen


def _least(
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


def _climb(
    parts: Sequence[FrameErrors], groups: NDArray[np.intp], whole: FrameErrors, start: Array, over_frames: str
) -> Array:
    """Weights of each group that are best by the median or mean of its frames' SDR, of all that reweighting visits.

    As in ``LeastSquares(weighting="median")``, for all groups at once; the result is never worse than the start.
    """
    _, places = np.unique(groups, return_inverse=True)
    best, figure = start, _by_group(whole.sdr_of(_summed(parts, start)), places, over_frames)

    def visit(theta: Array) -> Array:
        nonlocal best, figure
        values = whole.sdr_of(_summed(parts, theta))
        reached = _by_group(values, places, over_frames)
        best = np.where((reached > figure)[None, :, None], theta, best)
        figure = np.maximum(reached, figure)
        known = np.isfinite(reached) & (over_frames == "median")
        return np.subtract(values, reached, out=np.zeros(len(values)), where=known)

    even = np.ones(len(groups))
    for theta in (_least(parts, groups, whole), _least(parts, groups, whole, even)):
        away = visit(theta)
        for width in np.geomspace(8.0, 0.5, _STEPS) if len(np.unique(places)) < len(places) else ():
            errors = np.maximum(_summed(parts, theta), 1e-12 * whole.c + 1e-300)
            # perfect frames are infinitely far, and of no weight
            near = np.exp(-0.5 * np.minimum(np.abs(np.nan_to_num(away)) / width, FAR) ** 2)
            # what does not count may be silent, and its error too small to divide by
            counting = np.divide(near, errors, out=np.zeros_like(errors), where=whole.counted)
            theta = _least(parts, groups, whole, counting)
            away = visit(theta)
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


def _ratio(whole: FrameErrors, errors: Array) -> float:
    tracks = len(np.unique(whole.tracks[whole.counted]))
    with np.errstate(divide="ignore"):
        return float(-10 * np.log10(frame_weights(whole) @ errors / tracks)) if tracks else float("nan")


def leave_one_out(
    tracks: Sequence[Track],
    stems: Literal["same", "all"] = "same",
    mixture: bool = False,
    tied: bool = True,
    test: Sequence[Track] | None = None,
    over_frames: str = "median",
    over_tracks: str = "median",
) -> pd.DataFrame:
    """Which separators can be dropped: what least squares loses without each of them.

    Parameters
    ----------
    tracks : sequence of Track
        To fit on; at least two separators.
    stems, mixture, tied
        Inputs; see `LeastSquares`.
    test : sequence of Track, optional
        To score on; the same tracks when not given, on which every separator helps a little.
    over_frames, over_tracks : str
        How frames and tracks become one figure; see `stemfuse.blending.aggregation.aggregate_frames`.

    Returns
    -------
    DataFrame
        Columns without, source (the last one is the mean over sources), sdr_db, loss_db (what is lost against the
        blend of all, where ``without`` is empty). A negative loss means that the separator does harm on these tracks.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> table = leave_one_out(conformance_tracks())
    >>> table[(table["source"] == "mean") & (table["without"] == "a")]["loss_db"].item() > 0
    True
    """
    import pandas as pd

    check_aggregation(over_frames, over_tracks)
    space = BlendSpace.of(tracks, stems, mixture, tied)
    tested = space if test is None else space.on(test)
    separators = list(tracks[0].stems)
    if len(separators) < 2:
        raise FusionError(f"got {len(separators)} separator ({', '.join(separators)}), expected at least two")
    rows = []
    for dropped in ("", *separators):
        for source in space.sources:
            fitted, scored = space.frames(source), tested.frames(source)
            used = [map(ChannelLabel.parse, routes.values()) for routes in space.terms(source).values()]
            kept = np.array([all(label.separator != dropped for label in labels) for labels in used])
            theta = np.zeros(len(kept))
            if kept.any():
                a, b = fitted.normal_equations(frame_weights(fitted))
                theta[kept] = minimise(a[np.ix_(kept, kept)], b[kept])
            value = aggregate_frames(scored.sdr(theta), scored.tracks, over_frames, over_tracks)
            rows.append({"without": dropped, "source": source, "sdr_db": value})
    table = pd.DataFrame(rows)
    means = table.groupby("without", sort=False, as_index=False)["sdr_db"].mean().assign(source=MEAN)
    table = pd.concat([table, means], ignore_index=True)
    whole = table[table["without"] == ""].set_index("source")["sdr_db"]
    result: pd.DataFrame = table.assign(loss_db=table["source"].map(whole) - table["sdr_db"])
    return result
