"""Tables as commands print them: kept with a finished run, which is then shown without computing them again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from stemfuse.separators.foreign.documents import read_json
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.names import shown

if TYPE_CHECKING:
    import pandas as pd


class PrintedTable(NamedTuple):
    """A table as it is printed."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    songs: list[str]
    """``<subset>/<track>``."""

    @classmethod
    def of(cls, table: pd.DataFrame, title: str = "") -> Self:
        """A table with two decimals for every number; a column of notes only where there are any.

        Examples
        --------
        >>> import pandas as pd
        >>> PrintedTable.of(pd.DataFrame({"method": ["mean"], "bass": [4.2612], "dropped": [0], "note": [""]})).rows
        [['mean', '4.26', '0']]
        """
        if "note" in table and not table["note"].any():
            table = table.drop(columns="note")
        rows = [
            [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy()
        ]
        return cls(title, list(map(str, table.columns)), rows, list(table.attrs.get("songs", ())))

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (self.columns, *self.rows)
        ]
        return "\n".join([*([self.title] if self.title else []), *map(shown, lines)])

    def _repr_html_(self) -> str:
        from stemfuse.separators.faces import html_table

        return html_table(self.columns, self.rows, self.title, ", ".join(self.songs))


def tables_as_json(tables: Sequence[PrintedTable]) -> str:
    """Tables as `read_tables` reads them."""
    return json.dumps({"tables": [table._asdict() for table in tables]}, ensure_ascii=False, indent=1)


def read_tables(path: Path) -> list[PrintedTable]:
    """Tables of a file; none where there is none that can be read: they are computed again then.

    Examples
    --------
    >>> read_tables(Path("nowhere.json"))
    []
    """
    try:
        tables = [PrintedTable(**entry) for entry in read_json(path)["tables"]]
        return tables if all(map(_is_whole, tables)) else []
    except (OSError, ForeignFileError, KeyError, TypeError):
        return []


def _is_whole(table: PrintedTable) -> bool:
    """Whether all rows have all columns, and everything is text."""
    lines = [table.columns, *table.rows, table.songs]
    are_texts = all(isinstance(text, str) for line in lines for text in [table.title, *line])
    return are_texts and all(len(row) == len(table.columns) for row in table.rows)
