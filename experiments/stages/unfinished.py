"""A fit that is not finished: the folder beside its new file from which the same command goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemfuse.separators import whole_file, write_whole
from stemfuse.separators.foreign.documents import read_object

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
        rows: list[Mapping[str, Any]] = []
        if self.history.is_file():
            with self.history.open(newline="") as file:
                rows = [old for old in csv.DictReader(file) if float(old["epoch"]) < row["epoch"]]
        write_rows(self.history, [*rows, row])

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

    def end(self) -> None:
        """Delete the folder: the fit is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; the columns are those of all rows, in order."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
