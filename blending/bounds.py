"""Bounds: what single separators, constant, time-varying and band-wise linear mixes could reach at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track
from stemfuse.separators.labels import ChannelLabel

from .aggregation import aggregate_frames, check_aggregation
from .errors import FusionError
from .least_squares import frame_weights, minimise
from .oracles import Score, Solution, climb, least_weights, summed_errors
from .space import BlendSpace, FrameErrors

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

BAND_EDGES_HZ = (250.0, 1000.0, 4000.0)
"""Where bands part by default: each band below the highest is two octaves wide."""

MEAN = "mean"


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
        aggregated SDR of the best weights that reweighted least squares visits. A finer rule begins with the weights of
        the coarser ones that it contains, and what is visited after that is taken, track by track, only where it raises
        the track's figure over its frames: in no track, and so in no row, is a finer bound below a coarser one.
        ``ratio_db`` is -10 log10 of the mean over tracks and frames of error over reference energy (see
        `frame_weights`) for the weights that make it largest, so that in this column each oracle is a bound of all rows
        that it contains. ``weights`` is the number of weights that the references choose.

    Notes
    -----
    ``best single`` takes the separator that is best on all these tracks, ``best per track`` and ``best per frame``
    choose anew. ``oracle corpus``, ``track``, ``segment`` and ``frame`` are fitted to the very frames they are scored
    on, the two of bands to those of every band. Each contains the one before it and the choice of the same reach. A
    median has no closed-form maximum, so that ``sdr_db`` of an oracle of few weights may lie a little below that of a
    blend that was searched for it. With ``over_tracks="pooled"`` there are no figures of tracks: all frames together
    are one.

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
        score = Score(whole, over_frames, over_tracks)
        for bound, errors, least, count in every_bound(whole, singles, segment_frames, bands, score):
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


def every_bound(
    whole: FrameErrors, singles: Sequence[Array], segment_frames: int, bands: Sequence[FrameErrors], score: Score
) -> Iterator[tuple[str, Array, Array, int]]:
    """Name, errors of every frame by SDR and by least squares, and number of weights of each bound."""
    count, size = whole.b.shape
    groups = _frame_groups(whole.tracks, segment_frames)
    chosen: dict[str, Solution] = {}
    alone = [(np.broadcast_to(theta, (1, count, size)), whole.errors(theta)) for theta in singles]
    for name, over in (("best single", "corpus"), ("best per track", "track"), ("best per frame", "frame")):
        if alone:
            best = next(reversed(chosen.values()), alone[0])
            for single in alone:
                best = score.better(best, single, over, groups[over])
            chosen[over] = best
            yield name, best[1], best[1], len(np.unique(groups[over]))
    reached: Solution = (np.zeros((1, count, size)), whole.c)
    oracles = {}
    for over, frames in groups.items():
        starts = [reached, *([chosen[over]] if over in chosen else [])]
        reached = oracles[over] = climb([whole], frames, whole, starts, score, over)
        least = summed_errors([whole], least_weights([whole], frames, whole))
        yield f"oracle {over}", reached[1], least, size * len(np.unique(frames))
    by_band: list[Solution] = []
    for over in ("corpus", "track") if bands else ():
        theta, errors = oracles[over]
        starts = [(np.repeat(theta, len(bands), axis=0), errors), *by_band]
        by_band = [climb(bands, groups[over], whole, starts, score, over)]
        least = summed_errors(bands, least_weights(bands, groups[over], whole))
        yield f"oracle {over}, bands", by_band[0][1], least, size * len(bands) * len(np.unique(groups[over]))


def _frame_groups(tracks: NDArray[np.intp], segment_frames: int) -> dict[str, NDArray[np.intp]]:
    """The group of every frame for rules that know the references of all tracks, a track, a segment or a frame."""
    count = len(tracks)
    return {
        "corpus": np.zeros_like(tracks),
        "track": tracks,
        "segment": tracks * (count + 1) + _within(tracks) // segment_frames,
        "frame": np.arange(count),
    }


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
