"""The benchmark's document: every part with its tables, then the papers' claims, each a small table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stemfuse.analysis.aggregates import MEAN
from stemfuse.experiments.report.tables import decibels

from .claims import CLAIMS, ELSEWHERE, FAILS, HOLDS, UNKNOWN
from .definition import Benchmark
from .drawing import by_gain
from .measuring import gain_of
from .units import CONVENTIONS, Gain

HEAD = """# Benchmark

Written by `stemfuse run benchmark`; a second run on the same machine writes the same file, to the last digit. What it
measures, on what and by which fusions stands in one file, `experiments/benchmark/definition.yaml` (digest {digest}).
`benchmark.json` has all numbers, and `stemfuse table benchmark.json --against OLD.json` compares two releases.
Parts are never mixed in a mean. Times are kept apart, in `benchmark-times.json`.

SDR in dB: median of the frames of a song, then of the songs. *mean*: over sources; where songs differ in their sources,
over those of each song, and then over songs. *song*: whole-song SDR, mean of songs (the 2021 challenge's). Intervals
are of 95 %, by Student's t on the standard error of a bootstrap that draws songs, paired, each comparison by itself,
without a correction for their number; none under five songs.

*Best single*: the separator with the best mean on these very songs. *Best pick*: the best one of each source, chosen on
these very songs too, so that the gain over it is rather too small. *Closed*: the share of the way from the best pick
to an oracle that a fusion has gone, by the sources' figures; oracles are weights fitted to the tested songs: all songs
(corpus), each song (track), each few seconds (segment). Parameters are weights that were learnt and are not 0.
"""

REAL = """
## The folder of real music

`real=FOLDER` names a folder with what follows; without it, the synthetic part is measured alone.

{list}
"""


CLAIMED = """Gains in dB of the first over the second, paired by song. A claim *holds* where the interval lies on the
side that the paper says, it *does not* where it lies on the other side, else it *cannot be told* from these songs. The
verdict is by the papers' medians; where that of the whole-song SDR is another one, it follows in brackets."""

RANKED = """Fusions of the list by their mean over sources; Kendall's tau of their order with that of the medians: 1
is the same order.
"""


NEEDED = """
How many separators and songs it takes: gain over the best single one of these separators, the first of the order of the
definition, by least squares with more and more weights; medians / whole-song SDR. Bold: the interval excludes 0.
"""


def document(benchmark: Benchmark, numbers: Mapping[str, Any], figures: Mapping[str, str]) -> str:
    """The document as Markdown; nothing in it depends on time, machine or folders.

    Parameters
    ----------
    benchmark : Benchmark
        The definition.
    numbers : mapping
        As ``benchmark.json`` has them.
    figures : mapping of str to str
        By part, its figure's file.
    """
    pieces = [HEAD.format(digest=numbers["definition"][:12])]
    for name, part in numbers["parts"].items():
        pieces.append("\n".join(_part(benchmark.parts[name].about, part, figures.get(name, ""))))
    pieces.append("\n".join(_claims(numbers["parts"])))
    pieces.append("\n".join(_rankings(numbers["parts"])))
    needed = [part for part in benchmark.parts.values() if part.needs]
    if needed:
        pieces.append(REAL.format(list="\n".join(f"* {part.title}: {part.published}" for part in needed)))
    return "\n".join(pieces).rstrip() + "\n"


def _part(about: str, part: Mapping[str, Any], figure: str) -> Iterator[str]:
    yield f"\n## {part['title']}\n"
    yield f"{about.strip()} {len(part['songs'])} songs, {part['frames']} frames that all methods have.\n"
    single = part["best_single"]["median"]
    yield f"Best single: `{single}`. Best pick: {_picks(part)}.\n"
    yield from _scores(part)
    if figure:
        yield f"\n![Gain of every fusion over the best separator of each source]({figure})\n"
    yield from _bounds(part)
    yield from _sizes(part)
    yield from _needed(part)
    if part["left_out"]:
        yield "\nNot here: " + "; ".join(f"`{label}`: {reason}" for label, reason in part["left_out"].items()) + "."


def _picks(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{source} `{label}`" for source, label in part["best_pick"]["median"].items())


def _scores(part: Mapping[str, Any]) -> Iterator[str]:
    """Separators, then fusions of the list from the best to the worst."""
    sources = part["sources"]
    columns = ["method", *sources, "mean", "over best single", "over best pick", "song", "song, over best single"]
    singles = [label for label, method in part["methods"].items() if method["is_single"]]
    singles.sort(key=lambda label: -_mean(part, label, "median"))
    rows = []
    for label in (*singles, *(label for label, _ in by_gain(part))):
        method = part["methods"][label]
        figures = [_db(method["values"]["median"].get(source)) for source in (*sources, MEAN)]
        gains = ["", "", ""]
        if not method["is_single"]:
            over = method["over_best_single"]
            gains = [_gain(kept) for kept in (over["median"], method["over_best_pick"]["median"], over["song"])]
        rows.append([f"`{label}`", *figures, *gains[:2], _db(method["values"]["song"][MEAN]), gains[2]])
    yield from table(columns, rows)


def _bounds(part: Mapping[str, Any]) -> Iterator[str]:
    if not part["bounds"]:
        return
    yield "\nWhat linear mixes could reach with the references known, on the frames of the bounds:\n"
    sources = [*part["sources"], MEAN]
    names = {"best single": "best separator of each source"}
    rows = [
        [names.get(bound, bound), *(_db(reached.get(source)) for source in sources)]
        for bound, reached in part["bounds"].items()
    ]
    yield from table(["bound", *sources], rows)


def _sizes(part: Mapping[str, Any]) -> Iterator[str]:
    """What each fusion has learnt, and how far it has come."""
    oracles = [bound for bound in part["bounds"] if bound in ("oracle corpus", "oracle track", "oracle segment")]
    yield "\nWhat they are made of, and the share of the way to the oracles that they have gone:\n"
    rows = []
    for label, _ in by_gain(part):
        method = part["methods"][label]
        shares = [_percent(method["closed"].get(bound)) for bound in oracles]
        rows.append([f"`{label}`", f"{method['parameters']:,}", f"{method['bytes']:,}", *shares])
    yield from table(["method", "parameters", "bytes", *(f"{bound}, closed" for bound in oracles)], rows)


def _needed(part: Mapping[str, Any]) -> Iterator[str]:
    """Gains by the number of separators and of songs that are fitted on."""
    if not part["needed"]:
        return
    yield NEEDED
    labels = list(part["needed"][0]["gains"])
    rows = []
    for entry in part["needed"]:
        words = [" / ".join(_told(gain_of(gain)) for gain in entry["gains"][label].values()) for label in labels]
        rows.append([str(entry["separators"]), str(entry["songs"]), *words])
    yield from table(["separators", "songs fitted on", *(f"`{label}`" for label in labels)], rows)


def _told(gain: Gain) -> str:
    """A gain alone, bold where its interval excludes 0."""
    words = decibels(gain.gain_db, signed=True)
    return f"**{words}**" if gain.verdict else words


def _claims(parts: Mapping[str, Any]) -> Iterator[str]:
    """Each claim with its comparisons on all parts that have them."""
    yield "\n## The papers' claims\n"
    yield CLAIMED
    for claim in CLAIMS:
        rows = []
        for part in parts.values():
            for row in part["claims"].get(claim.key, ()):
                words = row["verdict"] if row["verdict"] == row["song_verdict"] else _both(row)
                rows.append([part["title"], row["comparison"], _gain(row["median"]), _gain(row["song"]), words])
        if rows:
            yield f"\n### {claim.finding}\n\n{claim.paper}.\n"
            yield from table(["part", "comparison", "median", "whole song", "the claim"], rows)
    yield "\n### Not tested here\n"
    yield from (f"* {claim}: {where}." for claim, where in ELSEWHERE)


def _both(row: Mapping[str, Any]) -> str:
    return f"{row['verdict']} ({row['song_verdict']})"


def _rankings(parts: Mapping[str, Any]) -> Iterator[str]:
    """Whether another aggregate orders the fusions otherwise."""
    yield "\n### Which aggregate changes the ranking\n"
    yield RANKED
    rows = []
    for part in parts.values():
        ranking = part["ranking"]
        for name, words in CONVENTIONS.items():
            tau = ranking["tau"][name]
            first = ", ".join(f"`{label}`" for label in ranking["orders"][name][:3])
            rows.append([part["title"], words, "" if tau is None else decibels(tau), first])
    yield from table(["part", "aggregate", "tau", "the first three"], rows)


def claim_verdicts(part: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """By claim, how many comparisons of a part hold, do not, and cannot be told.

    Examples
    --------
    >>> claim_verdicts({"claims": {"leak": [{"verdict": "holds"}, {"verdict": "does not"}]}})
    {'leak': (1, 1, 0)}
    """
    counts = {}
    for key, rows in part["claims"].items():
        verdicts = [row["verdict"] for row in rows]
        counts[key] = verdicts.count(HOLDS), verdicts.count(FAILS), verdicts.count(UNKNOWN)
    return counts


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table in Markdown.

    Examples
    --------
    >>> list(table(["method", "mean"], [["a", "1.00"]]))
    ['| method | mean |', '|---|---|', '| a | 1.00 |']
    """
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _mean(part: Mapping[str, Any], label: str, convention: str) -> float:
    value = part["methods"][label]["values"][convention][MEAN]
    return float("-inf") if value is None else float(value)


def _gain(kept: Mapping[str, Any]) -> str:
    return in_words(gain_of(kept))


def in_words(gain: Gain) -> str:
    """A gain with its interval.

    Examples
    --------
    >>> in_words(Gain(0.44, 0.1, 0.8, 7)), in_words(Gain(0.44, float("nan"), float("nan"), 2))
    ('+0.44 [+0.10, +0.80]', '+0.44 (2 songs)')
    """
    words = decibels(gain.gain_db, signed=True)
    if gain.low_db == gain.low_db:
        return f"{words} [{decibels(gain.low_db, signed=True)}, {decibels(gain.high_db, signed=True)}]"
    return f"{words} ({gain.songs} {'song' if gain.songs == 1 else 'songs'})" if gain.songs else words


def _db(value: float | None) -> str:
    return "" if value is None else decibels(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %".replace("-", "−")
