"""Which items a training takes in which step, and which of them each process takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from stemfuse.separators.errors import TrainingError

from .execution import Recipe


class Batches(Protocol):
    """Training data in random access, several items at once."""

    def __len__(self) -> int:
        """Number of items in an epoch."""
        ...

    def __getitem__(self, index: int) -> Any:
        """One item."""
        ...

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        """Several items, stacked: the arguments of the objective."""
        ...


class Schedule:
    """Which items each step of an epoch takes, and which of them one process takes: a batch sampler for torch.

    A step's items are divided among the processes, so that several of them compute the same as one with a batch as
    large as all of theirs. The order depends on seed and epoch alone, so that a resumed training has the same steps.

    Parameters
    ----------
    size : int
        Number of items.
    recipe : Recipe
        Batch, accumulation and seed.
    rank, processes : int
        The number of this process, and how many there are.
    drawn : bool
        Whether every epoch has items of its own, which are numbered on from epoch to epoch.

    Examples
    --------
    >>> schedule = Schedule(10, Recipe(batch=2), rank=1, processes=2)
    >>> [len(step) for step in schedule.steps()], [len(batch) for batch in schedule]
    ([4, 4, 2], [2, 2, 1])
    """

    def __init__(self, size: int, recipe: Recipe, rank: int = 0, processes: int = 1, drawn: bool = False) -> None:
        if size < processes:
            raise TrainingError(f"got {size} training items for {processes} processes, expected at least one for each")
        self.size, self.recipe, self.rank, self.processes, self.drawn = size, recipe, rank, processes, drawn
        self.epoch = self.done = 0

    def steps(self) -> list[list[int]]:
        """Items of every remaining step of the epoch, of all processes together."""
        numbers = np.random.default_rng([self.recipe.seed, self.epoch]).permutation(self.size)
        order = (numbers + self.drawn * self.epoch * self.size).tolist()
        size = self.recipe.batch * self.recipe.accumulate * self.processes
        steps = [order[start : start + size] for start in range(0, self.size, size)]
        return [step for step in steps if len(step) >= self.processes][self.done :]

    def share(self, step: list[int]) -> list[list[int]]:
        """Items of a step for this process, in batches."""
        mine = step[self.rank :: self.processes]
        return [mine[start : start + self.recipe.batch] for start in range(0, len(mine), self.recipe.batch)]

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps():
            yield from self.share(step)


def collate(batch: Sequence[Any]) -> list[Tensor]:
    """Stacked arrays as tensors, which worker processes hand over by shared memory."""
    return [torch.as_tensor(part) for part in batch]


def pin(batch: Sequence[Tensor]) -> list[Tensor]:
    """A batch in page-locked memory, each part in one piece: only so does its copy to a GPU run beside other work."""
    return [torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(part) for part in batch]


def collate_dense(batch: Sequence[Any]) -> list[Tensor]:
    """As `collate`, each part in one piece, for a loader that pins memory itself."""
    return [part.contiguous() for part in collate(batch)]


class Ahead:
    """Batches of a schedule, in its order; a thread reads the following ones while one is used.

    Parameters
    ----------
    data : Batches
        What is read.
    schedule : iterable of list of int
        Numbers of the items of every batch; may be gone through again.
    pinned : bool
        Whether batches lie in page-locked memory, from which they go to a GPU beside its work.
    count : int
        Number of batches that are read ahead.

    Examples
    --------
    >>> class Squares(list):
    ...     def __getitems__(self, indices):
    ...         return [np.array([self[index] ** 2 for index in indices])]
    >>> [batch[0].tolist() for batch in Ahead(Squares(range(5)), [[0, 4], [3]])]
    [[0, 16], [9]]
    """

    def __init__(self, data: Batches, schedule: Iterable[list[int]], pinned: bool = False, count: int = 2) -> None:
        self.data, self.schedule, self.pinned, self.count = data, schedule, pinned, count

    def _read(self, items: list[int]) -> list[Tensor]:
        batch = collate(self.data.__getitems__(items))
        return pin(batch) if self.pinned else batch

    def __iter__(self) -> Iterator[list[Tensor]]:
        reader, waiting = ThreadPoolExecutor(1), deque[Future[list[Tensor]]]()
        try:
            for items in self.schedule:
                waiting.append(reader.submit(self._read, items))
                if len(waiting) > self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # an epoch may be cut short
            reader.shutdown(cancel_futures=True)
