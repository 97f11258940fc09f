"""Applying mixing weights to audio: streaming, at constant memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Samples, Stems, Track, TrackError
from stemfuse.separators.labels import ChannelLabel, channel_names, input_labels, output_labels

from .errors import FusionError
from .weights import MixingWeights

log = logging.getLogger(__name__)


def read_inputs(track: Track, labels: Sequence[str], start: int, stop: int) -> Samples:
    """Input channels of a track, (input, time), reading only the files that the labels name.

    Stems of a source that is not in the song are silent; see `in_song`.
    """
    channels = channel_names(track.channels)
    block = np.empty((len(labels), stop - start), np.float32)
    read: dict[str, Samples] = {}
    for row, label in enumerate(map(ChannelLabel.parse, labels)):
        signal = label.signal
        if label.is_stem and not in_song(track, label):
            block[row] = 0
            continue
        if signal not in read:
            stem = track.mixture if label.is_mixture else track.stems[label.separator][label.source]
            read[signal] = stem.read(start, stop)
        block[row] = read[signal][channels.index(label.channel)]
    return block


def in_song(track: Track, label: ChannelLabel) -> bool:
    """Whether the source of a stem's label is in a song: it has a stem, or a reference, of it.

    Examples
    --------
    >>> song = Track.from_arrays("song", np.zeros((2, 10)), stems={"a": np.zeros((4, 2, 10))})
    >>> in_song(song, ChannelLabel.parse("a.bass.left")), in_song(song, ChannelLabel.parse("a.piano.left"))
    (True, False)
    """
    if label.separator in track.stems and label.source in track.stems[label.separator].sources:
        return True
    if track.references is not None:
        return label.source in track.references.sources
    if label.separator not in track.stems:
        return True
    return any(label.source in stems.sources for stems in track.stems.values())


def check_inputs(track: Track, labels: Iterable[str]) -> None:
    """Raise a TrackError that names the first input a track does not have, but for sources that are not in the song."""
    present = set(input_labels(track))
    for label in labels:
        parsed = ChannelLabel.parse(label)
        if label not in present and (parsed.is_mixture or in_song(track, parsed)):
            raise _missing(track, label)


def _missing(track: Track, label: str) -> TrackError:
    attached = ", ".join(track.stems) or "none"
    return TrackError(
        f"track {track.name!r} has no input {label!r}; its separators are {attached}, with "
        f"{track.channels} channels: separate or adopt what is missing, or fit again without it"
    )


def apply_weights(weights: MixingWeights, track: Track) -> Stems:
    """Fuse a track: Y_k = X_k W_k, segments joined by overlap-add.

    Parameters
    ----------
    weights : MixingWeights
        Constant, or per segment of this track.
    track : Track
        With the stems that the inputs name. A source of which it has no stem at all is left out.

    Returns
    -------
    Stems
        Computed range by range when read or written: memory does not grow with the song. Inputs
        that have no weight anywhere are not read.

    Raises
    ------
    TrackError
        An input of the weights is missing from the track.
    FusionError
        The segments do not cover the track.

    Notes
    -----
    With `MixingWeights.duration_s` the fused sample t is sum_k h_k(t) W_k' x(t) / sum_k h_k(t), h_k the Hann window
    of segment k (shifted by half a sample, so never zero): equal weights in all segments give the constant fusion.

    Examples
    --------
    >>> import numpy as np
    >>> stems = np.ones((4, 2, 1000), "float32")
    >>> track = Track.from_arrays("song", stems.sum(0), stems={"a": stems, "b": 3 * stems})
    >>> weights = MixingWeights.same_source({"bass": {"a": 0.5, "b": 0.5}})
    >>> apply_weights(weights, track).audio[0, 0, :3].tolist()
    [2.0, 2.0, 2.0]
    """
    weights = _in_song(weights, track)
    used = np.flatnonzero(weights.matrix.any(axis=(0, 1)))
    labels = [weights.inputs[index] for index in used]
    check_inputs(track, labels)
    matrix = np.ascontiguousarray(weights.matrix[:, :, used])
    sources, channels = weights.sources, track.channels
    if weights.outputs != output_labels(sources, channels):
        raise FusionError(
            f"got outputs {', '.join(weights.outputs)}, expected every source with its {channels} channels in order"
        )
    spans = _spans(weights, track)
    window = None if weights.duration_s is None else _hann(spans[0][1])

    def read(start: int, stop: int) -> Samples:
        inputs = read_inputs(track, labels, start, stop)
        fused: Samples = matrix[0] @ inputs if len(matrix) == 1 else _join(matrix, spans, window, inputs, start, stop)
        return fused.reshape(len(sources), channels, stop - start)

    return Stems.lazy(read, sources, channels, track.length, track.rate)


def _in_song(weights: MixingWeights, track: Track) -> MixingWeights:
    """Weights without the sources of which the track has no stem at all: they are not in the song."""
    present, labels = set(input_labels(track)), [ChannelLabel.parse(label) for label in weights.inputs]
    kept: list[int] = []
    for source in weights.sources:
        rows = [row for row, label in enumerate(weights.outputs) if ChannelLabel.parse(label).signal == source]
        used = np.asarray(weights.matrix[:, rows].any(axis=(0, 1)))
        own = [str(label) for label, is_used in zip(labels, used, strict=True) if is_used and label.source == source]
        if not own or not present.isdisjoint(own):
            kept += rows
    if not kept:
        raise _missing(track, next(label for label in weights.inputs if label not in present))
    # what is not in the song is silent in its stems too
    columns = [str(label) in present or label.is_mixture or in_song(track, label) for label in labels]
    inputs = tuple(str(label) for label, is_kept in zip(labels, columns, strict=True) if is_kept)
    weights = replace(weights, matrix=weights.matrix[:, :, columns], inputs=inputs)
    if len(kept) == len(weights.outputs):
        return weights
    outputs = tuple(weights.outputs[row] for row in kept)
    left_out = [source for source in weights.sources if not any(label.startswith(f"{source}.") for label in outputs)]
    if track.references is None or not set(left_out).isdisjoint(track.references.sources):
        log.warning("track %r has no stems of %s: fused without", track.name, ", ".join(left_out))
    return replace(weights, matrix=weights.matrix[:, kept], outputs=outputs)


def _spans(weights: MixingWeights, track: Track) -> list[tuple[int, int]]:
    """(start, stop) of every segment in samples, checked to cover the track."""
    starts = np.rint(weights.starts_s * track.rate).astype(int)
    if weights.duration_s is None:
        stops = np.append(starts[1:], max(track.length, starts[-1] + 1))
    else:
        stops = starts + max(1, round(weights.duration_s * track.rate))
        gaps = starts[1:] > stops[:-1]
        if len(starts) > 1 and (gaps.any() or stops[-1] < track.length):
            end_s = (starts[1:][gaps][0] if gaps.any() else stops[-1]) / track.rate
            raise FusionError(
                f"track {track.name!r} lasts {track.duration_s:.3f} s, its segments do not reach past {end_s:.3f} s; "
                "compute the weights on this track"
            )
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _hann(length: int) -> NDArray[np.float32]:
    return np.square(np.sin(np.pi * (np.arange(length) + 0.5) / length)).astype(np.float32)


def _join(
    matrix: NDArray[np.float32],
    spans: Sequence[tuple[int, int]],
    window: NDArray[np.float32] | None,
    inputs: Samples,
    start: int,
    stop: int,
) -> Samples:
    """Weighted overlap-add of the segments that touch samples start to stop."""
    fused = np.zeros((matrix.shape[1], stop - start), np.float32)
    total = np.zeros(stop - start, np.float32)
    for weight, (first, last) in zip(matrix, spans, strict=True):
        low, high = max(first, start), min(last, stop)
        if low >= high:
            continue
        here = slice(low - start, high - start)
        share = np.ones(high - low, np.float32) if window is None else window[low - first : high - first]
        fused[:, here] += (weight @ inputs[:, here]) * share
        total[here] += share
    return fused / total
