"""The benchmark's definition: its parts, their songs, and the one list of fusions; read from one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stemfuse.blending.constant import PRESETS
from stemfuse.experiments.config import BandConfig, FusionConfig, RunConfig
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.recipes import parse_config, read_config
from stemfuse.separators import digest
from stemfuse.separators.foreign.documents import read_yaml
from stemfuse.separators.names import did_you_mean

NAME = "benchmark"
FILE = Path(__file__).with_name("definition.yaml")

LEAST_SQUARES = "least squares"
"""The fusion that is tried with some of the separators: closed form, so that a further set costs little."""

FITTED = "fitted"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartConfig(_Part):
    """One part of the benchmark; parts are never mixed in a mean."""

    title: str
    about: str = Field("", description="what it is measured on, in words")
    published: str = Field("", description="where its songs are found, and as which files")
    needs: str = Field("", description="folder of real music that it needs, below real; empty for songs that are made")
    adopt: str = Field("", description="folder of stems by system, below real; separators are run when not given")
    minutes: float = Field(0.0, ge=0, description="about, with these sizes on two quiet cores")
    order: tuple[str, ...] = Field(min_length=1, description="separators, in the order in which they are added up")
    roles: dict[str, tuple[str, ...]] = Field({}, description="by published blend, separators in its roles")
    left_out: dict[str, str] = Field({}, description="labels of fusions that it cannot have, with the reason")
    recipe: dict[str, Any] = Field(description="the rest of the recipe of its run")


class Benchmark(_Part):
    """The whole definition.

    Examples
    --------
    >>> list(load_benchmark().parts)
    ['vocals', 'songs', 'band']
    """

    out: Path = Field(description="folder of runs, store, tables and figures")
    document: Path | None = Field(None, description="folder of document, figures and figures' numbers; out by default")
    real: Path | None = Field(None, description="folder of real music; without it, only songs that are made")
    only: tuple[str, ...] | None = Field(None, description="only these parts")
    workers: int | None = Field(None, ge=1, le=1024, description="processes; one per core when not given")
    fusions: tuple[FusionConfig, ...] = Field(min_length=1)
    not_fusions_of_their_own: dict[str, str] = {}
    parts: dict[str, PartConfig] = Field(min_length=1)

    @field_validator("fusions", mode="before")
    @classmethod
    def _names_alone(cls, given: Any) -> Any:
        return [{"name": part} if isinstance(part, str) else part for part in given] if given else given

    @property
    def listed(self) -> tuple[str, ...]:
        """Labels of the list of fusions."""
        return tuple(fusion.label or fusion.name for fusion in self.fusions)

    @property
    def place(self) -> Path:
        """Where the document lies."""
        return self.document or self.out

    @property
    def digest(self) -> str:
        """Of all that the figures depend on; folders and processes do not count."""
        return digest(self.model_dump(mode="json", include={"fusions", "parts"}))

    def wanted(self) -> dict[str, PartConfig]:
        """The parts that are measured.

        Raises
        ------
        ConfigError
            A part is unknown, or its folder of real music is not there.
        """
        chosen = tuple(self.parts) if self.only is None else self.only
        for name in chosen:
            if name not in self.parts:
                raise ConfigError(
                    f"only: got {name!r}, expected some of {', '.join(self.parts)}{did_you_mean(name, self.parts)}"
                )
        found = {name: self.parts[name] for name in chosen if self.real is not None or not self.parts[name].needs}
        for part in found.values():
            if self.real is not None and part.needs and not (self.real / part.needs).is_dir():
                raise ConfigError(
                    f"real={self.real}: no folder {part.needs} in it, which the part '{part.title}' needs; make it of "
                    f"{part.published}, or name other parts with only=[...]"
                )
        if not found:
            raise ConfigError(f"{', '.join(chosen)}: needs real music; name its folder with real=FOLDER")
        return found

    def minutes(self, part: PartConfig) -> float:
        """About how long a part takes on two quiet cores, in proportion to the songs that are made."""
        frozen = next((own for own in load_benchmark().parts.values() if own.title == part.title), part)
        before, now = _made_seconds(frozen), _made_seconds(part)
        return frozen.minutes * (now / before if before else 1.0)

    def recipe(self, name: str) -> RunConfig:
        """The recipe of a part's run: its songs, its separators, all fusions and those of the claims."""
        part = self.parts[name]
        root = self.real if part.needs and self.real is not None else self.out
        data = [{**entry, "path": root / entry["path"]} for entry in part.recipe["data"]]
        separators = [{"name": label, "stored": bool(part.adopt)} for label in part.order]
        given: dict[str, Any] = {
            "players": {"tracks": 0},
            # as in the papers, nothing else is reported; of constant weights it follows from the statistics
            "score": {"metrics": ["SDR"]},
            **part.recipe,
            "out": self.out / name / "run",
            "store": self.out / name / "store",
            "data": data,
            "separators": separators,
            "fusions": [cell.model_dump() for cell in self.cells(part)],
            "workers": self.workers,
        }
        return parse_config(given, f"{NAME}, part {name}")

    def cells(self, part: PartConfig) -> list[FusionConfig]:
        """All fusions of a part: those of the list, published blends beside fitted ones, and some of the separators."""
        listed = [fusion for fusion in self.fusions if (fusion.label or fusion.name) not in part.left_out]
        return [*listed, *_blends(part), *self._subsets(part)]

    def _subsets(self, part: PartConfig) -> Iterator[FusionConfig]:
        """Least squares of the first separators, and of all but one."""
        whole = next((fusion for fusion in self.fusions if fusion.label == LEAST_SQUARES), None)
        if whole is None or len(part.order) < 2:
            return
        for count in range(1, len(part.order)):
            yield whole.model_copy(update={"label": first_of(count), "separators": part.order[:count]})
        # without the last one, the first ones are left
        for label in part.order[:-1]:
            others = tuple(other for other in part.order if other != label)
            yield whole.model_copy(update={"label": without(label), "separators": others})


def first_of(count: int) -> str:
    """Label of least squares of the first separators.

    Examples
    --------
    >>> first_of(2)
    'first 2'
    """
    return f"first {count}"


def without(label: str) -> str:
    """Label of least squares of all separators but one."""
    return f"without {label}"


def fitted(blend: str) -> str:
    """Label of the weights that are fitted beside a published blend."""
    return f"{blend} {FITTED}"


def _blends(part: PartConfig) -> Iterator[FusionConfig]:
    """Published blends, and weights of the same kind that are fitted to the same separators."""
    for blend, roles in part.roles.items():
        given: dict[str, Any] = {"blend": blend, "separators": roles}
        if sources := part.recipe.get("sources"):
            # a preset is of all sources, this part has some
            weights = PRESETS[blend].weights
            given = {"blend": {source: dict(zip(roles, weights[source], strict=True)) for source in sources}}
        yield FusionConfig(name="fixed", label=blend, options=given, separators=roles)
        yield FusionConfig(
            name="least_squares", label=fitted(blend), options={"constraint": "simplex"}, separators=roles
        )


def _made_seconds(part: PartConfig) -> float:
    """Seconds of the songs of a part that are made."""
    bands = [BandConfig(**entry["band"]) for entry in part.recipe["data"] if entry.get("band")]
    return sum(band.seconds * sum(band.songs.values()) for band in bands)


def is_benchmark(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of the packaged definition, or of a file that defines a benchmark.

    Examples
    --------
    >>> is_benchmark("benchmark"), is_benchmark("mdx_mixer")
    (True, False)
    """
    if not Path(path).is_file():
        return os.fspath(path) == NAME
    try:
        given = read_yaml(path)
    except (OSError, ValueError):
        # what is wrong with it is said by who reads it as a recipe
        return False
    return isinstance(given, Mapping) and "parts" in given


def load_benchmark(path: str | os.PathLike[str] = NAME, overrides: Iterable[str] = ()) -> Benchmark:
    """Read a definition.

    Parameters
    ----------
    path : path-like
        A YAML file, or ``benchmark`` for the packaged one.
    overrides : iterable of str
        ``key=value`` or ``key.sub=value``, such as ``real=FOLDER``.

    Raises
    ------
    ConfigError
        An unknown key or a wrong value.
    """
    return read_config(Benchmark, path if Path(path).is_file() else FILE, overrides)
