"""Where files of weights lie on this machine: the weights folder, the files looked for in it, notes in our own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.foreign.safe_tensors import file_notes, open_safe_tensors
from stemfuse.separators.foreign.table import ForeignFileError

NOTES = "stemfuse"
"""Key of a safetensors file's metadata under which our own files carry options, as JSON."""


@dataclass(frozen=True)
class WeightFile:
    """A file of weights that a separator needs, whether it is on this machine or not.

    Attributes
    ----------
    names : tuple of str
        File names that would do, the preferred one first, after a folder's where files of one name are several.
        Weights of one's own are filed under the first.
    source : str
        Value of the separator's option ``source`` that the file is for; empty where it has no such option.

    Examples
    --------
    >>> WeightFile(("vocals.safetensors", "vocals.onnx"), source="vocals").find([Path("nowhere")]) is None
    True
    """

    names: tuple[str, ...]
    source: str = ""

    def find(self, folders: Iterable[Path]) -> Path | None:
        """The first file of these names, folder by folder; None when it is missing."""
        places = (folder / name for folder in folders for name in self.names)
        return next((place for place in places if place.is_file()), None)


def weights_folder() -> Path:
    """``$STEMFUSE_WEIGHTS``, or else ``weights`` in stemfuse's cache folder of this user."""
    own = os.environ.get("STEMFUSE_WEIGHTS")
    return Path(own).expanduser() if own else user_cache_path("stemfuse") / "weights"


def given_weights(separator: str, given: str | os.PathLike[str]) -> Path:
    """The file of weights that a user chose, which has to exist.

    Parameters
    ----------
    separator : str
        Its name, for the message.
    given : path-like
        The user's choice.

    Raises
    ------
    MissingWeightsError
        There is no such file.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    raise MissingWeightsError(f"{separator}: {path} is missing: correct weights=, or leave it out for the default")


def find_weights(separator: str, files: Sequence[WeightFile], folders: Sequence[Path], origin: str) -> tuple[Path, ...]:
    """Paths of all files of weights that a separator needs, in their order.

    Parameters
    ----------
    separator : str
        Its name, for the message.
    files : sequence of WeightFile
        What is needed.
    folders : sequence of Path
        Where it is looked for; the first is where missing files belong.
    origin : str
        Where the files are published, for the message.

    Raises
    ------
    MissingWeightsError
        Files are missing; the message names them and what to do, in one line.
    """
    found = [file.find(folders) for file in files]
    missing = [file for file, path in zip(files, found, strict=True) if path is None]
    if missing:
        raise MissingWeightsError(
            f"{separator}: weights are not on this machine: put {', '.join(map(_wanted, missing))} ({origin}) into "
            f"{folders[0]} (stemfuse weights lists, fetches and adds them), or pass "
            f"weights={'FILE' if len(files) == 1 else 'FOLDER'}"
        )
    return tuple(path for path in found if path is not None)


def _wanted(file: WeightFile) -> str:
    """What is published under a file's names, or else the preferred name."""
    from .published import published_files

    published = {row.place for row in published_files()}
    return " or ".join([name for name in file.names if name in published][:2] or file.names[:1])


def read_notes(path: Path) -> dict[str, Any]:
    """Options that a file of ours carries, see `stemfuse.separators.weights.tensors.save_state`.

    Parameters
    ----------
    path : Path
        The file; only ``.safetensors`` files have notes.

    Raises
    ------
    SeparatorError
        The file is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with open_safe_tensors(path, "networks", framework="numpy") as file:
            return file_notes(file, NOTES)
    except OSError as error:
        raise SeparatorError(f"{path}: cannot be read ({error.strerror or error}); copy it again") from error
    except ForeignFileError as error:
        raise SeparatorError(f"{path}: {error}; copy it again") from error
