"""Checksums of a run's files, in ``checksums.json``: what has changed since it was written is made again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stemfuse.separators import digest, write_whole
from stemfuse.separators.foreign.table import CHECKSUM_BYTES
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
    old: dict[str, list[int]] = {}
    """Stamps of files that were taken off the record: what is not written again is deleted when the work is done."""
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
        return self._read()[0]

    def old(self) -> dict[str, list[int]]:
        """Stamps of files that were taken off the record and not put on it again."""
        return self._read()[1]

    def keep(self, files: Iterable[Path]) -> None:
        """Put files on record as they are now."""
        found: Kept = {}
        for file in files:
            stamp = file_stamp(file)
            found[file.relative_to(self.folder).as_posix()] = (_sha256(file), stamp)
        self.take(found)

    def take(self, found: Kept) -> None:
        """Put files on record whose checksums are known."""
        if found:
            kept, old = self._read()
            self._write(kept | found, {name: stamp for name, stamp in old.items() if name not in found})

    def forget(self, wanted: Callable[[str], bool]) -> None:
        """Take files off the record, those that are about to be written; see `discard_old`."""
        kept, old = self._read()
        for name in [name for name in kept if wanted(name)]:
            del kept[name]
            with contextlib.suppress(OSError):
                old[name] = file_stamp(self.folder / name)
        if (kept, old) != self._read():
            self._write(kept, old)

    def discard_old(self, wanted: Callable[[str], bool] = lambda name: True) -> list[str]:
        """Delete files that were taken off the record and have not been written since; their names."""
        kept, old = self._read()
        gone = []
        for name in [name for name in old if wanted(name)]:
            file, stamp = self.folder / name, old.pop(name)
            with contextlib.suppress(OSError):
                if file_stamp(file) == stamp and not file.is_symlink():
                    file.unlink()
                    gone.append(name)
        for folder in sorted({parent for name in gone for parent in (self.folder / name).parents}, reverse=True):
            # those that are empty now, but for the folder itself
            if self.folder in folder.parents:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        self._write(kept, old)
        return gone

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

    def _read(self) -> tuple[Kept, dict[str, list[int]]]:
        """What is on record, and what was."""
        try:
            if self._record.stat().st_size > CHECKSUM_BYTES:
                return {}, {}
            content = self._record.read_bytes()
            try:
                sealed = _Sealed.model_validate_json(content)
            except ValidationError:
                kept, old = _OLDER.validate_json(content), {}
            else:
                kept, old = sealed.files, sealed.old
                if sealed.seal != _seal(_plain(kept), old):
                    return {}, {}
        except (OSError, ValidationError):
            return {}, {}
        inside = {name: entry for name, entry in kept.items() if _is_inside(name)}
        return inside, {name: stamp for name, stamp in old.items() if _is_inside(name)}

    def _write(self, kept: Kept, old: dict[str, list[int]]) -> None:
        files, old = _plain(dict(sorted(kept.items()))), dict(sorted(old.items()))
        sealed = {"files": files, **({"old": old} if old else {}), "seal": _seal(files, old)}
        text = json.dumps(sealed, indent=0, ensure_ascii=False)
        write_whole(self._record, lambda file: file.write(text.encode("utf-8", "surrogatepass")), RunError)


def _plain(kept: Kept) -> dict[str, list[Any]]:
    """As JSON has it."""
    return {name: list(entry) for name, entry in kept.items()}


def _seal(files: dict[str, list[Any]], old: dict[str, list[int]]) -> str:
    return digest({"files": files, "old": old} if old else files)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
