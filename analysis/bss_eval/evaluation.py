"""BSS Eval v4 and v3 for images, with museval's values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from stemfuse.separators import AudioError, StemfuseError

from .arithmetic import Values, arithmetic_on
from .decomposition import Energies, frame_energies
from .framing import Audio, SourceAudio, check_pair, frame_slices, raise_not_finite, readable
from .museval import import_museval
from .projection import Projection
from .rounding import project

Mode = Literal["v4", "v3"]
Backend = Literal["fast", "museval"]


class Scores(NamedTuple):
    """The four metrics in dB, each (source, frame) in float64; NaN where a frame does not count."""

    SDR: Values
    ISR: Values
    SIR: Values
    SAR: Values


def bss_eval(
    references: Audio,
    estimates: Audio,
    window: float = 44_100,
    hop: float = 44_100,
    mode: Mode = "v4",
    backend: Backend = "fast",
    *,
    workers: int | None = None,
    device: str = "cpu",
) -> Scores:
    """Separation quality of estimates in decibels, as ``museval.evaluate`` defines it.

    Parameters
    ----------
    references, estimates : array_like, shape (source, time, channel), or Stems
        The true sources and a separator's estimates of them. Stems are read by time range, so that memory does not
        grow with their length.
    window, hop : float
        Length and distance of the frames in samples, 1 s at 44 100 Hz unless given; ``window=np.inf`` is one frame.
    mode : {"v4", "v3"}
        Distortion filters found once on the whole signal (BSS Eval v4), or again in every frame (v3).
    backend : {"fast", "museval"}
        This package's engine, or museval itself.
    workers : int, optional
        Threads of the fast engine; as many as there are cores when not given. Give 1 inside a pool of processes.
    device : str
        Where the fast engine works: ``"cpu"``, or ``"cuda"`` with torch on a GPU.

    Returns
    -------
    Scores
        ``(SDR, ISR, SIR, SAR)``, each (source, frame) float64. All are NaN in a frame in which any reference or
        estimate is silent, that is, its sum over channels is zero at every sample. A metric is infinite when what it
        divides by is zero.

    Raises
    ------
    AudioError
        The two do not have the same sources, length and channels, a sample is NaN or infinite, or a window or hop is
        under one sample.
    DeviceError
        There is no such device.

    See Also
    --------
    ReferenceProjection : scores several estimates of the same references without repeating the work on these.

    Notes
    -----
    The fast engine agrees with museval 0.4.1 to 1e-6 dB, with these exceptions, each tested:

    * a source that is silent throughout gives NaN in all frames, where museval raises (both backends);
    * values above some 120 dB are rounding errors in both (an estimate equal to its reference, or shorter than its
      filters): the fast SDR is then infinite;
    * references that are singular to float64 in signals over 95 s: a warning, see
      `stemfuse.analysis.bss_eval.rounding.project`.

    References
    ----------
    E. Vincent, R. Gribonval, C. Fevotte, "Performance measurement in blind audio source separation", IEEE Trans. Audio,
    Speech, Language Process. 14(4), 2006. F.-R. Stoeter, A. Liutkus, N. Ito, "The 2018 signal separation evaluation
    campaign", LVA/ICA 2018: v4.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> references = generator.normal(0, 0.1, (2, 88200, 2))
    >>> scores = bss_eval(references, references + generator.normal(0, 0.01, references.shape))
    >>> scores.SDR.shape, scores.SDR.round()
    ((2, 2), array([[20., 20.], [20., 20.]]))
    """
    if backend == "fast":
        return ReferenceProjection(references, window, hop, mode, workers=workers, device=device).evaluate(estimates)
    if backend == "museval":
        return _museval(readable(references, "references"), readable(estimates, "estimates"), window, hop, mode)
    raise StemfuseError(f"got backend {backend!r}, expected one of {', '.join(get_args(Backend))}")


class ReferenceProjection:
    """The references of a track, ready to score any number of estimates.

    The work on references is done once: correlations up to 511 samples, of the track and of every frame, and the
    Cholesky factors of the normal equations. For four stereo sources the factors take 84 MB and the correlations
    0.26 MB a frame. Frames beyond the 512th are filtered one by one instead, which takes about twice as long. With
    ``mode="v3"`` every frame has factors of its own, which are too large to keep: each call computes them again.

    Parameters
    ----------
    references, window, hop, mode, workers, device
        See `bss_eval`.

    Raises
    ------
    AudioError, DeviceError
        See `bss_eval`.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> references = generator.normal(0, 0.1, (2, 88200, 2))
    >>> truth = ReferenceProjection(references)
    >>> for noise in 0.1, 0.01:
    ...     print(np.median(truth.evaluate(references + generator.normal(0, noise, references.shape)).SAR).round())
    0.0
    20.0
    """

    def __init__(
        self,
        references: Audio,
        window: float = 44_100,
        hop: float = 44_100,
        mode: Mode = "v4",
        *,
        workers: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._references = readable(references, "references")
        self._mode = _checked(mode)
        self.frames = frame_slices(self._references.length, window, hop)
        self._arithmetic = arithmetic_on(device, workers)
        self._projection: Projection | None = None
        if mode == "v4":
            span = slice(0, self._references.length)
            self._projection = project(self._references, span, self._arithmetic, self.frames)

    def evaluate(self, estimates: Audio) -> Scores:
        """Score estimates of all sources.

        Parameters
        ----------
        estimates : array_like, shape (source, time, channel), or Stems
            Of the references' sources, length and channels.

        Returns
        -------
        Scores
            See `bss_eval`.

        Raises
        ------
        AudioError
            See `bss_eval`.
        """
        return next(self.evaluate_all([estimates]))

    def evaluate_all(self, estimates: Iterable[Audio]) -> Iterator[Scores]:
        """Score several estimates; for references that are singular to float64 this is cheaper than one by one.

        Parameters
        ----------
        estimates : iterable
            Each as in `evaluate`.

        Yields
        ------
        Scores
            Of one estimate after the other.

        Raises
        ------
        AudioError
            See `bss_eval`.
        """
        audios = [readable(audio, "estimates") for audio in estimates]
        for audio in audios:
            check_pair(self._references, audio)
        if self._projection is not None:
            for audio, filters in zip(audios, self._projection.filters(audios), strict=True):
                yield _ratios([frame_energies(self._references, audio, filters, self.frames, self._arithmetic)])
            return
        parts: list[list[Energies]] = [[] for _ in audios]
        for frame in self.frames:
            found = project(self._references, frame, self._arithmetic, [frame]).filters(audios)
            for audio, filters, energies in zip(audios, found, parts, strict=True):
                energies.append(frame_energies(self._references, audio, filters, [frame], self._arithmetic))
        yield from map(_ratios, parts)


def _ratios(parts: list[Energies]) -> Scores:
    """The four metrics: ten times the logarithm of a wanted energy over an unwanted one."""
    energies = Energies(*(np.concatenate(values, axis=-1) for values in zip(*parts, strict=True)))
    pairs = (
        (energies.reference, energies.distortion),
        (energies.reference, energies.spatial),
        (energies.own, energies.interference),
        (energies.every, energies.artifacts),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        metrics = [np.where(below == 0, np.inf, 10 * np.log10(above / below)) for above, below in pairs]
    return Scores(*(np.where(energies.silent, np.nan, metric) for metric in metrics))


def _museval(references: SourceAudio, estimates: SourceAudio, window: float, hop: float, mode: Mode) -> Scores:
    """The same by museval; sources that are silent throughout and bad input follow this package's rules."""
    check_pair(references, estimates)
    frames = frame_slices(references.length, window, hop)
    pair = [audio.read(0, audio.length).swapaxes(1, 2) for audio in (references, estimates)]
    for audio, waves, role in zip((references, estimates), pair, ("references", "estimates"), strict=True):
        if not np.isfinite(waves).all():
            raise_not_finite(audio, role)
    if any((waves.sum(axis=2) == 0).all(axis=1).any() for waves in pair):
        return Scores(*np.full((4, len(references.sources), len(frames)), np.nan))
    try:
        return Scores(*import_museval().evaluate(*pair, win=window, hop=hop, mode=_checked(mode), padding=False))
    except AttributeError as error:
        # museval 0.4.1 names np.linalg.linalg.LinAlgError, which is gone from NumPy 2
        raise AudioError(
            "museval cannot solve for these references, which are singular; take --backend fast"
        ) from error


def _checked(mode: Any) -> Mode:
    if mode not in get_args(Mode):
        raise StemfuseError(f"got mode {mode!r}, expected one of {', '.join(get_args(Mode))}")
    return mode  # type: ignore[no-any-return]
