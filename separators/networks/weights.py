"""Where the weights of our networks lie on this machine, and the separators that need them."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from stemfuse.separators.audio import Samples
from stemfuse.separators.demucs_files import verified_sha256
from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.separator import BaseSeparator
from stemfuse.separators.stems import SOURCES

from .published import check_published, find_published

if TYPE_CHECKING:
    import torch

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
    """Options that a file of ours brings along, see `stemfuse.separators.networks.checkpoints.save_state`.

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


def checked_source(separator: str, source: str) -> tuple[str]:
    """What a separator of one source separates; an unknown source raises a `SeparatorError`."""
    if source not in SOURCES:
        raise SeparatorError(f"{separator}: source={source!r} came, expected one of {', '.join(SOURCES)}")
    return (source,)


class NetworkSeparator(BaseSeparator):
    """Base of the separators whose network is written here and whose weights lie in a file.

    A subclass says in `_names` which files would do, and separates in `_apply`. Making one touches no file: files are
    looked for when `fingerprint` or `separate` first need them.
    """

    not_in_identity = frozenset({"weights", "device"})
    origin: ClassVar[str]
    """Where its weights are published."""
    weights: str | os.PathLike[str] | None
    device: str

    def __getstate__(self) -> dict[str, Any]:
        # other processes get the options, not the network
        made = self._made_when_needed()
        return {name: value for name, value in vars(self).items() if name not in made}

    @classmethod
    def _made_when_needed(cls) -> list[str]:
        return [name for name in dir(cls) if isinstance(getattr(cls, name), cached_property)]

    def load(self) -> None:
        """Read the weights and build the network now; `separate` does so otherwise.

        Raises
        ------
        MissingWeightsError
            A file is missing.
        SeparatorError
            A file cannot be read, or holds the weights of another network.
        """
        for made in [getattr(self, name) for name in self._made_when_needed()]:
            for part in made.values() if isinstance(made, dict) else [made]:
                if isinstance(part, NetworkSeparator):
                    part.load()

    @property
    def _names(self) -> Sequence[str]:
        """Files in the weights folder that would do, the preferred one first."""
        return [f"{self.name}.safetensors"]

    @property
    def _wanted(self) -> Mapping[str, Sequence[str]]:
        """Names that would do, the preferred one first, for each of the files that are needed."""
        return {self._names[0]: self._names}

    @property
    def _file(self) -> Path:
        return self._files[0]

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        """All files of weights; those that were found, not given, are what was published under their names."""
        files = self._find_files()
        if self.weights is None:
            for path in files:
                check_published(path)
        return files

    def _find_files(self) -> tuple[Path, ...]:
        return (find_weights(self.name, self.weights, self._names, self.origin),)

    def weights_sha256(self) -> dict[str, str]:
        """File name and sha256 of all weights.

        Raises
        ------
        MissingWeightsError
            A file is missing.
        SeparatorError
            A file is not what its name says.
        """
        return {path.name: verified_sha256(path) for path in self._files}

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Data that the weights were trained on, such as ``"musdb18hq/train"``; None when that is not known."""
        try:
            files = self._files
        except MissingWeightsError:
            return None
        published = [find_published(path) for path in files]
        data = [
            read_notes(path).get("trained_on") if row is None else row.trained_on
            for path, row in zip(files, published, strict=True)
        ]
        return None if None in data else tuple(dict.fromkeys(name for names in data for name in names or ()))

    def _option(self, name: str, otherwise: Any = None) -> Any:
        """An option as it was given, or else as the file of weights has it, or else the default."""
        given = getattr(self, name)
        return self._notes.get(name, otherwise) if given is None else given

    @cached_property
    def _notes(self) -> dict[str, Any]:
        return read_notes(self._file)

    @abstractmethod
    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        """Separate (channel, time) into (source, channel, time), both on the CPU."""

    def _separate(self, mixture: Samples) -> NDArray[np.floating]:
        # what is missing is said before torch is imported
        self.weights_sha256()
        import torch

        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise SeparatorError(f"{self.name}: device {self.device!r} cannot be used here ({reason})") from error
        with torch.inference_mode():
            stems = self._apply(torch.from_numpy(np.array(mixture)))
        return np.asarray(stems.numpy())
