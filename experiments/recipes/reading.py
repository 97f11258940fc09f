"""Recipes read from YAML or made from mappings, and checked before anything is computed."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from stemfuse.experiments.config import RunConfig
from stemfuse.experiments.errors import ConfigError
from stemfuse.separators.foreign.documents import parse_yaml, read_yaml
from stemfuse.separators.names import did_you_mean, shown

from .papers import Paper

FOLDER = Path(__file__).parent
"""Where the packaged recipes lie."""

TRAININGS = FOLDER / "trainings"
"""Where those of trainings lie."""

LONGEST_VALUE = 200
"""Characters of a wrong value that a message has."""

Model = TypeVar("Model", bound=BaseModel)


RECIPE, SYNTH = "recipe", "synth"
"""Keys of a recipe that comes with the package: the run, and what is changed in it for ``data=synth``."""


def load_config(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> RunConfig:
    """Read the recipe of a run.

    Parameters
    ----------
    path : path-like
        A YAML file, or the name of a recipe that comes with the package, see `packaged_recipes`. Relative paths in it
        start from the folder that the command is run in.
    overrides : iterable of str
        See `read_config`. ``data=synth`` makes of a packaged recipe one of small sizes, on songs of the synthetic band.

    Raises
    ------
    ConfigError
        As `read_config`.
    """
    file, changes = find_recipe(path), list(overrides)
    given = read_mapping(file, [RECIPE, *RunConfig.model_fields])
    if isinstance(given.get(RECIPE), dict):
        on_synth = f"data={SYNTH}" in changes
        changes = [change for change in changes if change != f"data={SYNTH}"]
        given = given[RECIPE] | (given.get(SYNTH) or {} if on_synth else {})
    return _changed(RunConfig, given, changes, str(path))


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
    return _changed(model, read_mapping(path, list(model.model_fields)), overrides, str(path))


def read_training(model: type[Model], path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Model:
    """Read the recipe of a training.

    Parameters
    ----------
    model : type
        What the recipe describes: `stemfuse.experiments.stages.train.TrainConfig`.
    path : path-like
        A YAML file, or the name of a recipe that comes with the package, see `packaged_trainings`. Relative paths in it
        start from the folder that the command is run in.
    overrides : iterable of str
        See `read_config`. ``data=synth`` makes of a packaged recipe one of small sizes, on songs of the synthetic band.

    Raises
    ------
    ConfigError
        As `read_config`.
    """
    file, changes = find_recipe(path, TRAININGS), list(overrides)
    given = read_mapping(file, list(model.model_fields), packaged_trainings())
    small = given.pop(SYNTH, None)
    if small and f"data={SYNTH}" in changes:
        changes.remove(f"data={SYNTH}")
        given |= small
    return _changed(model, given, changes, str(path))


def read_mapping(
    path: str | os.PathLike[str], expected: Sequence[str], packaged: Sequence[str] | None = None
) -> dict[str, Any]:
    """Read a YAML file that is a mapping; a ConfigError names the expected keys, or the packaged recipes."""
    try:
        given = read_yaml(path)
    except (OSError, ValueError) as error:
        # a name with a null character is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        packaged = packaged_recipes() if packaged is None else packaged
        near = did_you_mean(str(path), packaged)
        raise ConfigError(
            f"{path}: cannot be read ({reason}); name a YAML file, or one of the recipes {', '.join(packaged)}{near}"
        ) from error
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: got {type(given).__name__}, expected keys {', '.join(expected)}")
    return given


def changed_part(model: type[Model], given: Mapping[str, Any], changes: Mapping[str, Any]) -> Model:
    """One part of a recipe with other values at some dotted keys; errors as in `load_config`."""
    changed = copy.deepcopy(dict(given))
    for key, value in changes.items():
        _put(changed, key, value, f"{key}={value}")
    return parse_part(model, changed)


def _changed(model: type[Model], given: dict[str, Any], overrides: Iterable[str], origin: str) -> Model:
    for override in overrides:
        _override(given, override)
    return parse_part(model, given, origin)


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with the package, one for each paper.

    Examples
    --------
    >>> packaged_recipes()
    ['danna_sep', 'kuielab', 'mdx_mixer', 'uhlich2017']
    """
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def packaged_trainings() -> list[str]:
    """Names of the recipes of trainings that come with the package.

    Examples
    --------
    >>> "ismir2020_blocks" in packaged_trainings()
    True
    """
    return sorted(file.stem for file in TRAININGS.glob("*.yaml"))


def find_recipe(path: str | os.PathLike[str], folder: Path = FOLDER) -> Path:
    """The file itself, or, where there is none of this name, the packaged recipe that is called so."""
    named = folder / f"{os.fspath(path)}.yaml"
    packaged = {file.stem for file in folder.glob("*.yaml")}
    return Path(path) if Path(path).exists() or str(path) not in packaged else named


def paper_tables(name: str) -> Paper:
    """The tables of a paper that a packaged recipe is of, ``mdx-mixer`` or ``mdx_mixer``.

    Raises
    ------
    ConfigError
        There is no such recipe.
    """
    known = packaged_recipes()
    if (stem := name.replace("-", "_")) not in known:
        near = did_you_mean(stem, known)
        raise ConfigError(f"--like: got {name!r}, expected one of {', '.join(known)}{near}")
    return parse_part(Paper, read_mapping(FOLDER / f"{stem}.yaml", [RECIPE])["paper"], name)


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
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"override {override!r} does not fit the recipe ({error})") from error
    _put(given, key, value, override)


def _put(given: Any, key: str, value: Any, override: str) -> None:
    *parents, last = key.split(".")
    try:
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
    if problem["type"] in ("tuple_type", "list_type") and isinstance(value, str | int | float):
        message = f"expected a list, such as [{shown(str(value))[:LONGEST_VALUE]}]"
    if not where:
        return message
    return f"{where}: {message}" if isinstance(value, dict) else f"{where}: got {_short(value)}, {_lower(message)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _allowed_keys(model: Any, location: Sequence[str | int]) -> list[str]:
    is_key = False
    for part in location:
        # after a mapping of models comes the key of one of them
        if isinstance(part, str) and not is_key:
            annotation = model.model_fields[part].annotation
            model, is_key = _model_in(annotation), get_origin(annotation) is dict
        else:
            is_key = False
    return [field.name for field in fields(model)] if is_dataclass(model) else list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    """The model, or dataclass, inside tuple[Model, ...], dict[str, Model] or Model | None."""
    if get_origin(annotation) in (tuple, dict, Union, UnionType):
        return next(found for part in get_args(annotation) if (found := _model_in(part)) is not None)
    is_model = isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation))
    return annotation if is_model else None
