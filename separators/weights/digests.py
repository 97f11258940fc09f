"""Digests of files of weights: checked against what a file's name promises, and remembered between listings."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from stemfuse.separators.audio.whole_files import whole_file
from stemfuse.separators.errors import SeparatorError, WriteError
from stemfuse.separators.foreign.documents import read_object
from stemfuse.separators.foreign.table import ForeignFileError

from .folder import weights_folder

Digest = Callable[[Path, str], str]
"""Gives the digest of a file of a kind, ``"sha256"`` or ``"git_blob"``."""

_NAMED = re.compile(r".+?-(?P<checksum>[0-9a-f]{8,64})\.(th|safetensors)")
"""File names that carry the beginning of the sha256: ``955717e8-8726e21a.th``."""

_BLOCK = 1 << 20
"""Bytes read at a time."""


def verified_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file of weights, checked against the beginning of it in the file's name, if any.

    Raises
    ------
    SeparatorError
        The file cannot be read, or its sha256 is not the one in its name.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "net-2cf24dba.th")
    >>> _ = path.write_bytes(b"hello")
    >>> verified_sha256(path)[:8]
    '2cf24dba'
    """
    try:
        state = path.stat()
        found = _sha256(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise SeparatorError(f"{path}: cannot be read ({error.strerror}); copy it again") from error
    name = _NAMED.fullmatch(path.name)
    expected = name["checksum"] if name else ""
    if not found.startswith(expected):
        raise SeparatorError(
            f"{path}: its sha256 begins with {found[: len(expected)]}, expected {expected} as in its name: "
            "the file is damaged or renamed, fetch it again"
        )
    return found


def file_digest(path: Path, kind: str) -> str:
    """Digest of a file, ``"sha256"`` (checked against its name, see `verified_sha256`) or ``"git_blob"``."""
    if kind == "sha256":
        return verified_sha256(path)
    state = path.stat()
    return _git_blob(path, state.st_size, state.st_mtime_ns)


# size and time are arguments so that a file that was replaced is read again
@cache
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _git_blob(path: Path, size: int, modified_ns: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def remembered_digests() -> Iterator[Digest]:
    """Digests of files, kept in the weights folder so that large files are not read again for every listing.

    They are looked up by the file's path, size and time of change. Loading never trusts them: it digests the file.

    Yields
    ------
    callable
        Gives the digest of a file of a kind, as `file_digest` does.
    """
    record = weights_folder() / ".digests.json"
    known = _read_record(record)
    before = json.dumps(known)

    def digest(path: Path, kind: str) -> str:
        state = path.stat()
        key = f"{kind} {state.st_size} {state.st_mtime_ns} {path}"
        if key not in known:
            known[key] = file_digest(path, kind)
        return known[key]

    yield digest
    # a listing makes no folder
    if json.dumps(known) != before and record.parent.is_dir():
        present = {key: value for key, value in known.items() if Path(key.split(" ", 3)[3]).is_file()}
        # a folder that cannot be written to costs time, nothing else
        with contextlib.suppress(WriteError), whole_file(record) as temporary:
            temporary.write_text(json.dumps(present, indent=1), encoding="utf-8")


def _read_record(path: Path) -> dict[str, str]:
    try:
        content = read_object(path)
    except (OSError, ForeignFileError):
        return {}
    whole = all(isinstance(digest, str) for digest in content.values())
    return {key: digest for key, digest in content.items() if key.count(" ") > 2} if whole else {}
