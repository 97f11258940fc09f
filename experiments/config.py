"""What the recipe of a run holds, part by part, and how it is checked."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from stemfuse.separators.names import name_fault, shown
from stemfuse.separators.separator import named_separator
from stemfuse.separators.sources import parse_sources

from .data.datasets import open_data
from .data.musdb_tracks import musdb_places

SEPARATORS = "separators"
"""Key of a grid that does not name an option, but the separators that are fused."""

MOST_CELLS = 10_000
"""Of one study: each is a file or more."""


def _safe_label(label: str) -> str:
    if fault := name_fault(label):
        raise ValueError(f"{fault}; give it a name that a file can have")
    # subsets are compared in one form of Unicode
    return unicodedata.normalize("NFC", label)


Label = Annotated[str, AfterValidator(_safe_label)]

SourcesConfig = Annotated[
    dict[str, tuple[str, ...]] | None, BeforeValidator(lambda given: None if given is None else parse_sources(given))
]
"""Sources that are picked, and those that are sums of others, such as ``{accompaniment: [drums, bass, other]}``."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BandConfig(_Part):
    """Songs of the synthetic band, which are made where they are missing."""

    songs: dict[str, int] = Field(description="how many, by subset")
    seconds: float = Field(gt=0, le=3600, description="length of each")
    seed: int = Field(0, ge=0, description="another seed is another band")


class DataConfig(_Part):
    """One data set: a tree of tracks, or a single song."""

    path: Path = Field(description="data set root, folder of one track, or audio file")
    label: Label | None = Field(None, description="its name in tables; the folder's name when not given")
    real: bool = Field(True, description="real music or synthetic; the report lists the two apart")
    subsets: tuple[Label, ...] | None = Field(None, description="only these subsets; all when not given")
    tracks: int | None = Field(None, ge=1, description="only the first tracks of each subset, at most this many")
    names: tuple[str, ...] | None = Field(
        None, description="only these tracks: names, or <subset>/<name>; all when not given"
    )
    mixture: Literal["file", "sum"] = Field("file", description="sum: add up the stems where mixture.wav is missing")
    band: BandConfig | None = Field(None, description="songs of the synthetic band that are made at the path first")

    @property
    def name(self) -> str:
        """Label, or the last part of the path."""
        return self.label or self.path.resolve().name


class SeparatorConfig(_Part):
    """One separator, or stems that lie in the store already."""

    name: str = Field(
        description="one of stemfuse list separators, or a saved fusion's file; with stored, the name in the store"
    )
    label: Label | None = Field(None, description="its name in labels and tables; the separator's when not given")
    options: dict[str, Any] = Field({}, description="the separator's own arguments")
    stored: bool = Field(
        False, description="use only stems that were separated or adopted before; no weights are loaded"
    )
    trust: bool = Field(
        False,
        description="run the program, or the code in a file, that it stands for: know what it is before you say so",
    )
    sources: SourcesConfig = Field(
        None, description="of its stems, those that are picked or summed up; as the recipe says when not given"
    )

    @model_validator(mode="before")
    @classmethod
    def _file_of_a_fusion(cls, given: Any) -> Any:
        """A file stands for the separator that is made of it, which is called as the file is."""
        if not (isinstance(given, Mapping) and isinstance(given.get("name"), str)) or given.get("stored"):
            return given
        name, options = named_separator(given["name"])
        if not options:
            return given
        called = Path(given["name"]).stem
        label = given.get("label") or (name if name_fault(called) else called)
        return {**given, "name": name, "label": label, "options": {**options, **(given.get("options") or {})}}


class FusionConfig(_Part):
    """One fusion, or a study of it: a cell for every choice of separators, options and seed."""

    name: str = Field(description="one of stemfuse list fusions")
    label: Label | None = Field(None, description="its name in tables; the fusion's when not given")
    options: dict[str, Any] = Field({}, description="the fusion's own arguments")
    separators: tuple[str, ...] | None = Field(
        None, description="labels of the separators that are fused, [] for the mixture alone; all when not given"
    )
    grid: dict[str, tuple[Any, ...]] = Field(
        {}, description="by option, the values that are tried, all with all; separators: lists of labels"
    )
    seeds: int | None = Field(None, ge=1, le=1000, description="how often it is fitted, each time with another seed")

    @field_validator("grid")
    @classmethod
    def _has_values(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for option, values in grid.items():
            if not values:
                raise ValueError(f"{option} has no values, expected at least one")
            if len({str(value) for value in values}) < len(values):
                raise ValueError(f"{option} has a value twice")
            if option == SEPARATORS and not all(isinstance(value, list | tuple) for value in values):
                raise ValueError(f"{option}: got {values[0]!r}, expected lists of labels, such as [[], [a], [a, b]]")
        return grid

    @model_validator(mode="after")
    def _is_said_once(self) -> Self:
        given = {*self.options, *([] if self.separators is None else [SEPARATORS])}
        if twice := sorted(given & self.grid.keys()):
            raise ValueError(f"{', '.join(twice)} stands in the grid and beside it; leave one out")
        count = math.prod(map(len, self.grid.values())) * (self.seeds or 1)
        if count > MOST_CELLS:
            raise ValueError(f"the grid has {count} cells, expected at most {MOST_CELLS}; split it into several runs")
        return self

    def cells(self) -> Iterator[Cell]:
        """The fusions that it stands for: one where there is neither a grid nor seeds.

        Examples
        --------
        >>> study = FusionConfig(name="conv1x1", grid={"separators": [[], ["a", "b"]], "epochs": [9]}, seeds=2)
        >>> [cell.label for cell in study.cells()][1:3]
        ['conv1x1-mixture-epochs=9-seed=1', 'conv1x1-a+b-epochs=9-seed=0']
        """
        repeats = range(1) if self.seeds is None else range(self.seeds)
        for values in itertools.product(*self.grid.values()):
            varied = dict(zip(self.grid, values, strict=True))
            separators = varied.pop(SEPARATORS, self.separators)
            of = "" if separators is None else "+".join(map(str, separators)) or "mixture"
            # those that a label was given for are in it
            words = [of] if of and (SEPARATORS in self.grid or self.label is None) else []
            words += [f"{option}={_in_label(value)}" for option, value in varied.items()]
            for repeat in repeats:
                seed = [] if self.seeds is None else [f"seed={repeat}"]
                yield Cell(
                    name=self.name,
                    label="-".join([self.label or self.name, *words, *seed]),
                    options=self.options | varied,
                    separators=separators,
                    study=self.label or self.name,
                    varied=varied,
                    repeat=None if self.seeds is None else repeat,
                )


class Cell(FusionConfig):
    """One fusion of a run, with its own label: of a study, or alone."""

    label: Label
    study: str
    """Label of what it is a cell of: its own where nothing varies."""
    varied: dict[str, Any] = {}
    """Of its options, those that differ from other cells', without the seed."""
    repeat: int | None = None
    """Of the seeds of a study, which one."""

    def recipe(self) -> dict[str, Any]:
        """What the fusion is, as JSON takes it; where it stands in a study is left out."""
        kept = {"name", "options"} | ({SEPARATORS} if self.separators is not None else set())
        return {"label": self.label} | self.model_dump(mode="json", include=kept)


def _in_label(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class AugmentConfig(_Part):
    """New songs to fit on: sources of different songs that are fitted on, mixed and then separated like these."""

    separate: int = Field(ge=1, le=100_000, description="number of new songs, each separated by all separators")
    seconds: float = Field(30.0, gt=0, le=3600, description="length of each in seconds; shorter songs are not drawn")
    seed: int | None = Field(None, ge=0, lt=1 << 32, description="of what is drawn; the run's when not given")


class FitConfig(_Part):
    """Which tracks fusions are fitted to."""

    train: tuple[Label, ...] = Field(("train",), min_length=1, description="subsets that weights are fitted to")
    valid: tuple[Label, ...] = Field(("valid",), description="subsets that fusions are validated on")
    test: tuple[Label, ...] | None = Field(
        None, min_length=1, description="subsets that are fused and scored; all that are not fitted on when not given"
    )
    folds: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="groups of songs that are left out in turn, each fused by weights fitted to the others; when not "
        "given, only where no other song can be fitted on; 0: never",
    )
    augment: AugmentConfig | None = Field(None, description="songs mixed anew to fit on as well; none when not given")

    @field_validator("folds")
    @classmethod
    def _leaves_songs_out(cls, folds: int | None) -> int | None:
        if folds == 1:
            raise ValueError("one group leaves no song to fit on; expected at least two, or 0 for none")
        return folds


class TrainingConfig(_Part):
    """Where and how mixers are trained by gradient; the defaults give the same weights bit for bit, run by run."""

    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA where there is some, else the processor"
    )
    devices: int = Field(1, ge=1, le=1024, description="processes or GPUs on each machine; each takes a whole batch")
    nodes: int = Field(1, ge=1, le=1024, description="machines; stemfuse fit under torchrun only")
    strategy: Literal["auto", "ddp", "ddp_spawn"] = Field(
        "auto", description="auto: ddp_spawn where there are several devices; ddp: stemfuse fit under torchrun only"
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "32-true", description="bf16-mixed: networks in bfloat16, audio and mix in float32"
    )
    tf32: bool = Field(False, description="a GPU rounds factors of float32 products to 11 bits")
    compile: bool = Field(False, description="torch.compile")
    packs: bool = Field(
        True, description="keep what is trained on as one file per song in the store, for all trainings"
    )
    pack_kind: Literal["float32", "float16"] = Field("float32", description="float16: half the size, rounded at -72 dB")
    checkpoint_minutes: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="most minutes that a killed training loses; not given: half a minute in stemfuse fit, ten in a run",
    )
    log: Literal["tensorboard"] | None = Field(None, description="curves for TensorBoard beside the history")

    @model_validator(mode="after")
    def _kind_has_packs(self) -> TrainingConfig:
        if self.pack_kind != "float32" and not self.packs:
            raise ValueError(f"got pack_kind {self.pack_kind} with packs: false, expected packs: true")
        return self

    @property
    def deciding(self) -> dict[str, Any]:
        """What changes the weights that are learnt, by rounding or by larger steps; empty for the defaults."""
        given = self.model_dump(include={"precision", "tf32", "compile", "pack_kind", "devices", "nodes"})
        return {name: value for name, value in given.items() if value != TrainingConfig.model_fields[name].default}


class BoundsConfig(_Part):
    """Upper bounds of linear mixes on the test tracks, and what each separator is worth."""

    stems: Literal["same", "all"] = Field("all", description="stems of the same source, or of all")
    mixture: bool = Field(True, description="whether the mixture is an input")
    segment_frames: int = Field(6, ge=1, description="length of a segment in frames")
    bands_hz: tuple[float, ...] | None = Field(None, description="edges between bands; null: no bounds by band")


class ScoreConfig(_Part):
    """How scores are computed."""

    window_s: float = Field(1.0, gt=0, le=3600, description="length of a frame in seconds")
    hop_s: float = Field(1.0, gt=0, le=3600, description="distance of frames in seconds")
    backend: Literal["fast", "museval"] = Field("fast", description="both give the same values")
    metrics: tuple[Literal["SDR", "SI_SDR", "bleedless", "fullness", "L1_frequency"], ...] = Field(
        (), description="metrics of whole songs beside BSS Eval; SDR: of BSS Eval this one alone, which is much faster"
    )


class PlayersConfig(_Part):
    """What is played in the report."""

    tracks: int = Field(3, ge=0, description="number of test songs with players, per data set")
    duration_s: float = Field(30.0, gt=0, le=3600, description="length of the excerpts in seconds")
    form: Literal["flac", "wav"] = Field("flac", description="of the excerpts; both have 16 bits and lose nothing more")


class RunConfig(_Part):
    """A whole run."""

    out: Path = Field(description="run folder")
    store: Path = Field(description="stem store, shared by all runs")
    data: tuple[DataConfig, ...] = Field(min_length=1)
    separators: tuple[SeparatorConfig, ...] = Field(min_length=1)
    fusions: tuple[FusionConfig, ...] = (FusionConfig(name="mean"),)
    sources: SourcesConfig = Field(
        None, description="sources that are picked or summed up from what data and separators give; all when not given"
    )
    missing: Literal["error", "skip", "refit"] = Field(
        "error",
        description="songs that a stored separator has no stems of: an error; skip: left out for all; "
        "refit: fused by the other separators, with weights that are fitted again",
    )
    fit: FitConfig = FitConfig()
    training: TrainingConfig = TrainingConfig()
    score: ScoreConfig = ScoreConfig()
    bounds: BoundsConfig | None = Field(BoundsConfig(), description="null: no bounds are computed")
    players: PlayersConfig = PlayersConfig()
    estimates: bool = Field(False, description="keep every fusion's stems as float32 WAV in estimates/")
    convert: bool = Field(False, description="resample, and copy mono to stereo, for separators that need it, and back")
    workers: int | None = Field(None, ge=1, le=1024, description="processes; one per core when not given")
    seed: int = Field(
        0, ge=0, lt=1 << 32, description="of every fusion and separator that takes a seed and is given none here"
    )

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, given: Any) -> Any:
        """A bare string is the name of a separator or fusion, or the path of data."""
        if isinstance(given, Mapping):
            given = dict(given)
            if isinstance(given.get("fusions"), list | tuple):
                given["fusions"] = [part for entry in given["fusions"] for part in _members(entry)]
            for key, field in (("separators", "name"), ("fusions", "name"), ("data", "path")):
                if isinstance(given.get(key), list | tuple):
                    given[key] = [{field: part} if isinstance(part, str | Path) else part for part in given[key]]
            data = given.get("data")
            if isinstance(data, str | Path):
                given["data"] = [{"path": data}]
            elif isinstance(data, list | tuple):
                given["data"] = [_opened(part) for part in data]
            elif (part := _musdb_part(data)) is not None:
                given["data"] = [part]
        return given

    @model_validator(mode="after")
    def _labels_differ(self) -> RunConfig:
        """Methods share one column of the score table, so their labels must differ."""
        separators = [part.label or part.name for part in self.separators]
        labels = [*separators, *(cell.label for cell in self.cells())]
        for name in (*labels, *(part.name for part in self.data)):
            if fault := name_fault(name):
                raise ValueError(f"label '{shown(name)}' {fault}; give it a name that a file can have")
        _differ(labels, "separators and fusions", "label")
        _differ([part.name for part in self.data], "data sets", "label")
        for fusion in self.fusions:
            for label in (label for cell in fusion.cells() for label in cell.separators or ()):
                if label not in separators:
                    raise ValueError(
                        f"fusion {fusion.label or fusion.name}: got separator '{shown(label)}', expected some of "
                        f"{', '.join(separators)}"
                    )
        return self

    def cells(self) -> tuple[Cell, ...]:
        """All fusions of the run, those of studies one by one."""
        return tuple(cell for fusion in self.fusions for cell in fusion.cells())


def _members(entry: Any) -> list[Any]:
    """The fusions of a group, ``{fusions: [...], grid: ...}``, each with what the group says of all of them."""
    if not (isinstance(entry, Mapping) and isinstance(entry.get("fusions"), list | tuple)):
        return [entry]
    shared = {key: value for key, value in entry.items() if key != "fusions"}
    members = [{"name": part} if isinstance(part, str) else part for part in entry["fusions"]]
    return [{**shared, **part} if isinstance(part, Mapping) else part for part in members]


def _musdb_part(data: Any) -> Mapping[str, Any] | None:
    """The part of a recipe that stands for a ``musdb.DB`` or a track of it; None for anything else."""
    if musdb_places(data) is None:
        return None
    found = open_data(data)
    (first, *more) = [place for places in found.places.values() for place in places.values()]
    if not more:
        return {"path": first, "label": found.names()[0]}
    part = {"path": found.path, "subsets": found.subsets}
    tree = open_data(found.path)
    whole = all(found.names(subset) == tree.names(subset) for subset in found.subsets)
    return (
        part
        if whole
        else part | {"names": [f"{subset}/{name}" for subset in found.subsets for name in found.names(subset)]}
    )


def _opened(part: Any) -> Any:
    """A part of the data as it is, but for one that the package musdb has opened, alone or as its path."""
    if isinstance(part, Mapping):
        found = _musdb_part(part.get("path"))
        return part if found is None else {**found, **{key: value for key, value in part.items() if key != "path"}}
    return _musdb_part(part) or part


def _differ(labels: Sequence[str], what: str, key: str) -> None:
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"two {what} are called {', '.join(twice)}; give each a {key} of its own")
