"""How stems are aligned with their mixture and references: offset, gain, polarity, channels, DC, problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.audio.signals import Samples, Signal
from stemfuse.separators.source_names import REST
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import FittedSignal, Track, fit_length

from .findings import StemAlignment, stem_findings
from .moments import BLOCK_S, Moments, measure_moments, read_clipped
from .offsets import FEW, Offset, ReadPart, confirm, find_offset
from .set_findings import UNKNOWN, compare_stems, sum_findings


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
        source is missing, the residual only where one is known to be missing.
    problems, warnings : tuple of str
        Reasons to refuse the stems, besides an offset; and what is only worth knowing.
    common : Offset or None
        How sure the offset is; one that is in doubt is a warning. None where it is not known.
    offsets : mapping of str to Offset
        Stems that are beyond doubt late by another number of samples than the others.
    stems : tuple of StemAlignment
        Every stem against its reference, else against the mixture.
    """

    track: str
    sources: tuple[str, ...]
    offset: int | None
    correlation: float
    gain_db: float | None
    residual_db: float | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    common: Offset | None = None
    offsets: Mapping[str, Offset] = field(default_factory=dict)
    stems: tuple[StemAlignment, ...] = ()

    @property
    def late(self) -> dict[str, int]:
        """By how many samples every stem is late, as far as that is beyond doubt."""
        common = self.common.samples if self.common is not None and self.common.is_sure else 0
        return {source: self.offsets[source].samples if source in self.offsets else common for source in self.sources}

    @property
    def faults(self) -> tuple[str, ...]:
        """All reasons to refuse the stems: offsets that are beyond doubt, and how sure they are, then the problems."""
        common = self.common is not None and self.common.is_sure and self.common.samples
        texts = [f"the stems are {self.common}"] if common else []
        texts += [f"{source} is {offset if offset.samples else 'in time'}" for source, offset in self.offsets.items()]
        return (*texts, *self.problems)

    def __str__(self) -> str:
        offset = "unknown" if self.offset is None else f"{self.offset:+d}" if self.offset else "0"
        doubt = " (in doubt)" if self.common is not None and self.common.samples and not self.common.is_sure else ""
        # adding 0 makes -0.00 +0.00
        gain = "" if self.gain_db is None else f", gain {round(self.gain_db, 2) + 0:+.2f} dB"
        level = gain if self.residual_db is None else f"{gain}, residual {round(self.residual_db, 1) + 0:.1f} dB"
        lines = [f"{self.track}: {', '.join(self.sources)}; offset {offset}{doubt}{level}"]
        lines += [f"  {source}: offset {late.samples:+d}" for source, late in self.offsets.items()]
        lines += [f"  problem: {problem}" for problem in self.problems]
        return "\n".join(lines + [f"  warning: {warning}" for warning in self.warnings])


def check_alignment(
    stems: Stems | Mapping[str, Signal], track: Track, search_s: float = 1.0, gain_limit_db: float = 6.0
) -> Alignment:
    """Measure how stems are aligned with the mixture that they were separated from, and with its references.

    Rate and channels have to be the mixture's, the length as `fit_length` allows, samples finite. The offset is the
    highest peak of the generalised cross-correlation with phase transform (Knapp and Carter 1976) of the mixture and
    the sum of the stems, over the 10 s where both are loudest. It does not depend on gains, and one source is enough.
    It counts as known where no peak more than 1 ms away is two thirds as high (exact loops and other songs have such
    peaks), or where the unshifted sum is the mixture within -40 dB. Correlation, gain and residual are those of the
    whole song at this offset. Every stem is looked for alone, too, in its reference if there is one.

    An offset, of all stems or of one, is beyond doubt where five parts of the song show it at the same sample, or
    where stems that are moved are much nearer to what they are compared with (`Offset.is_sure`); else it is a warning:
    filters delay what bleeds into a stem by a few samples, which is no fault.

    Problems are an inverted polarity, of the sum, of one stem or of one of its channels; channels that are swapped; a
    stem with another source's audio; a constant (DC) that is a large part of a stem; a sum of all sources whose level
    differs from the mixture's by more than ``gain_limit_db``, or that has no known offset and a correlation below 0.5
    (another song), of some sources below 0.1; a sum of fewer sources that is the mixture within -20 dB (the ``other``
    of two-stem models is everything but the voice); a stem of a full set that is the mixture itself. Polarity is
    judged against a stem's own reference where there is one. The same faults, if they are not in nearly all of the
    song, are warnings, as are a gain above 0.1 dB; a residual of the sum above -10 dB, unless a source is known to
    be missing, or of a single stem above -1.5 dB; stems scaled one by one, as peak normalisation does, where they are
    not 40 dB quieter than the mixture; silent or equal stems; a mended length; an unknown offset.

    Parameters
    ----------
    stems : Stems or mapping of str to Signal
        As they were found. They, references and mixture are read once, and again where there is an offset, 10 s at a
        time.
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
    search = round(search_s * track.rate)
    before = measure_moments(track.mixture, track.references, fitted)
    found = _common_offset(track, fitted, before, search)
    single = _single_offsets(track, fitted, before, found, search)
    common, offsets = _shared(fitted.sources, found, single)
    late = dict.fromkeys(fitted.sources, common.samples if common else 0)
    late |= {source: offset.samples for source, offset in offsets.items()}
    moved = any(late.values())
    moments = measure_moments(track.mixture, track.references, fitted, late) if moved else before
    missing = _missing(moments)
    together = compare_stems(moments, missing)
    problems, warnings, of_stems = stem_findings(moments, single, together.copies, together.scales)
    of_sum, facts = sum_findings(moments, common, missing, bool(problems), gain_limit_db, search_s)
    if common is not None and common.samples and not common.is_sure:
        warnings.append(f"the stems may be {common}: in doubt, left where they are")
    return Alignment(
        track.name,
        fitted.sources,
        facts.offset,
        facts.correlation,
        facts.gain_db,
        facts.residual_db,
        (*problems, *of_sum.problems),
        tuple(dict.fromkeys((*mended, *together.warnings, *warnings, *of_sum.warnings))),
        common,
        offsets,
        of_stems,
    )


def fit_stems(signals: Mapping[str, Signal], track: Track, late: Mapping[str, int] | None = None) -> Stems:
    """Make signals stems of the track's length, moved to an earlier time.

    Parameters
    ----------
    signals : mapping of str to Signal
        By source.
    track : Track
        The track that they are stems of.
    late : mapping of str to int, optional
        Samples by which each of them is late.

    Raises
    ------
    AudioError
        Rate, channels or length do not fit.
    """
    for signal in signals.values():
        track.check_form(signal, f"{signal} has")
    moved = {
        source: MovedSignal(signal, by, track.length) if by else FittedSignal(signal, track.length)
        for source, signal in signals.items()
        for by in ((late or {}).get(source, 0),)
    }
    return track.with_stems({"this folder": Stems.from_signals(moved)}).stems["this folder"]


class MovedSignal(Signal):
    """A signal moved to an earlier time, with zeros where it has no samples."""

    def __init__(self, signal: Signal, late: int, length: int) -> None:
        self.rate, self.channels, self.length = signal.rate, signal.channels, length
        self.signal, self.late = signal, late

    @property
    def parts(self) -> tuple[Signal, ...]:
        """The signal as it was."""
        return (self.signal,)

    def _read(self, start: int, stop: int) -> Samples:
        return read_clipped(self.signal, start + self.late, stop + self.late)

    def __str__(self) -> str:
        return f"{self.signal}, moved by {-self.late:+d} samples"


def _missing(moments: Moments) -> tuple[str, ...]:
    """Sources without which the stems cannot add up to the mixture."""
    references, stems = set(moments.references), set(moments.stems)
    if stems.issuperset(SOURCES) or (REST in stems and "vocals" in stems):
        return ()
    if references and (references - stems or moments.explained() > 0.9):
        return tuple(source for source in moments.references if source not in stems)
    if not stems <= {*SOURCES, REST}:
        # nobody knows which others there are: they are all where they add up to the mixture
        return () if moments.follows() > 0.99 else UNKNOWN
    return tuple(source for source in SOURCES if source not in stems) or UNKNOWN


def _common_offset(track: Track, stems: Stems, moments: Moments, search: int) -> Offset | None:
    """The offset of all stems together; None where it is not known."""
    rows = [moments.rows("stems", source) for source in stems.sources]
    starts = moments.loudest(moments.rows("mixture"), rows)

    def total(start: int, stop: int) -> NDArray[np.floating]:
        parts = [read_clipped(stems[source], start, stop) for source in stems.sources]
        added: NDArray[np.floating] = np.sum(parts, axis=0, dtype=np.float64)
        return added

    return _locate(track.mixture, total, starts, moments.size, search, 0)


def _single_offsets(
    track: Track, stems: Stems, moments: Moments, common: Offset | None, search: int
) -> dict[str, Offset]:
    """Offset of each stem that shows one."""
    expected = common.samples if common is not None and common.is_sure else 0
    found = {}
    for source in stems.sources:
        against = moments.against(source)
        if not moments.is_audible(source) or (against == "mixture" and len(stems.sources) == 1):
            continue
        starts = moments.loudest(moments.rows(against, source), moments.rows("stems", source))
        target = track.references[source] if against == "references" and track.references else track.mixture
        stem = partial(read_clipped, stems[source])
        offset = _locate(target, stem, starts, moments.size, search, expected)
        if offset is None and expected:
            offset = confirm(0, expected, target, stem, starts, moments.size, search)
            offset = offset if offset.is_sure else None
        if offset is not None and against == "mixture" and 0 < abs(offset.samples) < FEW:
            # a stem that is nearly the mixture is bleed, whose phase tells nothing
            offset = offset._replace(left_db=0.0)
        if offset is not None and (offset.samples == expected or offset.is_sure or offset.agreeing > 1):
            found[source] = offset
    return found


def _shared(
    sources: Sequence[str], common: Offset | None, single: Mapping[str, Offset]
) -> tuple[Offset | None, dict[str, Offset]]:
    """The offset that most stems show, as a loud one may decide that of the sum; and stems that surely have another."""
    expected = common.samples if common is not None and common.is_sure else 0
    shown = {source: one for source, one in single.items() if one.samples == expected or one.is_sure}
    if not shown or (common is None and len(shown) < len(sources)):
        return common, {source: one for source, one in shown.items() if one.samples}
    counts = Counter(one.samples for one in shown.values())
    samples = max(counts, key=lambda value: (counts[value], value == 0))
    evidence = next(one for one in shown.values() if one.samples == samples)
    others = {source: one for source, one in shown.items() if one.samples != samples}
    if common is None:
        return evidence, others
    # a stem that agrees with the sum was not confirmed for itself
    others = {source: common if one.samples == expected else one for source, one in others.items()}
    return common if common.samples == samples else evidence, others


def _locate(
    target: Signal, stem: ReadPart, starts: Sequence[int], size: int, search: int, expected: int
) -> Offset | None:
    """Find an offset where both are loudest, and look for it in other parts if it is not the expected one."""
    long = min(BLOCK_S * target.rate, target.length)
    samples = find_offset(target, stem, min(starts[0], target.length - long), long, search)
    if samples is None or samples == expected:
        return None if samples is None else Offset(samples, 1, 1, 0.0, 0.0)
    return confirm(samples, expected, target, stem, starts, size, search)
