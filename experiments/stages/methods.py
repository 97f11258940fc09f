"""What is scored, one track and some methods at a time: separators, fusions, and estimates that others made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stemfuse.blending import LinearFusion, MixingWeights, load_fusion
from stemfuse.blending.scoring import alone
from stemfuse.experiments.checksums import Checksums
from stemfuse.experiments.config import ScoreConfig
from stemfuse.experiments.conversion import fitting, fuse_track
from stemfuse.experiments.parts import write_part
from stemfuse.experiments.workers import few_threads
from stemfuse.separators import Stems, Track

from .measure import rest_statistics, scores_of

if TYPE_CHECKING:
    import pandas as pd


class Method(Protocol):
    """What is scored; travels to another process."""

    def stems(self, track: Track) -> Stems:
        """Its estimates of one track."""
        ...

    def weights(self, track: Track) -> MixingWeights | None:
        """The constant weights that its estimates are made by; None where audio alone tells."""
        ...


@dataclass(frozen=True)
class SeparatorMethod:
    """A single separator, whose stems the track has."""

    label: str

    def stems(self, track: Track) -> Stems:
        """Stems of one track."""
        return track.stems[self.label]

    def weights(self, track: Track) -> MixingWeights | None:
        """Those that take its stems as they are."""
        return alone(self.label, track).weights_


@dataclass(frozen=True)
class Estimates:
    """The stems of one method of one track in a run, and the file of their checksums, whose name says what they are."""

    folder: Path
    record: Path

    @property
    def checksums(self) -> Checksums:
        """What was written; on record when all of it was."""
        return Checksums(self.folder, self.record)

    def are_whole(self) -> bool:
        """Whether they were written, and no file has changed since."""
        return bool(self.checksums.read()) and not self.checksums.changed()

    def write(self, stems: Stems) -> None:
        """Write all stems, and then put them on record."""
        stems.write(self.folder)
        self.checksums.keep(self.folder / f"{source}.wav" for source in stems.sources)


@dataclass(frozen=True)
class FusionMethod:
    """A saved fusion of the stems that the track has; its own stems are written where there is a place for them."""

    file: Path
    place: Estimates | None
    convert: bool = False
    mixed: tuple[str, ...] | None = None
    """Labels of the separators that it is given; all that the track has when None."""

    def stems(self, track: Track) -> Stems:
        """Fused stems of one track."""
        given = track if self.mixed is None else track.only(self.mixed)
        fused = fuse_track(load_fusion(self.file), given, self.convert)
        if self.place is not None:
            self.place.write(fused)
        return fused

    def weights(self, track: Track) -> MixingWeights | None:
        """Those of a linear fusion that do not vary in time, where it takes the track as it is and writes no stems."""
        fusion = load_fusion(self.file)
        if self.place is not None or not isinstance(fusion, LinearFusion) or fusion.varies_in_time:
            return None
        given = track if self.mixed is None else track.only(self.mixed)
        return fusion.weights(given) if fitting(fusion, given, self.convert)[0] is given else None


@dataclass(frozen=True)
class ScoreTask:
    """One track to be scored by some methods; travels to another process."""

    track: Track
    methods: Mapping[str, Method]
    folder: Path
    """Of the parts."""
    parts: Mapping[str, str]
    """By method, the name of its scores. Methods without one are not scored, only written."""
    options: ScoreConfig


def score_one(task: ScoreTask) -> None:
    """Score one track; each method's scores become a file of their own."""
    from stemfuse.analysis import score_track

    # one thread each: museval's values for nearly singular references depend on their number, ours then too
    with few_threads(1):
        known = _known_scores(task)
        left = {label: method for label, method in task.methods.items() if label not in known}
        opened = {label: method.stems(task.track) for label, method in left.items()}
        wanted = {label: stems for label, stems in opened.items() if label in task.parts}
        if wanted:
            scores = score_track(task.track, wanted, threads=1, **task.options.model_dump())
            known |= {label: scores[scores["fusion"] == label] for label in wanted}
    for label, table in known.items():
        write_part(table, task.folder, task.parts[label])


def _known_scores(task: ScoreTask) -> dict[str, pd.DataFrame]:
    """By method, scores that follow from the track's statistics, without its audio: SDR of constant weights."""
    from stemfuse.analysis import GramStatistics

    track, options = task.track, task.options
    stored = bool(track.stems) and track.stored.keys() == track.stems.keys()
    if options.metrics != ("SDR",) or (options.window_s, options.hop_s) != (1.0, 1.0) or not stored:
        return {}
    found = {label: task.methods[label].weights(track) for label in task.parts}
    # sums of sources, and songs with other sources, are scored by their audio
    whole = set(track.required_references().sources)
    constant = {label: own for label, own in found.items() if own is not None and set(own.sources) == whole}
    if not constant:
        return {}
    gram = GramStatistics.of(track)
    rest = rest_statistics(gram, track)
    return {label: scores_of(own, label, gram, track, rest) for label, own in constant.items()}
