"""Options of exports as people write them on a command line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.experiments.errors import ConfigError
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.options import checked_options

if TYPE_CHECKING:
    from stemfuse.blending import BaseFusion

MODELS = "models=a=htdemucs,b=955717e8"
"""The form of the option ``models``, for help and messages."""

GIVEN = ("weights", "path", "described")
"""What the command itself gives to an export."""


def write_export(
    fusion: BaseFusion, file: Path, program: str, options: Mapping[str, Any], out: Path, replace: bool
) -> None:
    """Write a fusion in the form of another program.

    Parameters
    ----------
    fusion : BaseFusion
        With constant weights, read from ``file``.
    file : Path
        Where it lies, for messages.
    program : str
        One of `stemfuse.blending.EXPORTS`.
    options : mapping
        As they were given; see `export_options`.
    out : Path
        The new file, or folder.
    replace : bool
        Whether one that is there may be lost.

    Raises
    ------
    StemfuseError
        The fusion cannot be expressed, an option is wrong, or the place cannot be written.
    """
    from stemfuse.blending import EXPORTS, FOLDERS
    from stemfuse.blending.flattening import flattened
    from stemfuse.experiments.outputs import check_output, new_file, new_folder

    check_output(out, is_folder=program in FOLDERS)
    # other programs know no fusions of fusions
    weights, described = flattened(fusion, file)
    if weights is None:
        raise ConfigError(f"{file}: got a {fusion.kind} fusion, expected one with constant weights")
    given = export_options(program, options, weights.separators)
    if program not in FOLDERS:
        with new_file(out, replace) as temporary:
            EXPORTS[program](weights, temporary, **given)
        return
    with new_folder(out, replace) as temporary:
        EXPORTS[program](weights, temporary, described=described, **given)


def export_options(program: str, options: Mapping[str, Any], separators: Sequence[str]) -> dict[str, Any]:
    """Options of an export, checked.

    Parameters
    ----------
    program : str
        One of `stemfuse.blending.EXPORTS`.
    options : mapping
        As they were given.
    separators : sequence of str
        Of the blend.

    Returns
    -------
    dict
        As the export takes them; lists may be given as ``a,b``, models as ``separator=model,separator=model``.

    Raises
    ------
    ConfigError
        An option is unknown, missing or of the wrong kind.

    Examples
    --------
    >>> export_options("demucs", {"models": "a=htdemucs,b=955717e8"}, ["a", "b"])
    {'models': {'a': 'htdemucs', 'b': '955717e8'}}
    >>> export_options("msst", {"nearst": True}, ["a"])
    Traceback (most recent call last):
    ...
    stemfuse.experiments.errors.ConfigError: --option nearst is unknown (did you mean 'nearest'?); expected some of ...
    """
    from stemfuse.blending import EXPORTS, MixingWeights

    export_to = EXPORTS[program]
    known = {name: part for name, part in inspect.signature(export_to).parameters.items() if name not in GIVEN}
    for name in options:
        if name not in known:
            expected = f"some of {', '.join(known)}" if known else "none"
            raise ConfigError(f"--option {name} is unknown{did_you_mean(name, known)}; expected {expected}")
    for name, part in known.items():
        if part.default is part.empty and name not in options:
            raise ConfigError(f"--option {name} is missing; {_expected(name, program, separators)}")
    given = {
        name: _models(value, program, separators)
        if name == "models"
        else value.split(",")
        if isinstance(value, str) and "Sequence" in str(known[name].annotation)
        else value
        for name, value in options.items()
    }
    nothing = {"weights": MixingWeights.same_source({"bass": {"a": 1.0}}), "path": ""}
    checked = checked_options(export_to, {**nothing, **given}, f"--as {program}", ConfigError)
    return {name: value for name, value in checked.items() if name not in GIVEN}


def _expected(name: str, program: str, separators: Sequence[str]) -> str:
    if name != "models":
        return f"{program} needs it"
    from stemfuse.blending import FOLDERS

    own = ",".join(f"{separator}=MODEL" for separator in separators)
    if program in FOLDERS:
        return f"say which file each network is: --option models={own.replace('=MODEL', '=FILE')}"
    return f"say what each separator is to {program}: --option models={own} (such as {MODELS})"


def _models(given: Any, program: str, separators: Sequence[str]) -> dict[str, str]:
    """Model by separator, from a mapping, from ``a=ID,b=ID``, or from models in the order of the separators."""
    if isinstance(given, Mapping):
        given = [f"{name}={model}" for name, model in given.items()]
    parts = [part.strip() for part in str(given).split(",")] if not isinstance(given, list) else list(map(str, given))
    if all("=" in part for part in parts):
        pairs = [part.partition("=") for part in parts]
    elif len(parts) == len(separators) and not any("=" in part for part in parts):
        pairs = [(name, "=", part) for name, part in zip(separators, parts, strict=True)]
    else:
        raise ConfigError(f"got --option models={given}; {_expected('models', program, separators)}")
    models = {name.strip(): model.strip() for name, _, model in pairs}
    if unknown := [name for name in models if name not in separators]:
        near = did_you_mean(unknown[0], separators)
        raise ConfigError(
            f"got --option models for {unknown[0]!r}{near}, the blend has {', '.join(separators)}; "
            f"{_expected('models', program, separators)}"
        )
    if missing := [name for name in separators if name not in models]:
        raise ConfigError(
            f"got --option models without {', '.join(missing)}; {_expected('models', program, separators)}"
        )
    return models
