"""Gram statistics: per-frame second moments of a track, from which the SDR of any linear blend follows exactly."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import MIXTURE as MIXTURE
from stemfuse.separators import Separator, StemStore, Track, digest
from stemfuse.separators.labels import ChannelLabel, WeightsLike, input_labels, output_labels

from .bss_eval.framing import frame_slices
from .errors import GramError
from .gram_files import SCHEMA, read_gram, write_gram
from .input_frames import frame_lengths, input_frames

log = logging.getLogger(__name__)

SILENCE = 1e-14
"""Share of the energy of its terms below which a sum over channels counts as silent: float64 cancels to 1e-16."""


@dataclass(frozen=True, eq=False)
class GramStatistics:
    """Per-frame second moments of a track's inputs and references.

    With z(t) the vector of all input channels and then all reference channels, each frame's moment is
    sum_t z(t) z(t)'. The SDR of any estimate y = W x is a ratio of quadratic forms in these. So audio is read once, and
    a candidate then costs a small matrix product. The value equals museval's (BSS Eval v4, images), whose
    SDR needs no distortion filters: 10 log10(sum s^2 / sum (s - y)^2).

    Attributes
    ----------
    track : str
        The track's name.
    inputs : tuple of str
        Labels of input channels: ``"mixture.left"``, ``"mdx.drums.right"``.
    outputs : tuple of str
        Labels of reference channels: ``"drums.left"``.
    moments : ndarray, shape (frame, input + output, input + output), float64
        The second moments.
    silent : ndarray, shape (frame,), bool
        Frames in which a reference is silent in museval's sense (its sum over channels is zero at every sample).
    window, hop, rate : int
        Frame length and distance in samples; sample rate in Hz.

    Notes
    -----
    A frame with n = 34 channels (mixture, three separators of four stems, four references; stereo) takes
    8 n^2 = 9 kB: 2.2 MB for four minutes, 111 MB for fifty such tracks.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> references = generator.normal(0, 0.1, (4, 2, 88200)).astype("float32")
    >>> track = Track.from_arrays("song", references.sum(0), references, {"a": references + 0.01})
    >>> gram = GramStatistics.from_track(track)
    >>> gram.moments.shape, gram.inputs[2]
    ((2, 18, 18), 'a.drums.left')
    """

    track: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    moments: NDArray[np.float64]
    silent: NDArray[np.bool_]
    window: int
    hop: int
    rate: int

    @classmethod
    def from_track(cls, track: Track, window: int | None = None, hop: int | None = None) -> GramStatistics:
        """Read a track with stems and references once, frame by frame.

        Parameters
        ----------
        track : Track
            With references, and stems by the separators to blend.
        window, hop : int
            Frame length and distance in samples; one second when not given.

        Raises
        ------
        TrackError
            The track has no references.
        """
        window, hop = frame_lengths(track, window, hop)
        references = track.required_references()
        inputs, outputs = input_labels(track), output_labels(references.sources, track.channels)
        count = len(frame_slices(track.length, window, hop))
        moments = np.empty((count, len(inputs) + len(outputs), len(inputs) + len(outputs)))
        silent = np.empty(count, bool)
        for index, samples in enumerate(input_frames(track, window, hop)):
            exact = samples.astype(np.float64)
            moments[index] = exact @ exact.T
            sums = samples[len(inputs) :].reshape(len(references.sources), track.channels, -1).sum(1)
            silent[index] = bool((sums == 0).all(1).any())
        return cls(track.name, inputs, outputs, moments, silent, window, hop, track.rate)

    @classmethod
    def from_store(
        cls,
        store: StemStore,
        track: Track,
        separators: Mapping[str, Separator | str],
        window: int | None = None,
        hop: int | None = None,
    ) -> GramStatistics:
        """Statistics of stems in a store, kept there so that no audio is read a second time.

        They lie in ``STORE/.gram/<subset>/<track>/gram-<identity>.npz``. The identity covers the content of mixture,
        references and stems, and the frames. A damaged file, or one of another identity, is computed again.

        Parameters
        ----------
        store : StemStore
            Where the stems are.
        track : Track
            With references.
        separators : mapping of str to Separator or str
            By the name in the labels; see `StemStore.attach`.
        window, hop : int
            Frame length and distance in samples; one second when not given.
        """
        window, hop = frame_lengths(track, window, hop)
        track.required_references()
        attached = store.attach(track, separators)
        return cls._kept(store, attached, separators, window, hop, lambda: cls.from_track(attached, window, hop))

    @classmethod
    def _kept(
        cls,
        store: StemStore,
        track: Track,
        separators: Mapping[str, Separator | str],
        window: int,
        hop: int,
        make: Callable[[], GramStatistics],
    ) -> GramStatistics:
        """Statistics of a track with stems of a store: those that are kept there, else made and kept."""
        sums = {label: where.sums for label, where in track.stored.items() if where.sums}
        given = {"schema": SCHEMA, "content": store.content(track, separators), "frames": [window, hop]}
        # stems that are sums of those in the store are inputs of their own
        identity = digest(given | {"sums": sums} if sums else given)
        path = store.root / ".gram" / track.subset / track.name / f"gram-{identity[:16]}.npz"
        if path.is_file():
            try:
                return cls.load(path, identity)
            except GramError as error:
                log.warning("%s: computed again", error)
        gram = make()
        try:
            gram.save(path, identity)
        except GramError as error:
            log.warning("%s; the audio will be read again", error)
        return gram

    @classmethod
    def of(
        cls, track: Track, window: int | None = None, hop: int | None = None, whole: Track | None = None
    ) -> GramStatistics:
        """Statistics of a track, from the store that its stems lie in, else kept as long as the track lives.

        Parameters
        ----------
        track : Track
            With references and stems; see `StemStore.attach`.
        window, hop : int
            Frame length and distance in samples; one second when not given.
        whole : Track, optional
            The same track with more stems: its statistics hold these too, and no audio is read again.
        """
        window, hop = frame_lengths(track, window, hop)

        def make() -> GramStatistics:
            if whole is None:
                return cls.from_track(track, window, hop)
            return cls.of(whole, window, hop).select(input_labels(track))

        roots = {where.root for where in track.stored.values()}
        if track.stems and len(roots) == 1 and track.stored.keys() == track.stems.keys():
            keys = {label: track.stored[label].key for label in track.stems}
            return cls._kept(StemStore(roots.pop()), track, keys, window, hop, make)
        kept = _KEPT.setdefault(track, {})
        if (window, hop) not in kept:
            kept[window, hop] = make()
        return kept[window, hop]

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Sources of the references, in order."""
        return tuple(dict.fromkeys(ChannelLabel.parse(label).signal for label in self.outputs))

    @property
    def input_moments(self) -> NDArray[np.float64]:
        """Sums of x x' per frame, (frame, input, input)."""
        count = len(self.inputs)
        return self.moments[:, :count, :count]

    @property
    def cross_moments(self) -> NDArray[np.float64]:
        """Sums of s x' per frame, (frame, output, input)."""
        count = len(self.inputs)
        return self.moments[:, count:, :count]

    @property
    def reference_energies(self) -> NDArray[np.float64]:
        """Sums of s^2 per frame and output channel, (frame, output)."""
        count = len(self.inputs)
        return np.diagonal(self.moments, axis1=1, axis2=2)[:, count:]

    def select(self, inputs: Sequence[str]) -> GramStatistics:
        """The same statistics for some inputs, in this order; stems of a source that is not in the song are silent."""
        missing = [label for label in inputs if self._lacks(label)]
        if missing:
            raise GramError(
                f"track {self.track!r}: the statistics have no input {missing[0]!r}; expected some of "
                f"{', '.join(self.inputs)}"
            )
        known = [place for place, label in enumerate(inputs) if label in self.inputs]
        rows = [self.inputs.index(inputs[place]) for place in known]
        rows += range(len(self.inputs), self.moments.shape[1])
        moments = self.moments[:, rows][:, :, rows]
        if len(known) < len(inputs):
            size = len(inputs) + len(self.outputs)
            places = [*known, *range(len(inputs), size)]
            moments, found = np.zeros((len(moments), size, size)), moments
            moments[:, np.array(places)[:, None], places] = found
        return replace(self, inputs=tuple(inputs), moments=moments)

    def matrices(self, weights: WeightsLike) -> NDArray[np.float64]:
        """Weights of every frame for these inputs and outputs, (frame, output, input), or (1, output, input).

        Raises
        ------
        GramError
            A weight belongs to a missing input of a source that the track has, or a segment does not start on a
            frame's border.
        """
        given = np.asarray(weights.matrix, np.float64)
        # weights of sources that this track does not have need no inputs
        used = given[:, [row for row, label in enumerate(weights.outputs) if label in self.outputs]]
        for column, label in enumerate(weights.inputs):
            if self._lacks(label) and used[:, :, column].any():
                raise GramError(f"track {self.track!r}: the statistics have no input {label!r}")
        columns = [index for index, label in enumerate(weights.inputs) if label in self.inputs]
        matrix = np.zeros((len(given), len(self.outputs), len(self.inputs)))
        for row, label in enumerate(weights.outputs):
            if label in self.outputs:
                places = [self.inputs.index(weights.inputs[column]) for column in columns]
                matrix[:, self.outputs.index(label), places] = given[:, row, columns]
        if len(matrix) == 1:
            return matrix
        starts = np.arange(len(self.moments)) * self.hop / self.rate
        segments = np.searchsorted(weights.starts_s, starts + 0.5 / self.rate, side="right") - 1
        ends = np.append(weights.starts_s[1:], np.inf)[segments]
        if weights.duration_s is not None or (ends < starts + (self.window - 0.5) / self.rate).any():
            raise GramError(
                f"track {self.track!r}: segments must start on the borders of frames of {self.window} samples "
                "and must not overlap; score the fused audio with bss_eval instead"
            )
        return matrix[segments]

    def _lacks(self, label: str) -> bool:
        """Whether an input is missing; stems of a source that is not in the song are silent."""
        parsed = ChannelLabel.parse(label)
        return label not in self.inputs and (not parsed.is_stem or parsed.source in self.sources)

    def errors(self, matrix: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sums of (s - y)^2 per frame and output channel, (frame, output), of weights (frame or 1, output, input)."""
        slope = np.matmul(matrix, self.input_moments) - 2 * self.cross_moments
        errors: NDArray[np.float64] = (slope * matrix).sum(2) + self.reference_energies
        return np.maximum(errors, 0)

    def sdr(self, weights: WeightsLike) -> NDArray[np.float64]:
        """Exact SDR of a blend.

        Parameters
        ----------
        weights : MixingWeights
            Constant, or per segment when all segments start on frame borders. A source without weights is a silent
            estimate.

        Returns
        -------
        ndarray, shape (source, frame)
            In dB; NaN for all sources where any reference or estimate is silent, inf for a perfect estimate. Sources
            that the weights do not give are NaN, and their references do not count, as in `bss_eval` without them.
        """
        given, matrix = self._given(weights), self.matrices(weights)
        if len(given) < len(self.sources):
            partial = np.full((len(self.sources), len(self.moments)), np.nan)
            if given:
                partial[[self.sources.index(source) for source in given]] = self.of_sources(given).sdr(weights)
            return partial
        shape = (len(self.moments), len(self.sources), -1)
        energies = self.reference_energies.reshape(shape).sum(2)
        errors = self.errors(matrix).reshape(shape).sum(2)
        with np.errstate(divide="ignore", invalid="ignore"):
            values: NDArray[np.float64] = 10 * np.log10(energies / errors).T
        values[:, self.dropped(matrix)] = np.nan
        return values

    def _given(self, weights: WeightsLike) -> tuple[str, ...]:
        """Sources of the references that weights have outputs for."""
        outputs = {ChannelLabel.parse(label).signal for label in weights.outputs}
        return tuple(source for source in self.sources if source in outputs)

    def of_sources(self, sources: Sequence[str]) -> GramStatistics:
        """The same statistics with the references of some sources only, in this order.

        Examples
        --------
        >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44100))
        >>> gram = GramStatistics.from_track(Track.from_arrays("song", noise.sum(0), noise))
        >>> gram.of_sources(["vocals"]).outputs
        ('vocals.left', 'vocals.right')
        """
        if tuple(sources) == self.sources:
            return self
        labels = [ChannelLabel.parse(label).signal for label in self.outputs]
        chosen = [index for source in sources for index, signal in enumerate(labels) if signal == source]
        rows = [*range(len(self.inputs)), *(len(self.inputs) + index for index in chosen)]
        outputs = tuple(self.outputs[index] for index in chosen)
        return replace(
            self,
            outputs=outputs,
            moments=self.moments[:, rows][:, :, rows],
            silent=np.asarray(self.silent_sources(sources).any(1)),
        )

    def silent_sources(self, sources: Sequence[str] | None = None) -> NDArray[np.bool_]:
        """Where each source's reference is silent, (frame, source): its sum over channels is zero up to `SILENCE`."""
        labels = [ChannelLabel.parse(label).signal for label in self.outputs]
        found = []
        for source in self.sources if sources is None else sources:
            rows = [len(self.inputs) + index for index, signal in enumerate(labels) if signal == source]
            products = self.moments[:, rows][:, :, rows]
            found.append(products.sum((1, 2)) <= SILENCE * np.trace(products, axis1=1, axis2=2))
        return np.stack(found, axis=1)

    def dropped(self, matrix: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Frames in which any reference or estimate is silent, (frame,), for weights (frame or 1, output, input).

        An estimate is silent when the sum over its channels is: a quadratic form, zero up to `SILENCE`.
        """
        channels = len(self.outputs) // len(self.sources)
        summed = matrix.reshape(len(matrix), len(self.sources), channels, -1).sum(2)
        energy = (np.matmul(summed, self.input_moments) * summed).sum(2)
        diagonal = np.diagonal(self.input_moments, axis1=1, axis2=2)
        terms = np.matmul(np.square(matrix), diagonal[:, :, None])[:, :, 0]
        bound = SILENCE * terms.reshape(len(diagonal), len(self.sources), channels).sum(2)
        silent: NDArray[np.bool_] = self.silent | (energy <= bound).any(1)
        return silent

    def sdr_gradient(self, weights: WeightsLike) -> NDArray[np.float64]:
        """Gradient of every frame's SDR with respect to its source's weights.

        Returns
        -------
        ndarray, shape (frame, output, input)
            d SDR / d W in dB: -20 / ln 10 (W G - C) / sum (s - y)^2, G and C the input and cross moments.
        """
        matrix = self.matrices(weights)
        shape = (len(self.moments), len(self.sources), -1)
        errors = self.errors(matrix).reshape(shape).sum(2)
        slope = np.matmul(matrix, self.input_moments) - self.cross_moments
        channels = len(self.outputs) // len(self.sources)
        gradient: NDArray[np.float64] = -20 / np.log(10) * slope / np.repeat(errors, channels, axis=1)[:, :, None]
        return gradient

    def save(self, path: str | os.PathLike[str], identity: str = "") -> None:
        """Write one ``.npz``, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file; its folder is made when missing.
        identity : str
            What the statistics were computed from; `load` compares it.

        Raises
        ------
        GramError
            The file cannot be written.
        """
        write_gram(path, {field.name: vars(self)[field.name] for field in fields(self)}, identity)

    @classmethod
    def load(cls, path: str | os.PathLike[str], identity: str | None = None) -> GramStatistics:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.
        identity : str, optional
            What the statistics have to be computed from.

        Raises
        ------
        GramError
            The file is missing, damaged, of another schema or of another identity.
        """
        return cls(**read_gram(path, identity))


_KEPT: WeakKeyDictionary[Track, dict[tuple[int, int], GramStatistics]] = WeakKeyDictionary()
