"""Where files of weights lie on this machine, and the notes that our own files carry."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from stemfuse.separators.errors import MissingWeightsError, SeparatorError

if TYPE_CHECKING:
    pass


NOTES = "stemfuse"
"""Key of a safetensors file's metadata under which our own files carry options, as JSON."""


def weights_folder() -> Path:
    """``$STEMFUSE_WEIGHTS``, or else ``weights`` in stemfuse's cache folder of this user."""
    own = os.environ.get("STEMFUSE_WEIGHTS")
    return Path(own).expanduser() if own else user_cache_path("stemfuse") / "weights"


def find_weights(separator: str, given: str | os.PathLike[str] | None, names: Sequence[str], origin: str) -> Path:
    """The file that a user gave, or the first of some names in the separator's part of the weights folder.

    Parameters
    ----------
    separator : str
        Its name, the folder's too.
    given : path-like, optional
        The user's own choice, which has to be there.
    names : sequence of str
        Files that would do, the preferred one first: what is trained here, then what was published.
    origin : str
        Where they are published, for the message.

    Raises
    ------
    MissingWeightsError
        None is there; one line says what to do.
    """
    if given is not None:
        path = Path(given).expanduser()
        if path.is_file():
            return path
        raise MissingWeightsError(
            f"{separator}: {path} is not there: correct weights=, or leave it out for the default"
        )
    folder = weights_folder() / separator
    for name in names:
        if (folder / name).is_file():
            return folder / name
    # the first is the name of what is trained here
    published = " or ".join(names[1:3] or names)
    raise MissingWeightsError(
        f"{separator}: weights are not on this machine: put {published} ({origin}) into {folder} "
        "(stemfuse weights lists, fetches and adds them), or pass weights=FILE"
    )


def read_notes(path: Path) -> dict[str, Any]:
    """Options that a file of ours brings along, see `stemfuse.separators.weights.tensors.save_state`.

    Raises
    ------
    SeparatorError
        The file is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            notes = json.loads((file.metadata() or {}).get(NOTES, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise SeparatorError(f"{path}: is no safetensors file or a damaged one ({error}); copy it again") from error
    return notes if isinstance(notes, dict) else {}
