"""What the papers claim, and whether it holds on a part: each claim is a few paired comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stemfuse.analysis.aggregates import MEAN
from stemfuse.separators.labels import BEST_PER_SOURCE

from .definition import LEAST_SQUARES, PartConfig, first_of, fitted, without
from .units import ALL, CONVENTIONS, Convention, Gain, Units

LEAK = "least squares, fitted to the tested songs"

JUDGED: tuple[Convention, Convention] = ("median", "song")
"""Conventions in which gains are judged: the papers', and the challenge's."""

HOLDS, FAILS, UNKNOWN = "holds", "does not", "cannot be told"


class Claim(NamedTuple):
    """A finding of a paper."""

    key: str
    finding: str
    paper: str


class Comparison(NamedTuple):
    """Two methods, or three points of a curve, and which way the paper says that it goes."""

    words: str
    method: str
    baseline: str
    source: str = ALL
    expected: int = 1


ELSEWHERE = (
    ("Fold and pool variants of the MDX-Mixer", "they want trainings of their own: results.md, the MDX-Mixer's study"),
    ("X-UMX's complex MSE loss", "it is a matter of how a separator is trained: `stemfuse train xumx xumx_ablation`"),
)
"""Claims that no comparison of the list can test, and where they are."""

CLAIMS = (
    Claim("several", "Several models together beat the best single one.", "Uhlich 2017, Danna-Sep, MDX-Mixer"),
    Claim("pick", "The mixer beats the best model of each source.", "MDX-Mixer: 8.21 against 8.09 dB"),
    Claim("varying", "Weights that vary in time beat constant ones.", "MDX-Mixer"),
    Claim("negative", "Negative weights matter.", "MDX-Mixer, figures 4 to 6"),
    Claim("mixture", "Without the mixture drums, bass and other fall, and vocals rise.", "MDX-Mixer, table 6"),
    Claim("sources", "Stems of other sources matter.", "MDX-Mixer"),
    Claim("more", "More separators help, and less and less.", "MDX-Mixer, table 5"),
    Claim("alone", "A mixer on one model alone does not help.", "MDX-Mixer"),
    Claim("blends", "Fixed published weights beat each of their models; fitted ones are better.", "Danna-Sep, KUIELab"),
    Claim("wiener", "A multichannel Wiener filter after the estimates helps.", "X-UMX and its CAC variant"),
    Claim("leak", "Weights that have seen the tested songs look better than they are.", "good practice"),
)


def judged(part: PartConfig, units: Mapping[Convention, Units]) -> dict[str, list[dict[str, Any]]]:
    """By claim, its comparisons on a part: words, gains in the papers' convention and the challenge's, verdicts.

    Parameters
    ----------
    part : PartConfig
        With the order in which separators are added, and roles of published blends.
    units : mapping of str to Units
        By convention, scores of songs.
    """
    found = {claim.key: list(_rows(_comparisons(claim.key, part, units["median"]), units)) for claim in CLAIMS}
    found["more"] += _curve(part, units)
    return {key: rows for key, rows in found.items() if rows}


def verdict(gain: Gain, expected: int = 1) -> str:
    """Whether a comparison goes the way that a paper says.

    Examples
    --------
    >>> verdict(Gain(0.2, 0.1, 0.3, 7)), verdict(Gain(0.2, 0.1, 0.3, 7), expected=-1), verdict(Gain(0.2, -0.1, 0.4, 7))
    ('holds', 'does not', 'cannot be told')
    """
    return {1: HOLDS, -1: FAILS, 0: UNKNOWN}[gain.verdict * expected]


def _rows(comparisons: Iterator[Comparison], units: Mapping[Convention, Units]) -> Iterator[dict[str, Any]]:
    for words, method, baseline, source, expected in comparisons:
        gains = {name: units[name].gain(method, baseline, source) for name in JUDGED}
        if gains["median"].songs:
            yield _row(words, gains, expected)


def _row(words: str, gains: Mapping[Convention, Gain], expected: int = 1) -> dict[str, Any]:
    return {
        "comparison": words,
        **{name: gain.to_dict() for name, gain in gains.items()},
        "verdict": verdict(gains["median"], expected),
        "song_verdict": verdict(gains["song"], expected),
    }


def _comparisons(key: str, part: PartConfig, units: Units) -> Iterator[Comparison]:
    """What a claim says, as far as the part has the methods."""
    known = set(units.table["fusion"].unique())
    several = list(units.table["source"].unique())
    for comparison in _asked(key, part, units, several):
        if {comparison.method, comparison.baseline} - {BEST_PER_SOURCE} <= known:
            yield comparison


def _asked(key: str, part: PartConfig, units: Units, sources: Sequence[str]) -> Iterator[Comparison]:
    single = units.best_single
    if key == "several":
        for label in (LEAST_SQUARES, "conv1x1", "mlp_mixer"):
            yield Comparison(f"{label} over {single}", label, single)
    elif key == "pick" and len(sources) > 1:
        for label in (LEAST_SQUARES, "conv1x1", "mlp_mixer"):
            yield Comparison(f"{label} over the best of each source", label, BEST_PER_SOURCE)
    elif key == "varying":
        yield Comparison("mlp_mixer over conv1x1", "mlp_mixer", "conv1x1")
        yield Comparison("gram_mixer over least squares", "gram_mixer", LEAST_SQUARES)
    elif key == "negative":
        yield Comparison("own stems over not negative", "own stems", "not negative")
    elif key == "mixture":
        yield from _with_mixture(sources)
    elif key == "sources":
        yield Comparison("all stems over own stems", "all stems", "own stems")
        yield Comparison("both with the mixture", LEAST_SQUARES, "own stems and mixture")
    elif key == "more":
        for count in range(1, len(part.order)):
            whole = count + 1 == len(part.order)
            added = part.order[count]
            label = LEAST_SQUARES if whole else first_of(count + 1)
            yield Comparison(f"{added} added to {count}", label, first_of(count))
        # without the last one, the first ones are left: that was the last step
        for label in part.order[:-1]:
            yield Comparison(f"all over all without {label}", LEAST_SQUARES, without(label))
    elif key == "alone":
        yield Comparison(f"least squares of {part.order[0]} over {part.order[0]}", first_of(1), part.order[0], ALL, -1)
    elif key == "blends":
        for blend, roles in part.roles.items():
            best = max(roles, key=lambda name: float(units.values()[MEAN].get(name, -np.inf)))
            yield Comparison(f"{blend} over {best}, the best of its models", blend, best)
            yield Comparison(f"{blend}: fitted weights over published ones", fitted(blend), blend)
    elif key == "wiener":
        yield Comparison("wiener of the mean over the mean", "wiener", "mean")
        yield Comparison("fitted_wiener of the mean over the mean", "fitted_wiener of the mean", "mean")
        yield Comparison("fitted_wiener over least squares, its base", "fitted_wiener", LEAST_SQUARES)
    elif key == "leak":
        yield Comparison("seen over not seen", LEAK, LEAST_SQUARES)


def _with_mixture(sources: Sequence[str]) -> Iterator[Comparison]:
    """The mixture as an input, against none: with stems of all sources, or with one source its own."""
    pairs = (LEAST_SQUARES, "all stems" if len(sources) > 1 else "own stems")
    for source in ("drums", "bass", "other", "vocals"):
        if source in sources:
            yield Comparison(f"{source}: with it over without it", *pairs, source, -1 if source == "vocals" else 1)
    if len(sources) > 1:
        yield Comparison("mean: with it over without it", *pairs)


def _curve(part: PartConfig, units: Mapping[Convention, Units]) -> list[dict[str, Any]]:
    """Whether the first half of the added separators helps more than the second: twice the middle, less both ends."""
    count = len(part.order)
    names = first_of(1), first_of((count + 1) // 2), LEAST_SQUARES
    gains: dict[Convention, Gain] = {}
    for name in JUDGED:
        wide = units[name].wide
        if count < 3 or not set(names) <= set(wide):
            return []
        first, middle, last = (wide[label] for label in names)
        gains[name] = units[name].paired(2 * middle - first, last)
    return [_row(f"gain from 1 to {(count + 1) // 2} over gain from there to {count}", gains)]


def ranking(units: Mapping[Convention, Units], fusions: Sequence[str]) -> dict[str, Any]:
    """In every convention the order of the fusions, and how far it agrees with the papers' one (Kendall's tau).

    Parameters
    ----------
    units : mapping of str to Units
        By convention, scores of songs.
    fusions : sequence of str
        Which are ranked.
    """
    from scipy.stats import kendalltau

    figures = {name: own.values()[MEAN].reindex(list(fusions)).dropna().round(6) for name, own in units.items()}
    orders = {
        name: list(map(str, own.sort_values(ascending=False, kind="stable").index)) for name, own in figures.items()
    }
    agreement = {}
    for name, own in figures.items():
        shared = figures["median"].index.intersection(own.index)
        tau = kendalltau(figures["median"][shared], own[shared]).statistic if len(shared) > 1 else np.nan
        agreement[name] = round(float(tau), 3) if np.isfinite(tau) else None
    return {"orders": {name: orders[name] for name in CONVENTIONS}, "tau": agreement}
