"""Tensors with a description in one safetensors file: checkpoints of a training, and trained networks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.separators.audio.whole_files import write_whole
from stemfuse.separators.errors import CheckpointError, TrainingError
from stemfuse.separators.foreign.safe_tensors import file_notes, open_safe_tensors
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.optional import import_optional

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1


def write_checkpoint(
    path: str | os.PathLike[str], groups: Mapping[str, Mapping[str, Tensor]], description: Mapping[str, Any]
) -> None:
    """Write groups of tensors and a JSON description into one file, which appears whole or not at all.

    The format has no checksum; the description has one of all that is in the file.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.safetensors"
    ...     write_checkpoint(path, {"module": {"layer.weight": torch.ones(2)}}, {"epoch": 3})
    ...     read_checkpoint(path)
    ({'module': {'layer.weight': tensor([1., 1.])}}, {'epoch': 3})
    """
    save = import_optional("safetensors.torch", "mixers", str(path)).save
    tensors = {
        f"{group}/{name}": value.detach().cpu().contiguous()
        for group, values in groups.items()
        for name, value in values.items()
    }
    described = json.loads(json.dumps({"schema": SCHEMA, **description}, ensure_ascii=False, default=list))
    described["seal"] = _seal(tensors, described)
    content = save(tensors, metadata={"stemfuse": json.dumps(described, ensure_ascii=False)})
    write_whole(Path(path), lambda file: file.write(content))


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Groups of tensors, on the CPU, and the description that `write_checkpoint` wrote.

    Raises
    ------
    CheckpointError
        The file is damaged.
    TrainingError
        The file is missing, or of another kind or schema.
    """
    try:
        with open_safe_tensors(path, "mixers") as file:
            description = file_notes(file, "stemfuse")
            tensors = {label: file.get_tensor(label) for label in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such file; stemfuse fit and stemfuse train write such files") from error
    except (OSError, ForeignFileError) as error:
        raise CheckpointError(f"{path}: no network of stemfuse can be read ({error}); train again") from error
    # files of older versions have no seal
    seal = description.pop("seal", None)
    if seal is not None and seal != _seal(tensors, description):
        raise CheckpointError(f"{path}: damaged, its content has changed since it was written; train again")
    if description.pop("schema", None) != SCHEMA:
        raise TrainingError(f"{path}: of another schema, expected {SCHEMA}; train again")
    groups: dict[str, dict[str, Tensor]] = {}
    for label, tensor in tensors.items():
        group, _, name = label.partition("/")
        groups.setdefault(group, {})[name] = tensor
    return groups, description


def _seal(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> str:
    """Checksum of all that a file holds, whatever the order."""
    import torch

    found = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for label, tensor in sorted(tensors.items()):
        found.update(f"{label} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
