"""Minimum variance: weights for a song from the differences between its stems alone, without reference or training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import ChannelLabel, Track, TrackError
from stemfuse.separators.labels import channel_names

from .application import check_inputs, read_inputs
from .errors import FusionError
from .fusion import LinearFusion, first_of, given_sources, save_description
from .weights import MixingWeights

if TYPE_CHECKING:
    import os

    import pandas as pd

Array = NDArray[np.float64]

BLOCK = 1 << 18
"""Samples that are read at a time."""
FLOOR = 1e-6
"""Energy that a difference has at least, relative to the largest one of a song: a copy of a stem has no difference."""
PRIOR = 1e-4
"""Weight of the assumption that all stems of a source are equally good, beside that of one difference."""


def error_variances(moments: Array) -> Array:
    """Error energies of estimates of one unknown signal, from their differences.

    Parameters
    ----------
    moments : ndarray, shape (stem, stem)
        Sums of products of the stems.

    Returns
    -------
    ndarray, shape (stem,)
        The energy of each stem's own error, up to an error that all of them share, which no difference shows.

    Notes
    -----
    With s_i = s + e_i the difference s_i - s_j does not hold the signal s. Where errors are uncorrelated, its energy is
    D_ij = v_i + v_j. This is the three-cornered hat of clock metrology [1]_, which for three stems has the solution
    v_1 = (D_12 + D_13 - D_23) / 2; correlated errors make it negative. Here, for any number of stems, ln v minimises

        sum_(i<j) (ln D_ij - ln(v_i + v_j))^2 + PRIOR sum_i (ln v_i - mean ln v)^2.

    So no variance is negative, and what differences leave open is equal: of two stems, both are equally good. Error
    that some stems share and others do not is counted as if these were better: copies agree perfectly.

    References
    ----------
    .. [1] Gray and Allan, "A method for estimating the frequency stability of an individual oscillator", 28th Annual
       Symposium on Frequency Control, 1974.

    Examples
    --------
    >>> np.round(error_variances(100 + np.diag([1.0, 2.0, 4.0])), 1).tolist()
    [1.0, 2.0, 4.0]
    """
    from scipy.optimize import least_squares

    count = len(moments)
    energies = np.diag(moments)
    differences = np.maximum(energies[:, None] + energies - 2 * moments, 0)
    largest = float(differences.max(initial=0.0))
    # float64 sums of equal stems differ by rounding
    if count < 2 or largest <= 1e-12 * float(energies.sum()):
        return np.ones(count)
    first, second = np.triu_indices(count, 1)
    pairs = np.log(np.maximum(differences[first, second] / largest, FLOOR))

    def residuals(logs: Array) -> Array:
        fitted = np.logaddexp(logs[first], logs[second])
        return np.concatenate([pairs - fitted, np.sqrt(PRIOR) * (logs - logs.mean())])

    start = np.full(count, pairs.mean() - np.log(2))
    solved: Array = np.exp(least_squares(residuals, start, method="lm").x) * largest
    return solved


def minimum_variance(moments: Array) -> Array:
    """Weights that sum to one and leave the smallest error, where errors of different stems are uncorrelated.

    Parameters
    ----------
    moments : ndarray, shape (stem, stem)
        Sums of products of the stems.

    Returns
    -------
    ndarray, shape (stem,)
        1 / v_i over their sum, v of `error_variances` (Bates and Granger 1969, for two forecasts).
    """
    precision = 1 / error_variances(moments)
    weights: Array = precision / precision.sum()
    return weights


def stem_moments(track: Track, given: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """Second moments of a song's stems of each source, summed over time and channels; audio is read once.

    Parameters
    ----------
    track : Track
        With stems; references are not read.
    given : mapping of str to sequence of str
        By source, the separators.

    Returns
    -------
    dict of source to ndarray, shape (separator, separator)
        Stems of a source that is not in the song are silent. Kept as long as the track lives.

    Raises
    ------
    TrackError
        A stem is missing.
    """
    channels = channel_names(track.channels)
    labels = {
        source: [str(ChannelLabel(name, source, channel)) for name in names for channel in channels]
        for source, names in given.items()
    }
    check_inputs(track, [label for part in labels.values() for label in part])
    key = tuple(label for part in labels.values() for label in part)
    kept = _KEPT.setdefault(track, {})
    if key not in kept:
        moments = {source: np.zeros((len(names), len(names))) for source, names in given.items()}
        for start in range(0, track.length, BLOCK):
            stop = min(start + BLOCK, track.length)
            for source, names in given.items():
                samples = read_inputs(track, labels[source], start, stop).reshape(len(names), -1).astype(np.float64)
                moments[source] += samples @ samples.T
        kept[key] = moments
    return kept[key]


_KEPT: WeakKeyDictionary[Track, dict[tuple[str, ...], dict[str, Array]]] = WeakKeyDictionary()


def separators_of(tracks: Sequence[Track]) -> dict[str, list[str]]:
    """By source, the separators that give it for any of the tracks, in order.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> separators_of(conformance_tracks(("a", "b")))["bass"]
    ['a', 'b']
    """
    found: dict[str, list[str]] = {}
    for separator, sources in given_sources(tracks).items():
        for source in sources:
            found.setdefault(source, []).append(separator)
    return found


class MinimumVariance(LinearFusion):
    """Weights of each song from how its stems disagree: nothing is learnt, and no reference is needed.

    What the stems of a source share is taken for the source, what they do not share for their errors. Each stem counts
    by one over the energy of its error; see `error_variances`. The weights of a source are positive and sum to one.
    They are the same for all times and channels of the song.

    See Also
    --------
    stemfuse.blending.Transductive : least squares on other songs, which these weights only complete.

    References
    ----------
    Bates and Granger, "The combination of forecasts", Operational Research Quarterly 20(4), 1969: the weights.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> audio = generator.normal(0, 0.1, (4, 2, 44100))
    >>> stems = {name: audio + generator.normal(0, size, audio.shape) for name, size in zip("abc", (0.01, 0.02, 0.02))}
    >>> track = Track.from_arrays("song", audio.sum(0), stems=stems)
    >>> fusion = MinimumVariance().fit([track])
    >>> fusion.levels(track).query("source == 'bass'")["weight"].round(2).tolist()
    [0.67, 0.17, 0.17]
    """

    kind = "minimum_variance"
    learns: ClassVar[bool] = False
    varies_in_time: ClassVar[bool] = True
    suffix: ClassVar[str] = ".json"

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Check that the tracks have stems of the same separators; no audio is read."""
        first_of(train)
        return self

    def weights(self, track: Track) -> MixingWeights:
        """Weights of a song; its stems are read once.

        Raises
        ------
        FusionError
            The track has no stems.
        """
        given, moments = self._moments(track)
        found = {
            source: dict(zip(names, minimum_variance(moments[source]).tolist(), strict=True))
            for source, names in given.items()
        }
        return MixingWeights.same_source(found, track.channels)

    def levels(self, track: Track) -> pd.DataFrame:
        """What the differences say of every stem of a song.

        Returns
        -------
        DataFrame
            Columns source, separator, ``error_db`` (the energy of the stem's own error relative to that of the stem, in
            dB: the lower, the better) and weight. Error that all stems share is not in it.
        """
        import pandas as pd

        given, moments = self._moments(track)
        parts = []
        for source, names in given.items():
            variances, energies = error_variances(moments[source]), np.diag(moments[source])
            with np.errstate(divide="ignore", invalid="ignore"):
                levels = np.where(energies > 0, 10 * np.log10(variances / energies), np.nan)
            shares = minimum_variance(moments[source])
            parts.append(pd.DataFrame({"source": source, "separator": names, "error_db": levels, "weight": shares}))
        return pd.concat(parts, ignore_index=True)

    def _moments(self, track: Track) -> tuple[dict[str, list[str]], dict[str, Array]]:
        if not track.stems:
            raise TrackError(f"track {track.name!r} has no stems; attach some with StemStore.attach")
        given = separators_of([track])
        return given, stem_moments(track, given)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write kind and separators as JSON: nothing has been learnt."""
        save_description(path, self)


def check_share(name: str, value: float | str, words: Sequence[str] = ()) -> None:
    """Raise unless an argument is a number not below 0, or one of some words."""
    if isinstance(value, str) and value in words:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
        choice = "".join(f", or {word!r}" for word in words)
        raise FusionError(f"got {name}={value!r}, expected a number not below 0{choice}")
