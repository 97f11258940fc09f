"""Which files of weights each separator needs, which of them lie on this machine, and whether they are whole."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.separator import BaseSeparator, separator_class
from stemfuse.separators.source_names import REST
from stemfuse.separators.stems import SOURCES

from .digests import Digest, file_digest
from .folder import WeightFile, weights_folder
from .published import PublishedFile, known_files

FileState = Literal["verified", "present", "own", "damaged", "missing"]
"""``present``: of the right name, and nothing is published to verify it by; ``own``: not a published name."""


@dataclass(frozen=True)
class StoredFile:
    """A file of weights as it lies on this machine, or does not.

    Attributes
    ----------
    separator, name : str
        Whose folder it is in, and where in it: the file's name, after a folder's if it has one.
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


def needed_files(made: Any) -> list[WeightFile]:
    """All files of weights that a separator may need, of one source at a time those for every source.

    Parameters
    ----------
    made : type
        The separator's class. One that is not a `BaseSeparator`, or that cannot be made without further options, has
        no files.

    Examples
    --------
    >>> from stemfuse.separators import separator_class
    >>> [file.names[0] for file in needed_files(separator_class("resunet143_subband"))][:2]
    ['drums.safetensors', 'bass.safetensors']
    """
    return [file for separator in _examples(made) for file in separator.weight_files()]


def weight_folders(separator: str) -> tuple[Path, ...]:
    """Folders where a separator looks for its weights; the first is where files are put.

    Parameters
    ----------
    separator : str
        A registered name.
    """
    examples = _examples(separator_class(separator))
    return examples[0].weight_folders() if examples else (weights_folder() / separator,)


def _examples(made: Any) -> list[BaseSeparator]:
    """A separator of a class, or one for each of its editions, and for each source where it is made for one."""
    if not (inspect.isclass(made) and issubclass(made, BaseSeparator)):
        return []
    options = inspect.signature(made).parameters
    if any(option.default is option.empty for name, option in options.items() if name != "source"):
        return []
    choices = [{"source": source} for source in (*SOURCES, REST, "all")] if "source" in options else [{}]
    examples = []
    for edition, choice in product(made.editions, choices):
        # few networks are for all sources at once
        with contextlib.suppress(SeparatorError):
            examples.append(made(**edition, **choice))
    return examples


def find_stored(separator: str, name: str, digest: Digest = file_digest) -> StoredFile:
    """How a file of a separator lies in the folders where it looks for its weights.

    Parameters
    ----------
    separator, name : str
        Whose folders, and the file's name.
    digest : callable
        Gives a file's digest of a kind, such as `remembered_digests` does.

    Examples
    --------
    >>> find_stored("xumx", "nobody.has.this").state
    'missing'
    """
    return _stored(separator, weight_folders(separator), name, digest)


def _stored(separator: str, folders: Sequence[Path], name: str, digest: Digest) -> StoredFile:
    path = WeightFile((name,)).find(folders)
    if path is None:
        return StoredFile(separator, name, "missing")
    rows = [row for row in known_files() if row.place == name and separator in row.separators]
    return StoredFile(separator, name, _state(path, rows, digest) if rows else "own", path)


def _state(path: Path, rows: Sequence[PublishedFile], digest: Digest) -> FileState:
    fitting = [row for row in rows if row.fits(path, digest)]
    if not fitting:
        return "damaged"
    return "verified" if any(row.digests for row in fitting) else "present"


def published_state(row: PublishedFile, digest: Digest = file_digest) -> list[StoredFile]:
    """How a published file lies in the folder of each separator that loads it."""
    return [find_stored(separator, row.place, digest) for separator in row.separators]


def separator_files(made: Any, digest: Digest = file_digest) -> list[list[StoredFile]]:
    """The files that a separator needs, each with all names that would do, the preferred one first.

    Parameters
    ----------
    made : type
        The separator's class, see `needed_files`.
    digest : callable
        As for `find_stored`.

    Returns
    -------
    list of list of StoredFile
        Of a separator of one source at a time: for all sources. Where files are published for the separator, names
        that are not published are left out unless such a file is present, and so are sources for which nothing is
        published. Where none are published, as for most separators of third parties, every name is listed.

    Raises
    ------
    SeparatorError
        The demucs package is not installed, or two files have the same signature.

    Examples
    --------
    >>> from stemfuse.separators import separator_class
    >>> [[file.name for file in files] for files in separator_files(separator_class("unet_danna"))]
    [['unet_attention.pth']]
    """
    stored = [
        [_stored(separator.name, separator.weight_folders(), name, digest) for name in file.names]
        for separator in _examples(made)
        for file in separator.weight_files()
    ]
    owners = {file.separator for files in stored for file in files}
    published = {row.place for row in known_files() if owners.intersection(row.separators)}
    listed = [[file for file in files if file.path or not published or file.name in published] for files in stored]
    return [files for files in listed if files]
