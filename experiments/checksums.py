"""Checksums of a run's files, in ``checksums.json``: what has changed since it was written is made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stemfuse.separators import digest, write_whole
from stemfuse.separators.store import file_stamp

from .errors import RunError

FILE = "checksums.json"

Kept = dict[str, tuple[str, list[int]]]
"""Checksum and stamp of files, by path."""

_OLDER = TypeAdapter(Kept)
"""Of versions that wrote no seal."""


class _Sealed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    files: Kept
    seal: str
    """Digest of the above: a flipped bit in a name or a checksum is damage of the record, and not of a file."""


class Checksums:
    """Checksum and stamp of files of a run, by their path in its folder.

    A file with the stamp on record is not read again, see `stemfuse.separators.store.file_stamp`. A damaged
    ``checksums.json`` counts as an empty one: nothing is trusted then.

    Parameters
    ----------
    folder : Path
        The run's folder.
    record : Path, optional
        Where they are kept, if not there.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "bounds.csv").write_text("1,2"), Checksums(folder).keep([folder / "bounds.csv"])
    (3, None)
    >>> (folder / "bounds.csv").write_text("1,3"), Checksums(folder).changed()
    (3, ['bounds.csv'])
    """

    def __init__(self, folder: Path, record: Path | None = None) -> None:
        self.folder = folder
        self._record = record or folder / FILE

    def read(self) -> Kept:
        """Checksum and stamp by path; empty where nothing can be read."""
        try:
            content = self._record.read_bytes()
            try:
                sealed = _Sealed.model_validate_json(content)
            except ValidationError:
                kept = _OLDER.validate_json(content)
            else:
                kept = sealed.files if sealed.seal == digest(_plain(sealed.files)) else {}
        except (OSError, ValidationError):
            return {}
        return {name: entry for name, entry in kept.items() if _is_inside(name)}

    def keep(self, files: Iterable[Path]) -> None:
        """Put files on record as they are now."""
        kept = self.read()
        for file in files:
            stamp = file_stamp(file)
            kept[file.relative_to(self.folder).as_posix()] = (_sha256(file), stamp)
        self._write(kept)

    def take(self, kept: Kept) -> None:
        """Put files on record whose checksums are known."""
        if kept:
            self._write(self.read() | kept)

    def forget(self, wanted: Callable[[str], bool]) -> None:
        """Take files off the record, those that are about to be written."""
        kept = self.read()
        left = {name: entry for name, entry in kept.items() if not wanted(name)}
        if left != kept:
            self._write(left)

    def sha256(self, name: str) -> str | None:
        """The checksum on record."""
        return self.read().get(name, (None, None))[0]

    def changed(self, reread: bool = False) -> list[str]:
        """Files that are missing or have other content than on record; with ``reread`` all of them are read."""
        return [name for name, entry in sorted(self.read().items()) if self._has_changed(name, *entry, reread)]

    def require(self, name: str) -> Path:
        """The path of a file of the run.

        Raises
        ------
        RunError
            It has changed since it was written.
        """
        entry = self.read().get(name)
        if entry is not None and self._has_changed(name, *entry, False):
            raise RunError(f"{self.folder / name}: damaged or changed since it was written; run the recipe again")
        return self.folder / name

    def _has_changed(self, name: str, sha256: str, stamp: list[int], reread: bool) -> bool:
        file = self.folder / name
        try:
            return (reread or file_stamp(file) != stamp) and _sha256(file) != sha256
        except OSError:
            return True

    def _write(self, kept: Kept) -> None:
        files = _plain(dict(sorted(kept.items())))
        text = json.dumps({"files": files, "seal": digest(files)}, indent=0, ensure_ascii=False)
        write_whole(self._record, lambda file: file.write(text.encode("utf-8", "surrogatepass")), RunError)


def _plain(kept: Kept) -> dict[str, list[Any]]:
    """As JSON has it."""
    return {name: list(entry) for name, entry in kept.items()}


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
