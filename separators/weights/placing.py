"""Files put into the folders where separators look for them, in one step each, none of which replaces anything."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stemfuse.separators.audio.whole_files import clear_remains, temporary_in, whole_file
from stemfuse.separators.errors import SeparatorError

from .folder import weights_folder
from .inventory import weight_folders
from .published import PublishedFile

ADVICE = "free some space, or set STEMFUSE_WEIGHTS to another folder"


@dataclass(frozen=True)
class FiledWeights:
    """Where a file of weights lies now.

    Attributes
    ----------
    path : Path
        In the folder of its separator.
    is_new : bool
        False where the same file was there already.
    published : PublishedFile or None
        What it was recognised as; None for weights of one's own.
    """

    path: Path
    is_new: bool
    published: PublishedFile | None = None


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder in the weights folder; what killed processes left there is deleted.

    Raises
    ------
    SeparatorError
        Something cannot be written there; the message is one line.
    """
    top = weights_folder()
    try:
        top.mkdir(parents=True, exist_ok=True)
        clear_remains(top)
        folder = temporary_in(top)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if isinstance(error, SeparatorError):
            raise
        raise SeparatorError(f"{top}: cannot be written ({error.strerror or error}): {ADVICE}") from error


def place_file(copy: Path, separators: Sequence[str], row: PublishedFile | None) -> list[FiledWeights]:
    """Put a file into the folder of each separator, where it appears whole or not at all.

    Parameters
    ----------
    copy : Path
        A file of ours in the weights folder, under the name that the separators look for; it stays.
    separators : sequence of str
        Registered names.
    row : PublishedFile or None
        What the file is.

    Raises
    ------
    SeparatorError
        Another file of that name is in a folder, and nothing was put anywhere; or a folder cannot be written.
    """
    places = [weight_folders(separator)[0] / (row.place if row else copy.name) for separator in separators]
    # whatever stands in the way is found before anything is put anywhere
    for place in places:
        _is_present(copy, place)
    return [FiledWeights(place, _link(copy, place), row) for place in places]


def _is_present(copy: Path, place: Path) -> bool:
    """Whether the same file is there; another one raises."""
    if not place.exists():
        return False
    if place.is_file() and filecmp.cmp(copy, place, shallow=False):
        return True
    raise SeparatorError(f"{place}: another file is there already: move it away first, or choose a separator with --as")


def _link(copy: Path, place: Path) -> bool:
    """Whether the file was put there; it was not if it was there already."""
    if _is_present(copy, place):
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(copy, place)
    except FileExistsError:
        # another process was first
        return not _is_present(copy, place)
    except OSError:
        # a file system without links
        with whole_file(place, ADVICE, SeparatorError) as temporary:
            shutil.copyfile(copy, temporary)
    return True
