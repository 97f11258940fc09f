"""What measured moments say of stems: faults that are beyond doubt, and what is only worth knowing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .moments import Moments
from .offsets import Offset

ALMOST_ALL = 0.9
"""Share of a song that has to show a fault before it is beyond doubt; weighted by how much each part tells."""

MOST = 0.6
"""Share of a song that has to show it before it is worth a warning."""

LEAST = {"references": 0.3, "mixture": 0.1}
"""Least size of a correlation that tells anything: with a reference, and with the mixture, where others sound too."""

LARGE_DB = -1.5
"""Residual of a single stem above which it is worth a warning; those of the SiSEC 2018 systems end at -2.7 dB."""

SCALED_DB = 6.0
"""Gain of a stem that is otherwise its reference, beyond which it has been scaled by something else than separation."""

INVERTED = "the polarity of {} is inverted"
SWAPPED = "left and right of {} are swapped"


@dataclass(frozen=True)
class StemAlignment:
    """One stem against its reference, or against the mixture where it has none.

    Attributes
    ----------
    source, against : str
        The stem, and ``"references"`` or ``"mixture"``.
    correlation : float
        At the offset that counts as known, over the whole song.
    gain_db, residual_db : float or None
        Level of what it has of its reference, relative to this; level of what is left of the stem without it,
        relative to the stem. None against the mixture.
    dc : float
        The largest mean of a channel that the other side does not have, full scale 1.
    """

    source: str
    against: str
    correlation: float
    gain_db: float | None
    residual_db: float | None
    dc: float


class Findings(NamedTuple):
    """Problems, warnings, and what was measured of single stems."""

    problems: list[str]
    warnings: list[str]
    stems: tuple[StemAlignment, ...] = ()


class SumFacts(NamedTuple):
    """What is known of the stems' sum; see `Alignment`; ``left`` is the residual as a share of the mixture."""

    offset: int | None
    correlation: float
    gain_db: float | None
    residual_db: float | None
    left: float


def sum_findings(
    moments: Moments,
    offset: Offset | None,
    missing: Sequence[str],
    is_explained: bool,
    gain_limit_db: float,
    search_s: float,
) -> tuple[Findings, SumFacts]:
    """Judge the sum of the stems against the mixture.

    Parameters
    ----------
    moments : Moments
        Of the stems at their offsets.
    offset : Offset or None
        Of all stems together.
    missing : sequence of str
        Sources without which the sum cannot be the mixture.
    is_explained : bool
        Whether faults of single stems are known, which may be why their sum is not the mixture.
    gain_limit_db, search_s : float
        See `check_alignment`.
    """
    gram = moments.gram()
    cross, norm = float(gram[0, 1:].sum()), float(np.sqrt(gram[0, 0] * gram[1:, 1:].sum()))
    correlation = cross / norm if norm else 0.0
    left = max(1 - correlation**2, 1e-15)
    known = 0 if offset is None and left < 1e-4 else None if offset is None else offset.samples
    gain_db = float(20 * np.log10(abs(cross) / gram[0, 0])) if cross and not missing else None
    residual_db = None if gain_db is None else float(10 * np.log10(left))
    problems, warnings = [], []
    if known is None:
        warnings.append("the offset is unknown: their sum does not follow the mixture anywhere, or loops exactly")
        if not missing and correlation < 0.5 and gram[0, 0] and not is_explained:
            other = f"another song, or more than {search_s:g} s off"
            problems.append(f"their sum is not like the mixture (correlation {correlation:.2f}): {other}")
    elif correlation < 0 and not is_explained:
        rows = [moments.rows("stems", source) for source in moments.stems]
        _say(
            _sign(_along(moments.products, rows, moments.rows("mixture")), norm, "mixture"),
            "their polarity is inverted",
            problems,
            warnings,
        )
    if missing and left < 0.01:
        accompaniment = "the 'other' of a two-stem model is the accompaniment, adopt its vocals alone"
        problems.append(f"they already sum to the mixture, without {', '.join(missing)}: {accompaniment}")
    if gain_db is not None and abs(gain_db) > 0.1:
        side = "louder" if gain_db > 0 else "quieter"
        text = f"their sum is {abs(gain_db):.1f} dB {side} than the mixture"
        (problems if abs(gain_db) > gain_limit_db and not is_explained else warnings).append(text)
    if residual_db is not None and residual_db > -10:
        warnings.append(f"a large residual: their sum leaves {residual_db:.1f} dB of the mixture")
    return Findings(problems, warnings), SumFacts(known, correlation, gain_db, residual_db, left)


def stem_findings(moments: Moments, offsets: Mapping[str, Offset], is_whole: bool) -> Findings:
    """Judge every stem: silence, copies, offset, gain, polarity, channels, DC, and whose audio it is.

    Parameters
    ----------
    moments : Moments
        Of the stems at their offsets.
    offsets : mapping of str to Offset
        Of stems that seem to be elsewhere than the others.
    is_whole : bool
        Whether the stems should add up to the mixture.
    """
    warnings, inverted = _mix_findings(moments, is_whole)
    problems: list[str] = []
    stems, swapped = [], []
    centred = moments.centred()
    for source in filter(moments.is_audible, moments.stems):
        stem = _measure(moments, centred, source)
        stems.append(stem)
        if source in offsets and not offsets[source].is_sure and offsets[source].agreeing > 1:
            warnings.append(f"{source} may be {offsets[source]}: in doubt, left where it is")
        _add_dc(moments, stem, problems, warnings)
        fault, is_sure = _channel_fault(moments, centred, stem)
        if fault and fault != INVERTED and source in inverted:
            inverted.remove(source)
        if other := _whose(moments, centred, source):
            problems.append(other)
        elif fault == INVERTED and is_sure:
            inverted.append(source)
        elif fault == SWAPPED and is_sure:
            swapped.append(source)
        elif fault:
            text = fault.format(source)
            (problems if is_sure else warnings).append(text if is_sure else f"{text}, it seems: not everywhere")
        else:
            _add_level(stem, problems, warnings)
    # all of them: that is said of their sum
    if len(set(inverted)) < len(stems):
        problems += [INVERTED.format(source) for source in dict.fromkeys(inverted)]
    if swapped:
        problems.append(SWAPPED.format(", ".join(swapped)))
    return Findings(problems, warnings, tuple(stems))


def _measure(moments: Moments, centred: NDArray[np.float64], source: str) -> StemAlignment:
    against = moments.against(source)
    rows, target = moments.rows("stems", source), moments.rows(against, source)
    total = centred.sum(0)
    cross, own, truth = (float(np.trace(total[a, b])) for a, b in ((rows, target), (rows, rows), (target, target)))
    correlation = cross / np.sqrt(own * truth) if own > 0 and truth > 0 else 0.0
    means = moments.sums.sum(0) / moments.length
    # a mixture's own DC may be in any stem
    limit = np.abs(means[target]) * (0 if against == "references" else 2)
    dc = np.where(np.abs(means[rows]) > limit, means[rows] - (means[target] if against == "references" else 0), 0.0)
    gain_db = residual_db = None
    if against == "references" and cross and truth:
        gain_db = float(20 * np.log10(abs(cross) / truth))
        residual_db = float(10 * np.log10(max(1 - correlation**2, 1e-15)))
    return StemAlignment(source, against, float(correlation), gain_db, residual_db, float(dc[np.abs(dc).argmax()]))


def _mix_findings(moments: Moments, is_whole: bool) -> tuple[list[str], list[str]]:
    """Warnings of silence, copies and gains of single stems that explain the residual; stems that are inverted."""
    gram, sources = moments.gram(), moments.stems
    energy = gram.diagonal()
    audible = [index for index, source in enumerate(sources, 1) if moments.is_audible(source)]
    inverted: list[str] = []
    warnings = [f"{source} is silent" for index, source in enumerate(sources, 1) if index not in audible]
    for first, second in itertools.combinations([0, *audible], 2):
        if gram[first, second] ** 2 > (1 - 1e-6) * energy[first] * energy[second]:
            warnings.append(f"{('the mixture', *sources)[first]} and {sources[second - 1]} are the same audio")
    norm = float(gram[0, 0] * gram[1:, 1:].sum())
    left = 1 - float(gram[0, 1:].sum()) ** 2 / norm if is_whole and norm else 0.0
    if left <= 1e-6:
        return warnings, inverted
    inverse = np.linalg.lstsq(gram[np.ix_(audible, audible)], gram[audible, 0])[0]
    if 1 - inverse @ gram[audible, 0] / max(energy[0], 1e-300) < left / 4:
        # a stem that explains nothing of the mixture has no gain
        scales = {sources[index - 1]: 1 / gain for index, gain in zip(audible, inverse, strict=True) if gain}
        inverted = [source for source, scale in scales.items() if scale < 0]
        gains = ", ".join(f"{source} {20 * np.log10(abs(scale)):+.1f} dB" for source, scale in scales.items())
        warnings.append(f"they were scaled one by one ({gains}): turn the tool's normalisation off")
    return warnings, inverted


def _add_dc(moments: Moments, stem: StemAlignment, problems: list[str], warnings: list[str]) -> None:
    rows = moments.rows("stems", stem.source)
    energy = moments.products.sum(0).diagonal()[rows].max() / moments.length
    share = stem.dc**2 / energy if energy > 0 else 0.0
    text = f"{stem.source} has a constant (DC) of {stem.dc:+.3f}"
    if abs(stem.dc) >= 0.01 and share >= 0.1:
        problems.append(f"{text}, {100 * share:.0f} % of its energy")
    elif abs(stem.dc) >= 1e-3 and share >= 1e-3:
        warnings.append(text)


def _add_level(stem: StemAlignment, problems: list[str], warnings: list[str]) -> None:
    """Gain and likeness of a stem against its reference."""
    if stem.gain_db is None or stem.residual_db is None:
        return
    if stem.residual_db > LARGE_DB:
        warnings.append(
            f"a large residual: without its reference {stem.source} is only {-stem.residual_db:.1f} dB quieter "
            f"(correlation {stem.correlation:.2f}): a weak separation, or another song"
        )
    elif abs(stem.gain_db) > 3 and stem.correlation**2 >= 0.5:
        side = "louder" if stem.gain_db > 0 else "quieter"
        text = f"{stem.source} is {abs(stem.gain_db):.1f} dB {side} than its reference"
        (problems if abs(stem.gain_db) > SCALED_DB and stem.correlation**2 >= ALMOST_ALL else warnings).append(text)


def _whose(moments: Moments, centred: NDArray[np.float64], source: str) -> str | None:
    """What to say of a stem that is another source's audio."""
    if source not in moments.references or moments.against(source) != "references":
        return None
    total, rows = centred.sum(0), moments.rows("stems", source)
    likeness = {}
    for name in moments.references:
        target = moments.rows("references", name)
        norm = float(np.trace(total[rows, rows]) * np.trace(total[target, target]))
        likeness[name] = float(np.trace(total[rows, target])) ** 2 / norm if norm > 0 else 0.0
    nearest = max(likeness, key=likeness.__getitem__)
    if likeness[source] >= 0.1 or likeness[nearest] <= 0.5:
        return None
    own, other = (np.sqrt(likeness[name]) for name in (source, nearest))
    return f"{source} is like the reference of {nearest} (correlation {other:.2f}), not like its own ({own:.2f})"


def _channel_fault(moments: Moments, centred: NDArray[np.float64], stem: StemAlignment) -> tuple[str, bool]:
    """What is wrong with polarity and order of a stem's channels, if anything, and whether that is beyond doubt."""
    against = stem.against
    rows, target = moments.rows("stems", stem.source), moments.rows(against, stem.source)
    cross, own, truth = centred[:, rows, target], centred[:, rows, rows].sum(0), centred[:, target, target].sum(0)
    if not np.trace(own) > 0 or not np.trace(truth) > 0:
        return "", False
    if moments.channels == 2:
        norms = np.sqrt(own.diagonal() * truth.diagonal())
        for one, name in enumerate(("left", "right")):
            other = 1 - one
            sign = _sign(cross[:, one, one], norms[one], against)
            if sign == "sure" and cross[:, other, other].sum() > LEAST[against] * norms[other]:
                return f"the polarity of the {name} channel of {{}} is inverted", True
    if stem.correlation < 0:
        norm = float(np.sqrt(np.trace(own) * np.trace(truth)))
        sign = _sign(np.trace(cross, axis1=1, axis2=2), norm, against)
        return INVERTED if sign else "", sign == "sure"
    # swapping keeps the middle, left + right, and inverts the side, left - right
    side = np.array([1.0, -1.0])
    if moments.channels != 2 or cross.sum() <= 0:
        return "", False
    widths = [float(side @ part @ side) for part in (own, truth)]
    if min(widths[0] / np.trace(own), widths[1] / np.trace(truth)) < 1e-3:
        return "", False
    sign = _sign(np.einsum("pij,i,j->p", cross, side, side), float(np.sqrt(widths[0] * widths[1])), against)
    return SWAPPED if sign else "", sign == "sure"


def _along(products: NDArray[np.float64], rows: Sequence[slice], target: slice) -> NDArray[np.float64]:
    """Products of the sum of signals with another one, part by part."""
    total: NDArray[np.float64] = np.sum([np.trace(products[:, one, target], axis1=1, axis2=2) for one in rows], axis=0)
    return total


def _sign(cross: NDArray[np.float64], norm: float, against: str) -> str:
    """Whether products with the other side are negative: ``"sure"``, ``"doubt"``, or empty."""
    weight = np.abs(cross).sum()
    if norm <= 0 or weight <= 0 or -cross.sum() < LEAST[against] * norm:
        return ""
    share = np.abs(cross[cross < 0]).sum() / weight
    if share >= ALMOST_ALL and (len(cross) >= 3 or against == "references"):
        return "sure"
    return "doubt" if share >= MOST else ""


def _say(sign: str, text: str, problems: list[str], warnings: list[str]) -> None:
    if sign == "sure":
        problems.append(text)
    elif sign == "doubt":
        warnings.append(f"{text}, it seems: not in the whole song")
