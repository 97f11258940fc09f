"""Bounds: what single separators, constant, time-varying and band-wise linear mixes could reach at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track

from .least_squares import RANK, frame_weights, minimise
from .space import BlendSpace, Frames, aggregate_frames
from .weights import FusionError

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

BAND_EDGES_HZ = (250.0, 1000.0, 4000.0)
"""Where bands part when none are named: two octaves each below the highest."""

MEAN = "mean"


def bounds(
    tracks: Sequence[Track],
    stems: Literal["same", "all"] = "all",
    mixture: bool = True,
    tied: bool = True,
    segment_frames: int = 6,
    bands_hz: Sequence[float] | None = None,
    frames: str = "median",
    across: str = "median",
) -> pd.DataFrame:
    """What rules that know the references reach on some tracks, from single separators to a mix of its own per frame.

    Parameters
    ----------
    tracks : sequence of Track
        With references and the stems of the same separators; audio is read only for bands.
    stems, mixture, tied
        Inputs of the linear mixes; see `LeastSquares`.
    segment_frames : int
        Length of a segment in frames: 6 s with the usual frames, as long as MDX-Mixer's segments.
    bands_hz : sequence of float, optional
        Where bands part; without it there are no rows of bands. Bands are the frequencies of each frame's own Fourier
        transform, which no filter can part so sharply: a bound indeed.
    frames, across : str
        How frames and tracks become one figure.

    Returns
    -------
    DataFrame
        Columns bound, source (the last one is the mean over sources), sdr_db, ratio_db, weights. ``sdr_db`` is the
        aggregated SDR. ``ratio_db`` is -10 log10 of the mean over tracks and frames of error over reference energy:
        what least squares minimises, so that in this column each oracle is a bound of all rows it contains.
        ``weights`` is how many numbers the rule would have to know.

    Notes
    -----
    ``best single`` takes the separator that is best on all these tracks, ``best per track`` and ``best per frame``
    choose anew. ``oracle corpus``, ``track``, ``segment`` and ``frame`` are least squares solutions on the very frames
    they are scored on. Least squares on several frames does not maximise a median, so that ``sdr_db`` of an oracle
    may lie below that of a blend that was searched for it.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> table = bounds(conformance_tracks())
    >>> table[table["source"] == "bass"]["bound"].tolist()[:4]
    ['best single', 'best per track', 'best per frame', 'oracle corpus']
    """
    import pandas as pd

    space = BlendSpace.of(tracks, stems, mixture, tied)
    banded = None if bands_hz is None else _banded(tracks, space, bands_hz)
    rows = []
    for source in space.sources:
        whole = space.frames(source)
        equal = space.equal(source)
        bands = None if banded is None else [part.frames(source) for part in banded]
        blocks = space.blocks(source)
        for bound, errors, count in _errors(whole, equal, blocks, segment_frames, bands):
            rows.append({"bound": bound, "source": source, **_figures(whole, errors, frames, across), "weights": count})
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


def _errors(
    whole: Frames, equal: Array, blocks: Sequence[NDArray[np.intp]], segment_frames: int, bands: list[Frames] | None
) -> Iterator[tuple[str, Array, int]]:
    """Name, error of every frame, and number of weights of each bound."""
    size, numbers = len(equal), np.arange(len(whole.c))
    tracks = whole.tracks
    segments = tracks * (len(numbers) + 1) + _within(tracks) // segment_frames
    singles = [whole.errors(theta) for theta in _singles(equal, blocks)]
    if singles:
        for name, groups in (
            ("best single", np.zeros_like(tracks)),
            ("best per track", tracks),
            ("best per frame", numbers),
        ):
            yield name, _best(whole, np.stack(singles), groups), len(np.unique(groups))
    for name, groups in (
        ("oracle corpus", np.zeros_like(tracks)),
        ("oracle track", tracks),
        ("oracle segment", segments),
        ("oracle frame", numbers),
    ):
        yield name, _least(whole, groups, whole), size * len(np.unique(groups))
    if bands is not None:
        for name, groups in (("oracle corpus, bands", np.zeros_like(tracks)), ("oracle track, bands", tracks)):
            errors = sum((_least(band, groups, whole) for band in bands), np.zeros(len(numbers)))
            yield name, errors, size * len(bands) * len(np.unique(groups))


def _within(tracks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number of every frame within its track."""
    starts = np.flatnonzero(np.diff(tracks, prepend=-1))
    lengths = np.diff(np.append(starts, len(tracks)))
    return np.arange(len(tracks)) - np.repeat(starts, lengths)


def _singles(equal: Array, blocks: Sequence[NDArray[np.intp]]) -> list[Array]:
    """Weights of every separator alone."""
    own = [block[equal[block] > 0] for block in blocks]
    singles = []
    for places in zip(*own, strict=True):
        alone = np.zeros(len(equal))
        alone[list(places)] = 1.0
        singles.append(alone)
    return singles


def _best(whole: Frames, errors: Array, groups: NDArray[np.intp]) -> Array:
    """Errors of the separator with the best median SDR over each group of frames."""
    chosen = np.empty(len(whole.c))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(whole.counted, whole.c / errors, np.nan)
    for group in np.unique(groups):
        inside = groups == group
        counted = inside & whole.counted
        best = int(np.median(values[:, counted], axis=1).argmax()) if counted.any() else 0
        chosen[inside] = errors[best, inside]
    return chosen


def _least(frames: Frames, groups: NDArray[np.intp], whole: Frames) -> Array:
    """Errors of the least squares solution of each group, every frame relative to its reference's energy."""
    weights = frame_weights(whole)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    a = np.add.reduceat(weights[order, None, None] * frames.a[order], starts)
    b = np.add.reduceat(weights[order, None] * frames.b[order], starts)
    theta = _solve_many(a, b)
    number = np.empty(len(groups), np.intp)
    number[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(groups))))
    return frames.errors(theta[number])


def _solve_many(a: Array, b: Array) -> Array:
    """Smallest solutions of many normal equations."""
    energies, directions = np.linalg.eigh(a)
    floor = RANK * np.maximum(energies[:, -1:], 0)
    inverse = np.divide(1.0, energies, out=np.zeros_like(energies), where=energies > np.maximum(floor, 1e-300))
    solved: Array = np.einsum("gij,gj,gkj,gk->gi", directions, inverse, directions, b, optimize=True)
    return solved


def _figures(whole: Frames, errors: Array, frames: str, across: str) -> dict[str, float]:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(whole.counted, 10 * np.log10(whole.c / errors), np.nan)
        weights = frame_weights(whole)
        tracks = len(np.unique(whole.tracks[whole.counted]))
        ratio = -10 * np.log10((weights @ errors) / tracks) if tracks else np.nan
    return {"sdr_db": aggregate_frames(values, whole.tracks, frames, across), "ratio_db": float(ratio)}


def leave_one_out(
    tracks: Sequence[Track],
    stems: Literal["same", "all"] = "same",
    mixture: bool = False,
    tied: bool = True,
    test: Sequence[Track] | None = None,
    frames: str = "median",
    across: str = "median",
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
    frames, across : str
        How frames and tracks become one figure.

    Returns
    -------
    DataFrame
        Columns without, source (the last one is the mean over sources), sdr_db, loss_db (what is lost against the
        blend of all, ``without`` being empty there). A negative loss: the separator does harm on these tracks.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> table = leave_one_out(conformance_tracks())
    >>> table[(table["source"] == "mean") & (table["without"] == "a")]["loss_db"].item() > 0
    True
    """
    import pandas as pd

    space = BlendSpace.of(tracks, stems, mixture, tied)
    judged = space if test is None else space.on(test)
    separators = list(tracks[0].stems)
    if len(separators) < 2:
        raise FusionError(f"{len(separators)} separator came ({', '.join(separators)}), expected at least two")
    rows = []
    for dropped in ("", *separators):
        for source in space.sources:
            fitted, scored = space.frames(source), judged.frames(source)
            kept = np.array([not name.startswith(f"{dropped}.") or not dropped for name in space.names(source)])
            theta = np.zeros(len(kept))
            if kept.any():
                a, b = fitted.moments(frame_weights(fitted))
                theta[kept] = minimise(a[np.ix_(kept, kept)], b[kept])
            value = aggregate_frames(scored.sdr(theta), scored.tracks, frames, across)
            rows.append({"without": dropped, "source": source, "sdr_db": value})
    table = pd.DataFrame(rows)
    means = table.groupby("without", sort=False, as_index=False)["sdr_db"].mean().assign(source=MEAN)
    table = pd.concat([table, means], ignore_index=True)
    whole = table[table["without"] == ""].set_index("source")["sdr_db"]
    result: pd.DataFrame = table.assign(loss_db=table["source"].map(whole) - table["sdr_db"])
    return result
