"""Where a desk can start from, and what it compares with: the separators of a song and the fusions of its run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from stemfuse.blending import LinearFusion, MixingWeights
from stemfuse.experiments.conversion import fitting, fuse_track
from stemfuse.experiments.plan import Plan
from stemfuse.experiments.report import shown_fusions
from stemfuse.experiments.run import Run
from stemfuse.experiments.workers import few_threads
from stemfuse.separators import StemfuseError, Stems, Track
from stemfuse.separators.labels import ChannelLabel, channel_names, stem_labels

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Blend:
    """Weights that a desk can start from and compare with.

    Attributes
    ----------
    label : str
        Of the separator or fusion.
    group : str
        ``"separator"`` or ``"fusion"``.
    kind : str
        Of the fusion, such as ``"least_squares"``.
    weights : MixingWeights
        Over all inputs and outputs of the song.
    """

    label: str
    group: Literal["separator", "fusion"]
    kind: str
    weights: MixingWeights


def separator_blends(track: Track, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[Blend]:
    """Every separator of a song alone: its own stems, channel by channel."""
    channels = channel_names(track.channels)
    for label, stems in track.stems.items():
        matrix = np.zeros((1, len(outputs), len(inputs)), np.float32)
        for source in stems.sources:
            rows = [f"{source}.{channel}" for channel in channels]
            for row, column in zip(rows, stem_labels(label, (source,), track.channels), strict=True):
                if row in outputs:
                    matrix[0, outputs.index(row), inputs.index(column)] = 1
        if matrix.any():
            yield Blend(label, "separator", "", MixingWeights(matrix, tuple(inputs), tuple(outputs)))


@dataclass(frozen=True)
class SongFusions:
    """The fusions of a run for one song.

    Attributes
    ----------
    blends : list of Blend
        Those that have weights.
    heard : dict of str to Stems
        Those that have none, by label: they can be listened to.
    refused : dict of str to str
        Those that are not here, by label, with the reason.
    """

    blends: list[Blend] = field(default_factory=list)
    heard: dict[str, Stems] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def song_fusions(
    plan: Plan, run: Run, planned: Track, track: Track, inputs: Sequence[str], outputs: Sequence[str]
) -> SongFusions:
    """The fusions that the report shows, for one song.

    A song that was left out in turn has the weights that were fitted without it, as in its scores.
    """
    found = SongFusions()
    record = run.record()
    for label in shown_fusions(run):
        fitted = record.fusions[label]
        if not (file := fitted.file_of(plan.refit_of(planned))):
            found.refused[label] = "not fitted for this song"
            continue
        given = track if (mixed := fitted.mixed_of(track.stems)) is None else track.only(mixed)
        try:
            if not fitted.linear:
                fusion = run.fusion(label, plan.refit_of(planned))
                found.heard[label] = fuse_track(fusion, given, plan.config.convert)
                continue
            kept = fitted.songs.get(plan.labels[planned])
            if kept is not None:
                weights = MixingWeights.load(run.checksums.require(kept.file))
            else:
                weights = _predicted(run, label, plan, planned, given)
            found.blends.append(Blend(label, "fusion", fitted.kind, placed(weights, inputs, outputs)))
        except StemfuseError as error:
            log.warning("desk: %s of %s: %s", label, file, error)
            found.refused[label] = " ".join(str(error).split())
    return found


def _predicted(run: Run, label: str, plan: Plan, planned: Track, given: Track) -> MixingWeights:
    fusion = run.fusion(label, plan.refit_of(planned))
    if not isinstance(fusion, LinearFusion):
        raise StemfuseError(f"{label}: has no weights")
    parts = fitting(fusion, given, plan.config.convert)
    if fusion.varies_in_time and parts != [given]:
        raise StemfuseError("was fitted at another rate or number of channels than the song has")
    with few_threads(1):
        return fusion.weights(given)


def placed(weights: MixingWeights, inputs: Sequence[str], outputs: Sequence[str]) -> MixingWeights:
    """The same weights over these inputs and outputs; sources that the song does not have are left out.

    Raises
    ------
    StemfuseError
        A weight is for an input that the song does not have.

    Examples
    --------
    >>> weights = MixingWeights.same_source({"bass": {"a": 0.5}}, channels=1)
    >>> placed(weights, ["mixture.mono", "a.bass.mono"], ["drums.mono", "bass.mono"]).matrix[0].tolist()
    [[0.0, 0.0], [0.0, 0.5]]
    """
    rows = [row for row, label in enumerate(weights.outputs) if label in outputs]
    any_used = np.asarray(weights.matrix[:, rows].any(axis=(0, 1)))
    used: Mapping[str, bool] = dict(zip(weights.inputs, any_used.tolist(), strict=True))
    sources = {ChannelLabel.parse(label).signal for label in outputs}
    for label, is_used in used.items():
        parsed = ChannelLabel.parse(label)
        if is_used and label not in inputs and (not parsed.is_stem or parsed.source in sources):
            raise StemfuseError(f"mixes {label}, which this song does not have")
    columns = [column for column, label in enumerate(weights.inputs) if label in inputs]
    matrix = np.zeros((len(weights.matrix), len(outputs), len(inputs)), np.float32)
    for row in rows:
        places = [inputs.index(weights.inputs[column]) for column in columns]
        matrix[:, outputs.index(weights.outputs[row]), places] = weights.matrix[:, row, columns]
    return MixingWeights(matrix, tuple(inputs), tuple(outputs), weights.starts_s, weights.duration_s)
