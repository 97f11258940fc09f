"""What a run keeps on record in ``record.json``: what it was made of, with what, when, and what it fitted."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, ValidationError

from stemfuse.separators import digest
from stemfuse.separators.foreign.documents import read_json

from .config import Cell
from .errors import DamagedRecordError, RunError


def _within(file: str) -> str:
    """The name of a file, which has to lie in the run's folder."""
    if PurePosixPath(file).is_absolute() or ".." in file.split("/") or "\0" in file:
        raise ValueError("expected a file in the run's folder")
    return file


RunFile = Annotated[str, AfterValidator(_within)]


class _Part(BaseModel):
    # keys of other versions are kept; what is not set is not written
    model_config = ConfigDict(extra="allow")


class DataRecord(_Part):
    """One data set."""

    path: str = ""
    real: bool | None = None
    """Real music or synthetic; None when that is not known."""


class TrackRecord(_Part):
    """One track."""

    name: str
    label: str = ""
    """What it is called in tables, where other tracks have its name."""
    data: str = ""
    """Label of its data set."""
    subset: str = ""
    duration_s: FiniteFloat | None = None
    rate: int | None = None
    notes: list[str] = []
    """What was done to its files, such as zeros added to an end."""
    mixture_sha256: str | None = None
    stems: dict[str, str] = {}
    """By folder in the store, digest of the stems that were used, and whose checksums were compared."""

    @property
    def shown(self) -> str:
        """What it is called in tables."""
        return self.label or self.name


class SeparatorRecord(_Part):
    """One separator."""

    key: str = ""
    """Its folder in the store."""
    fingerprint: str = ""
    describe: dict[str, Any] = {}
    """Name, version, options and digests of its weights."""


class SongRecord(_Part):
    """Weights that a fusion predicted for one song."""

    file: RunFile
    levels_db: dict[str, list[float]] = {}
    """Level of every source, second by second."""


class FusionRecord(_Part):
    """One fitted fusion; files are relative to the run's folder."""

    kind: str = ""
    file: RunFile = ""
    linear: bool = True
    devices: list[str] = []
    """Where it was fitted."""
    options: dict[str, Any] = {}
    """As they were used, with the seed."""
    files: list[RunFile] = []
    """All files that belong to it."""
    note: str = ""
    """What has to be known of its scores, such as that its file was fitted on these songs."""
    kept_equal: list[str] = []
    """Sources of which a search kept equal weights."""
    digest: str = ""
    """Of all that it depends on: a fusion with the same digest is not fitted again."""
    seconds: float | None = None
    history: RunFile = ""
    """Table of its training; empty where nothing was trained."""
    journal: RunFile = ""
    """File with the trials of its search."""
    studies: dict[str, str] = {}
    """By source, the name of its search in the journal."""
    folds: list[RunFile] = []
    """Files of the fusions that were fitted once more, each for some of the songs: those that the fit has not seen, or
    that not all separators have stems of. Empty where all songs are fused by the one file."""
    unfitted: list[str] = []
    """Songs that it has no scores of, as it cannot be fitted without them, each with the reason."""
    songs: dict[str, SongRecord] = {}
    """By track, weights that vary in time."""
    study: str = ""
    """Label of the study that it is a cell of; empty where it is none."""
    separators: list[str] | None = None
    """Labels of those that it mixes; None for all."""
    varied: dict[str, Any] = {}
    """Of its options, those that differ between the cells."""
    repeat: int | None = None
    """Which of the seeds of the study it has."""

    def mixed_of(self, labels: Collection[str]) -> tuple[str, ...] | None:
        """Of the separators that have stems of a song, those that it mixes; None for all."""
        return None if self.separators is None else tuple(label for label in self.separators if label in labels)

    def of(self, cell: Cell) -> Self:
        """The same fusion as a cell of a study."""
        self.study = cell.study if cell.study != cell.label else ""
        self.separators = None if cell.separators is None else list(cell.separators)
        self.varied, self.repeat = cell.varied, cell.repeat
        return self

    def file_of(self, refit: int | None) -> str:
        """The file of the fusion that fuses some of the songs; empty where it cannot be fitted for them."""
        return self.file if refit is None or not self.folds else self.folds[refit]

    def all_files(self) -> list[str]:
        """Its files and those of its songs."""
        return [*self.files, *(song.file for song in self.songs.values())]


class RunRecord(_Part):
    """The record of a run; every field has a default, so that a record of another version can be read.

    Examples
    --------
    >>> record = RunRecord(seed=3)
    >>> record.fusions = {"mean": FusionRecord(kind="mean", file="fusions/mean.npz")}
    >>> print(record.to_json())
    {
     "seed": 3,
     "fusions": {
      "mean": {
       "kind": "mean",
       "file": "fusions/mean.npz"
      }
     },
     "seal": "..."
    }
    """

    identity: str = ""
    """Digest of all that the results depend on."""
    versions: dict[str, str] = {}
    commit: str | None = None
    seed: int | None = None
    machine: dict[str, Any] = {}
    started: str = ""
    finished: str | None = None
    """When the last stage ended; None while the run is not finished."""
    seconds: dict[str, float] = {}
    """By stage, all attempts together."""
    data: dict[str, DataRecord] = {}
    tracks: list[TrackRecord] = []
    separators: dict[str, SeparatorRecord] = {}
    fusions: dict[str, FusionRecord] = {}
    failed: dict[str, str] = {}
    """By label, why a fusion could not be fitted; all others are done."""
    warnings: list[str] = []
    missing: str = "error"
    """What the recipe says of songs that a separator has no stems of."""
    left_out: dict[str, list[str]] = {}
    """By separator, songs that it has no stems of, and that were left out for all."""
    notes: list[str] = []
    """How the scores are to be read."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record; an empty one where there is no file.

        Raises
        ------
        RunError
            The file is damaged, or is no record of a run.
        """
        try:
            content = read_json(path)
            seal = content.pop("seal", None) if isinstance(content, dict) else None
            # records of older versions have no seal; where one stands under another name, the name has changed
            renamed = seal is None and any(
                name not in cls.model_fields and isinstance(value, str) and len(value) == len(digest({}))
                for name, value in (content.items() if isinstance(content, dict) else ())
            )
            if renamed or seal not in (None, digest(content)):
                raise DamagedRecordError(
                    f"{path}: damaged (its content has changed since it was written); run the recipe again"
                )
            return cls.model_validate(content)
        except DamagedRecordError:
            raise
        except FileNotFoundError:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            problem = f"is no record of a run ({where}: {first['msg']})"
        except (OSError, ValueError) as error:
            problem = f"damaged ({error})"
        raise RunError(f"{path}: {problem}; delete it and run again")

    def use_devices(self, names: Iterable[str]) -> None:
        """Add devices to those that the machine has used.

        Examples
        --------
        >>> record = RunRecord(machine={"device": "cpu"})
        >>> record.use_devices(["cuda:0", "cpu"])
        >>> record.machine["device"]
        'cpu, cuda:0'
        """
        known = [name for name in str(self.machine.get("device", "")).split(", ") if name]
        self.machine = self.machine | {"device": ", ".join(dict.fromkeys([*known, *names]))}

    def to_json(self) -> str:
        """The text of ``record.json``, with a checksum of its own content."""
        content = json.loads(json.dumps(self.model_dump(exclude_unset=True), ensure_ascii=False, default=str))
        return json.dumps({**content, "seal": digest(content)}, indent=1, ensure_ascii=False)
