"""The run folder: a place from which every figure and table can be rebuilt."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stemfuse
from stemfuse.blending import Fusion, load_fusion

from .config import RunConfig, dump_config, load_config
from .errors import RunError

if TYPE_CHECKING:
    import pandas as pd

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("numpy", "scipy", "pandas", "soundfile", "av", "librosa", "museval", "musdb", "torch", "demucs", "optuna")


BOUNDS, LEAVE_ONE_OUT = "bounds.csv", "leave_one_out.csv"


class Run:
    """A run folder, ``RUN/``.

    It holds ``config.yaml`` (the resolved recipe), ``record.json`` (versions, commit, seed, machine, times,
    data, separators' fingerprints), ``fusions/``, ``bounds.csv``, ``leave_one_out.csv``, ``scores.parquet``,
    ``museval/``, ``figures/``, ``report/`` and, when asked for, ``estimates/``.

    Parameters
    ----------
    path : path-like
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """A run that exists.

        Raises
        ------
        RunError
            The folder has no ``record.json``.
        """
        run = cls(path)
        if not run.record_path.is_file():
            raise RunError(f"{path}: no run folder (it has no record.json); stemfuse run CONFIG.yaml makes one")
        return run

    @property
    def record_path(self) -> Path:
        """``record.json``."""
        return self.path / "record.json"

    @property
    def report_path(self) -> Path:
        """``report/index.html``."""
        return self.path / "report" / "index.html"

    @property
    def scores_path(self) -> Path:
        """``scores.parquet``."""
        return self.path / "scores.parquet"

    @cached_property
    def config(self) -> RunConfig:
        """The resolved recipe."""
        return load_config(self.path / "config.yaml")

    def record(self) -> dict[str, Any]:
        """What is on record; empty when nothing is."""
        try:
            record: dict[str, Any] = json.loads(self.record_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise RunError(f"{self.record_path}: damaged ({error}); delete it and run again") from error
        return record

    def scores(self) -> pd.DataFrame:
        """All scores: track, fusion, source, frame, metric, value."""
        from stemfuse.analysis import read_scores

        return read_scores(self.scores_path)

    def fusion(self, label: str) -> Fusion:
        """A fitted fusion by its label."""
        fusions = self.record().get("fusions", {})
        if label not in fusions:
            raise RunError(f"{self.path}: fusion {label!r} was asked for, there are {', '.join(fusions) or 'none'}")
        return load_fusion(self.path / fusions[label]["file"])

    def write_config(self, config: RunConfig) -> None:
        """Write ``config.yaml``."""
        self.write_text("config.yaml", dump_config(config))

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write ``record.json``."""
        self.write_text("record.json", json.dumps(record, indent=1, ensure_ascii=False, default=str))

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run whole or not at all."""
        path = self.path / name
        temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror}); choose another folder with out=") from error
        finally:
            temporary.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def describe_machine() -> dict[str, Any]:
    """What a reader of figures has to know of the machine."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": "cpu",
    }


def describe_versions() -> dict[str, str]:
    """Versions of stemfuse and of the packages that numbers depend on."""
    versions = {"stemfuse": stemfuse.__version__, "python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
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


PARTS = ".parts"
"""Folder of a run with the scores of single tracks and methods, by which an interrupted run goes on."""
