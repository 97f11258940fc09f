"""The training loop, on lightning-fabric: devices, precision, several processes, checkpoints, the best epoch."""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stemfuse.separators.errors import CheckpointError, TrainingError

from .checkpoints import read_checkpoint, write_checkpoint
from .execution import Execution, History, Recipe
from .logs import EVERY, TensorBoardLog, check_tensorboard
from .pace import Rate, coarse_products
from .schedule import Ahead, Batches, Schedule, collate, collate_dense

log = logging.getLogger(__name__)

CONTENTS = "contents"
"""What the identity of a training has of the content of its audio; see `audio_contents`."""

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "amsgrad": partial(torch.optim.Adam, amsgrad=True),
    "rmsprop": torch.optim.RMSprop,
}


def run_training(
    objective: nn.Module,
    data: Batches,
    valid: Batches | None,
    recipe: Recipe,
    execution: Execution | None = None,
    identity: Mapping[str, Any] | None = None,
    drawn: bool = False,
) -> History:
    """Train a module in place and leave it at its best epoch.

    Parameters
    ----------
    objective : Module
        From the items of a batch to one loss per item.
    data, valid : Batches
        What is trained on, and what chooses the best epoch; without ``valid`` the last epoch is kept.
    recipe : Recipe
        Optimiser, rates, limits: all that decides the result.
    execution : Execution
        Where and how it runs.
    identity : mapping, optional
        JSON values that a checkpoint has to agree with to be resumed: arguments, data. Where only ``contents`` differ,
        the training begins again.
    drawn : bool
        Whether the items of ``data`` are drawn at random by their number. Then they are numbered on from epoch to
        epoch, so that every epoch has items of its own.

    Returns
    -------
    list of dict
        One row per epoch: epoch, step, train_loss, valid_loss, seconds; the row of epoch 0 is before training.

    Raises
    ------
    TrainingError
        The loss is not finite, a checkpoint is of another training, or a package is missing.
    """
    execution = execution or Execution()
    if execution.tensorboard is not None:
        check_tensorboard()
    fabric = Fabric(
        accelerator=device_of(execution).type if execution.accelerator == "auto" else execution.accelerator,
        devices=execution.devices,
        num_nodes=execution.nodes,
        strategy=execution.strategy,
        precision="32-true",
    )
    described = json.loads(json.dumps({**vars(recipe), **(identity or {})}, default=list))
    for limit in ("epochs", "patience", "minutes", "steps"):  # a run may be prolonged
        del described[limit]
    if not recipe.warmup:  # checkpoints of before there was one are gone on from
        del described["warmup"]
    job = _Job(objective, data, valid, recipe, execution, described, drawn)
    with tempfile.TemporaryDirectory() as folder:
        handed = Path(folder) / "result.safetensors" if execution.spawns else None
        result = fabric.launch(partial(_work, job, handed))
        if handed is not None:
            groups, description = read_checkpoint(handed)
            result = groups["best"], description["history"]
    objective.load_state_dict(result[0])
    return list(result[1])


@dataclass(frozen=True)
class _Job:
    """What every process is given."""

    objective: nn.Module
    data: Batches
    valid: Batches | None
    recipe: Recipe
    execution: Execution
    identity: dict[str, Any]
    drawn: bool


def _work(job: _Job, handed: Path | None, fabric: Fabric) -> tuple[dict[str, Tensor], History] | None:
    """Body of every process: returns the best state and the history, by a file when it has been spawned.

    A pipe would be full before it is read: the process that spawned this one waits for its end first.
    """
    with torch.random.fork_rng():
        state, history = _Training(job, fabric).run()
    if handed is None:
        return state, history
    if fabric.is_global_zero:
        write_checkpoint(handed, {"best": state}, {"history": history})
    # a process that ends while another still communicates with it makes that one fail
    fabric.barrier()
    torch.distributed.destroy_process_group()
    return None


class _Training:
    """State of one process's training, and its steps."""

    def __init__(self, job: _Job, fabric: Fabric) -> None:
        # spawned processes share the memory of the module, and would all update it
        recipe, objective = job.recipe, copy.deepcopy(job.objective)
        if recipe.optimiser not in OPTIMISERS:
            raise TrainingError(f"optimiser {recipe.optimiser!r} is unknown, there are {', '.join(OPTIMISERS)}")
        self.fabric, self.recipe, self.execution, self.identity = fabric, recipe, job.execution, job.identity
        self.objective, self.valid = objective, job.valid
        # all processes have the same buffers; sending them would need the same number of passes in each
        vars(objective)["_ddp_params_and_buffers_to_ignore"] = [name for name, _ in objective.named_buffers()]
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        self.optimiser = OPTIMISERS[recipe.optimiser](
            trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        compiled: Any = torch.compile(objective) if self.execution.compile else objective
        self.module, self.stepper = fabric.setup(compiled, self.optimiser)
        self.schedule = Schedule(len(job.data), recipe, fabric.global_rank, fabric.world_size, job.drawn)
        self.loader = self._load(job.data, self.schedule)
        self.epoch = self.done = self.steps = 0
        self.running: Any = 0.0
        self.count, self.seconds = 0, 0.0
        self.saved = time.monotonic()
        self.rate = Rate(self.execution.measured if fabric.is_global_zero else None, fabric.device)
        self.log: TensorBoardLog | None = None
        self.history: History = []
        self.best = self._state()

    def _load(self, data: Batches, schedule: Any) -> Any:
        pinned = self.fabric.device.type == "cuda"
        if not self.execution.workers:
            return Ahead(data, schedule, pinned)
        return DataLoader(
            data,  # type: ignore[arg-type]
            batch_sampler=schedule,
            num_workers=self.execution.workers,
            collate_fn=collate_dense if pinned else collate,
            pin_memory=pinned,
            persistent_workers=True,
        )

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.objective.state_dict().items()}

    def run(self) -> tuple[dict[str, Tensor], History]:
        """Train all remaining epochs; returns the best state and the rows of all epochs."""
        with coarse_products(self.execution.tf32 and self.fabric.device.type == "cuda"):
            try:
                return self._run()
            finally:
                if self.log is not None:
                    self.log.close()

    def _run(self) -> tuple[dict[str, Tensor], History]:
        try:
            is_resumed = self._restore()
            if self.execution.tensorboard is not None and self.fabric.is_global_zero:
                self.log = TensorBoardLog(self.execution.tensorboard, self.steps)
            if not is_resumed:
                self._close_epoch()
            while self.epoch < self.recipe.epochs and not self._exhausted():
                self.epoch += 1
                self._train_epoch()
                self._close_epoch()
        except (KeyboardInterrupt, SystemExit) as error:
            if self.execution.interrupted is None or not self.history:
                raise
            self.execution.interrupted(error)
        return self.best, self.history

    def _exhausted(self) -> bool:
        if self._capped():
            return True
        if self.recipe.patience is None or self.valid is None:
            return False
        losses = [row["valid_loss"] for row in self.history]
        return len(losses) - 1 - int(np.argmin(losses)) >= self.recipe.patience

    def _capped(self) -> bool:
        """Whether all steps or minutes are spent; all processes agree."""
        if self.recipe.steps is not None and self.steps >= self.recipe.steps:
            return True
        return self.recipe.minutes is not None and bool(self.fabric.broadcast(self.seconds >= 60 * self.recipe.minutes))

    def _train_epoch(self) -> None:
        self.module.train()
        rate = self.recipe.rate(self.epoch, [row["valid_loss"] for row in self.history])
        self._set_rate(rate)
        start = time.perf_counter()
        before = self.seconds
        self.schedule.epoch, self.schedule.done = self.epoch, self.done
        batches = iter(self.loader)
        for step in self.schedule.steps():
            if self.steps < self.recipe.warmup:
                self._set_rate(rate * (self.steps + 1) / self.recipe.warmup)
            self._step(batches, step)
            self.done, self.steps, self.count = self.done + 1, self.steps + 1, self.count + len(step)
            self.seconds = before + time.perf_counter() - start
            self.rate.add(len(step))
            if self.log is not None and self.steps % EVERY == 0:
                self.log.write(self.steps, {"loss/epoch until now": float(self.running) / self.count})
            if self._is_due():
                self._save()
            if self._capped():
                break
        self.rate.end()

    def _set_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _is_due(self) -> bool:
        """Whether it is time for a checkpoint within an epoch; all processes agree."""
        every, seconds = self.execution.checkpoint_steps, self.execution.checkpoint_s
        if every and self.steps % every == 0:
            return True
        return seconds is not None and bool(self.fabric.broadcast(time.monotonic() - self.saved >= seconds))

    def _step(self, batches: Iterator[Any], step: list[int]) -> None:
        # one seed per step: a resumed run drops out the same units
        words = np.random.SeedSequence([self.recipe.seed, self.steps, self.fabric.global_rank])
        torch.manual_seed(int(words.generate_state(1)[0]))
        batch_count = len(self.schedule.share(step))
        for number in range(batch_count):
            batch = self.fabric.to_device(next(batches))
            with self.fabric.no_backward_sync(self.module, enabled=number + 1 < batch_count):
                losses = self._losses(batch)
                # processes are averaged: items of all processes count the same
                self.fabric.backward(losses.sum() * (self.fabric.world_size / len(step)))
            self.running = self.running + losses.detach().sum().double()
        self.stepper.step()
        self.stepper.zero_grad()

    def _losses(self, batch: Any) -> Tensor:
        # fabric's own mixed precision would also round the audio before it is mixed
        with torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=self.execution.precision == "bf16-mixed"):
            losses: Tensor = self.module(*batch)
        return losses

    def _close_epoch(self) -> None:
        """Validate, remember the best epoch, report, save."""
        self._share_buffers()
        row: dict[str, float] = {"epoch": self.epoch, "step": self.steps}
        row["train_loss"] = self._total(self.running) / self.count if self.count else float("nan")
        row["valid_loss"] = self._validate()
        row["seconds"] = self.seconds
        trained = row["train_loss"] if self.valid is None else row["valid_loss"]
        if self.epoch and not np.isfinite(trained):
            raise TrainingError(
                f"the loss of epoch {self.epoch} is {trained}; lower the learning rate or check the audio"
            )
        earlier = [row["valid_loss"] for row in self.history]
        if self.valid is None or row["valid_loss"] < min(earlier, default=np.inf):
            self.best = self._state()
        self.history.append(row)
        self._log_epoch(row)
        self.running, self.count, self.done = 0.0, 0, 0
        self._save()
        if self.execution.progress is not None and self.fabric.is_global_zero:
            self.execution.progress(row)

    def _log_epoch(self, row: Mapping[str, float]) -> None:
        """Write the row of an epoch as points of TensorBoard's curves."""
        if self.log is None:
            return
        spent = row["seconds"] - (self.history[-2]["seconds"] if self.epoch else 0.0)
        values = {"loss/train": row["train_loss"], "loss/valid": row["valid_loss"]}
        values["learning rate"] = self.optimiser.param_groups[0]["lr"]
        if spent > 0:
            values["items per second"] = self.count / spent
        self.log.write(self.steps, values)

    def _total(self, value: Any) -> float:
        total = torch.as_tensor(value, dtype=torch.float64, device=self.fabric.device)
        return float(self.fabric.all_reduce(total, reduce_op="sum"))  # type: ignore[arg-type]

    @torch.no_grad()
    def _share_buffers(self) -> None:
        """Set running statistics of normalisations to their mean over processes, which had different items."""
        if self.fabric.world_size > 1:
            for buffer in self.objective.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.fabric.all_reduce(buffer, reduce_op="mean"))  # type: ignore[arg-type]

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss per validation item; each process takes its share of them."""
        if self.valid is None:
            return float("nan")
        self.module.eval()
        size = self.recipe.batch
        mine = range(self.fabric.global_rank, len(self.valid), self.fabric.world_size)
        batches = [list(mine[start : start + size]) for start in range(0, len(mine), size)]
        total = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        for batch in self._load(self.valid, batches):
            total += self._losses(self.fabric.to_device(batch)).double().sum()
        return self._total(total) / len(self.valid)

    @property
    def _checkpoint(self) -> Path | None:
        folder = self.execution.checkpoints
        return None if folder is None else Path(folder) / "training.safetensors"

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        counters = {name: vars(self)[name] for name in ("epoch", "done", "steps", "count", "seconds")}
        counters["running"] = self._total(self.running)
        if self.fabric.is_global_zero:
            groups: dict[str, Mapping[str, Tensor]] = {"module": self._state(), "best": self.best}
            for index, state in self.optimiser.state_dict()["state"].items():
                groups[f"optimiser.{index}"] = {name: value for name, value in state.items() if torch.is_tensor(value)}
            description = {**counters, "history": self.history, "identity": self.identity}
            write_checkpoint(self._checkpoint, groups, description)
        self.saved = time.monotonic()
        self.fabric.barrier()

    def _restore(self) -> bool:
        """Go on where a checkpoint stopped, if there is one."""
        if self._checkpoint is None or not os.path.lexists(self._checkpoint):
            return False
        try:
            groups, described = read_checkpoint(self._checkpoint)
        except CheckpointError as error:
            self._put_aside(self._checkpoint, error, "damaged")
            return False
        if (seen := described.pop("identity")) != self.identity:
            if isinstance(seen, dict) and {**seen, CONTENTS: []} == {**self.identity, CONTENTS: []}:
                self._put_aside(
                    self._checkpoint, f"{self._checkpoint}: of a training on other audio in the same files", "other"
                )
                return False
            raise TrainingError(
                f"{self._checkpoint}: of a training with other arguments or tracks; delete it or choose another folder"
            )
        self.objective.load_state_dict(groups.pop("module"))
        self.best = groups.pop("best")
        state = self.optimiser.state_dict()
        state["state"] = {int(name.partition(".")[2]): dict(values) for name, values in groups.items()}
        self.optimiser.load_state_dict(copy.deepcopy(state))
        running = described.pop("running") if self.fabric.is_global_zero else described.pop("running") * 0
        for name, value in {**described, "running": running}.items():
            setattr(self, name, value)
        # an interrupted epoch is continued
        self.epoch -= bool(self.done)
        log.info("%s: resumed after step %d", self._checkpoint, self.steps)
        return True

    def _put_aside(self, checkpoint: Path, why: object, suffix: str) -> None:
        """Rename a checkpoint that cannot be gone on from, once every process has seen so."""
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            aside = checkpoint.with_name(f"{checkpoint.name}.{suffix}")
            checkpoint.replace(aside)
            log.warning("%s; it is put aside as %s, and the training begins again", why, aside.name)


def device_of(execution: Execution) -> torch.device:
    """Device that a trained network is applied on: CUDA when it is available and not forbidden."""
    wanted = execution.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    return torch.device("cuda" if wanted else "cpu")
