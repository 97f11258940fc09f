"""What results depend on beside the recipe: machine, devices, versions of packages, the commit of the source."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import stemfuse
from stemfuse.blending import BaseFusion

PACKAGES = ("numpy", "scipy", "pandas", "soundfile", "av", "museval", "musdb", "torch", "demucs", "optuna")
"""Packages whose versions are on record."""


def describe_machine() -> dict[str, Any]:
    """What a reader of figures has to know of the machine."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": "cpu",
    }


def resolve_devices(name: str, count: int = 1) -> list[str]:
    """Devices by their full names.

    Parameters
    ----------
    name : str
        A torch device, or ``"auto"``: CUDA where it is available, else the processor.
    count : int
        How many, where several may be used.

    Examples
    --------
    >>> resolve_devices("cpu"), resolve_devices("cuda:1"), resolve_devices("cuda", 2)
    (['cpu'], ['cuda:1'], ['cuda:0', 'cuda:1'])
    """
    if name == "auto":
        name = "cuda" if _has_cuda() else "cpu"
    return [f"cuda:{number}" for number in range(count)] if name in ("cuda", "gpu") else [name]


def _has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def describe_versions() -> dict[str, str]:
    """Versions of stemfuse and of the packages that numbers depend on."""
    python = sys.version.split()[0]
    return {"stemfuse": stemfuse.__version__, "python": python, **versions_of(PACKAGES)}


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those of the packages that are installed.

    Examples
    --------
    >>> list(versions_of(["numpy", "nobody_has_this"]))
    ['numpy']
    """
    versions = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def source_commit() -> str | None:
    """Commit of the checkout that stemfuse is imported from; None when it is installed otherwise."""
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
        tracked = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == tracked.returncode == 0 else None


def training_devices(fusion: BaseFusion) -> list[str]:
    """Devices that a fitted fusion was trained on; the processor where nothing was trained by gradient."""
    # the passes of a solver, which runs on the processor, have no epoch
    if fusion.execution is None or not any("epoch" in row for row in fusion.history_):
        return ["cpu"]
    return resolve_devices(fusion.execution.accelerator, fusion.execution.devices)
