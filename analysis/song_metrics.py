"""Metrics of whole songs beside BSS Eval: SI-SDR, bleedless and fullness, the L1 distance of spectra."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import Literal, cast

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stemfuse.separators import RATE, Stems

from .bss_eval.framing import Audio, SourceAudio, Waves, check_pair, raise_not_finite, readable
from .errors import ScoreError

Values = NDArray[np.float64]
Measure = Callable[[Waves, Waves, int], tuple[float, ...]]

MEL_FFT, MEL_HOP, MEL_BANDS = 4096, 1024, 512
"""Window, hop and bands of the mel spectra of `bleedless_fullness`."""

FLOOR = 1e-10
"""Magnitude below which a mel band counts as silent: -200 dB."""

RANGE_DB = 80.0
"""How far a mel level may lie below the signal's loudest one; lower ones are raised to this."""

L1_FFT, L1_HOP = 2048, 1024
"""Window and hop of the spectra of `l1_frequency`."""

BATCH = 256
"""STFT frames computed at a time: 17 MB at 4096 samples each."""


def si_sdr(reference: Waves, estimate: Waves) -> float:
    """Scale-invariant signal-to-distortion ratio of one source: the SDR of an estimate whose level does not matter.

    With <.,.> the sum over channels and time, and a = <y, s> / <s, s> the least-squares gain of the reference s
    in the estimate y, SI-SDR = ``10 log10(|a s|^2 / |a s - y|^2)`` [1]_. No mean is subtracted. One gain holds
    for all channels, so a wrong balance of left and right counts as distortion.

    Parameters
    ----------
    reference, estimate : ndarray, shape (channel, time)
        Audio of one length and channel count, finite.

    Returns
    -------
    float
        In dB, higher is better. NaN when either is silent, inf for a multiple of the reference (about 300 where
        rounding shows), -inf for an estimate without any of it.

    References
    ----------
    .. [1] J. Le Roux, S. Wisdom, H. Erdogan, J. R. Hershey, "SDR: half-baked or well done?", ICASSP 2019.

    Examples
    --------
    >>> reference, noise = np.array([[1.0, 1.0, 1.0, 1.0]]), np.array([[0.1, -0.1, 0.1, -0.1]])
    >>> round(si_sdr(reference, 0.5 * (reference + noise)), 6)
    20.0
    """
    energy = _inner(reference, reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = _inner(reference, estimate) / energy
        # the error from its samples: from sums of squares it would cancel where the estimate is good
        error = np.multiply(reference, gain, dtype=np.float64)
        error -= estimate
        return float(10 * np.log10(gain**2 * energy / _inner(error, error)))


def _inner(first: Waves, second: Waves) -> np.float64:
    """Sum of products over channels and time."""
    return np.float64(np.einsum("ct,ct->", first, second, dtype=np.float64))


def bleedless_fullness(reference: Waves, estimate: Waves, rate: int = RATE) -> tuple[float, float]:
    """How free of additions (bleedless) and of losses (fullness) an estimate of one source is, on a scale to 100.

    A pair of metrics by jarredou [1]_, computed as the toolkit Music-Source-Separation-Training does [2]_. A level is
    L = 20 log10(max(m, 1e-10)) in dB. Its m is the magnitude of a centred short-time Fourier transform (periodic Hann
    window of 4096 samples, hop 1024, zeros beyond the ends) summed into 512 mel bands (Slaney's scale and area norm,
    0 Hz to half the rate). Levels more than 80 dB below the signal's loudest one (of all channels, bands and STFT
    frames) are raised to that limit. With D = L(estimate) - L(reference) for every channel, band and STFT frame,

        bleedless = 100 / (1 + mean of D where D > 0),    fullness = 100 / (1 + mean of -D where D < 0),

    where a mean over nothing is 0. Phase has no influence, but level has: an estimate that is 1 dB louder throughout
    has bleedless 50. Where both signals pause, D is the difference of their loudest levels.

    Parameters
    ----------
    reference, estimate : ndarray, shape (channel, time)
        Audio of one length and channel count, finite, full scale 1.
    rate : int
        Sample rate in Hz. Published values are of 44.1 kHz.

    Returns
    -------
    bleedless, fullness : float
        Above 0 up to 100, higher is better; both are 100 for identical signals, silent ones too. For a silent
        reference bleedless falls to about 1, as fullness does for a silent estimate; the other one is 100.

    References
    ----------
    .. [1] https://github.com/csteinmetz1/auraloss/issues/79 (2024)
    .. [2] https://github.com/ZFTurbo/Music-Source-Separation-Training, ``utils/metrics.py``

    Examples
    --------
    >>> reference = np.random.default_rng(0).normal(0, 0.1, (2, 44100))
    >>> np.round(bleedless_fullness(reference, 10 ** (4 / 20) * reference), 6)
    array([ 20., 100.])
    """
    excess = _mel_levels_db(estimate, rate)
    excess -= _mel_levels_db(reference, rate)
    above, below = excess > 0, excess < 0
    too_much = excess.sum(where=above) / max(above.sum(), 1)
    too_little = -excess.sum(where=below) / max(below.sum(), 1)
    return float(100 / (1 + too_much)), float(100 / (1 + too_little))


@cache
def _mel_bands(rate: int) -> scipy.sparse.csr_array[np.float64]:
    """Weights of the mel bands, (band, bin), sparse since a bin lies in two bands at most.

    Triangles of equal area on Slaney's scale (Auditory Toolbox, 1998), as in librosa, which the tests compare with: it
    would bring a compiler and a learning library for these lines.
    """
    edges = _hertz(np.linspace(0, _mel(rate / 2), MEL_BANDS + 2))
    low, centre, high = (edges[first : first + MEL_BANDS, None] for first in range(3))
    bins = np.arange(MEL_FFT // 2 + 1) * rate / MEL_FFT
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return scipy.sparse.csr_array(np.maximum(triangles, 0) * 2 / (high - low))


def _mel(hertz: float) -> float:
    """Slaney's scale: 200/3 Hz a step up to 1 kHz, from there 27 steps for a factor of 6.4."""
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000, 6.4)


def _hertz(mels: Values) -> Values:
    return cast("Values", np.where(mels < 15, 200 * mels / 3, 1000 * 6.4 ** ((mels - 15) / 27)))


def _mel_levels_db(audio: Waves, rate: int) -> Values:
    """Levels of audio (channel, time) in dB, (channel, band, STFT frame)."""
    levels = np.empty((len(audio), MEL_BANDS, 1 + audio.shape[1] // MEL_HOP))
    bands, window = _mel_bands(rate), np.hanning(MEL_FFT + 1)[:-1]
    for channel, samples in enumerate(audio):
        for batch, magnitudes in _spectra(samples, window, MEL_HOP, "constant"):
            levels[channel, :, batch] = cast("Values", bands @ magnitudes.T)
    # in place: a song's levels take 80 MB
    np.log10(np.maximum(levels, FLOOR, out=levels), out=levels)
    levels *= 20
    np.maximum(levels, levels.max() - RANGE_DB, out=levels)
    return levels


def l1_frequency(reference: Waves, estimate: Waves) -> float:
    """Distance of the magnitude spectra of one source, on a scale to 100.

    100 / (1 + 10 d), where d is the mean over channels, bins and STFT frames of the absolute difference of magnitudes:
    the metric ``l1_freq`` of Music-Source-Separation-Training [1]_. The STFT has a rectangular window of 2048 samples,
    hop 1024, centred, and the signal is reflected at its ends. The metric depends on level: a quiet source scores high
    whatever the estimate.

    Parameters
    ----------
    reference, estimate : ndarray, shape (channel, time)
        Audio of one length and channel count, finite, full scale 1.

    Returns
    -------
    float
        Above 0 up to 100, higher is better; 100 for equal magnitudes, silence too.

    References
    ----------
    .. [1] https://github.com/ZFTurbo/Music-Source-Separation-Training, ``utils/metrics.py``

    Examples
    --------
    >>> click = np.zeros((1, 4096))
    >>> click[0, 2048] = 0.1  # lies in two of five STFT frames, with magnitude 0.1 in every bin
    >>> round(l1_frequency(click, 0 * click), 6)
    71.428571
    """
    total, count = 0.0, 0
    for channels in zip(reference, estimate, strict=True):
        spectra = (_spectra(samples, np.ones(L1_FFT), L1_HOP, "reflect") for samples in channels)
        for (_, true), (_, estimated) in zip(*spectra, strict=True):
            total += float(np.abs(estimated - true).sum())
            count += true.size
    return 100 / (1 + 10 * total / count)


def _spectra(
    samples: Waves, window: Values, hop: int, padding: Literal["constant", "reflect"]
) -> Iterator[tuple[slice, Values]]:
    """Magnitudes (STFT frame, bin) of samples (time,), a batch at a time; STFT frame k is centred at sample k hop."""
    padded = np.pad(samples, len(window) // 2, mode=padding)
    windows = sliding_window_view(padded, len(window))[::hop]
    for start in range(0, len(windows), BATCH):
        batch = slice(start, min(start + BATCH, len(windows)))
        yield batch, np.abs(scipy.fft.rfft(windows[batch] * window, axis=1))


_MEASURES: dict[tuple[str, ...], Measure] = {
    ("SI_SDR",): lambda reference, estimate, rate: (si_sdr(reference, estimate),),
    ("bleedless", "fullness"): bleedless_fullness,
    ("L1_frequency",): lambda reference, estimate, rate: (l1_frequency(reference, estimate),),
}
"""Functions of a source's reference, estimate and rate, by the names of what they give together."""

SONG_METRICS = tuple(name for names in _MEASURES for name in names)
"""Names of the metrics of `song_metrics`: one value per song and source, higher is better."""


def song_metrics(
    references: Audio, estimates: Audio, rate: int | None = None, metrics: Collection[str] = SONG_METRICS
) -> dict[str, Values]:
    """Compute whole-song metrics by name, source by source; those that share work are computed together.

    Parameters
    ----------
    references, estimates : array_like, shape (source, time, channel), or Stems
        The true sources and estimates of them, full scale 1, from one sample on; stems are read one source at a time.
    rate : int, optional
        Sample rate in Hz; when not given that of the references when they are stems, else 44.1 kHz.
    metrics : collection of str
        Some of `SONG_METRICS`: ``"SI_SDR"`` in dB (see `si_sdr`); ``"bleedless"`` and ``"fullness"``
        (`bleedless_fullness`) and ``"L1_frequency"`` (`l1_frequency`) on a scale to 100.

    Returns
    -------
    dict of str to ndarray, shape (source,), float64
        In the order of ``metrics``; higher is better. In a score table these are values of frame `WHOLE_SONG`.

    Raises
    ------
    ScoreError
        There is no metric of this name.
    AudioError
        References and estimates differ in sources, length or channels; there is no sample, or one is not finite.

    Notes
    -----
    Beside the audio four minutes of stereo take 250 MB.

    Examples
    --------
    >>> references = np.random.default_rng(0).normal(0, 0.1, (2, 4410, 2))
    >>> song_metrics(references, references, metrics=["fullness", "SI_SDR"])
    {'fullness': array([100., 100.]), 'SI_SDR': array([inf, inf])}
    """
    unknown = [name for name in metrics if name not in SONG_METRICS]
    if unknown:
        raise ScoreError(f"got metric {unknown[0]!r}, expected some of {', '.join(SONG_METRICS)}")
    if rate is None:
        rate = references.rate if isinstance(references, Stems) else RATE
    wanted = {names: measure for names, measure in _MEASURES.items() if set(names) & set(metrics)}
    values: dict[str, list[float]] = {name: [] for names in wanted for name in names}
    for reference, estimate in _by_source(references, estimates):
        for names, measure in wanted.items():
            for name, value in zip(names, measure(reference, estimate, rate), strict=True):
                values[name].append(value)
    return {name: np.array(values[name]) for name in metrics}


def _by_source(references: Audio, estimates: Audio) -> Iterator[tuple[Waves, Waves]]:
    """Reference and estimate, (channel, time), of one source after the other."""
    roles = {"references": readable(references, "references"), "estimates": readable(estimates, "estimates")}
    check_pair(*roles.values())
    for source in range(len(roles["references"].sources)):
        reference, estimate = (_read_source(audio, source, role) for role, audio in roles.items())
        yield reference, estimate


def _read_source(audio: SourceAudio, source: int, role: str) -> Waves:
    name = audio.sources[source]
    waves: Waves = audio[name].read() if isinstance(audio, Stems) else audio.read(0, audio.length)[source]
    if not np.isfinite(_inner(waves, waves)):
        raise_not_finite(audio, role)
    return waves
