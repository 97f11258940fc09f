"""How a mixer is trained: the recipe decides the result, the execution where it is computed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from stemfuse.blending import FusionError

History = list[dict[str, float]]
"""Rows of a training curve, one per epoch or pass."""

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Recipe:
    """What decides the result of a training; the defaults are the MDX-Mixer paper's for the 1x1 convolution.

    Parameters
    ----------
    optimiser : {"adam", "rmsprop"}
        Adam as in Nakano and Goto (2024), or RMSprop without momentum as in KUIELab-MDX-Net (Kim et al. 2021).
    learning_rate : float
        Constant.
    batch : int
        Segments per process and backward pass.
    accumulate : int
        Backward passes per step.
    epochs : int
        At most.
    patience : int, optional
        Stop after so many epochs without a smaller validation loss.
    seed : int
        Of initial weights, order and dropout.

    Raises
    ------
    FusionError
        A number is out of range.

    Examples
    --------
    >>> Recipe(batch=8).learning_rate
    0.0003
    """

    optimiser: str = "adam"
    learning_rate: float = 3e-4
    batch: int = 4
    accumulate: int = 1
    epochs: int = 50
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("accumulate", 1), ("epochs", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise FusionError(f"{name}={getattr(self, name)} came, expected at least {least}")
        if not self.learning_rate > 0 or (self.patience is not None and self.patience < 1):
            raise FusionError(
                f"learning_rate={self.learning_rate}, patience={self.patience} came, expected a positive rate, and a "
                "patience of at least one epoch or none"
            )


@dataclass(frozen=True)
class Execution:
    """Where and how a training is computed; the result does not depend on it but for rounding.

    Parameters
    ----------
    accelerator : str
        ``"auto"``, which is CUDA when it is there and else the processor, ``"cpu"`` or ``"cuda"``.
    devices, nodes : int
        How many; under ``torchrun`` its own numbers are taken.
    strategy : str
        lightning-fabric's: ``"auto"``, ``"ddp"``, ``"ddp_spawn"``.
    precision : str
        ``"32-true"``, or ``"bf16-mixed"``: networks in bfloat16, audio and mix in float32.
    workers : int
        Processes that read audio.
    compile : bool
        Whether ``torch.compile`` is used.
    checkpoints : path-like, optional
        Folder of the checkpoint from which a killed training goes on to the same result.
    checkpoint_steps : int, optional
        Save after so many steps too, not only after each epoch.
    progress : callable, optional
        Called with every row of the history.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    workers: int = 0
    compile: bool = False
    checkpoints: str | os.PathLike[str] | None = None
    checkpoint_steps: int | None = None
    progress: Callable[[dict[str, float]], object] | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise FusionError(f"precision {self.precision!r} came, expected {' or '.join(PRECISIONS)}")

    @property
    def spawns(self) -> bool:
        """Whether the processes are started by this one; they cannot hand back more than a file."""
        return self.strategy.endswith(("_spawn", "_fork"))
