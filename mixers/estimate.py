"""What a training costs, said before and while it runs: parameters, operations, bytes, and hours at its rate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from stemfuse.separators.training import Recipe
from stemfuse.separators.training.schedule import Batches, collate

from .segments import Segments

log = logging.getLogger(__name__)

SMALL_FLOPS, SHORT_S = 10**13, 60.0
"""What is done on a processor in minutes, or within one, needs no estimate."""


@dataclass(frozen=True)
class TrainingEstimate:
    """Size of a training, known before it starts.

    Parameters
    ----------
    name : str
        What is trained.
    parameters : int
        Numbers that are trained.
    forward_flops, step_flops : int
        Floating-point operations of one item's forward pass, and of its share of a training step: forward and backward.
        Matrix products and convolutions count, two operations for each multiplication and addition.
    items, valid_items : int
        Segments, or sequences of frames, of an epoch, and of the validation after it.
    bytes : int
        That are read for an epoch and its validation; 0 where all is in memory.
    epochs : int
        At most.
    """

    name: str
    parameters: int
    forward_flops: int
    step_flops: int
    items: int
    valid_items: int
    bytes: int
    epochs: int

    @classmethod
    def of(cls, name: str, objective: nn.Module, data: Batches, valid_data: Batches | None, recipe: Recipe) -> Self:
        """Count what a training by a recipe needs; one item is read, and nothing is computed.

        Parameters
        ----------
        name : str
            What is trained.
        objective : Module
            From a batch to one loss per item.
        data, valid_data : Batches
            What is trained on, and what chooses the epoch.
        recipe : Recipe
            Its epochs count.
        """
        forward, step = count_flops(objective, collate(data.__getitems__([0])))
        parts = [part for part in (data, valid_data) if part is not None]
        return cls(
            name,
            sum(parameter.numel() for parameter in objective.parameters() if parameter.requires_grad),
            forward,
            step,
            len(data),
            0 if valid_data is None else len(valid_data),
            sum(part.bytes for part in parts if isinstance(part, Segments)),
            recipe.epochs,
        )

    @property
    def epoch_flops(self) -> int:
        """Floating-point operations of an epoch and its validation."""
        return self.items * self.step_flops + self.valid_items * self.forward_flops

    def epoch_s(self, rate: float) -> float:
        """Seconds of an epoch at a rate of trained items per second; validation counts by its operations."""
        share = self.forward_flops / self.step_flops if self.step_flops else 1 / 3
        return (self.items + share * self.valid_items) / rate

    def describe(self) -> str:
        """The size in one line.

        Examples
        --------
        >>> estimate = TrainingEstimate("mlp_mixer", 172_400_000, 773 * 10**9, 2319 * 10**9, 8000, 500, 10**12, 100)
        >>> print(estimate.describe())
        mlp_mixer: 172 M parameters; 2.32 TFLOP for each of 8000 training items, 18.9 PFLOP and 1 TB read per epoch
        """
        read = f"{_scaled(self.bytes)}B read" if self.bytes else "nothing read"
        return (
            f"{self.name}: {_scaled(self.parameters).strip()} parameters; {_scaled(self.step_flops)}FLOP for each of "
            f"{self.items} training items, {_scaled(self.epoch_flops)}FLOP and {read} per epoch"
        )

    def describe_time(self, rate: float) -> str:
        """How long it takes, at a rate of items per second, in one line.

        Examples
        --------
        >>> print(TrainingEstimate("mlp_mixer", 10, 10, 30, 7200, 0, 0, 100).describe_time(2.0))
        mlp_mixer: 2 items/s on the first steps (60 FLOP/s): 1 h for an epoch, 100 h for 100 epochs
        """
        epoch = self.epoch_s(rate)
        return (
            f"{self.name}: {rate:.3g} items/s on the first steps ({_scaled(rate * self.step_flops)}FLOP/s): "
            f"{_lasting(epoch)} for an epoch, {_lasting(epoch * self.epochs)} for {self.epochs} epochs"
        )

    def say(self) -> None:
        """Say the size in the log, of a small training only to those who want all."""
        is_small = self.epoch_flops * self.epochs < SMALL_FLOPS
        log.log(logging.DEBUG if is_small else logging.INFO, "%s", self.describe())

    def say_time(self, rate: float) -> None:
        """Say in the log how long it takes at a measured rate, of a short training only to those who want all."""
        is_short = self.epoch_s(rate) * self.epochs < SHORT_S
        log.log(logging.DEBUG if is_short else logging.INFO, "%s", self.describe_time(rate))


def count_flops(objective: nn.Module, batch: Sequence[Tensor]) -> tuple[int, int]:
    """Operations of a batch's forward pass, and of forward and backward together, without computing anything.

    Examples
    --------
    >>> import torch
    >>> class Product(nn.Linear):
    ...     def forward(self, inputs):
    ...         return super().forward(inputs).sum(1)
    >>> count_flops(Product(20, 8), [torch.zeros(3, 20)])
    (960, 1920)
    """
    fake = FakeTensorMode()
    tensors = dict([*objective.named_parameters(), *objective.named_buffers()])
    state = {name: _fake(fake, tensor) for name, tensor in tensors.items()}
    given = tuple(fake.from_tensor(part) for part in batch)
    with fake, FlopCounterMode(display=False) as counter:
        losses: Tensor = functional_call(objective, state, given)
        forward = counter.get_total_flops()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return forward, counter.get_total_flops()


def _fake(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    """A tensor of the same shape without memory."""
    return mode.from_tensor(tensor.detach()).requires_grad_(tensor.requires_grad)


def _scaled(value: float) -> str:
    """Three digits, a space and the letter of a power of 1000.

    Examples
    --------
    >>> _scaled(8000), _scaled(172_400_000), _scaled(12)
    ('8 k', '172 M', '12 ')
    """
    for letter, unit in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g} "


def _lasting(seconds: float) -> str:
    """A time in hours, minutes or seconds.

    Examples
    --------
    >>> _lasting(2.2), _lasting(90), _lasting(36_000)
    ('2.2 s', '1.5 min', '10 h')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:.3g} h"
