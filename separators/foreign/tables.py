"""Parquet files: what the footer claims is compared with the file before a table is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .table import COLUMNS, FEWEST_ROWS, FEWEST_TABLE_BYTES, ROWS_PER_BYTE, TABLE_BYTES, ForeignFileError

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The table of a Parquet file of numbers, truth values and text.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    ForeignFileError
        It is no Parquet file, damaged, has other types, or claims more than a file of its size can hold.
    OSError
        It is missing or cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> path = Path(tempfile.mkdtemp(), "scores.parquet")
    >>> pd.DataFrame({"value": [1.5, 2.0]}).to_parquet(path)
    >>> read_table(path)["value"].tolist()
    [1.5, 2.0]
    """
    import pandas as pd

    path = Path(path)
    if path.exists() and not path.is_file():
        raise ForeignFileError("is no file")
    try:
        size = path.stat().st_size
        _check_texts(path, _check_footer(path, size), size)
        return pd.read_parquet(path, engine="pyarrow")
    except (ForeignFileError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged file may raise anything in pyarrow
        raise ForeignFileError(f"is no readable Parquet file ({' '.join(str(error).split())[:200]})") from error


def _check_footer(path: Path, size: int) -> list[str]:
    """Compare what the footer claims with the file; names of the columns of text."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        footer, schema = file.metadata, file.schema_arrow
    most = max(FEWEST_ROWS, ROWS_PER_BYTE * size)
    if footer.num_rows > most:
        raise ForeignFileError(f"claims {footer.num_rows} rows in {size} bytes, expected at most {most}")
    if len(schema) > COLUMNS:
        raise ForeignFileError(f"has {len(schema)} columns, expected at most {COLUMNS}")
    texts = []
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not (pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ForeignFileError(f"column {field.name!r} has type {field.type}, expected numbers or text")
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            texts.append(field.name)
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    claimed = sum(group.total_byte_size for group in groups)
    if claimed > _most(size) or sum(group.num_rows for group in groups) != footer.num_rows:
        raise ForeignFileError(f"claims {claimed} bytes unpacked, expected at most {_most(size)}")
    return texts


def _check_texts(path: Path, texts: list[str], size: int) -> None:
    """Add up how long the text is when each row has its own: a file may hold a long one once, for all rows."""
    from pyarrow import compute, parquet

    # read as numbers of different texts, none of which is written out
    table = parquet.read_table(path, columns=texts, read_dictionary=texts)
    lengths = (
        compute.sum(compute.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0
        for column in table.columns
        for chunk in column.chunks
    )
    if (total := sum(lengths)) > _most(size):
        raise ForeignFileError(f"has {total} bytes of text in {size} bytes, expected at most {_most(size)}")


def _most(size: int) -> int:
    return max(FEWEST_TABLE_BYTES, TABLE_BYTES * size)
