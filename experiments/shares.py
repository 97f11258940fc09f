"""Shares of a run's fusions, fitted and scored by several machines at a time, each in a folder of its own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from stemfuse.separators import StemfuseError
from stemfuse.separators.audio.whole_files import whole_file

from .config import FusionConfig, RunConfig
from .errors import ConfigError
from .record import FusionRecord
from .run import PARTS, Run
from .seeds import cell_with_seed


class Share(NamedTuple):
    """One of several equal parts of a run's fusions.

    Examples
    --------
    >>> Share.parse("2/5")
    Share(number=2, size=5)
    """

    number: int
    """From 1."""
    size: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``2/5``, the second of five."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"--cells: got {text!r}, expected a share such as 2/5, the second of five")
        return cls(int(found[1]), int(found[2]))

    def of(self, config: RunConfig) -> RunConfig:
        """The recipe of this share: every so many fusions, and neither bounds nor players.

        Raises
        ------
        ConfigError
            There are fewer fusions than shares.
        """
        cells = [cell_with_seed(cell, config.seed) for cell in config.cells()][self.number - 1 :: self.size]
        if not cells:
            raise ConfigError(
                f"--cells {self.number}/{self.size}: the recipe has {len(config.cells())} fusions; take fewer shares"
            )
        changed = {
            "out": _folder_of(config.out) / f"{self.number}-of-{self.size}",
            "fusions": tuple(FusionConfig(**cell.recipe()) for cell in cells),
            "bounds": None,
            "players": config.players.model_copy(update={"tracks": 0}),
        }
        return config.model_copy(update=changed)


def _folder_of(run: Path) -> Path:
    """Where the shares of a run lie: beside it, so that it can be worked on at the same time."""
    return run.with_name(f"{run.name}.shares")


def shared_runs(run: Run) -> Iterator[Run]:
    """Runs of the shares that there are; one that cannot be read is passed over, its fusions are fitted again."""
    for folder in sorted(_folder_of(run.path).glob("*-of-*")):
        share = Run(folder)
        try:
            share.record()
        except StemfuseError:
            continue
        yield share


def take_fusion(run: Run, label: str, digest: str) -> FusionRecord | None:
    """A fusion that was fitted in a share, with its files copied into the run; None where there is none."""
    for share in shared_runs(run):
        fitted = share.record().fusions.get(label)
        if fitted is None or fitted.digest != digest or not fitted.files:
            continue
        kept = share.checksums
        if not set(fitted.files) <= kept.read().keys() or set(fitted.files) & set(kept.changed()):
            continue
        for name in fitted.files:
            with whole_file(run.path / name) as temporary:
                shutil.copyfile(share.path / name, temporary)
        return fitted.model_copy(update={"songs": {}})
    return None


def take_scores(run: Run) -> None:
    """Copy the scores of shares; their names say what they are of, and their own checksums whether they are whole."""
    for share in shared_runs(run):
        for file in sorted((share.path / PARTS).glob("*.parquet")):
            if not (own := run.path / PARTS / file.name).exists():
                with whole_file(own) as temporary:
                    shutil.copyfile(file, temporary)
