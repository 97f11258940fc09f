"""What a search maximises: a metric of the scoring, as a function of one source's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Samples, Track
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.labels import ChannelLabel
from stemfuse.separators.names import did_you_mean

from .aggregation import aggregate_frames, check_aggregation
from .errors import FusionError
from .space import BlendSpace

if TYPE_CHECKING:
    from stemfuse.analysis import ProjectionStatistics

Array = NDArray[np.float64]
Criterion = Callable[[Array], float]
"""The score of weights (weight,) of one source; larger is better."""

FRAME_METRICS = ("SDR", "ISR", "SIR", "SAR")
SONG_METRICS = ("SI_SDR", "bleedless", "fullness")
METRICS = (*FRAME_METRICS, *SONG_METRICS)

LOUDEST_S = 10.0
"""Length of the part of each track on which metrics of audio are computed: where the source is loudest."""

_MOST_TRACKS = 16


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise a FusionError for what no search can maximise."""
    for metric in metrics:
        if metric not in METRICS:
            near = did_you_mean(metric, METRICS)
            raise wrong_usage(FusionError(f"got the objective {metric!r}, expected one of {', '.join(METRICS)}{near}"))


def criterion(
    metric: str,
    space: BlendSpace,
    tracks: Sequence[Track],
    source: str,
    over_frames: str = "median",
    over_tracks: str = "median",
) -> Criterion:
    """The score of weights (weight,) of one source on some tracks, as a function.

    Parameters
    ----------
    metric : str
        ``"SDR"`` comes from Gram statistics, exactly, in under a millisecond. ``"ISR"``, ``"SIR"`` and ``"SAR"`` come
        exactly from projections that are computed once, which takes as long as scoring every stem. ``"SI_SDR"``,
        ``"bleedless"`` and ``"fullness"`` need audio: the loudest `LOUDEST_S` of each of up to 16 tracks are kept in
        memory and mixed anew for every candidate.
    space : BlendSpace
        On these tracks.
    tracks : sequence of Track
        The tracks themselves, for the metrics that Gram statistics do not give.
    source : str
        The source that is blended.
    over_frames : {"median", "mean", "song"}
        How frames become one value of a track, for the first four; ``"song"``, for SDR, is the whole-song SDR.
    over_tracks : {"median", "mean", "pooled"}
        How tracks become one value.

    Raises
    ------
    FusionError
        The metric or an aggregate is unknown.
    """
    check_metrics([metric])
    check_aggregation(over_frames, over_tracks, whole_songs=True)
    if metric == "SDR":
        from .candidates import CandidateScorer

        return CandidateScorer(space.grams_of(source), source, space.terms(source), over_frames, over_tracks).score  # type: ignore[arg-type]
    if metric in FRAME_METRICS:
        if over_frames == "song":
            raise FusionError(f"got over_frames='song' for {metric}, which only frames have; expected median or mean")
        return _ProjectedCriterion(metric, space, tracks, source, over_frames, over_tracks)
    return _AudioCriterion(metric, space, tracks, source, over_tracks)


class _ProjectedCriterion:
    """ISR, SIR or SAR of a blend, from projection statistics."""

    def __init__(
        self, metric: str, space: BlendSpace, tracks: Sequence[Track], source: str, over_frames: str, over_tracks: str
    ) -> None:
        from stemfuse.analysis import ProjectionStatistics

        self.index, self.space, self.source = FRAME_METRICS.index(metric), space, source
        self.over_frames, self.over_tracks = over_frames, over_tracks
        self.statistics: list[ProjectionStatistics] = [
            ProjectionStatistics.from_track(track, mixture=space.mixture)
            for track in tracks
            if source in track.required_references().sources
        ]

    def __call__(self, theta: Array) -> float:
        # the other sources are the mean of their stems: a silent estimate would drop every frame
        others = {source: self.space.equal(source) for source in self.space.sources}
        weights = self.space.weights(others | {self.source: theta})
        values, owners = [], []
        for number, statistics in enumerate(self.statistics):
            row = statistics.gram.sources.index(self.source)
            values.append(statistics.scores(weights)[self.index][row])
            owners += [number] * len(values[-1])
        return aggregate_frames(np.concatenate(values), owners, self.over_frames, self.over_tracks)


class _AudioCriterion:
    """A metric of audio, of the loudest part of each track, which is mixed for every candidate."""

    def __init__(self, metric: str, space: BlendSpace, tracks: Sequence[Track], source: str, over_tracks: str) -> None:
        self.metric, self.over_tracks = metric, over_tracks
        having = np.array([number for number, gram in enumerate(space.grams) if source in gram.sources])
        chosen = having[np.unique(np.linspace(0, len(having) - 1, min(len(having), _MOST_TRACKS)).round().astype(int))]
        self.parts = [self._loudest(space, number, tracks[number], source) for number in chosen]
        self.rate = tracks[0].rate

    @staticmethod
    def _loudest(space: BlendSpace, number: int, track: Track, source: str) -> tuple[Samples, Samples]:
        """The reference (channel, time), and what every weight is multiplied with, (weight, channel, time)."""
        from .application import read_inputs

        gram = space.grams[number]
        rows = [index for index, label in enumerate(gram.outputs) if ChannelLabel.parse(label).signal == source]
        energies = gram.reference_energies[:, rows].sum(1)
        count = max(1, round(LOUDEST_S * track.rate / gram.hop))
        start = int(np.convolve(energies, np.ones(min(count, len(energies))), "valid").argmax()) * gram.hop
        stop = min(start + round(LOUDEST_S * track.rate), track.length)
        audio = read_inputs(track, gram.inputs, start, stop)
        outputs = [gram.outputs[row] for row in rows]
        inputs = np.zeros((len(space.terms(source)), len(outputs), stop - start), np.float32)
        for term, routes in zip(inputs, space.terms(source).values(), strict=True):
            for output, label in routes.items():
                term[outputs.index(output)] += audio[gram.inputs.index(label)]
        return track.required_references()[source].read(start, stop), inputs

    def __call__(self, theta: Array) -> float:
        from stemfuse.analysis import bleedless_fullness, si_sdr

        values = []
        for reference, inputs in self.parts:
            estimate = np.tensordot(theta.astype(np.float32), inputs, 1)
            if self.metric == "SI_SDR":
                values.append(si_sdr(reference, estimate))
            else:
                values.append(bleedless_fullness(reference, estimate, self.rate)[self.metric == "fullness"])
        return aggregate_frames(np.array(values), range(len(values)), "mean", self.over_tracks)
