"""What measured moments say of all stems of a song together: their sum, copies, and gains of their own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .findings import ALMOST_ALL, LEAST, Findings, say, sign_of
from .moments import Moments
from .offsets import Offset

UNKNOWN = ("another source",)
"""What is missing of stems of any names that do not add up to the mixture: a source without a stem, or nothing."""

QUIET = 1e-4
"""Share of the mixture's energy below which a stem, or what it explains of the mixture, tells nothing of its gain."""

COPY = 0.999
"""Squared correlation with the mixture above which a stem is a copy of it, through a lossy codec perhaps."""

COPY_LEVEL = 0.25
"""Share of the mixture's energy below which a likeness of it is bleed: all that a stem of a silent source has."""


class Together(NamedTuple):
    """What stems are beside one another.

    Attributes
    ----------
    warnings : list of str
        Of silent and equal stems, and of stems that were scaled one by one.
    copies : list of str
        Stems that are the mixture itself.
    scales : mapping of str to float
        By which factor each stem that tells it seems to be scaled; empty where that explains nothing.
    """

    warnings: list[str]
    copies: list[str]
    scales: dict[str, float]


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
        Sources without which the sum cannot be the mixture; `UNKNOWN` where the stems may be all that there are.
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
    count = sum(map(moments.is_audible, moments.stems))
    may_be_whole = not missing or (tuple(missing) == UNKNOWN and count > 1)
    gain_db = float(20 * np.log10(abs(cross) / gram[0, 0])) if cross and not missing else None
    residual_db = float(10 * np.log10(left)) if cross and gram[0, 0] and may_be_whole else None
    facts = SumFacts(known, correlation, gain_db, residual_db, left)
    problems, warnings = [], []
    if known is None:
        warnings.append("the offset is unknown: their sum does not follow the mixture anywhere, or loops exactly")
        # a part of a song that is loud has something in common with it, however bad it is
        is_loud = count > 1 and gram[1:, 1:].sum() > 0.1 * gram[0, 0]
        is_other = correlation < 0.5 if not missing else is_loud and abs(correlation) < LEAST["mixture"]
        if is_other and gram[0, 0] and not is_explained:
            other = f"another song, or more than {search_s:g} s off"
            problems.append(f"their sum is not like the mixture (correlation {correlation:.2f}): {other}")
            # its level and what it leaves tell nothing
            return Findings(problems, warnings), facts
    elif not is_explained:
        say(_sign_of_sum(moments), "their polarity is inverted", problems, warnings)
    if missing and left < 0.01:
        accompaniment = "the 'other' of a two-stem model is the accompaniment, adopt its vocals alone"
        problems.append(f"they already sum to the mixture, without {', '.join(missing)}: {accompaniment}")
    if gain_db is not None and abs(gain_db) > 0.1:
        side = "louder" if gain_db > 0 else "quieter"
        text = f"their sum is {abs(gain_db):.1f} dB {side} than the mixture"
        (problems if abs(gain_db) > gain_limit_db and not is_explained else warnings).append(text)
    if residual_db is not None and residual_db > -10:
        why = ": weak stems, or a source that has none" if missing else ""
        warnings.append(f"a large residual: their sum leaves {residual_db:.1f} dB of the mixture{why}")
    return Findings(problems, warnings), facts


def compare_stems(moments: Moments, missing: Sequence[str]) -> Together:
    """Compare stems with one another and with the mixture.

    Parameters
    ----------
    moments : Moments
        Of the stems at their offsets.
    missing : sequence of str
        See `sum_findings`.
    """
    copies = _copies(moments) if tuple(missing) in ((), UNKNOWN) else []
    gram, names = moments.gram(), ("the mixture", *moments.stems)
    energy = gram.diagonal()
    audible = [index for index, source in enumerate(moments.stems, 1) if moments.is_audible(source)]
    warnings = [f"{names[index]} is silent" for index in range(1, len(names)) if index not in audible]
    for first, second in itertools.combinations([0, *audible], 2):
        is_said = first == 0 and names[second] in copies
        if not is_said and gram[first, second] ** 2 > (1 - 1e-6) * energy[first] * energy[second]:
            warnings.append(f"{names[first]} and {names[second]} are the same audio")
    if copies or missing:
        return Together(warnings, copies, {})
    loud = [index for index in audible if energy[index] > QUIET * energy[0]]
    scales = {names[index]: scale for index, scale in _scales(gram, loud).items()}
    if scales:
        gains = ", ".join(f"{source} {20 * np.log10(abs(scale)):+.1f} dB" for source, scale in scales.items())
        warnings.append(f"they were scaled one by one ({gains}): turn the tool's normalisation off")
    return Together(warnings, copies, scales)


def _scales(gram: NDArray[np.float64], loud: Sequence[int]) -> dict[int, float]:
    """By which factors stems seem to be scaled, if that explains most of what their sum leaves of the mixture."""
    if not loud:
        return {}
    gains = np.linalg.lstsq(gram[np.ix_(loud, loud)], gram[loud, 0])[0]
    # a stem that explains nothing of the mixture has no gain
    kept = {
        index: gain
        for index, gain in zip(loud, gains, strict=True)
        if gain**2 * gram[index, index] > QUIET * gram[0, 0]
    }
    rows = list(kept)
    norm = float(gram[0, 0] * gram[np.ix_(rows, rows)].sum())
    left = 1 - float(gram[0, rows].sum()) ** 2 / norm if norm else 0.0
    fitted = 1 - gains @ gram[loud, 0] / max(gram[0, 0], 1e-300)
    return {index: 1 / gain for index, gain in kept.items()} if left > 1e-6 and fitted < left / 4 else {}


def _copies(moments: Moments) -> list[str]:
    """Stems that are the mixture itself, beside others that are not; none where all of them add up to it."""
    gram = moments.gram()
    energy = gram.diagonal()
    if energy[0] <= 0 or (abs(gram[0, 1:].sum() / energy[0] - 1) < 0.1 and moments.follows() > 0.99):
        return []
    likeness = {
        source: (gram[0, index] ** 2 / (energy[0] * energy[index]), energy[index] / energy[0])
        for index, source in enumerate(moments.stems, 1)
        if energy[index] > QUIET * energy[0]
    }
    if min((like for like, _ in likeness.values()), default=1.0) > ALMOST_ALL:
        return []
    alike = [source for source, (like, level) in likeness.items() if like > COPY and level > COPY_LEVEL]
    return [source for source in alike if not _is_nearly_all(moments, source)]


def _is_nearly_all(moments: Moments, source: str) -> bool:
    """Whether a source is known to be nearly all of the song, so that the mixture is a fair estimate of it."""
    if moments.against(source) != "references":
        return False
    rows, target = [moments.rows("references", source)], [moments.rows("mixture")]
    cross, own, total = (
        float(_along(moments.products, *pair).sum()) for pair in ((rows, target), (rows, rows), (target, target))
    )
    return cross**2 > ALMOST_ALL * own * total


def _sign_of_sum(moments: Moments) -> str:
    """Whether the sum of the stems is inverted: against the sum of their references, as far as there are some."""
    known = [source for source in moments.stems if moments.against(source) == "references"]
    stems = [moments.rows("stems", source) for source in known or moments.stems]
    targets = [moments.rows("references", source) for source in known] or [moments.rows("mixture")]
    energies = [_along(moments.products, rows, rows).sum() for rows in (stems, targets)]
    cross = _along(moments.products, stems, targets)
    return sign_of(cross, float(np.sqrt(np.prod(energies))), "references" if known else "mixture")


def _along(products: NDArray[np.float64], rows: Sequence[slice], targets: Sequence[slice]) -> NDArray[np.float64]:
    """Products of the sums of some signals with those of others, part by part."""
    pairs = itertools.product(rows, targets)
    total: NDArray[np.float64] = np.sum([np.trace(products[:, a, b], axis1=1, axis2=2) for a, b in pairs], axis=0)
    return total
