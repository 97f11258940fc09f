"""What the desk is given of one song: its document, and the samples of a passage."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.analysis import GramStatistics
from stemfuse.analysis.bss_eval.framing import frame_slices
from stemfuse.experiments.workers import few_threads
from stemfuse.separators import AudioError, Samples, Signal, Stems, Track, in_order
from stemfuse.separators.labels import channel_names, input_labels, output_labels

from .blends import Blend
from .loudness import weighted_moments

FORMAT = 1
"""Raised whenever the document changes in a way that an older page cannot read."""

AUDIO_BYTES = 400_000_000
"""Samples of all channels that a page holds at a time, as float32."""

PEAKS = 1200
"""Points of the waveform of a whole song."""


class DeskSong:
    """A song with its stems, as the desk is given it.

    Parameters
    ----------
    track : Track
        With stems; its references may be missing, and there is no SDR then.
    name : str
        What it is called.
    data : str
        Label of its data set.
    blends : sequence of Blend
        Where the desk can start.
    refused : mapping of str to str
        Fusions that are not here, with the reason.
    heard : mapping of str to Stems
        Fusions without weights, which can be listened to.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 88200))
    >>> song = DeskSong(Track.from_arrays("song", noise.sum(0), noise, {"a": noise}), "song")
    >>> song.inputs[:3], song.outputs[-1], len(song.samples(0, 100))
    (('mixture.left', 'mixture.right', 'a.drums.left'), 'vocals.right', 7200)
    """

    def __init__(
        self,
        track: Track,
        name: str,
        data: str = "",
        blends: Sequence[Blend] = (),
        refused: Mapping[str, str] | None = None,
        heard: Mapping[str, Stems] | None = None,
    ) -> None:
        self.track, self.name, self.data = track, name, data
        self.blends, self.refused, self.heard = tuple(blends), dict(refused or {}), dict(heard or {})
        self.inputs, self.outputs = song_labels(track)

    @cached_property
    def signals(self) -> tuple[Signal, ...]:
        """Mixture, stems and references, in the order of inputs and outputs."""
        track = self.track
        stems = [given[source] for given in track.stems.values() for source in given.sources]
        references = track.references
        return (track.mixture, *stems, *((references[source] for source in references.sources) if references else ()))

    def read(self, start: int, stop: int) -> list[Samples]:
        """Samples of a passage, signal by signal: mixture, stems, references, and what fusions without weights give."""
        blocks = [signal.read(start, stop) for signal in self.signals]
        for stems in self.heard.values():
            # all sources at once: such a fusion computes them together
            blocks += list(stems.read(start, stop))
        if not all(np.isfinite(block).all() for block in blocks):
            raise AudioError(f"{self.name}: has NaN or infinite samples; separate it again")
        return blocks

    @property
    def longest(self) -> int:
        """Samples of a passage that a page can hold of all channels."""
        signals = len(self.signals) + sum(len(stems.sources) for stems in self.heard.values())
        return min(self.track.length, max(AUDIO_BYTES // (4 * signals * self.track.channels), self.track.rate))

    @cached_property
    def frames(self) -> list[tuple[int, int]]:
        """Start and stop of every frame of a second, in samples."""
        track = self.track
        return [(frame.start, frame.stop) for frame in frame_slices(track.length, track.rate, track.rate)]

    @cached_property
    def gram(self) -> GramStatistics | None:
        """Statistics of the whole song, from the store where they are kept; None without references."""
        if self.track.references is None:
            return None
        # as the stages compute them: rounding may depend on the number of threads
        with few_threads(1):
            return GramStatistics.of(self.track)

    def document(self, **more: Any) -> dict[str, Any]:
        """All but the samples, as JSON: labels, blends, second moments of every frame, the mixture's waveform."""
        track, gram = self.track, self.gram
        return {
            "format": FORMAT,
            "name": self.name,
            "data": self.data,
            "rate": track.rate,
            "length": track.length,
            "longest": self.longest,
            "channels": list(channel_names(track.channels)),
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "separators": list(track.stems),
            "hasReferences": gram is not None,
            "frames": [list(frame) for frame in self.frames],
            "moments": None if gram is None else packed(gram.moments),
            "silent": [] if gram is None else gram.silent.tolist(),
            "blends": [_described(blend) for blend in self.blends],
            "refused": self.refused,
            "heard": [{"label": label, "sources": list(stems.sources)} for label, stems in self.heard.items()],
            "peaks": self._peaks(),
            **more,
        }

    def samples(self, start: int, stop: int) -> bytes:
        """Samples of all that `read` gives, channel after channel, as float32 of the low byte first.

        Raises
        ------
        AudioError
            The passage is not in the song, or longer than a page can hold; or samples are NaN.
        """
        self._check(start, stop)
        return np.concatenate(self.read(start, stop)).astype("<f4").tobytes()

    def weighted(self, start: int, stop: int) -> dict[str, Any]:
        """K-weighted second moments of the frames in a passage: the first of them, how many, and their values."""
        self._check(start, stop)
        chosen = [place for place, (first, last) in enumerate(self.frames) if first >= start and last <= stop]
        if not chosen:
            return {"first": 0, "count": 0, "moments": ""}
        frames = self.frames[chosen[0] : chosen[-1] + 1]
        moments = weighted_moments(self.read, frames, self.track.rate)
        return {"first": chosen[0], "count": len(frames), "moments": packed(moments)}

    def _check(self, start: int, stop: int) -> None:
        if not (0 <= start < stop <= self.track.length and stop - start <= self.longest):
            raise AudioError(
                f"{self.name}: got samples {start} to {stop}, expected a passage of at most {self.longest} of the "
                f"{self.track.length} samples"
            )

    def _peaks(self) -> str:
        """Peaks of the mixture as two hexadecimal digits each, the loudest ff."""
        edges = np.unique(np.linspace(0, self.track.length, PEAKS + 1).astype(int))
        peaks: list[float] = []
        step = max(1, len(edges) // 50)
        for first in range(0, len(edges) - 1, step):
            part = edges[first : first + step + 1]
            loud = np.abs(self.track.mixture.read(int(part[0]), int(part[-1]))).max(0)
            peaks += np.maximum.reduceat(loud, part[:-1] - part[0]).tolist()
        values = np.nan_to_num(np.array(peaks))
        shares: NDArray[np.float64] = values / max(float(values.max(initial=0)), 1e-9)
        return bytes((255 * shares).clip(0, 255).astype(np.uint8).tolist()).hex()


def song_labels(track: Track) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels of the input channels and of the output channels of a song; without references, of its stems' sources."""
    stems = in_order(source for given in track.stems.values() for source in given.sources)
    sources = stems if track.references is None else track.references.sources
    return input_labels(track), output_labels(tuple(sources), track.channels)


def packed(moments: NDArray[np.float64]) -> str:
    """The upper triangles of symmetric matrices (frame, channel, channel), row by row, as base64 of float64."""
    rows, columns = np.triu_indices(moments.shape[1])
    return base64.b64encode(np.ascontiguousarray(moments[:, rows, columns], "<f8").tobytes()).decode()


def _described(blend: Blend) -> dict[str, Any]:
    weights = blend.weights
    return {
        "label": blend.label,
        "group": blend.group,
        "kind": blend.kind,
        "starts": weights.starts_s.tolist(),
        "duration": weights.duration_s,
        "matrix": base64.b64encode(np.ascontiguousarray(weights.matrix, "<f4").tobytes()).decode(),
    }
