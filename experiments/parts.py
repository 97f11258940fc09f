"""Scores of single tracks and methods on disk, from which an interrupted run goes on; the names say what they hold."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.separators import digest, write_whole

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_CHECKSUM = 16
"""Digits of a part's checksum in its name."""


def part_name(**depends_on: Any) -> str:
    """Name of the scores that depend on this, so that none is ever stale.

    Examples
    --------
    >>> part_name(method="mean") == part_name(method="median")
    False
    """
    return digest(depends_on)[:24]


def write_part(scores: pd.DataFrame, folder: Path, name: str) -> None:
    """Write scores as ``folder/<name>-<checksum>.parquet``, whole or not at all."""
    from stemfuse.analysis.scores import pack_scores

    content = pack_scores(scores)
    write_whole(folder / f"{name}-{_checksum(content)}.parquet", lambda file: file.write(content))


def find_parts(folder: Path, names: Iterable[str]) -> Mapping[str, Path]:
    """Files of the parts that are there and undamaged, by name; damaged ones are deleted, with a warning."""
    present: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.parquet")):
        present.setdefault(file.name.partition("-")[0], []).append(file)
    found = {}
    for name in names:
        for file in present.get(name, ()):
            if file.stem == f"{name}-{_checksum(file.read_bytes())}":
                found[name] = file
            else:
                log.warning("%s: damaged, scored again", file)
                file.unlink(missing_ok=True)
    return found


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_CHECKSUM]
