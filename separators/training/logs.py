"""TensorBoard's curves of a training, beside the rows of its history."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stemfuse.separators.errors import TrainingError
from stemfuse.separators.optional import import_optional, require_packages

NEEDS = {"tensorboard": "tensorboard"}
"""The package that writes event files, and the extra that installs it."""

EVERY = 50
"""Steps between two values of the loss within an epoch; each makes a GPU wait once."""


def check_tensorboard() -> None:
    """Raise a TrainingError unless TensorBoard's writer is installed."""
    require_packages(NEEDS, "TensorBoard logs", TrainingError)


class TensorBoardLog:
    """Event files of one training; a training that is resumed goes on in the same folder.

    Parameters
    ----------
    folder : path-like
        Where they are written.
    step : int
        Values of later steps are of a training that was killed after its last checkpoint: TensorBoard hides them.

    Raises
    ------
    TrainingError
        The package tensorboard is missing.
    """

    def __init__(self, folder: str | os.PathLike[str], step: int) -> None:
        check_tensorboard()
        writing = import_optional("torch.utils.tensorboard", "tensorboard", "TensorBoard logs", TrainingError)
        self._writer = writing.SummaryWriter(str(Path(folder)), purge_step=step or None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by name, those that are finite; whoever looks sees them at once."""
        for name, value in values.items():
            if value == value:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the event file."""
        self._writer.close()
