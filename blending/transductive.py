"""Transductive least squares: the song that is fused joins the training songs, its stems' agreement as reference."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track, write_whole
from stemfuse.separators.errors import wrong_usage

from .errors import FusionError
from .fusion import LinearFusion, save_description
from .least_squares import minimise
from .minimum_variance import check_share, minimum_variance, stem_moments
from .space import BlendSpace, FrameErrors
from .weights import MixingWeights, load_arrays

log = logging.getLogger(__name__)
Array = NDArray[np.float64]

AGREEMENTS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Strengths that ``agreement="auto"`` tries."""
ALONE = 1.0
"""Strength where there is nothing to choose it by: the song counts as much as all training songs together."""
FOLDS = 10
"""Groups of training songs that are left out in turn to choose the strength, where there are so many songs."""
LEAST = 1e-9
"""Error that a song has at least, relative to its reference, when songs are weighted by their errors."""
_STEPS, _STILL = 30, 1e-7


@dataclass(frozen=True, eq=False)
class Corpus:
    """What training songs say of the weights of one source: theta' A theta - 2 b' theta, least at ``theta``.

    Attributes
    ----------
    a, b : ndarray, shapes (weight, weight), (weight,)
        Mean over songs of their second moments, each relative to the song's error, with the pull to equal weights.
    """

    a: Array
    b: Array

    @classmethod
    def of(cls, songs: FrameErrors, ridge: float) -> Corpus:
        """Of songs with one frame each: the weights raise the mean of their SDR in dB until it is still."""
        count = len(songs.b[0])
        theta = prior = np.full(count, 1 / count)
        shares = songs.counted / max(int(songs.counted.sum()), 1)
        for _ in range(_STEPS):
            # the logarithm of an error lies below its tangent, whose slope weights the song
            errors = np.maximum(songs.errors(theta), LEAST * songs.c)
            a, b = songs.normal_equations(np.divide(shares, errors, out=np.zeros_like(errors), where=shares > 0))
            strength = ridge * np.trace(a) / count
            found = cls(a + strength * np.eye(count), b + strength * prior)
            previous, theta = theta, minimise(found.a, found.b)
            if np.abs(theta - previous).max() < _STILL:
                break
        return found

    def weights(self, moments: Array, agreement: float) -> Array:
        """Weights (weight,) of a song with these second moments (weight, weight) of its stems."""
        total = float(np.trace(moments))
        if agreement == 0 or total <= 0:
            return minimise(self.a, self.b)
        song = agreement * float(np.trace(self.a)) / total * moments
        return minimise(self.a + song, self.b + song @ minimum_variance(moments))


class Transductive(LinearFusion):
    """Least squares on training songs and on the very song that is fused, of which only the stems are known.

    Second moments of a song's stems need no reference. What does is their product with the source; for the song that is
    fused the blend of `MinimumVariance`, on which its stems agree, stands in for that. So where the training songs
    determine a weight well, they decide; in what they leave open, and what is loud in this song, the song decides.
    Weights are the same for all times of a song, and for left and right.

    Parameters
    ----------
    agreement : float or "auto"
        How much the song counts beside the training songs together: 0 is least squares alone, large numbers are
        `MinimumVariance`. ``"auto"`` tries `AGREEMENTS` and takes the one of the best mean song SDR on the
        validation tracks; when there are none, on training tracks that are left out in turn; `ALONE` where there is
        only one.
    ridge : float
        Strength of the pull of the training songs' solution to equal weights, as in `LeastSquares`.

    Attributes
    ----------
    agreement_ : float
        The strength that is used.
    corpus_ : dict of source to Corpus
        What the training songs say.
    separators_of_ : dict of source to tuple of str
        The separators of each source, in the order of the weights.

    Notes
    -----
    Training songs t have moments G_t of stems and c_t of stems and source. With e_t the error of the song, which makes
    the sum a majorant of minus the mean SDR, and h the song's weights of minimum variance, the weights minimise

        mean_t (w' G_t w - 2 w' c_t) / e_t + k (w - h)' G (w - h),    k = agreement trace(mean_t G_t / e_t) / trace(G).

    Only G is known of the song; its own least squares would need c. Learning with the inputs of the test case at hand
    is transduction [1]_; as a stand-in for labels it is self-training.

    References
    ----------
    .. [1] Vapnik, "Statistical learning theory", Wiley, 1998, chapter 8.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> train = conformance_tracks()
    >>> fusion = Transductive(agreement=0.3).fit(train[:2])
    >>> fusion.weights(train[2]).matrix.shape
    (1, 8, 24)
    """

    kind = "transductive"
    varies_in_time: ClassVar[bool] = True
    suffix: ClassVar[str] = ".json"
    agreement_: float
    corpus_: dict[str, Corpus]
    separators_of_: dict[str, tuple[str, ...]]
    channels_: int

    def __init__(self, agreement: float | Literal["auto"] = "auto", ridge: float = 0.01) -> None:
        self.agreement = agreement
        self.ridge = ridge

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` or `restore` has set what the training songs say."""
        return "corpus_" in vars(self)

    @property
    def chosen_by_valid(self) -> str:
        """The strength of ``agreement="auto"`` is chosen on validation tracks."""
        return "its agreement" if self.agreement == "auto" else ""

    @property
    def fitted_channels(self) -> int | None:
        """Number of channels of the tracks that it fuses."""
        return self.channels_ if self.is_fitted else None

    @property
    def fitted_sources(self) -> tuple[str, ...] | None:
        """Sources that it gives."""
        return tuple(self.corpus_) if self.is_fitted else None

    def check(self) -> None:
        """Raise unless the arguments make sense."""
        super().check()
        try:
            check_share("agreement", self.agreement, ("auto",))
            check_share("ridge", self.ridge)
        except FusionError as error:
            raise wrong_usage(error) from None

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Sum up the training songs, and choose the strength of the agreement.

        Parameters
        ----------
        train : sequence of Track
            With references and the stems of the same separators.
        valid : sequence of Track, optional
            To choose the strength of ``agreement="auto"``.

        Raises
        ------
        FusionError
            An argument makes no sense, separators differ between tracks, or a source is silent in all of them.
        """
        self.check()
        space = BlendSpace.of(train)
        songs = {source: _by_song(space.frames(source)) for source in space.sources}
        for source, found in songs.items():
            if not found.counted.any():
                raise FusionError(f"{source}: silent in all tracks; {space.silence(source)}")
        corpus = {source: Corpus.of(found, self.ridge) for source, found in songs.items()}
        if self.agreement == "auto":
            validation = space.on(valid) if valid else None
            held_out = [] if validation is None else _validated(corpus, validation)
            tried = held_out or [pair for found in songs.values() for pair in _left_out(found, self.ridge)]
            self.agreement_ = _best_agreement(tried)
        else:
            self.agreement_ = float(self.agreement)
        names = {source: [name.removesuffix(f".{source}") for name in space.names(source)] for source in corpus}
        return self._learnt(corpus, names, train[0].channels)

    def _learnt(self, corpus: dict[str, Corpus], names: dict[str, list[str]], channels: int) -> Self:
        self.corpus_ = corpus
        self.separators_of_ = {source: tuple(given) for source, given in names.items()}
        self.channels_ = channels
        return self

    def weights(self, track: Track) -> MixingWeights:
        """Weights of a song; its stems are read once, its references never.

        Raises
        ------
        FusionError
            The fusion is not fitted.
        TrackError
            A stem is missing.
        """
        if not self.is_fitted:
            raise FusionError(f"{self.kind}: not fitted; call fit(tracks) first, or load a fitted one")
        moments = stem_moments(track, self.separators_of_)
        return self._named(
            {source: self.corpus_[source].weights(moments[source], self.agreement_) for source in self.corpus_},
            track.channels,
        )

    def _named(self, theta: dict[str, Array], channels: int) -> MixingWeights:
        named = {
            source: dict(zip(self.separators_of_[source], values.tolist(), strict=True))
            for source, values in theta.items()
        }
        return MixingWeights.same_source(named, channels)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``path``, which ends in ``.json``, and what the training songs say beside it."""
        if not self.is_fitted:
            raise FusionError(f"{self.kind}: not fitted; there is nothing to save")
        description, file = self.saved_files(path)
        arrays: dict[str, NDArray[np.generic]] = {
            "sources": np.array(list(self.corpus_), np.str_),
            "agreement": np.array(self.agreement_),
            "channels": np.array(self.channels_),
        }
        for number, (source, found) in enumerate(self.corpus_.items()):
            names = np.array(self.separators_of_[source], np.str_)
            arrays |= {f"separators_{number}": names, f"a_{number}": found.a, f"b_{number}": found.b}
        write_whole(file, lambda opened: np.savez(opened, allow_pickle=False, **arrays))
        save_description(description, self)

    def saved_files(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """``path`` and the ``.songs.npz`` beside it."""
        return Path(path), Path(path).with_suffix(".songs.npz")

    def restore(self, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        FusionError
            The file is missing or damaged.
        """
        file = self.saved_files(path)[1]
        arrays = load_arrays(file)
        corpus, names = {}, {}
        try:
            for number, source in enumerate(arrays["sources"].tolist()):
                a, b = (np.asarray(arrays[f"{name}_{number}"], np.float64) for name in "ab")
                names[source] = arrays[f"separators_{number}"].tolist()
                count = len(names[source])
                if a.shape != (count, count) or b.shape != (count,) or not np.isfinite([*a.ravel(), *b]).all():
                    raise ValueError(f"moments of {source} do not fit {count} separators")
                corpus[source] = Corpus(a, b)
            self.agreement_ = float(arrays["agreement"])
            self._learnt(corpus, names, int(arrays["channels"]))
            # labels name the files that are written: checked as those of any weights
            self._named({source: minimise(found.a, found.b) for source, found in corpus.items()}, self.channels_)
        except (KeyError, TypeError, ValueError) as error:
            raise FusionError(f"{file}: not what {self.kind} has learnt ({error}); fit again") from error
        return self


def _by_song(frames: FrameErrors) -> FrameErrors:
    """One frame per song, all of it; songs in which the reference is silent do not count."""
    owners, places = np.unique(frames.tracks, return_inverse=True)
    count = len(owners)
    a, b, c = (np.zeros((count, *part.shape[1:])) for part in (frames.a, frames.b, frames.c))
    for total, part in ((a, frames.a), (b, frames.b), (c, frames.c)):
        np.add.at(total, places, part)
    return FrameErrors(a, b, c, owners, c > 0)


def _left_out(songs: FrameErrors, ridge: float) -> Iterator[tuple[Corpus, FrameErrors]]:
    """Songs that are left out in turn, with what the others say."""
    places = np.flatnonzero(songs.counted)
    for fold in range(min(FOLDS, len(places))) if len(places) > 1 else ():
        group = np.isin(np.arange(len(songs.c)), places[fold::FOLDS])
        yield Corpus.of(songs.of(~group), ridge), songs.of(group)


def _validated(corpus: dict[str, Corpus], space: BlendSpace) -> list[tuple[Corpus, FrameErrors]]:
    """Validation songs of each source that sounds in any, with what the training songs say."""
    songs = {source: _by_song(space.frames(source)) for source in space.sources if source in corpus}
    return [(corpus[source], found) for source, found in songs.items() if found.counted.any()]


def _best_agreement(tried: Sequence[tuple[Corpus, FrameErrors]]) -> float:
    """The strength of the highest mean song SDR, over all songs and sources."""
    if not tried:
        log.warning("agreement='auto' is %g: there is no song to leave out; more songs would tell", ALONE)
        return ALONE
    figures = []
    for agreement in AGREEMENTS:
        theta = [np.stack([corpus.weights(a, agreement) for a in songs.a]) for corpus, songs in tried]
        errors = [np.maximum(songs.errors(own), LEAST * songs.c) for (_, songs), own in zip(tried, theta, strict=True)]
        values = [songs.sdr_of(error) for (_, songs), error in zip(tried, errors, strict=True)]
        figures.append(float(np.nanmean(np.concatenate(values))))
    return AGREEMENTS[int(np.argmax(figures))]
