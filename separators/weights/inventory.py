"""Which files of weights lie on this machine, whether they are whole, and what each separator still lacks."""

from __future__ import annotations

import contextlib
import inspect
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stemfuse.separators.demucs import Demucs
from stemfuse.separators.demucs_files import default_folders, find_bag, find_file
from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.networks.network_separator import NetworkSeparator
from stemfuse.separators.stems import SOURCES

from .folder import weights_folder
from .published import PublishedFile, file_digest, known_files

FileState = Literal["verified", "present", "own", "damaged", "missing"]
"""``present``: of the right name, and nothing is published to verify it by; ``own``: not a published name."""
Digest = Callable[[Path, str], str]


@dataclass(frozen=True)
class StoredFile:
    """A file of weights as it lies on this machine, or does not.

    Attributes
    ----------
    separator, name : str
        Whose folder it is in, and the file's name.
    state : str
        ``"verified"``, ``"present"`` (nothing to verify it by), ``"own"``, ``"damaged"`` or ``"missing"``.
    path : Path or None
        Where it lies; None when it is missing.
    """

    separator: str
    name: str
    state: FileState
    path: Path | None = None

    @property
    def is_usable(self) -> bool:
        """Whether its separator would load it."""
        return self.state in ("verified", "present", "own")


@contextlib.contextmanager
def remembered_digests() -> Iterator[Digest]:
    """Digests of files, kept in the weights folder so that large files are not read again for every listing.

    They are looked up by the file's path, size and time of change. Loading never trusts them: it digests the file.
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
    if json.dumps(known) != before:
        there = {key: value for key, value in known.items() if Path(key.split(" ", 3)[3]).is_file()}
        # a folder that cannot be written to costs time, nothing else
        with contextlib.suppress(OSError):
            spare = record.with_name(f"{record.name}-{secrets.token_hex(4)}")
            spare.write_text(json.dumps(there, indent=1), encoding="utf-8")
            spare.replace(record)


def _read_record(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(content, dict) and all(isinstance(digest, str) for digest in content.values())
    return {key: digest for key, digest in content.items() if key.count(" ") > 2} if whole else {}


def find_stored(separator: str, name: str, digest: Digest = file_digest) -> StoredFile:
    """How a file of a separator lies in the weights folder.

    Parameters
    ----------
    separator, name : str
        Whose folder, and the file's name.
    digest : callable
        Gives a file's digest of a kind, such as `remembered_digests` does.

    Examples
    --------
    >>> find_stored("xumx", "nobody.has.this").state
    'missing'
    """
    path = next((path for path in _places(separator, name) if path.is_file()), None)
    if path is None:
        return StoredFile(separator, name, "missing")
    rows = [row for row in known_files() if row.name == name and separator in row.separators]
    return StoredFile(separator, name, _state(path, rows, digest) if rows else "own", path)


def _places(separator: str, name: str) -> list[Path]:
    if separator == Demucs.name:
        return [folder / name for folder in default_folders()]
    # KUIELab's archive has a folder, which may lie as it is
    return [weights_folder() / separator / name, weights_folder() / separator / "onnx_A" / name]


def _state(path: Path, rows: Sequence[PublishedFile], digest: Digest) -> FileState:
    fitting = [row for row in rows if row.fits(path, digest)]
    if not fitting:
        return "damaged"
    return "verified" if any(row.digests for row in fitting) else "present"


def published_state(row: PublishedFile, digest: Digest = file_digest) -> list[StoredFile]:
    """How a published file lies in the folder of each separator that loads it."""
    return [find_stored(separator, row.name, digest) for separator in row.separators]


def separator_files(made: Any, digest: Digest = file_digest) -> list[list[StoredFile]]:
    """The files that a separator needs, each with all names that would do, the preferred one first.

    Parameters
    ----------
    made : type
        The separator's class. One that needs no weights, or is of a third party, has no files.
    digest : callable
        As for `find_stored`.

    Returns
    -------
    list of list of StoredFile
        Of a separator of one source at a time: for all sources. Names that are not published are left out where no
        such file lies there, and so are sources for which nothing is published.

    Raises
    ------
    SeparatorError
        The demucs package is not installed, or two files claim to be the same.

    Examples
    --------
    >>> from stemfuse.separators import separator_class
    >>> [[file.name for file in files] for files in separator_files(separator_class("unet_danna"))]
    [['unet_attention.pth']]
    """
    published = {row.name for row in known_files()}
    stored = [[find_stored(separator, name, digest) for name in names] for separator, names in _needed(made)]
    listed = [[file for file in files if file.path or file.name in published] for files in stored]
    return [files for files in listed if files]


def _needed(made: Any) -> Iterator[tuple[str, Sequence[str]]]:
    if made is Demucs:
        folders = default_folders()
        for signature in find_bag(str(Demucs().model), folders).models:
            path = find_file(signature, folders)
            yield Demucs.name, [path.name] if path else [_demucs_name(signature)]
    elif inspect.isclass(made) and issubclass(made, NetworkSeparator):
        each: Sequence[Mapping[str, Any]] = [{}]
        if "source" in inspect.signature(made).parameters:
            each = [{"source": source} for source in (*SOURCES, "all")]
        for options in each:
            # few networks are for all sources at once
            with contextlib.suppress(SeparatorError):
                for names in made(**options)._wanted.values():
                    yield made.name, names


def _demucs_name(signature: str) -> str:
    names = (row.name for row in known_files() if row.system == Demucs.name)
    return next((name for name in names if name.startswith(signature)), f"{signature}.th")
