"""Recipes: the YAML that describes a run, checked before anything is computed."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from stemfuse.separators.foreign.documents import parse_yaml, read_yaml
from stemfuse.separators.names import did_you_mean, name_fault, shown
from stemfuse.separators.sources import parse_sources

from .data.datasets import open_data
from .data.musdb_tracks import musdb_places
from .errors import ConfigError

LONGEST_VALUE = 200
"""Characters of a wrong value that a message has."""

Model = TypeVar("Model", bound=BaseModel)


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

    @property
    def name(self) -> str:
        """Label, or the last part of the path."""
        return self.label or self.path.resolve().name


class SeparatorConfig(_Part):
    """One separator, or stems that lie in the store already."""

    name: str = Field(description="one of stemfuse list separators; with stored, the name in the store")
    label: Label | None = Field(None, description="its name in labels and tables; the separator's when not given")
    options: dict[str, Any] = Field({}, description="the separator's own arguments")
    stored: bool = Field(
        False, description="use only stems that were separated or adopted before; no weights are loaded"
    )


class FusionConfig(_Part):
    """One fusion."""

    name: str = Field(description="one of stemfuse list fusions")
    label: Label | None = Field(None, description="its name in tables; the fusion's when not given")
    options: dict[str, Any] = Field({}, description="the fusion's own arguments")


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
    metrics: tuple[Literal["SI_SDR", "bleedless", "fullness", "L1_frequency"], ...] = Field(
        (), description="metrics of whole songs beside BSS Eval"
    )


class PlayersConfig(_Part):
    """What is played in the report."""

    tracks: int = Field(3, ge=0, description="number of test songs with players, per data set")
    duration_s: float = Field(30.0, gt=0, le=3600, description="length of the excerpts in seconds")


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
            for key, field in (("separators", "name"), ("fusions", "name"), ("data", "path")):
                if isinstance(given.get(key), list | tuple):
                    given[key] = [{field: part} if isinstance(part, str | Path) else part for part in given[key]]
            data = given.get("data")
            if isinstance(data, list | tuple):
                given["data"] = [_opened(part) for part in data]
            elif (part := _musdb_part(data)) is not None:
                given["data"] = [part]
        return given

    @model_validator(mode="after")
    def _labels_differ(self) -> RunConfig:
        """Methods share one column of the score table, so their labels must differ."""
        methods: tuple[SeparatorConfig | FusionConfig, ...] = (*self.separators, *self.fusions)
        labels = [part.label or part.name for part in methods]
        for name in (*labels, *(part.name for part in self.data)):
            if fault := name_fault(name):
                raise ValueError(f"label '{shown(name)}' {fault}; give it a name that a file can have")
        _differ(labels, "separators and fusions", "label")
        _differ([part.name for part in self.data], "data sets", "label")
        return self


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


def load_config(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> RunConfig:
    """Read the recipe of a run; see `read_config`."""
    return read_config(RunConfig, path, overrides)


def read_config(model: type[Model], path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Model:
    """Read a recipe.

    Parameters
    ----------
    model : type
        What the recipe describes, such as `RunConfig`.
    path : path-like
        A YAML file. Relative paths in it start from the folder that the command is run in.
    overrides : iterable of str
        ``key=value`` or ``key.sub=value``; numbers go into lists (``data.0.path=songs``); values are YAML.

    Raises
    ------
    ConfigError
        Unreadable YAML, an unknown key (the message lists the allowed ones) or a wrong value.
    """
    try:
        given = read_yaml(path)
    except (OSError, ValueError) as error:
        # a name with a null character is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be read ({reason}); name a YAML file") from error
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: got {type(given).__name__}, expected keys {', '.join(model.model_fields)}")
    for override in overrides:
        _override(given, override)
    return parse_part(model, given, str(path))


def parse_config(given: Mapping[str, Any], origin: str = "recipe") -> RunConfig:
    """Check a recipe that is already a mapping; errors as in `load_config`.

    Examples
    --------
    >>> config = parse_config({"out": "run", "store": "store", "data": ["songs"], "separators": ["repet_sim"]})
    >>> config.fusions[0].name
    'mean'
    """
    return parse_part(RunConfig, given, origin)


def parse_part(model: type[Model], given: Mapping[str, Any], origin: str = "options") -> Model:
    """Check one part of a recipe; errors as in `load_config`."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = error.errors()
        inner = {problem["loc"][:depth] for problem in problems for depth in range(1, len(problem["loc"]))}
        # a list with a wrong item is reported a second time as a whole: the item's message is better
        lines = [_explain(model, problem) for problem in problems if problem["loc"] not in inner]
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from error


def dump_config(config: RunConfig) -> str:
    """The resolved recipe as YAML, every default written out."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _override(given: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"got override {override!r}, expected key=value or key.sub=value")
    *parents, last = key.split(".")
    try:
        value = parse_yaml(text)
        for parent in parents:
            given = given[int(parent)] if isinstance(given, list) else given.setdefault(parent, {})
        given[int(last) if isinstance(given, list) else last] = value
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"override {override!r} does not fit the recipe ({error})") from error


def _explain(model: type[BaseModel], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _allowed_keys(model, problem["loc"][:-1])
        near = did_you_mean(str(problem["loc"][-1]), allowed)
        return f"key {where} is unknown, allowed are {', '.join(allowed)}{near}"
    if problem["type"] == "missing":
        return f"key {where} is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = problem.get("input")
    if problem["type"] == "literal_error":
        message += did_you_mean(str(value), re.findall("'([^']*)'", message))
    if not where:
        return message
    return f"{where}: {message}" if isinstance(value, dict) else f"{where}: got {_short(value)}, {_lower(message)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _allowed_keys(model: Any, location: Sequence[str | int]) -> list[str]:
    for part in location:
        if isinstance(part, str):
            model = _model_in(model.model_fields[part].annotation)
    return [field.name for field in fields(model)] if is_dataclass(model) else list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    """The model, or dataclass, inside tuple[Model, ...] or Model | None."""
    if get_origin(annotation) in (tuple, Union, UnionType):
        return next(found for part in get_args(annotation) if (found := _model_in(part)) is not None)
    is_model = isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation))
    return annotation if is_model else None
