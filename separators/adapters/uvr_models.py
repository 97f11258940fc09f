"""What the lists of audio-separator say of a model: kind, files, parameters and stems; nothing is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from stemfuse.separators.errors import MissingWeightsError, SeparatorError, wrong_usage
from stemfuse.separators.foreign.documents import parse_object, parse_yaml, read_object, read_text
from stemfuse.separators.foreign.table import RECIPE_BYTES, ForeignFileError
from stemfuse.separators.names import did_you_mean

PARAMETERS = {"MDX": "mdx_model_data.json", "VR": "vr_model_data.json"}
"""By kind, the file with the parameters of its models, by the digest of their files."""

LISTS = ("download_checks.json", *PARAMETERS.values())
"""Files that the package fetches beside the models."""

KINDS = {"vr": "VR", "mdx": "MDX", "mdx23c": "MDXC", "roformer": "MDXC", "demucs": "Demucs"}
"""Kinds of models by the beginning of their list's name."""

DIGESTED_BYTES = 10_000 * 1024
"""The last bytes of a model, whose MD5 is its key among the parameters."""

PAIRS = {"Vocals": "Instrumental", "Instrumental": "Vocals"}
PAIRS |= {"lead_only": "backing_only", "backing_only": "lead_only", "Primary Stem": "Secondary Stem"}
"""The other stem of a model of one stem; of those that are not here, ``No <stem>``."""


@dataclass(frozen=True)
class UVRModel:
    """A model that the package knows.

    Attributes
    ----------
    name, kind : str
        Its file's name, and ``"MDX"``, ``"VR"``, ``"MDXC"`` or ``"Demucs"``.
    files : tuple of Path
        All its files, which are there.
    parameters : mapping
        Sizes and stems, from the package's lists or the model's own YAML file.
    """

    name: str
    kind: str
    files: tuple[Path, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems that the package makes with it.

        Examples
        --------
        >>> UVRModel("a.onnx", "MDX", parameters={"primary_stem": "Vocals"}).stems
        ('Vocals', 'Instrumental')
        >>> UVRModel("a.ckpt", "MDXC", parameters={"training": {"instruments": ["a", "b", "c"]}}).stems
        ('a', 'b', 'c')
        """
        training = self.parameters.get("training") or {}
        instruments = tuple(training.get("instruments") or ())
        target = training.get("target_instrument")
        if self.kind == "MDXC" and instruments and not target:
            return instruments
        first = target or self.parameters.get("primary_stem", "Vocals")
        others = [stem for stem in instruments if stem != first]
        return first, others[0] if others else other_stem(first)


def other_stem(stem: str) -> str:
    """What the package calls all that is not this stem.

    Examples
    --------
    >>> other_stem("Vocals"), other_stem("Drums"), other_stem("No Drums")
    ('Instrumental', 'No Drums', 'Drums')
    """
    return PAIRS.get(stem) or (stem.replace("No ", "") if "No " in stem else f"No {stem}")


def find_model(name: str, folder: Path, separator: str) -> UVRModel:
    """Find a model by the name of its file, or by its long name.

    Parameters
    ----------
    name : str
        Of the model.
    folder : Path
        Where the package keeps its models and lists.
    separator : str
        Whose it is, for messages.

    Raises
    ------
    MissingWeightsError
        A list, or a file of the model, is not in the folder.
    SeparatorError
        The package does not know the model, or not its parameters.
    """
    known = list(_models(folder, separator))
    found = next(((kind, files) for long, kind, files in known if name in (long, files[0])), None)
    if found is None:
        near = did_you_mean(name, [given for long, _, files in known for given in (files[0], long)])
        raise wrong_usage(
            SeparatorError(f"{separator}: model {name!r} is unknown{near}; audio-separator --list_models shows all")
        )
    kind, files = found
    if kind == "Demucs":
        return UVRModel(files[0], kind)
    paths = tuple(folder / file for file in files)
    if missing := [path for path in paths if not path.is_file()]:
        raise MissingWeightsError(
            f"{separator}: {missing[0]} is missing: set download=true, or put it there "
            f"(audio-separator --download_model_only --model_filename {files[0]} --model_file_dir {folder})"
        )
    parameters = _settings(paths[1], separator) if kind == "MDXC" else _parameters(paths[0], folder, separator)
    return UVRModel(files[0], kind, paths, parameters)


def _read(path: Path, separator: str) -> dict[str, Any]:
    try:
        return read_object(path)
    except FileNotFoundError as error:
        raise MissingWeightsError(
            f"{separator}: {path} is missing, a list of the package: set download=true, or name the folder where "
            "audio-separator keeps its models (--option folder=DIR)"
        ) from error
    except (OSError, ForeignFileError) as error:
        raise SeparatorError(f"{separator}: {path}: {error}; fetch it again") from error


def _packaged(name: str) -> dict[str, Any]:
    """A list that is part of the package; finding it imports nothing but the package's empty top."""
    return parse_object(resources.files("audio_separator").joinpath(name).read_text("utf-8"))


def _models(folder: Path, separator: str) -> Iterator[tuple[str, str, list[str]]]:
    """Long name, kind and files of all models; the package's own entries go before those that were fetched."""
    for lists in (_packaged("models.json"), _read(folder / LISTS[0], separator)):
        for title, models in lists.items():
            kind = KINDS.get(title.partition("_")[0])
            if kind is None or not isinstance(models, dict):
                continue
            for long, files in models.items():
                if isinstance(files, str):
                    yield long, kind, [files]
                elif isinstance(files, dict) and kind == "Demucs":
                    yield long, kind, sorted(files, key=lambda file: not file.endswith(".yaml"))
                elif isinstance(files, dict) and len(files) == 1:
                    yield long, kind, [*files, *map(str, files.values())]


def _parameters(path: Path, folder: Path, separator: str) -> dict[str, Any]:
    """Parameters of a model by the digest of its file, as its users have agreed on."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - DIGESTED_BYTES))
        key = hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
    packaged = _packaged("model-data.json")
    for name in PARAMETERS.values():
        known = _read(folder / name, separator) | (packaged.get(name.removesuffix(".json")) or {})
        if isinstance(known.get(key), dict):
            found: dict[str, Any] = known[key]
            return found
    raise SeparatorError(
        f"{separator}: {path}: no parameters are known for this file (MD5 {key}); it is damaged or another one, "
        "fetch it again"
    )


def _settings(path: Path, separator: str) -> dict[str, Any]:
    """What a model's own YAML file says of its stems; it may have tuples, which are read as lists."""
    try:
        given = parse_yaml(read_text(path, RECIPE_BYTES).replace("!!python/tuple", ""))
    except (OSError, ForeignFileError) as error:
        raise SeparatorError(f"{separator}: {path}: {error}; fetch it again") from error
    training = given.get("training") if isinstance(given, dict) else None
    if not isinstance(training, dict) or not training.get("instruments"):
        raise SeparatorError(f"{separator}: {path}: got no training.instruments; fetch it again")
    return {"training": {key: training.get(key) for key in ("instruments", "target_instrument")}}
