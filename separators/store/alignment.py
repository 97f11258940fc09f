"""How stems are aligned with the mixture that they were separated from: offset, gain, polarity, problems."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.audio.signals import Samples, Signal
from stemfuse.separators.sources import missing_sources
from stemfuse.separators.stems import Stems
from stemfuse.separators.track import FittedSignal, Track, fit_length

BLOCK_S = 10
"""Seconds that are read at a time; the offset is measured in one such block."""


@dataclass(frozen=True)
class Alignment:
    """How the stems of a track are aligned with its mixture; ``str()`` puts it in words.

    Attributes
    ----------
    offset : int or None
        Samples by which the stems are late (negative: early); None where it cannot be measured.
    correlation : float
        Of the stems' sum with the mixture at this offset, over the whole song.
    gain_db, residual_db : float or None
        Level of the stems' sum relative to the mixture, and level of what the sum leaves of the mixture; None where a
        source is missing.
    problems, warnings : tuple of str
        Reasons to refuse the stems, besides an offset; and what is only worth knowing.
    """

    track: str
    sources: tuple[str, ...]
    offset: int | None
    correlation: float
    gain_db: float | None
    residual_db: float | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        offset = "unknown" if self.offset is None else f"{self.offset:+d}" if self.offset else "0"
        # adding 0 makes -0.00 +0.00
        gain = "" if self.gain_db is None else f", gain {round(self.gain_db, 2) + 0:+.2f} dB"
        level = gain if self.residual_db is None else f"{gain}, residual {self.residual_db:.1f} dB"
        lines = [f"{self.track}: {', '.join(self.sources)}; offset {offset}{level}"]
        lines += [f"  problem: {problem}" for problem in self.problems]
        return "\n".join(lines + [f"  warning: {warning}" for warning in self.warnings])


def check_alignment(
    stems: Stems | Mapping[str, Signal], track: Track, search_s: float = 1.0, gain_limit_db: float = 6.0
) -> Alignment:
    """Measure how stems are aligned with the mixture that they were separated from.

    Rate and channels have to be the mixture's, the length as `fit_length` allows, samples finite. The offset is the
    highest peak of the generalised cross-correlation with phase transform (Knapp and Carter 1976) of the mixture and
    the sum of the stems, over the 10 s where both are loudest. It does not depend on gains, and one source is enough.
    It counts as known where no peak more than 1 ms away is two thirds as high (exact loops and other songs have such
    peaks), or where the unshifted sum is the mixture within -40 dB. Correlation, gain and residual are those of the
    whole song at this offset.

    Problems are an inverted polarity, of the sum or of one stem; a sum of four sources whose level differs from the
    mixture's by more than ``gain_limit_db``, or that has no known offset and a correlation below 0.5 (another song);
    a sum of fewer sources that is the mixture within -20 dB (the ``other`` of two-stem models is everything but the
    voice). Warnings are a gain above 0.1 dB; stems scaled one by one, as peak normalisation does; silent or equal
    stems; a mended length; an unknown offset.

    Parameters
    ----------
    stems : Stems or mapping of str to Signal
        As they were found. They and the mixture are read once, and again where there is an offset, 10 s at a time.
    track : Track
        The track that was separated.
    search_s, gain_limit_db : float
        The largest offset that is looked for, in seconds; the largest difference in level that is not a problem.

    Raises
    ------
    AudioError
        Rate, channels or length do not fit, or a sample is not finite.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44100))
    >>> late = Stems(np.pad(noise, ((0, 0), (0, 0), (37, 0)))[..., :44100] / 2)
    >>> print(check_alignment(late, Track.from_arrays("noise", noise.sum(0))))
    noise: drums, bass, other, vocals; offset +37, gain -6.02 dB, residual -1... dB
      problem: their sum is 6.0 dB quieter than the mixture
    """
    signals = {source: stems[source] for source in (stems.sources if isinstance(stems, Stems) else stems)}
    fitted = fit_stems(signals, track)
    mended = [note for signal in signals.values() if (note := fit_length(signal, track.length)[1])]
    gram, loudest = _gram(track.mixture, fitted)
    offset = _find_offset(track.mixture, fitted, loudest, round(search_s * track.rate))
    if offset:
        gram, _ = _gram(track.mixture, fitted, offset)
    cross, norm = gram[0, 1:].sum(), np.sqrt(gram[0, 0] * gram[1:, 1:].sum())
    correlation = float(cross / norm) if norm else 0.0
    left = max(1 - correlation**2, 1e-15)
    offset = 0 if offset is None and left < 1e-4 else offset
    expected = track.references.sources if track.references else ()
    missing = ", ".join(missing_sources(fitted.sources, expected))
    gain_db = float(20 * np.log10(abs(cross) / gram[0, 0])) if cross and not missing else None
    residual_db = None if gain_db is None else float(10 * np.log10(left))
    problems, warnings = _check_stems(fitted.sources, gram, 0.0 if gain_db is None else left)
    if offset is None:
        warnings.append("the offset is unknown: their sum does not follow the mixture anywhere, or loops exactly")
        if not missing and correlation < 0.5 and gram[0, 0]:
            other = f"another song, or more than {search_s:g} s off"
            problems.append(f"their sum is not like the mixture (correlation {correlation:.2f}): {other}")
    elif correlation < 0:
        problems.append("their polarity is inverted")
    if missing and left < 0.01:
        accompaniment = "the 'other' of a two-stem model is the accompaniment, adopt its vocals alone"
        problems.append(f"they already sum to the mixture, without {missing}: {accompaniment}")
    if gain_db is not None and abs(gain_db) > 0.1:
        side = "louder" if gain_db > 0 else "quieter"
        text = f"their sum is {abs(gain_db):.1f} dB {side} than the mixture"
        (problems if abs(gain_db) > gain_limit_db else warnings).append(text)
    facts = (track.name, fitted.sources, offset, correlation, gain_db, residual_db)
    return Alignment(*facts, problems=tuple(problems), warnings=(*mended, *warnings))


def fit_stems(signals: Mapping[str, Signal], track: Track, late: int = 0) -> Stems:
    """Make signals stems of the track's length, moved to an earlier time.

    Parameters
    ----------
    signals : mapping of str to Signal
        By source.
    track : Track
        The track that they are stems of.
    late : int
        Samples by which they are late.

    Raises
    ------
    AudioError
        Rate, channels or length do not fit.
    """
    length = track.length + max(late, 0)
    stems = Stems.from_signals({source: FittedSignal(signal, length) for source, signal in signals.items()})

    def read(start: int, stop: int) -> Samples:
        moved = stems.read(max(start + late, 0), max(stop + late, 0))
        return np.pad(moved, ((0, 0), (0, 0), (stop - start - moved.shape[2], 0)))

    moved = Stems.lazy(read, stems.sources, stems.channels, track.length, stems.rate) if late else stems
    return track.with_stems({"this folder": moved}).stems["this folder"]


def _gram(mixture: Signal, stems: Stems, offset: int = 0) -> tuple[NDArray[np.float64], int]:
    """Gram matrix of [mixture, stems] over the song, the stems read `offset` later; start of the loudest block."""
    size, inputs = BLOCK_S * mixture.rate, 1 + len(stems.sources)
    gram, loudness = np.zeros((inputs, inputs)), {0: 0.0}
    for start in range(max(0, -offset), mixture.length - max(0, offset), size):
        stop = min(start + size, mixture.length - max(0, offset))
        parts = [mixture.read(start, stop)[None], stems.read(start + offset, stop + offset)]
        rows = np.concatenate(parts).reshape(inputs, -1).astype(np.float64)
        products = rows @ rows.T
        gram += products
        loudness[start] = products[0, 0] * products[1:, 1:].sum()
    return gram, max(loudness, key=loudness.__getitem__)


def _find_offset(mixture: Signal, stems: Stems, start: int, search: int) -> int | None:
    """Samples by which the stems are late, from the block at `start`; None where the peak is not distinct."""
    stop = min(start + BLOCK_S * mixture.rate, mixture.length)
    # tapered, as edges at the same place in both would correlate
    total = stems.read(start, stop).sum(0, dtype=np.float64) * np.hanning(stop - start)
    first, last = max(start - search, 0), min(stop + search, mixture.length)
    around = np.pad(mixture.read(first, last), ((0, 0), (first - start + search, stop + search - last)))
    size = 1 << (around.shape[1] - 1).bit_length()
    cross = (np.fft.rfft(around, size) * np.fft.rfft(total, size).conj()).sum(0)
    # bins with almost no energy are noise: their phase counts less
    magnitude = np.abs(cross) + 0.01 * np.abs(cross).mean() + 1e-300
    heights = np.abs(np.fft.irfft(cross / magnitude, size)[: 2 * search + 1])
    peak = int(heights.argmax())
    away = np.abs(np.arange(len(heights)) - peak) > mixture.rate // 1000
    return search - peak if heights[away].max(initial=0.0) < heights[peak] / 1.5 else None


def _check_stems(sources: Sequence[str], gram: NDArray[np.float64], left: float) -> tuple[list[str], list[str]]:
    """Problems and warnings of single stems: silence, copies, and gains of their own that explain the residual."""
    energy = gram.diagonal()
    audible = [index for index in range(1, len(energy)) if energy[index] > 1e-9 * energy[0]]
    problems, warnings = [], [f"{source} is silent" for index, source in enumerate(sources, 1) if index not in audible]
    for first, second in itertools.combinations([0, *audible], 2):
        if gram[first, second] ** 2 > (1 - 1e-6) * energy[first] * energy[second]:
            warnings.append(f"{('the mixture', *sources)[first]} and {sources[second - 1]} are the same audio")
    inverse = (
        np.linalg.lstsq(gram[np.ix_(audible, audible)], gram[audible, 0])[0] if left > 1e-6 else np.zeros(len(audible))
    )
    if 1 - inverse @ gram[audible, 0] / max(energy[0], 1e-300) < left / 4:
        # a stem that explains nothing of the mixture has no gain
        scales = {sources[index - 1]: 1 / gain for index, gain in zip(audible, inverse, strict=True) if gain}
        problems = [f"the polarity of {source} is inverted" for source, scale in scales.items() if scale < 0]
        gains = ", ".join(f"{source} {20 * np.log10(abs(scale)):+.1f} dB" for source, scale in scales.items())
        warnings.append(f"they were scaled one by one ({gains}): turn the tool's normalisation off")
    return problems, warnings
