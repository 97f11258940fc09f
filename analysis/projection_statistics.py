"""Projection statistics: all four metrics of any constant blend, from small matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from stemfuse.separators import MIXTURE, ChannelLabel, Samples, Signal, Stems, Track, WeightsLike

from .bss_eval.arithmetic import Values, arithmetic_on
from .bss_eval.evaluation import Scores
from .bss_eval.framing import frame_slices, readable
from .bss_eval.projection import TAPS, Filters
from .bss_eval.rounding import project
from .errors import GramError
from .gram import GramStatistics
from .input_frames import frame_lengths


@dataclass(frozen=True, eq=False)
class ProjectionStatistics:
    """Per-frame second moments of the parts that BSS Eval splits every input into.

    The projections of BSS Eval are linear in the estimate: those of a blend are the blend of those of its inputs. With
    P_j the projection on the delayed channels of reference j and P that on all references, the moments of
    [s_j, P_j x], (P - P_j) x, P x and x - P x give ISR, SIR and SAR of any weights; SDR comes from the Gram statistics.

    Attributes
    ----------
    gram : GramStatistics
        Of the same inputs and frames.
    own : ndarray, shape (frame, source, channel + input, channel + input)
        Moments of the reference's channels and then of every input projected on that reference.
    interference : ndarray, shape (frame, source, input, input)
        Of every input's projection on all references without that on this one.
    every, artifacts : ndarray, shape (frame, input, input)
        Of every input's projection on all references, and of what it leaves.

    Notes
    -----
    With J sources, C channels and n inputs a frame takes 8 (J (C + n)^2 + J n^2 + 2 n^2) bytes: for four stereo sources
    57 kB with 26 inputs (the mixture and three separators of four stems), 14 MB for four minutes; 6 kB with the 8
    inputs that one source has from three separators and the mixture. So they are computed only when asked for.
    Values of nearly singular references are those of the Cholesky or rounded projection that `bss_eval` chooses.

    Examples
    --------
    >>> from stemfuse.blending import Mean
    >>> generator = np.random.default_rng(0)
    >>> references = generator.normal(0, 0.1, (4, 2, 44100))
    >>> stems = {"a": references + generator.normal(0, 0.02, references.shape), "b": 0.9 * references}
    >>> track = Track.from_arrays("song", references.sum(0), references, stems)
    >>> statistics = ProjectionStatistics.from_track(track, ["a", "b"])
    >>> statistics.scores(Mean().fit([track]).weights_).SIR.shape
    (4, 1)
    """

    gram: GramStatistics
    own: Values
    interference: Values
    every: Values
    artifacts: Values

    @classmethod
    def from_track(
        cls,
        track: Track,
        separators: Sequence[str] | None = None,
        mixture: bool = False,
        window: int | None = None,
        hop: int | None = None,
        workers: int | None = None,
    ) -> ProjectionStatistics:
        """Project every input of a track once.

        Parameters
        ----------
        track : Track
            With references and stems.
        separators : sequence of str, optional
            Whose stems are inputs; all of the track's when not given.
        mixture : bool
            Whether the mixture is an input too.
        window, hop : int
            Frame length and distance in samples; one second when not given.
        workers : int, optional
            Number of threads; one per core when not given.
        """
        window, hop = frame_lengths(track, window, hop)
        chosen = tuple(track.stems) if separators is None else tuple(separators)
        signals: dict[str, Signal] = {MIXTURE: track.mixture} if mixture else {}
        for separator in chosen:
            stems = track.stems[separator]
            signals |= {f"{separator}.{source}": stems[source] for source in stems.sources}
        if not signals:
            raise GramError(f"track {track.name!r}: no inputs, expected stems or the mixture")
        gram = GramStatistics.from_track(track, window, hop)
        labels = {label: ChannelLabel.parse(label).signal for label in gram.inputs}
        gram = gram.select([label for name in signals for label, signal in labels.items() if signal == name])
        references = readable(track.required_references(), "references")
        projection = project(references, slice(0, track.length), arithmetic_on("cpu", workers))
        # each signal is the estimate of every source, which gives its projection on every single reference
        repeated = (_repeated(signal, references.sources) for signal in signals.values())
        filters = list(projection.filters(repeated))
        size = scipy.fft.next_fast_len(min(window, track.length) + TAPS - 1, real=True)
        responses = [scipy.fft.rfft(taps, size, axis=1) for taps in _by_input(filters, track.channels)]
        parts = []
        for frame in frame_slices(track.length, window, hop):
            inputs = np.concatenate([signal.read(frame.start, frame.stop) for signal in signals.values()])
            parts.append(_moments(references.read(frame.start, frame.stop), inputs, responses, size))
        return cls(gram, *(np.stack(moments) for moments in zip(*parts, strict=True)))

    def scores(self, weights: WeightsLike) -> Scores:
        """All four metrics of a constant blend.

        Parameters
        ----------
        weights : MixingWeights
            Of one segment.

        Returns
        -------
        Scores
            ``(SDR, ISR, SIR, SAR)``, each (source, frame) in dB, as `bss_eval` gives them for the fused audio.
        """
        matrix = self.gram.matrices(weights)
        if len(matrix) > 1:
            raise GramError("got weights that vary in time, expected one segment; score the fused audio with bss_eval")
        sources, channels = len(self.gram.sources), len(self.gram.outputs) // len(self.gram.sources)
        blend = matrix[0].reshape(sources, channels, -1)
        # weights that subtract the reference, channel by channel
        spatial = np.concatenate([np.broadcast_to(-np.eye(channels), (sources, channels, channels)), blend], axis=2)
        truth = np.trace(self.own[:, :, :channels, :channels], axis1=2, axis2=3).T
        projected = _energy(self.own[:, :, channels:, channels:], blend)
        sdr = self.gram.sdr(weights)
        dropped = np.isnan(sdr).all(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            metrics = [
                _decibels(truth, _energy(self.own, spatial)),
                _decibels(projected, _energy(self.interference, blend)),
                _decibels(_energy(self.every[:, None], blend), _energy(self.artifacts[:, None], blend)),
            ]
        return Scores(sdr, *(np.where(dropped, np.nan, metric) for metric in metrics))


def _energy(moments: Values, weights: Values) -> Values:
    """Energy of a weighted sum, channels added up: (source, frame) for moments (frame, source or 1, input, input)."""
    halves = np.matmul(weights, moments)
    energy: Values = np.maximum((halves * weights).sum((2, 3)).T, 0)
    return energy


def _decibels(above: Values, below: Values) -> Values:
    return np.where(below == 0, np.inf, 10 * np.log10(above / below))


def _repeated(signal: Signal, sources: Sequence[str]) -> Any:
    """A signal as the estimate of every source."""

    def read(start: int, stop: int) -> Samples:
        samples = signal.read(start, stop)
        return np.broadcast_to(samples, (len(sources), *samples.shape))

    return Stems.lazy(read, sources, signal.channels, signal.length, signal.rate)


def _by_input(filters: Sequence[Filters], channels: int) -> list[Values]:
    """Taps (reference channel, tap, input) of the projection on all references, then on each single one."""
    firsts = range(0, filters[0].every.shape[2], channels)
    every = np.concatenate([found.every[:, :, :channels] for found in filters], axis=2)
    return [every, *(np.concatenate([found.own[:, :, k : k + channels] for found in filters], axis=2) for k in firsts)]


def _moments(
    references: Samples, inputs: Samples, responses: Sequence[NDArray[np.complex128]], size: int
) -> tuple[Values, Values, Values, Values]:
    """Moments of one frame by Parseval's theorem: own, interference, every, artifacts.

    As in museval, the frame is filtered as if the signal were zero around it, and the 511 samples after its end count.
    """
    weights = np.full(size // 2 + 1, 2 / size)
    weights[0] = 1 / size
    weights[-1] = 1 / size if size % 2 == 0 else 2 / size
    truth = scipy.fft.rfft(references.reshape(-1, references.shape[-1]).astype(np.float64), size) * np.sqrt(weights)
    mixed = scipy.fft.rfft(inputs.astype(np.float64), size) * np.sqrt(weights)
    every, *own = (np.einsum("rfn,rf->nf", response, truth) for response in responses)
    channels = references.shape[1]
    beside = [np.concatenate([truth[k * channels : (k + 1) * channels], part]) for k, part in enumerate(own)]
    return (
        np.stack([_gram(part) for part in beside]),
        np.stack([_gram(every - part) for part in own]),
        _gram(every),
        _gram(mixed - every),
    )


def _gram(spectra: NDArray[np.complex128]) -> Values:
    parts = np.concatenate([spectra.real, spectra.imag], axis=1)
    gram: Values = parts @ parts.T
    return gram
