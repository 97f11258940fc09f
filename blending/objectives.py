"""What a search maximises: any metric of the scoring, as a function of one source's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Samples, Track

from .errors import FusionError
from .space import BlendSpace, aggregate_frames

if TYPE_CHECKING:
    from stemfuse.analysis import ProjectionStatistics

Array = NDArray[np.float64]
Objective = Callable[[Array], float]

FRAME_METRICS = ("SDR", "ISR", "SIR", "SAR")
SONG_METRICS = ("SI_SDR", "bleedless", "fullness")
METRICS = (*FRAME_METRICS, *SONG_METRICS)

EXCERPT_S = 10.0
"""Length of the part of each track on which metrics of audio are computed: where the source is loudest."""

_EXCERPTS = 16


def objective(
    metric: str, space: BlendSpace, tracks: Sequence[Track], source: str, frames: str = "median", across: str = "median"
) -> Objective:
    """The score of weights (weight,) of one source on some tracks.

    Parameters
    ----------
    metric : str
        ``"SDR"`` comes from Gram statistics, exactly, in under a millisecond. ``"ISR"``, ``"SIR"`` and ``"SAR"`` come
        exactly from projections that are computed once, which takes as long as scoring every stem. ``"SI_SDR"``,
        ``"bleedless"`` and ``"fullness"`` need audio: an excerpt of `EXCERPT_S` of each of up to 16 tracks is kept in
        memory and mixed anew for every candidate.
    space : BlendSpace
        On these tracks.
    tracks : sequence of Track
        The tracks themselves, for what statistics do not tell.
    source : str
        The source that is blended.
    frames : {"median", "mean", "song"}
        How frames become one value of a track, for the first four; ``"song"``, for SDR, is the whole-song SDR.
    across : {"median", "mean", "pooled"}
        How tracks become one value.

    Raises
    ------
    FusionError
        The metric or an aggregate is unknown.
    """
    if metric not in METRICS:
        raise FusionError(f"objective {metric!r} came, expected one of {', '.join(METRICS)}")
    if frames not in ("median", "mean", "song") or across not in ("median", "mean", "pooled"):
        raise FusionError(
            f"frames={frames!r}, tracks={across!r} came, expected median, mean or song, and median, mean or pooled"
        )
    if metric == "SDR":
        from .candidates import CandidateScorer

        return CandidateScorer(space.grams, source, space.terms(source), frames, across).score  # type: ignore[arg-type]
    if metric in FRAME_METRICS:
        if frames == "song":
            raise FusionError(f"frames='song' came for {metric}, which only frames have; expected median or mean")
        return _ProjectedObjective(metric, space, tracks, source, frames, across)
    return _AudioObjective(metric, space, tracks, source, across)


class _ProjectedObjective:
    """ISR, SIR or SAR of a blend, from projection statistics."""

    def __init__(
        self, metric: str, space: BlendSpace, tracks: Sequence[Track], source: str, frames: str, across: str
    ) -> None:
        from stemfuse.analysis import ProjectionStatistics

        self.metric, self.space, self.source, self.frames, self.across = metric, space, source, frames, across
        self.statistics: list[ProjectionStatistics] = [
            ProjectionStatistics.from_track(track, mixture=space.mixture) for track in tracks
        ]

    def __call__(self, theta: Array) -> float:
        # the other sources are the mean of their stems: a silent estimate would drop every frame
        others = {source: self.space.equal(source) for source in self.space.sources}
        weights = self.space.weights(others | {self.source: theta})
        values, owners = [], []
        for number, statistics in enumerate(self.statistics):
            row = statistics.gram.sources.index(self.source)
            values.append(getattr(statistics.scores(weights), self.metric)[row])
            owners += [number] * len(values[-1])
        return aggregate_frames(np.concatenate(values), owners, self.frames, self.across)


class _AudioObjective:
    """A metric of audio, of excerpts that are mixed for every candidate."""

    def __init__(self, metric: str, space: BlendSpace, tracks: Sequence[Track], source: str, across: str) -> None:
        self.metric, self.across = metric, across
        chosen = np.unique(np.linspace(0, len(tracks) - 1, min(len(tracks), _EXCERPTS)).round().astype(int))
        self.excerpts = [self._excerpt(space, number, tracks[number], source) for number in chosen]
        self.rate = tracks[0].rate

    @staticmethod
    def _excerpt(space: BlendSpace, number: int, track: Track, source: str) -> tuple[Samples, Samples]:
        """The reference (channel, time), and what every weight brings, (weight, channel, time)."""
        from .application import read_inputs

        gram = space.grams[number]
        rows = [index for index, label in enumerate(gram.outputs) if label.rpartition(".")[0] == source]
        energies = gram.reference_energies[:, rows].sum(1)
        count = max(1, round(EXCERPT_S * track.rate / gram.hop))
        start = int(np.convolve(energies, np.ones(min(count, len(energies))), "valid").argmax()) * gram.hop
        stop = min(start + round(EXCERPT_S * track.rate), track.length)
        audio = read_inputs(track, gram.inputs, start, stop)
        outputs = [gram.outputs[row] for row in rows]
        brought = np.zeros((len(space.terms(source)), len(outputs), stop - start), np.float32)
        for term, brings in zip(brought, space.terms(source).values(), strict=True):
            for output, label in brings.items():
                term[outputs.index(output)] += audio[gram.inputs.index(label)]
        return track.required_references()[source].read(start, stop), brought

    def __call__(self, theta: Array) -> float:
        from stemfuse.analysis import bleedless_fullness, si_sdr

        values = []
        for reference, brought in self.excerpts:
            estimate = np.tensordot(theta.astype(np.float32), brought, 1)
            if self.metric == "SI_SDR":
                values.append(si_sdr(reference, estimate))
            else:
                values.append(bleedless_fullness(reference, estimate, self.rate)[self.metric == "fullness"])
        return aggregate_frames(np.array(values), range(len(values)), "mean", self.across)
