"""How fast a training goes: its rate, measured on the first steps, and coarser products on a GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

MEASURED_S = 5.0
"""How long the rate of a training is measured; the first step, which sets up much, is not counted."""


class Rate:
    """Measures the items per second of a training's first steps, and says so once.

    Parameters
    ----------
    say : callable or None
        Called with the rate; None: nothing is measured.
    device : torch.device
        Where the steps run; a GPU is waited for, since it works behind.

    Examples
    --------
    >>> rates = []
    >>> rate = Rate(rates.append, torch.device("cpu"))
    >>> for _ in range(3):
    ...     rate.add(4)
    >>> rate.end()
    >>> rate.end()
    >>> len(rates), rates[0] > 0
    (1, True)
    """

    def __init__(self, say: Callable[[float], object] | None, device: torch.device) -> None:
        self.say, self.device, self.items, self.start = say, device, 0, 0.0

    def add(self, items: int) -> None:
        """A step of so many items has ended."""
        if self.say is None:
            return
        if not self.start:
            self._wait()
            self.start = time.perf_counter()
            return
        self.items += items
        if time.perf_counter() - self.start >= MEASURED_S:
            self.end()

    def end(self) -> None:
        """Say the rate, where there is one: a training of a single step has none."""
        if self.say is not None and self.items:
            self._wait()
            self.say(self.items / (time.perf_counter() - self.start))
            self.say = None

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextlib.contextmanager
def coarse_products(wanted: bool) -> Iterator[None]:
    """Let a GPU round the factors of float32 matrix products as `Execution.tf32` says, where it is wanted."""
    before = torch.get_float32_matmul_precision()
    if wanted:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        if wanted:
            torch.set_float32_matmul_precision(before)
