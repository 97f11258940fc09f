"""The stage that trains a separator: recipe, tracks, and a folder with checkpoint, history, figures and weights."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from stemfuse.experiments.config import BandConfig, Label
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.recipes import parse_part
from stemfuse.experiments.workers import Progress, silent
from stemfuse.separators import Stems, Track, whole_file
from stemfuse.separators.audio.whole_files import clear_remains
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.networks.training import (
    Augmentation,
    Stretching,
    TrainableNetwork,
    list_trainable,
    stretched_copies,
    trainable_class,
)
from stemfuse.separators.training import Execution, Recipe

from .unfinished import rows_before

HISTORY = ("epoch", "step", "train_loss", "valid_sdr_db", "seconds")
"""Columns of ``history.csv``."""


class TrainConfig(BaseModel):
    """The training of one separator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path = Field(description="folder for checkpoint, history, figures and weights")
    data: Path = Field(description="data set root with references")
    train: tuple[Label, ...] = Field(("train",), min_length=1, description="subsets to train on")
    valid: tuple[Label, ...] = Field(("valid",), description="subsets that choose the epoch, by SDR")
    test: tuple[Label, ...] = Field(
        ("test",), min_length=1, description="subsets that the cells of a study are scored on"
    )
    tracks: int | None = Field(None, ge=1, description="only the first tracks of each subset, at most this many")
    band: BandConfig | None = Field(None, description="songs of the synthetic band that are made in data first")
    network: dict[str, Any] = Field({}, description="sizes and loss of the separator")
    initial: Path | None = Field(None, description="weights to start from; random ones when not given")
    chunks: int = Field(1000, ge=1, description="random chunks in an epoch")
    valid_chunks: int = Field(4, ge=1, description="chunks of each validation track")
    augmentation: Augmentation = Field(Augmentation(), description="how stems are mixed and changed")
    stretch: Stretching | None = Field(None, description="copies at other pitches and tempos; none when not given")
    recipe: Recipe = Field(Recipe(), description="optimiser, learning rate, batch, epochs, patience, seed")
    execution: Execution = Field(Execution(), description="accelerator, devices, precision, workers")
    half: bool = Field(False, description="save the weights in half precision")
    grid: tuple[dict[str, tuple[Any, ...]], ...] = Field(
        (),
        description="a study: by dotted key, such as network.block, the values that are tried, all with all; one "
        "mapping, or a list of some",
    )
    seeds: int | None = Field(
        None, ge=1, le=1000, description="a study: how often each choice is trained, seeds from recipe.seed on"
    )

    @field_validator("grid", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, grid: Any) -> Any:
        return [grid] if isinstance(grid, Mapping) else grid

    @field_validator("grid")
    @classmethod
    def _has_values(cls, grid: tuple[dict[str, tuple[Any, ...]], ...]) -> tuple[dict[str, tuple[Any, ...]], ...]:
        for part in grid:
            for key, values in part.items():
                if not values or len({str(value) for value in values}) < len(values):
                    raise ValueError(
                        f"{key} has {'a value twice' if values else 'no values'}, expected some that differ"
                    )
                if key.partition(".")[0] in ("out", "grid", "seeds"):
                    raise ValueError(f"{key} cannot be varied, expected keys such as network.loss")
        return grid

    @property
    def is_study(self) -> bool:
        """Whether it stands for several trainings."""
        return bool(self.grid) or self.seeds is not None


class Journal:
    """Writes every row of a training into a CSV file; rows of the same or later epochs are replaced.

    Parameters
    ----------
    path : Path
        The file.
    show : callable, optional
        Called with each row as well.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "history.csv")
    >>> journal = Journal(path)
    >>> journal({"epoch": 0, "step": 0, "train_loss": float("nan"), "valid_loss": 3.25, "seconds": 0.0})
    >>> journal({"epoch": 1, "step": 9, "train_loss": 0.5, "valid_loss": -1.5, "seconds": 2.0})
    >>> print(path.read_text().strip())
    epoch,step,train_loss,valid_sdr_db,seconds
    0,0,nan,-3.25,0.0
    1,9,0.5,1.5,2.0
    """

    def __init__(self, path: Path, show: Callable[[dict[str, float]], object] | None = None) -> None:
        self.path, self.show = path, show

    def __call__(self, row: dict[str, float]) -> None:
        """Write a row of the loop's history, whose ``valid_loss`` is minus the SDR."""
        earlier = rows_before(self.path, row["epoch"]) if row["epoch"] else []
        self._write([*earlier, _with_sdr(row)])
        if self.show is not None:
            self.show(row)

    def complete(self, history: Iterable[dict[str, float]]) -> None:
        """Write all rows: a training that was killed may have kept an epoch and not written its row."""
        self._write([_with_sdr(row) for row in history])

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, HISTORY, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _with_sdr(row: dict[str, float]) -> dict[str, float]:
    return row | {"valid_sdr_db": -row["valid_loss"]}


def train_separator(
    name: str,
    config: TrainConfig,
    progress: Progress = silent,
    say: Callable[[dict[str, float]], object] | None = None,
) -> Path:
    """Train a separator by a recipe; a second call goes on where the first one stopped.

    Parameters
    ----------
    name : str
        One of `stemfuse.separators.networks.training.list_trainable`.
    config : TrainConfig
        The recipe.
    progress : callable
        Called as ``progress(stage, done, total)``.
    say : callable, optional
        Called with every row of the history; not called when the training runs in spawned processes.

    Returns
    -------
    Path
        The file of weights, which ``load_separator(name, weights=FILE)`` takes.

    Raises
    ------
    ConfigError
        An unknown separator or option.
    TrainingError
        Tracks cannot be trained on, the loss is not finite, or the folder holds another training.
    """
    from stemfuse.separators.networks.training.fit import fit_network

    trainable = trainable_of(name, config)
    made_songs(config, progress)
    tracks, validated = (_tracks(config, subsets) for subsets in (config.train, config.valid))
    config.out.mkdir(parents=True, exist_ok=True)
    clear_remains(config.out)

    def show(row: dict[str, float]) -> None:
        progress("train", int(row["epoch"]), config.recipe.epochs)
        if say is not None:
            say(row)

    journal = Journal(config.out / "history.csv", None if config.execution.spawns else show)
    weights = config.out / trainable.file_name
    history = fit_network(
        trainable,
        tracks,
        validated,
        weights,
        config.recipe,
        replace(config.execution, checkpoints=config.out, progress=journal),
        chunks=config.chunks,
        valid_chunks=config.valid_chunks,
        augmentation=config.augmentation,
        copies=_copies(config, tracks, progress),
        initial=config.initial,
        half=config.half,
        trained_on=[f"{tracks[0].data}/{subset}" for subset in (*config.train, *(config.valid if validated else ()))],
    )
    journal.complete(history)
    _plot(config.out, f"{name} of {', '.join(trainable.sources)}", history)
    return weights


def trainable_of(name: str, config: TrainConfig) -> TrainableNetwork:
    """The network that a recipe trains, with its sizes; a wrong name or size raises a `ConfigError`."""
    if name not in list_trainable():
        near = did_you_mean(name, list_trainable())
        raise ConfigError(
            f"got separator {name!r}, expected one that can be trained: {', '.join(list_trainable())}{near}"
        )
    return parse_part(trainable_class(name), config.network, "network")


def made_songs(config: TrainConfig, progress: Progress = silent) -> None:
    """Make the songs of the synthetic band that the recipe wants; those that are there are left alone."""
    if config.band is not None:
        from stemfuse.experiments.band import synthesize

        songs, seconds, seed = config.band.songs, config.band.seconds, config.band.seed
        synthesize(config.data, songs, seconds, seed, progress=lambda done, total: progress("synth", done, total))


def _tracks(config: TrainConfig, subsets: tuple[str, ...]) -> list[Track]:
    """Tracks of some subsets; subsets to train on have to exist, those to validate on need not."""
    found = open_data(config.data, "sum")
    present = [subset for subset in subsets if subset in found.subsets]
    if subsets == config.train and len(present) < len(subsets):
        raise ConfigError(
            f"train: got {', '.join(subsets)}, expected subsets of {config.data}: {', '.join(found.subsets)}"
        )
    return [track for subset in present for track in found.tracks(subset)[: config.tracks]]


def _copies(config: TrainConfig, tracks: list[Track], progress: Progress) -> list[list[Stems]]:
    """Copies of the tracks at other pitches and tempos, made first; none when the recipe asks for none."""
    if config.stretch is None:
        return []
    folder = config.out / "stretched"

    def show(done: int, total: int) -> None:
        progress("stretch", done, total)

    return stretched_copies(tracks, folder, config.stretch, show, config.out)


def _plot(out: Path, title: str, history: list[dict[str, float]]) -> None:
    """Draw loss and SDR; nothing where no epoch was trained, or none has a finite value."""
    from stemfuse.analysis.figures.time import plot_training

    # the loop's "valid_loss" is minus the SDR, which has a panel of its own
    rows = [{key: value for key, value in _with_sdr(row).items() if key != "valid_loss"} for row in history]
    shown = [row[name] for row in rows for name in ("train_loss", "valid_sdr_db")]
    if len(rows) > 1 and np.isfinite(shown).any():
        plot_training(rows, title).savefig(out / "training.png", dpi=150)
