"""What measured moments say of single stems: faults that are beyond doubt, and what is only worth knowing."""

from __future__ import annotations

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


def stem_findings(
    moments: Moments, offsets: Mapping[str, Offset], copies: Sequence[str], scales: Mapping[str, float]
) -> Findings:
    """Judge every stem: silence, copies, offset, gain, polarity, channels, DC, and whose audio it is.

    Parameters
    ----------
    moments : Moments
        Of the stems at their offsets.
    offsets : mapping of str to Offset
        Of stems that seem to be elsewhere than the others.
    copies, scales
        See `Together`.
    """
    problems = [f"{source} is the mixture itself, not a stem of it" for source in copies]
    warnings: list[str] = []
    # against a stem's own reference its sign is surer than among stems that bleed
    in_mixture = {source: scale for source, scale in scales.items() if moments.against(source) == "mixture"}
    inverted = [source for source, scale in in_mixture.items() if scale < 0]
    stems, swapped = [], []
    centred = moments.centred()
    for source in filter(moments.is_audible, moments.stems):
        stem = _measure(moments, centred, source)
        stems.append(stem)
        if source in offsets and not offsets[source].is_sure and offsets[source].agreeing > 1:
            warnings.append(f"{source} may be {offsets[source]}: in doubt, left where it is")
        _add_dc(moments, stem, problems, warnings)
        fault, is_sure = _channel_fault(moments, centred, stem)
        if fault == INVERTED and in_mixture.get(source, -1.0) > 0:
            # it has more of the others, inverted, than of its own source, which is not inverted
            fault = ""
        if fault and fault != INVERTED and source in inverted:
            inverted.remove(source)
        if source in copies:
            continue
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
    likeness, own_energy = {}, float(np.trace(total[rows, rows]))
    for name in moments.references:
        target = moments.rows("references", name)
        # a stem that is much quieter than another source has that one's bleed where its own is nearly silent
        energy = float(np.trace(total[target, target]))
        norm = own_energy * energy if name == source or own_energy > 0.01 * energy else 0.0
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
            sign = sign_of(cross[:, one, one], norms[one], against)
            if sign == "sure" and cross[:, other, other].sum() > LEAST[against] * norms[other]:
                return f"the polarity of the {name} channel of {{}} is inverted", True
    if stem.correlation < 0:
        norm = float(np.sqrt(np.trace(own) * np.trace(truth)))
        sign = sign_of(np.trace(cross, axis1=1, axis2=2), norm, against)
        return INVERTED if sign else "", sign == "sure"
    # swapping keeps the middle, left + right, and inverts the side, left - right
    side = np.array([1.0, -1.0])
    if moments.channels != 2 or cross.sum() <= 0:
        return "", False
    widths = [float(side @ part @ side) for part in (own, truth)]
    if min(widths[0] / np.trace(own), widths[1] / np.trace(truth)) < 1e-3:
        return "", False
    sign = sign_of(np.einsum("pij,i,j->p", cross, side, side), float(np.sqrt(widths[0] * widths[1])), against)
    return SWAPPED if sign else "", sign == "sure"


def sign_of(cross: NDArray[np.float64], norm: float, against: str) -> str:
    """Whether products with the other side are negative: ``"sure"``, ``"doubt"``, or empty."""
    weight = np.abs(cross).sum()
    if norm <= 0 or weight <= 0 or -cross.sum() < LEAST[against] * norm:
        return ""
    share = np.abs(cross[cross < 0]).sum() / weight
    if share >= ALMOST_ALL and (len(cross) >= 3 or against == "references"):
        return "sure"
    return "doubt" if share >= MOST else ""


def say(sign: str, text: str, problems: list[str], warnings: list[str]) -> None:
    """Add what `sign_of` has found to the problems, to the warnings, or nowhere."""
    if sign == "sure":
        problems.append(text)
    elif sign == "doubt":
        warnings.append(f"{text}, it seems: not in the whole song")
