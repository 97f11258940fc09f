"""A fit that is not finished: the folder beside its new file from which the same command goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemfuse.separators import whole_file, write_whole
from stemfuse.separators.foreign.documents import read_object, read_text
from stemfuse.separators.foreign.table import DOCUMENT_BYTES

log = logging.getLogger(__name__)

STOPPED = "stopped.json"


class UnfinishedFit:
    """What a fit keeps until it has ended: checkpoints, trials and the rows of its history.

    Parameters
    ----------
    out : Path
        The new file.
    digest : str
        Of all that the result depends on, but for the limits by which it may be prolonged.

    Examples
    --------
    >>> UnfinishedFit(Path("fusions/blend.npz"), "0123456789abcdef").folder.as_posix()
    'fusions/.blend-0123456789ab.fitting'
    """

    def __init__(self, out: Path, digest: str) -> None:
        self.out = out
        self.folder = out.parent / f".{out.stem}-{digest[:12]}.fitting"

    @property
    def journal(self) -> Path:
        """The file of a search's trials."""
        return self.folder / "search.journal"

    @property
    def history(self) -> Path:
        """The rows of a training, one per epoch, while it runs."""
        return self.folder / "history.csv"

    def begin(self) -> None:
        """Make the folder."""
        with whole_file(self.folder / "begun") as temporary:
            temporary.touch()

    def add(self, row: Mapping[str, float]) -> None:
        """Keep the row of an epoch in place of those of the same and later epochs."""
        write_rows(self.history, [*rows_before(self.history, row["epoch"]), row])

    def stop(self) -> None:
        """Remember that the new file holds what was learnt until now, so that going on may replace it."""
        content = json.dumps({"sha256": _sha256(self.out)}).encode()
        write_whole(self.folder / STOPPED, lambda file: file.write(content))

    def may_replace(self) -> bool:
        """Whether the file that is there is what this fit left when it was stopped, unchanged."""
        try:
            kept = read_object(self.folder / STOPPED)
            return bool(kept["sha256"] == _sha256(self.out))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def end_if_empty(self) -> None:
        """Delete the folder where there is nothing in it to go on from."""
        if not any(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()):
            self.end()

    def end(self) -> None:
        """Delete the folder: the fit is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def rows_before(path: Path, epoch: float) -> list[dict[str, str]]:
    r"""Rows of a history of earlier epochs; a damaged history has none, with a warning.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "history.csv")
    >>> _ = path.write_text("epoch,loss\n0,2.5\n1,0.5\n")
    >>> rows_before(path, 1)
    [{'epoch': '0', 'loss': '2.5'}]
    """
    try:
        rows = csv.DictReader(read_text(path, DOCUMENT_BYTES).splitlines())
        kept = [row for row in rows if float(row["epoch"]) < epoch]
        for row in kept:
            # a row that is too short has None in it, one that is too long a list
            for text in row.values():
                float("nan" if text == "" else text)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        log.warning("%s: damaged (%s); its earlier epochs are left out", path, error)
        return []
    return kept


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; the columns are those of all rows, in order."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
