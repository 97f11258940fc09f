"""A study of trainings: one separator with many choices of sizes, losses and seeds, each trained and scored alike."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stemfuse.analysis import bss_eval
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.recipes import changed_part
from stemfuse.experiments.report.studies import StudyRow, StudyTable
from stemfuse.experiments.workers import Progress, silent
from stemfuse.separators import Track, load_separator, whole_file
from stemfuse.separators.foreign.documents import read_json
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.names import name_fault
from stemfuse.separators.networks.training import TrainableNetwork
from stemfuse.separators.training.audio_contents import audio_contents

from .train import TrainConfig, made_songs, train_separator, trainable_of

STUDY = "study.csv"
"""Name of the table of all cells, in the folder of the study."""

SEED = "recipe.seed"


class TrainingCell(NamedTuple):
    """One training of a study."""

    label: str
    varied: Mapping[str, Any]
    """By dotted key of the recipe, what differs from other cells, without the seed."""
    config: TrainConfig


def training_cells(config: TrainConfig) -> Iterator[TrainingCell]:
    """The trainings that a recipe stands for, each in a folder of its own below the recipe's.

    Parameters
    ----------
    config : TrainConfig
        With a grid, seeds, or both.

    Examples
    --------
    >>> grid = [{"network.block": ["tdc", "tfc"]}, {"network.block": ["tfc"], "network.spectrum": ["magnitude"]}]
    >>> config = TrainConfig(out="study", data="songs", grid=grid, seeds=2)
    >>> [cell.label for cell in training_cells(config)][1:5]
    ['block=tdc-seed=1', 'block=tfc-seed=0', 'block=tfc-seed=1', 'block=tfc-spectrum=magnitude-seed=0']
    """
    given = config.model_dump(mode="json", exclude={"grid", "seeds", "out"}, exclude_unset=True)
    repeats = range(config.seeds or 1)
    for grid in config.grid or ({},):
        for values in itertools.product(*grid.values()):
            varied = dict(zip(grid, values, strict=True))
            for repeat in repeats:
                seed = {} if config.seeds is None else {SEED: config.recipe.seed + repeat}
                words = [f"{key.rpartition('.')[2]}={_word(value)}" for key, value in (varied | seed).items()]
                label = "-".join(words)
                changes = varied | seed | {"out": str(config.out / label)}
                yield TrainingCell(label, varied, changed_part(TrainConfig, given, changes))


def _word(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def train_study(
    name: str,
    config: TrainConfig,
    progress: Progress = silent,
    say: Callable[[str], object] | None = None,
) -> StudyTable:
    """Train a separator in every cell of a recipe, and score each on songs that none was trained on.

    A second call goes on where the first one stopped, and does no cell again.

    Parameters
    ----------
    name : str
        One of `list_trainable`.
    config : TrainConfig
        With a grid or seeds; its ``test`` subsets are scored.
    progress : callable
        Called as ``progress(stage, done, total)``; stages are the cells and what each does.
    say : callable, optional
        Called with a line of every cell that is done.

    Returns
    -------
    StudyTable
        Mean and standard deviation, over seeds, of the SDR in dB: median of the frames of a song, then of the songs, as
        the papers have it. All cells stand in ``study.csv`` in the recipe's folder.

    Raises
    ------
    ConfigError
        A wrong recipe; known before the first cell is trained.
    TrainingError
        As `train_separator`.
    """
    cells = _checked_cells(config)
    trainables = [trainable_of(name, cell.config) for cell in cells]
    for trainable in trainables:
        trainable.size()
    made_songs(config, progress)
    songs = _test_songs(config)
    lines = []
    for number, (cell, trainable) in enumerate(zip(cells, trainables, strict=True)):
        progress("cells", number, len(cells))
        weights = train_separator(name, cell.config, progress)
        frames = _scored(name, trainable, weights, songs)
        lines.append(_line(cell, trainable, frames))
        _write(config.out / STUDY, lines)
        if say is not None:
            scores = ", ".join(f"{source} {lines[-1][source]:.2f}" for source in trainable.sources)
            say(f"{cell.label} ({number + 1} of {len(cells)}): {scores} dB")
    progress("cells", len(cells), len(cells))
    return study_table(config, lines)


def _checked_cells(config: TrainConfig) -> list[TrainingCell]:
    """All cells; labels that no folder can have, or that two have, raise a `ConfigError`."""
    if config.seeds is not None and any(SEED in grid for grid in config.grid):
        raise ConfigError(f"got {SEED} in the grid and seeds={config.seeds}, expected one of the two")
    cells = list(training_cells(config))
    labels = [cell.label for cell in cells]
    for label in labels:
        if fault := name_fault(label):
            raise ConfigError(f"grid: {label} {fault}; vary something else, or train without a grid")
        if labels.count(label) > 1:
            raise ConfigError(f"grid: {label} stands for two trainings; leave one out")
    return cells


def _test_songs(config: TrainConfig) -> list[Track]:
    found = open_data(config.data, "sum")
    if absent := [subset for subset in config.test if subset not in found.subsets]:
        raise ConfigError(
            f"test: got {', '.join(absent)}, expected subsets of {config.data}: {', '.join(found.subsets)}"
        )
    return [track for subset in config.test for track in found.tracks(subset)[: config.tracks]]


Frames = dict[str, dict[str, list[float | None]]]
"""SDR in dB by source and song; None where it is not defined."""


def _scored(name: str, trainable: TrainableNetwork, weights: Path, songs: Sequence[Track]) -> Frames:
    """Scores of a cell, which are kept beside its weights for as long as these and the songs are the same."""
    kept = weights.parent / "scores.json"
    of = hashlib.sha256(weights.read_bytes())
    of.update(" ".join(audio_contents(songs, weights.parent.parent)).encode())
    try:
        before = read_json(kept)
        if before["of"] == of.hexdigest():
            return dict(before["frames"])
    except (OSError, ForeignFileError, KeyError, TypeError):
        pass
    separator = load_separator(name, weights=weights, **trainable.options())
    frames: Frames = {source: {} for source in trainable.sources}
    for song in songs:
        stems = separator.separate(song.mixture.read(), song.rate)
        for source in trainable.sources:
            true, made = (signal.read().T[None] for signal in (song.required_references()[source], stems[source]))
            values = bss_eval(true, made)[0][0]
            frames[source][f"{song.subset}/{song.name}"] = [float(v) if np.isfinite(v) else None for v in values]
    with whole_file(kept) as temporary:
        temporary.write_text(json.dumps({"of": of.hexdigest(), "frames": frames}))
    return frames


def _line(cell: TrainingCell, trainable: TrainableNetwork, frames: Frames) -> dict[str, Any]:
    """A row of the table of all cells."""
    line: dict[str, Any] = {"cell": cell.label, **{key: _word(value) for key, value in cell.varied.items()}}
    line |= {"seed": cell.config.recipe.seed, "parameters": trainable.size()}
    for source in trainable.sources:
        songs = [np.array([v for v in values if v is not None]) for values in frames[source].values()]
        medians = [float(np.median(values)) for values in songs if len(values)]
        line[source] = float(np.median(medians)) if medians else float("nan")
    return line


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    with whole_file(path) as temporary:
        pd.DataFrame(lines).to_csv(temporary, index=False)


def study_table(config: TrainConfig, lines: Sequence[Mapping[str, Any]]) -> StudyTable:
    """Mean and spread over the seeds of each choice, in the recipe's order."""
    keys = list(dict.fromkeys(key for grid in config.grid for key in grid))
    sources = list(
        dict.fromkeys(name for line in lines for name in line if name not in _NOT_SOURCES and "." not in name)
    )
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((*(str(line.get(key, "")) for key in keys), f"{line['parameters']:,}"), []).append(line)
    rows = []
    for group, members in groups.items():
        values = pd.DataFrame([{source: line.get(source) for source in sources} for line in members], dtype=float)
        means, spreads = (
            {source: float(value[source]) for source in sources} for value in (values.mean(), values.std(ddof=1))
        )
        rows.append(StudyRow(group, len(members), means, spreads))
    names = (*(key.rpartition(".")[2] for key in keys), "parameters")
    title = f"{config.out.name}: SDR in dB, median of frames, then of songs; ± is over seeds"
    return StudyTable(title, names, tuple(sources), rows)


_NOT_SOURCES = ("cell", "seed", "parameters")
