"""Fusions as runs and commands need them: made by name, read from a file, asked for the options that they take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemfuse.blending import BaseFusion, Fusion, fusion_class, load_fusion, make_fusion

from .errors import RunError
from .machine import resolve_devices


def new_fusion(name: str, options: Mapping[str, Any]) -> BaseFusion:
    """Make a fusion by name; see `stemfuse.blending.make_fusion`.

    Raises
    ------
    FusionError
        The name or an option is unknown.
    RunError
        The fusion does not extend `BaseFusion`.
    """
    return _checked(make_fusion(name, **options))


def read_fusion(path: Path) -> BaseFusion:
    """Read a fusion that was saved; see `stemfuse.blending.load_fusion`.

    Raises
    ------
    FusionError
        The file is missing or damaged.
    RunError
        The fusion does not extend `BaseFusion`.
    """
    return _checked(load_fusion(path))


def takes_option(name: str, option: str) -> bool:
    """Whether a fusion's constructor takes an option.

    Examples
    --------
    >>> takes_option("search", "storage"), takes_option("mean", "storage")
    (True, False)
    """
    return option in inspect.signature(fusion_class(name)).parameters


def training_devices(fusion: BaseFusion) -> list[str]:
    """Devices that a fitted fusion was trained on; the processor where nothing was trained by gradient."""
    # the passes of a solver, which runs on the processor, have no epoch
    if fusion.execution is None or not any("epoch" in row for row in fusion.history_):
        return ["cpu"]
    return resolve_devices(fusion.execution.accelerator, fusion.execution.devices)


def _checked(fusion: Fusion) -> BaseFusion:
    if not isinstance(fusion, BaseFusion):
        raise RunError(f"got {fusion!r}, expected a fusion that extends BaseFusion")
    return fusion
