"""Tensors with a description in one safetensors file: checkpoints of a training, and trained networks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.separators.audio.whole_files import write_whole
from stemfuse.separators.errors import TrainingError
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
    text = json.dumps({"schema": SCHEMA, **description}, ensure_ascii=False, default=list)
    content = save(tensors, metadata={"stemfuse": text})
    write_whole(Path(path), lambda file: file.write(content))


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Groups of tensors, on the CPU, and the description that `write_checkpoint` wrote.

    Raises
    ------
    TrainingError
        The file is missing, damaged or of another kind or schema.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with open_safe_tensors(path, "mixers") as file:
            description = file_notes(file, "stemfuse")
            for label in file.keys():  # noqa: SIM118
                group, _, name = label.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(label)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such file; stemfuse fit and stemfuse train write such files") from error
    except (OSError, ForeignFileError) as error:
        raise TrainingError(f"{path}: no network of stemfuse can be read ({error}); train again") from error
    if description.pop("schema", None) != SCHEMA:
        raise TrainingError(f"{path}: of another schema, expected {SCHEMA}; train again")
    return groups, description
