"""Two releases compared: what has changed in the benchmark's numbers, and whether they can be compared at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stemfuse.analysis.aggregates import MEAN
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.printed import PrintedTable
from stemfuse.separators.errors import StemfuseError
from stemfuse.separators.foreign.documents import read_object

from .running import SCHEMA

STEP_DB = 0.005
"""Smaller changes are not seen in printed tables."""


class Change(NamedTuple):
    """One method's mean before and now, in the papers' convention; None where it has no figure."""

    part: str
    method: str
    before_db: float | None
    now_db: float | None

    @property
    def kind(self) -> str:
        """In a word.

        Examples
        --------
        >>> Change("a", "mean", 5.0, 5.1).kind, Change("a", "mean", 5.0, 4.9).kind, Change("a", "new", None, 5.0).kind
        ('better', 'worse', 'new')
        """
        if self.before_db is None or self.now_db is None:
            return "new" if self.now_db is not None else "gone" if self.before_db is not None else "the same"
        if abs(self.now_db - self.before_db) < STEP_DB:
            return "the same"
        return "better" if self.now_db > self.before_db else "worse"


def read_numbers(path: Path) -> dict[str, Any]:
    """The numbers of a benchmark.

    Raises
    ------
    ConfigError
        The file cannot be read, or is none of a benchmark.
    """
    try:
        numbers = read_object(path)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file, expected a benchmark.json; stemfuse run benchmark makes one"
        ) from error
    except (OSError, ValueError, StemfuseError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}), expected a benchmark.json") from error
    if numbers.get("schema") != SCHEMA or not isinstance(numbers.get("parts"), dict):
        raise ConfigError(
            f"{path}: no numbers of a benchmark of this version; expected a benchmark.json, schema {SCHEMA}"
        )
    return numbers


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """All methods of all parts, as they were and as they are.

    Parameters
    ----------
    before, now : mapping
        From `read_numbers`.
    """
    found = []
    for part in dict.fromkeys([*before["parts"], *now["parts"]]):
        old, new = (numbers["parts"].get(part, {}).get("methods", {}) for numbers in (before, now))
        for method in dict.fromkeys([*new, *old]):
            figures = (side.get(method, {}).get("values", {}).get("median", {}).get(MEAN) for side in (old, new))
            found.append(Change(part, method, *figures))
    return found


def notes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Why numbers may differ that no fusion has changed: another definition, other songs, other separators."""
    if before["definition"] != now["definition"]:
        yield "the definitions differ: what is measured is not the same"
    for name in before["parts"].keys() & now["parts"].keys():
        old, new = before["parts"][name], now["parts"][name]
        if old["songs"] != new["songs"]:
            yield f"{new['title']}: the songs differ"
        others = [label for label, own in new["separators"].items() if old["separators"].get(label, own) != own]
        if others:
            yield f"{new['title']}: other versions or weights of {', '.join(sorted(others))}"


def changes_table(before: Mapping[str, Any], now: Mapping[str, Any], everything: bool = False) -> PrintedTable:
    """What has changed, as it is printed; with `everything`, what has not as well."""
    found = [change for change in changes(before, now) if everything or change.kind != "the same"]
    rows = []
    for change in found:
        both = change.before_db is not None and change.now_db is not None
        difference = f"{change.now_db - change.before_db:+.2f}" if both else ""  # type: ignore[operator]
        figures = ["" if value is None else f"{value:.2f}" for value in (change.before_db, change.now_db)]
        rows.append([change.part, change.method, *figures, difference, change.kind])
    title = "; ".join([f"mean SDR in dB, {len(found)} changed", *sorted(notes(before, now))])
    return PrintedTable(title, ["part", "method", "before", "now", "difference", ""], rows, [])


def numbers_tables(numbers: Mapping[str, Any]) -> list[PrintedTable]:
    """The numbers of a benchmark as tables, a part each."""
    tables = []
    for part in numbers["parts"].values():
        rows = []
        for label, method in part["methods"].items():
            figures = method["values"]["median"]
            values = [figures.get(source) for source in (*part["sources"], MEAN)]
            rows.append([label, *("" if value is None else f"{value:.2f}" for value in values)])
        title = f"{part['title']}: SDR in dB, {len(part['songs'])} songs"
        tables.append(PrintedTable(title, ["method", *part["sources"], MEAN], rows, []))
    return tables
