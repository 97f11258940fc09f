"""The published files of weights: what is known of them, and whether a file is the one that its name says."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from stemfuse.separators.demucs_files import verified_sha256
from stemfuse.separators.errors import SeparatorError


@dataclass(frozen=True)
class PublishedFile:
    """One row of ``published.toml``.

    Attributes
    ----------
    system : str
        What it belongs to: the separator's name, or one of several editions.
    name : str
        The file's, without folders.
    origin : str
        Where it is published.
    licence : str
        As stated, with its doubts.
    source : str
        What it separates, where that is one source.
    bytes : int
        Its size, 0 where not known.
    sha256, git_blob : str
        Digests that it is recognised by: SHA-256 or the beginning of it, and git's; empty where not known.
    trained_on : sequence of str
        Data, as separators name it.
    sdr_db : mapping of str to float
        As its authors report it for MUSDB18's test set, by source.
    """

    system: str
    name: str
    origin: str
    licence: str
    source: str = ""
    bytes: int = 0
    sha256: str = ""
    git_blob: str = ""
    trained_on: Sequence[str] = ()
    sdr_db: Mapping[str, float] = field(default_factory=dict)

    def fits(self, path: Path) -> bool:
        """Whether a file has its size and its digests, as far as they are known."""
        return (
            self.bytes in (0, path.stat().st_size)
            and verified_sha256(path).startswith(self.sha256)
            and self.git_blob in ("", _git_blob(path))
        )


@cache
def published_files() -> tuple[PublishedFile, ...]:
    """All rows of the table.

    Examples
    --------
    >>> {row.name for row in published_files() if row.system == "demucs_danna"}
    {'demucs_4_decoders.pth'}
    """
    text = files(__package__).joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(PublishedFile(**row) for row in tomllib.loads(text)["file"])


def find_published(path: Path) -> PublishedFile | None:
    """The published file that a file is by its digest, whatever its name; None where it is another one."""
    return next((row for row in published_files() if (row.sha256 or row.git_blob) and row.fits(path)), None)


def check_published(path: Path) -> None:
    """Raise where a file has the name of a published one and is another or a damaged one.

    Raises
    ------
    SeparatorError
        With the size or digest that was expected.
    """
    rows = [row for row in published_files() if row.name == path.name]
    if rows and not any(row.fits(path) for row in rows):
        expected = " or ".join(row.sha256 or row.git_blob or f"{row.bytes} bytes" for row in rows)
        raise SeparatorError(
            f"{path}: is not the published file of this name (sha256 {verified_sha256(path)}, expected {expected}): "
            "fetch it again, or give weights of your own another name"
        )


def _git_blob(path: Path) -> str:
    state = path.stat()
    return _git_digest(path, state.st_size, state.st_mtime_ns)


@cache
def _git_digest(path: Path, size: int, modified_ns: int) -> str:
    """Digest of a file; the time is there to notice that it was replaced."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
