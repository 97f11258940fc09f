"""How a network is trained: the recipe decides the result, the execution where it is computed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from stemfuse.separators.errors import TrainingError

History = list[dict[str, float]]
"""Rows of a training curve, one per epoch or pass."""

OPTIMISER_NAMES = ("adam", "amsgrad", "rmsprop")

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Recipe:
    """What decides the result of a training; the defaults are the MDX-Mixer paper's for the 1x1 convolution.

    Parameters
    ----------
    optimiser : {"adam", "amsgrad", "rmsprop"}
        Adam as in Nakano and Goto (2024), its variant AMSGrad as in ResUNetDecouple+ (Kong et al. 2021), or RMSprop
        without momentum as in KUIELab-MDX-Net (Kim et al. 2021).
    learning_rate : float
        Of the first epoch; constant unless one of the next four options changes it.
    decay : float
        Factor of the rate after each milestone or plateau: 0.3 for X-UMX and all of Danna-Sep.
    milestones : tuple of int
        Epochs after which it decays, as Danna-Sep's do.
    plateau : int, optional
        It decays after so many epochs without a smaller validation loss, as X-UMX' does.
    cosine : bool
        It falls to zero along half a cosine over all ``epochs``; these then have to be known beforehand.
    warmup : int
        Steps over which the rate rises from zero to that of its epoch: 1000 for ResUNetDecouple+.
    weight_decay : float
        Squared norm of the weights in the loss, times two.
    batch : int
        Segments per process and backward pass.
    accumulate : int
        Backward passes per step.
    epochs : int
        At most.
    minutes : float, optional
        Of training, at most; an epoch is cut short.
    steps : int, optional
        At most; an epoch is cut short.
    patience : int, optional
        Stop after so many epochs without a smaller validation loss.
    seed : int
        Of initial weights, order and dropout.

    Raises
    ------
    TrainingError
        A number is out of range.

    Examples
    --------
    >>> Recipe(batch=8).learning_rate
    0.0003
    """

    optimiser: str = "adam"
    learning_rate: float = 3e-4
    decay: float = 0.3
    milestones: tuple[int, ...] = ()
    plateau: int | None = None
    cosine: bool = False
    warmup: int = 0
    weight_decay: float = 0.0
    batch: int = 4
    accumulate: int = 1
    epochs: int = 50
    minutes: float | None = None
    steps: int | None = None
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "batch": 1,
            "accumulate": 1,
            "epochs": 0,
            "seed": 0,
            "weight_decay": 0,
            "steps": 1,
            "plateau": 1,
            "warmup": 0,
        }
        for name, least in limits.items():
            value = vars(self)[name]
            if value is not None and value < least:
                raise TrainingError(f"got {name}={value}, expected at least {least}")
        if not 0 < self.decay <= 1 or (self.minutes is not None and not self.minutes > 0):
            raise TrainingError(
                f"got decay={self.decay}, minutes={self.minutes}, expected a positive decay of at most 1, and positive "
                "minutes or none"
            )
        if not self.learning_rate > 0 or (self.patience is not None and self.patience < 1):
            raise TrainingError(
                f"got learning_rate={self.learning_rate}, patience={self.patience}, expected a positive rate, and a "
                "patience of at least one epoch or none"
            )

    def rate(self, epoch: int, losses: Sequence[float] = ()) -> float:
        """Learning rate of an epoch, the first of which is number 1.

        Parameters
        ----------
        epoch : int
            The number of the epoch that begins.
        losses : sequence of float
            Validation losses of all epochs before it.

        Examples
        --------
        >>> recipe = Recipe(learning_rate=1.0, decay=0.5, milestones=(2,), plateau=2)
        >>> [recipe.rate(epoch) for epoch in (1, 2, 3)], recipe.rate(4, [3.0, 2.0, 2.5, 2.2])
        ([1.0, 1.0, 0.5], 0.25)
        """
        decays = sum(epoch > milestone for milestone in self.milestones)
        best, waited = math.inf, 0
        for loss in losses:
            best, waited = min(best, loss), 0 if loss < best else waited + 1
            if waited == self.plateau:
                decays, waited = decays + 1, 0
        remaining = math.cos(math.pi / 2 * (epoch - 1) / self.epochs) ** 2 if self.cosine else 1.0
        return float(self.learning_rate * self.decay**decays * remaining)


@dataclass(frozen=True)
class Execution:
    """Where and how a training is computed; the result does not depend on it, except for rounding and `processes`.

    Parameters
    ----------
    accelerator : str
        ``"auto"``, which is CUDA when it is available and else the processor, ``"cpu"`` or ``"cuda"``.
    devices, nodes : int
        How many; under ``torchrun`` they are given by it.
    strategy : str
        lightning-fabric's: ``"auto"``, ``"ddp"``, ``"ddp_spawn"``.
    precision : str
        ``"32-true"``, or ``"bf16-mixed"``: networks in bfloat16, audio and mix in float32.
    workers : int
        Processes that read audio; with none, a thread reads ahead.
    tf32 : bool
        Whether a GPU may round the factors of float32 matrix products to 11 bits, which is several times faster.
    compile : bool
        Whether ``torch.compile`` is used.
    packs : path-like, optional
        Folder of training packs, in which mixers keep inputs and references of each song as one file; see
        `stemfuse.mixers.TrainingPack`. Trainings share them.
    pack_kind : {"float32", "float16"}
        Samples of the packs.
    checkpoints : path-like, optional
        Folder of the checkpoint from which a killed training goes on to the same result.
    checkpoint_steps : int, optional
        Save after every so many steps, not only after each epoch.
    checkpoint_s : float, optional
        Save after a step when so many seconds have passed since the last time, not only after each epoch.
    tensorboard : path-like, optional
        Folder for TensorBoard's curves of losses, learning rate and items per second. Needs the package tensorboard.
    estimates : bool
        Whether mixers say, by a log message, how large the training is and how long it takes.
    progress : callable, optional
        Called with every row of the history.
    measured : callable, optional
        Called once, with the items per second of all processes, measured on the first steps.
    interrupted : callable, optional
        Called with what interrupts the training, Ctrl-C or a signal, which is not raised then: the training ends with
        its best epoch until now.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    workers: int = 0
    tf32: bool = False
    compile: bool = False
    packs: str | os.PathLike[str] | None = None
    pack_kind: Literal["float32", "float16"] = "float32"
    checkpoints: str | os.PathLike[str] | None = None
    checkpoint_steps: int | None = None
    checkpoint_s: float | None = None
    tensorboard: str | os.PathLike[str] | None = None
    estimates: bool = True
    progress: Callable[[dict[str, float]], object] | None = None
    measured: Callable[[float], object] | None = None
    interrupted: Callable[[BaseException], object] | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise TrainingError(f"got precision={self.precision!r}, expected {' or '.join(PRECISIONS)}")

    @property
    def processes(self) -> int:
        """Processes that share a step: each takes a whole batch of the recipe."""
        return self.devices * self.nodes

    @property
    def spawns(self) -> bool:
        """Whether this process starts the others; they can hand back a file only."""
        return self.strategy.endswith(("_spawn", "_fork"))
