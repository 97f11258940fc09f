"""How mixers are trained, from a recipe's part or a command's options: checked first, then given to each fusion."""

from __future__ import annotations

import os
from pathlib import Path

from stemfuse.blending import BaseFusion
from stemfuse.separators import StemStore, TrainingError
from stemfuse.separators.optional import missing_packages, require_packages
from stemfuse.separators.training import Execution

from .config import TrainingConfig
from .errors import ConfigError

PACKS = ".packs"
"""Folder of the stem store with training packs."""

CHECKPOINT_MINUTES = 10.0
"""Most minutes that a killed training of a run loses."""


def check_training(training: TrainingConfig, alone: bool = False) -> None:
    """Raise where this machine cannot train so, before any work.

    Parameters
    ----------
    training : TrainingConfig
        The recipe's part.
    alone : bool
        Whether a single fusion is fitted: then every process of ``torchrun`` may do the whole command.

    Raises
    ------
    ConfigError
        There is no such device, or no compiler.
    TrainingError
        A package is missing.
    """
    if training.log == "tensorboard":
        require_packages({"tensorboard": "tensorboard"}, "training.log", TrainingError)
    if (training.nodes > 1 or training.strategy == "ddp") and not (alone and _under_torchrun()):
        got = f"nodes={training.nodes}" if training.nodes > 1 else f"strategy={training.strategy}"
        raise ConfigError(
            f"training: got {got}, which torchrun starts: torchrun ... --no-python stemfuse fit; a run trains on one "
            "machine, with devices=N and strategy=auto"
        )
    if training.accelerator == "cuda":
        _check_cuda(training)
    if training.compile:
        _check_compiler()


def _check_cuda(training: TrainingConfig) -> None:
    if missing_packages({"torch": "mixers"}):
        return  # the fusions that need it say so
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < training.devices:
        raise ConfigError(
            f"training: got accelerator=cuda, devices={training.devices}, expected at most the {count} CUDA devices "
            "that PyTorch finds here; take accelerator=cpu, or install PyTorch for CUDA"
        )


def _check_compiler() -> None:
    if missing_packages({"torch": "mixers"}):
        return
    import torch

    try:
        torch.compile(lambda values: values.sin() + 1)(torch.ones(2))
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"training: got compile=true, but torch.compile does not work here ({reason[0][:200]}); install a C++ "
            "compiler, or take compile=false"
        ) from error


def execution_of(
    training: TrainingConfig,
    store: StemStore,
    logs: Path | None = None,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    again: bool = False,
) -> Execution:
    """The execution that a recipe's part describes.

    Parameters
    ----------
    training : TrainingConfig
        The part.
    store : StemStore
        Where training packs are shared.
    logs : Path, optional
        Folder of TensorBoard's curves, if they are wanted.
    checkpoint_minutes : float
        When the part does not say.
    again : bool
        Whether the same fusion is trained once more, without some songs: its size is not said again.

    Examples
    --------
    >>> execution = execution_of(TrainingConfig(devices=2), StemStore("store"))
    >>> execution.strategy, execution.packs.as_posix(), execution.checkpoint_s
    ('ddp_spawn', 'store/.packs', 600.0)
    """
    spawned = training.devices > 1 and training.strategy == "auto" and not _under_torchrun()
    return Execution(
        accelerator=training.accelerator,
        devices=training.devices,
        nodes=training.nodes,
        strategy="ddp_spawn" if spawned else training.strategy,
        precision=training.precision,
        tf32=training.tf32,
        compile=training.compile,
        packs=store.root / PACKS if training.packs else None,
        pack_kind=training.pack_kind,
        checkpoint_s=60 * (training.checkpoint_minutes or checkpoint_minutes),
        tensorboard=logs if training.log == "tensorboard" else None,
        estimates=not again and not is_follower(),
    )


def is_follower() -> bool:
    """Whether this is a process of ``torchrun`` that trains with the first one, which alone writes what is learnt."""
    return int(os.environ.get("RANK", "0")) > 0


def _under_torchrun() -> bool:
    return "LOCAL_RANK" in os.environ


def trains(fusion: BaseFusion) -> bool:
    """Whether a fusion, or one that it is made of, is trained by gradient."""
    return any(part.execution is not None for part in (fusion, *fusion.parts()))
