"""Guards against weights that only look good: leaks between data sets, and gains that other tracks do not show."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stemfuse.separators import LENGTH_TOLERANCE, StemStore, Track, track_labels

from .constant import Mean
from .errors import FusionError, LeakWarning
from .fusion import BaseFusion, LinearFusion
from .scoring import audio_statistics

if TYPE_CHECKING:
    import pandas as pd

ALIKE_S = 2
"""Seconds before and after the middle of two songs of one name that are compared."""


def leaks(fitted: Sequence[Track], tested: Sequence[Track] = ()) -> list[str]:
    """What makes scores look better than they are, in words; each is also raised as a `LeakWarning`.

    Parameters
    ----------
    fitted : sequence of Track
        Tracks that weights are found on.
    tested : sequence of Track
        Tracks that they are scored on.

    Returns
    -------
    list of str
        Empty when no leak is known. A separator that does not declare what it was trained on is not checked: see
        `Separator` and its ``trained_on``.

    Notes
    -----
    Two tracks are the same when their mixtures have the same samples, or when their names are the same and their
    mixtures sound alike, as those of MUSDB18 and MUSDB18-HQ do; other songs may have the same name. A separator has
    been trained on a track when it declares the track's data set and subset, such as ``"musdb18hq/train"``, or, as a
    fusion does that is used as a separator, the very song; musdb's validation tracks are training tracks there. A
    separator is better on its own training tracks than on any other, so that a fit gives it too much weight.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> tracks = conformance_tracks()
    >>> with warnings.catch_warnings(record=True):
    ...     print(leaks(tracks, tracks[:1])[0])
    1 of 1 test tracks are among the tracks that weights are fitted on: 'conformance 0'
    """
    found = []
    seen = [track.name for track in tested if any(_is_same(track, other) for other in fitted)]
    if seen:
        found.append(
            f"{len(seen)} of {len(tested)} test tracks are among the tracks that weights are fitted on: {_listed(seen)}"
        )
    for role, tracks in (("fitted", fitted), ("scored", tested)):
        for label in dict.fromkeys(label for track in tracks for label in track.stored):
            trained = [track.name for track in tracks if _was_trained_on(track, label)]
            if trained:
                advice = "fit on tracks that it was not trained on" if role == "fitted" else "its scores are too good"
                found.append(
                    f"separator {label} declares that it was trained on {len(trained)} of {len(tracks)} tracks that "
                    f"weights are {role} on ({_listed(trained)}); {advice}"
                )
    for words in found:
        warnings.warn(words, LeakWarning, stacklevel=2)
    return found


def _is_same(track: Track, other: Track) -> bool:
    if track.name.casefold() == other.name.casefold() and _sound_alike(track, other):
        return True
    if (track.length, track.rate, track.channels) != (other.length, other.rate, other.channels):
        return False
    return _mixture_sha256(track) == _mixture_sha256(other)


def _sound_alike(track: Track, other: Track) -> bool:
    """Whether two mixtures are one song, perhaps in other encodings: the seconds in their middle correlate."""
    if (track.rate, track.channels) != (other.rate, other.channels):
        return abs(track.duration_s - other.duration_s) < LENGTH_TOLERANCE / max(track.rate, other.rate)
    if abs(track.length - other.length) > LENGTH_TOLERANCE:
        return False
    length = min(track.length, other.length)
    start, stop = max(0, length // 2 - ALIKE_S * track.rate), min(length, length // 2 + ALIKE_S * track.rate)
    one, two = (part.mixture.read(start, stop).mean(0, dtype=np.float64) for part in (track, other))
    return float(one @ two) ** 2 > 0.5 * float(one @ one) * float(two @ two)


def _mixture_sha256(track: Track) -> str:
    """From the store's record where there is one, so that no audio is read."""
    for where in track.stored.values():
        return str(StemStore(where.root).record(track, where.key)["mixture"]["sha256"])
    return track.mixture_sha256()


def trained_on_song(song: str) -> str:
    """How a separator declares that it has seen one song: by the beginning of its mixture's digest.

    Examples
    --------
    >>> trained_on_song("0123456789abcdef")
    'song:0123456789abcdef'
    """
    return f"song:{song}"


def _was_trained_on(track: Track, label: str) -> bool:
    where = track.stored.get(label)
    if where is None or not where.trained_on:
        return False
    songs = [name for name in where.trained_on if name.startswith(trained_on_song(""))]
    if songs and trained_on_song(_mixture_sha256(track)[:16]) in songs:
        return True
    if not track.data:
        return False
    subset = "train" if track.subset == "valid" else track.subset
    return bool({track.data, f"{track.data}/{subset}", f"{track.data}/{track.subset}"} & set(where.trained_on))


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def cross_validate(
    fusion: BaseFusion,
    tracks: Sequence[Track],
    folds: int = 5,
    progress: Callable[[str, int, int], None] | None = None,
    prepare: Callable[[BaseFusion, int], None] | None = None,
) -> pd.DataFrame:
    """Scores of a fusion on tracks that it was not fitted on, beside the plain mean's.

    Parameters
    ----------
    fusion : BaseFusion
        Not fitted; it is copied. Constant weights are scored from the tracks' statistics, all else from the audio that
        it makes.
    tracks : sequence of Track
        With references and stems.
    folds : int
        Groups of tracks that are left out in turn; as many as tracks when there are fewer tracks.
    progress : callable, optional
        Called as ``progress(stage, done, total)`` when a group is done.
    prepare : callable, optional
        Called with each copy of the fusion, before it is fitted, and the number of its group: where it keeps what it
        goes on from.

    Returns
    -------
    DataFrame
        A score table with two methods, ``"mean"`` and the fusion's kind, each track scored by weights that have not
        seen it: `stemfuse.analysis.compare` tests whether the gain is significant.

    Raises
    ------
    FusionError
        Fewer than two tracks or folds.

    Examples
    --------
    >>> from stemfuse.analysis import compare
    >>> from stemfuse.blending import LeastSquares
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> gains = compare(cross_validate(LeastSquares(), conformance_tracks()), "mean")
    >>> bool((gains["difference"] > 0).all())
    True
    """
    import pandas as pd

    folds = min(folds, len(tracks))
    if folds < 2:
        raise FusionError(f"got {len(tracks)} tracks and {folds} folds, expected at least two of each")
    tables, names = [], dict(zip(tracks, track_labels(tracks), strict=True))
    for fold in range(folds):
        left_out = tracks[fold::folds]
        rest = [track for track in tracks if track not in left_out]
        anew = copy.deepcopy(fusion)
        if prepare is not None:
            prepare(anew, fold)
        for method in (Mean(), anew):
            fitted = method.fit(rest)
            tables += [_sdr(fitted, track).assign(track=names[track]) for track in left_out]
        if progress is not None:
            progress(f"{fusion.kind} with songs left out", fold + 1, folds)
    return pd.concat(tables, ignore_index=True)


def _sdr(fusion: BaseFusion, track: Track) -> pd.DataFrame:
    """A score table of SDR, of the sources that a fusion gives."""
    from stemfuse.analysis import GramStatistics, scores_table

    if isinstance(fusion, LinearFusion) and not fusion.varies_in_time:
        gram, weights = GramStatistics.of(track), fusion.weights(track)
    else:
        gram, weights = audio_statistics(fusion, track)
    given = [source for source in gram.sources if source in weights.sources]
    values = gram.sdr(weights)[[gram.sources.index(source) for source in given]]
    return scores_table(track.name, fusion.kind, given, {"SDR": np.asarray(values)})
