"""Scoring candidate blends of one source over a whole data set, in microseconds each, from Gram statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemfuse.analysis.bss_eval.sdr import SONG_EPSILON
from stemfuse.analysis.errors import GramError
from stemfuse.analysis.gram import GramStatistics
from stemfuse.separators.labels import ChannelLabel

from .aggregation import OverFrames, OverTracks, across_tracks, middle_places

BATCH = 8
"""Candidates at a time: their frames stay in the processor's cache."""

Quadratic = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""A (frame, term, term), b (frame, term), c (frame,) of the error theta' A theta - 2 b' theta + c."""

Terms = Mapping[str, Mapping[str, str | Sequence[str]]]
"""By the name of a weight, the input that it adds to each output channel; of several inputs, their sum."""


def blend_terms(
    gram: GramStatistics,
    source: str,
    stems: Literal["same", "all"] = "same",
    mixture: bool = False,
    tied: bool = True,
) -> dict[str, dict[str, str]]:
    """Name the weights of a blend of one source.

    Parameters
    ----------
    gram : GramStatistics
        Whose inputs there are.
    source : str
        The source that is blended.
    stems : {"same", "all"}
        Stems of this source only, or of all sources.
    mixture : bool
        Whether the mixture has a weight too.
    tied : bool
        One weight for all channels (left from left, right from right), or one for every pair of output
        and input channel.

    Returns
    -------
    dict
        By the weight's name, the input that it adds to each output channel.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> from stemfuse.separators import Track
    >>> audio = generator.normal(0, 0.1, (4, 2, 1000))
    >>> gram = GramStatistics.from_track(Track.from_arrays("song", audio.sum(0), audio, {"a": audio, "b": audio}))
    >>> blend_terms(gram, "bass")["b.bass"]
    {'bass.left': 'b.bass.left', 'bass.right': 'b.bass.right'}
    """
    inputs = map(ChannelLabel.parse, gram.inputs)
    wanted = [label for label in inputs if (mixture if label.is_mixture else stems == "all" or label.source == source)]
    outputs = {label.channel: str(ChannelLabel("", source, label.channel)) for label in wanted}
    if tied:
        signals = dict.fromkeys(label._replace(channel="") for label in wanted)
        return {
            signal.signal: {output: str(signal._replace(channel=channel)) for channel, output in outputs.items()}
            for signal in signals
        }
    return {f"{label}>{channel}": {output: str(label)} for channel, output in outputs.items() for label in wanted}


class CandidateScorer:
    """Exact SDR aggregates of any weights of one source, over all tracks and frames.

    With theta the weights, each frame's error is theta' A theta - 2 b' theta + c, the quadratic form that the Gram
    statistics reduce to for these terms. Its coefficients are laid out once, frame by frame; a candidate
    then costs one matrix-vector product, a sort per track, and logarithms of the middle frames alone.

    Parameters
    ----------
    grams : sequence of GramStatistics
        One per track.
    source : str
        The source that is blended.
    terms : mapping
        See `blend_terms`.
    over_frames : {"median", "mean", "song"}
        How the frames of a track become one value; ``"song"`` is the whole-song SDR of `song_sdr`, of all
        whole frames: what is left after the last one is not in the statistics.
    over_tracks : {"median", "mean", "pooled"}
        How tracks become one value; pooled applies ``over_frames`` to all frames of all tracks at once.
    masks : sequence of ndarray of bool, optional
        Per track, the frames that count; those without a silent reference when not given.

    Notes
    -----
    museval drops frames in which an estimate is silent. Which ones does not depend on the candidate, but for weights
    that cancel exactly: frames in which every term's inputs are silent are left out here, for any candidate.
    All weights zero is the one candidate whose every frame is silent: its score is NaN.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> from stemfuse.separators import Track
    >>> audio = generator.normal(0, 0.1, (4, 2, 88200))
    >>> track = Track.from_arrays("song", audio.sum(0), audio, {"a": audio + 0.01, "b": audio - 0.01})
    >>> gram = GramStatistics.from_track(track)
    >>> scorer = CandidateScorer([gram], "bass", blend_terms(gram, "bass"))
    >>> scorer.names, bool(scorer.score([0.5, 0.5]) > 100 > 21 > scorer.score([1, 0]))
    (('a.bass', 'b.bass'), True)
    """

    def __init__(
        self,
        grams: Sequence[GramStatistics],
        source: str,
        terms: Terms,
        over_frames: OverFrames = "median",
        over_tracks: OverTracks = "median",
        masks: Sequence[NDArray[np.bool_]] | None = None,
    ) -> None:
        if not grams or not terms:
            raise GramError(f"got {len(grams)} tracks and {len(terms)} terms, expected at least one of each")
        self.source, self.names = source, tuple(terms)
        self.over_frames, self.over_tracks = over_frames, over_tracks
        parts = [quadratic_form(gram, source, terms) for gram in grams]
        if over_frames == "song":
            parts = [_whole(part, gram) for part, gram in zip(parts, grams, strict=True)]
            masks = [np.ones(1, bool)] * len(parts)
        masks = [~gram.silent for gram in grams] if masks is None else masks
        kept = [mask & (np.trace(part[0], axis1=1, axis2=2) > 0) for part, mask in zip(parts, masks, strict=True)]
        parts = [(a[keep], b[keep], c[keep]) for (a, b, c), keep in zip(parts, kept, strict=True)]
        self.kept = kept
        self.counts = np.array([keep.sum() for keep in kept])
        if over_tracks == "pooled":
            a, b, c = (np.concatenate(each) for each in zip(*parts, strict=True))
            parts = [(a, b, c)]
            self.counts = self.counts.sum(keepdims=True)
        self._lay_out(parts)

    def _lay_out(self, parts: Sequence[Quadratic]) -> None:
        """Coefficients over reference energy, (coefficient, track x frame): a candidate times them is its ratios."""
        size = len(self.names)
        self._upper = np.triu_indices(size)
        twice = np.where(self._upper[0] == self._upper[1], 1.0, 2.0)
        self._shape = (len(parts), max(1, int(self.counts.max())))
        coefficients = np.zeros((len(twice) + size + 1, *self._shape))
        # a frame that is only padding has an infinite error, and is sorted behind the real ones
        coefficients[-1] = np.inf
        for track, (a, b, c) in enumerate(parts):
            block = np.concatenate([a[:, *self._upper] * twice, -2 * b, c[:, None]], axis=1) / c[:, None]
            coefficients[:, track, : len(c)] = block.T
        self._coefficients = coefficients.reshape(len(coefficients), -1)
        self._middle = middle_places(self.counts) + self._shape[1] * np.arange(len(parts))

    def ratios(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Error over reference energy, (candidate, track, frame), for weights (candidate, weight); inf is padding."""
        theta = np.atleast_2d(np.asarray(weights, np.float64))
        if theta.shape[1] != len(self.names):
            raise GramError(f"got {theta.shape[1]} weights, expected {len(self.names)}: {', '.join(self.names)}")
        rows, columns = self._upper
        features = np.concatenate([theta[:, rows] * theta[:, columns], theta, np.ones((len(theta), 1))], axis=1)
        ratios: NDArray[np.float64] = features @ self._coefficients
        shaped: NDArray[np.float64] = ratios.reshape(len(theta), *self._shape)
        return shaped

    def track_scores(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Aggregate over frames, (candidate, track), in dB; NaN for tracks of which no frame counts."""
        theta = np.atleast_2d(np.asarray(weights, np.float64))
        ratios = self.ratios(theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            values: NDArray[np.float64]
            if self.over_frames == "mean":
                counted = np.arange(self._shape[1]) < self.counts[:, None]
                decibels = np.log10(np.maximum(ratios, 0), where=counted, out=np.zeros_like(ratios))
                values = -10 * decibels.sum(2) / self.counts
            else:
                # the two middle frames are the same by error as by SDR: only they need a logarithm
                ratios.sort(axis=2)
                middle = ratios.reshape(len(theta), -1)[:, self._middle]
                values = -10 * np.log10(np.maximum(middle, 0)).mean(1)
        values[:, self.counts == 0] = np.nan
        values[~theta.any(1)] = np.nan
        return values

    def score_many(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Score of every candidate, (candidate,), in dB, for weights (candidate, weight)."""
        theta = np.atleast_2d(np.asarray(weights, np.float64))
        scores = np.full(len(theta), np.nan)
        known = np.flatnonzero(self.counts)
        for start in range(0, len(theta), BATCH) if len(known) else ():
            values = self.track_scores(theta[start : start + BATCH])[:, known]
            scores[start : start + BATCH] = across_tracks(values, self.over_tracks)
        return scores

    def score(self, weights: ArrayLike) -> float:
        """Score of one candidate in dB."""
        return float(self.score_many(weights)[0])


def _whole(part: Quadratic, gram: GramStatistics) -> Quadratic:
    """All frames as one, with the small energy that keeps the SDR of silence finite."""
    if gram.hop != gram.window:
        raise GramError(f"got frames of {gram.window} samples every {gram.hop}; a whole song needs hop = window")
    a, b, c = part
    return a.sum(0)[None], b.sum(0)[None], c.sum(keepdims=True) + SONG_EPSILON


def quadratic_form(gram: GramStatistics, source: str, terms: Terms) -> Quadratic:
    """Coefficients of one source's error in every frame, summed over its channels.

    Parameters
    ----------
    gram : GramStatistics
        Of one track.
    source : str
        The source that is blended.
    terms : mapping
        See `blend_terms`.

    Returns
    -------
    tuple of ndarray
        A (frame, term, term), b (frame, term), c (frame,): sum (s - y)^2 = theta' A theta - 2 b' theta + c.

    Raises
    ------
    GramError
        A term needs an input or an output that the statistics do not know.
    """
    outputs = [index for index, label in enumerate(gram.outputs) if ChannelLabel.parse(label).signal == source]
    if not outputs:
        raise GramError(f"track {gram.track!r}: no reference {source!r}, there are {', '.join(gram.sources)}")
    basis = np.zeros((len(outputs), len(terms), len(gram.inputs)))
    for column, (name, routes) in enumerate(terms.items()):
        for output, given in routes.items():
            for label in [given] if isinstance(given, str) else given:
                if label not in gram.inputs or output not in gram.outputs:
                    raise GramError(f"track {gram.track!r}: {label} -> {output}, which term {name} needs, is missing")
                basis[outputs.index(gram.outputs.index(output)), column, gram.inputs.index(label)] += 1
    used = np.flatnonzero(basis.any(axis=(0, 1)))
    basis = basis[:, :, used]
    moments = gram.input_moments[:, used][:, :, used]
    cross = gram.cross_moments[:, outputs][:, :, used]
    a = np.zeros((len(moments), len(terms), len(terms)))
    b = np.zeros((len(moments), len(terms)))
    for channel, rows in enumerate(basis):
        a += rows @ moments @ rows.T
        b += cross[:, channel] @ rows.T
    return a, b, gram.reference_energies[:, outputs].sum(1)
