"""Where the weights of the demucs package lie on this machine, and how they are read without running code in them."""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, FiniteFloat, ValidationError, model_validator

from .errors import MissingWeightsError, SeparatorError
from .foreign.documents import parse_json, read_yaml
from .foreign.safe_tensors import open_safe_tensors
from .foreign.table import ForbiddenNameError, ForeignFileError
from .optional import import_optional
from .weights.digests import verified_sha256
from .weights.folder import weights_folder

ROOT_URL = "https://dl.fbaipublicfiles.com/demucs/"
"""Where the authors publish the files that the package lists."""
MOST_ARGUMENT = 1_000_000
"""No number among a network's arguments is larger; sample rates are the largest ones."""
LAYERS = ("depth", "multi_freqs_depth", "dconv_depth", "lstm_layers", "t_layers", "wiener_iters", "end_iters")
MOST_LAYERS = 64
"""No network has more layers of one kind; published ones have seven."""

_FILE_NAME = re.compile(r"(?P<signature>.+?)(-(?P<checksum>[0-9a-f]{8,64}))?\.(th|safetensors)")


class Bag(BaseModel, frozen=True):
    """Networks whose outputs are summed with weights per source; a single network is a bag of one.

    Attributes
    ----------
    name : str
        The model's name.
    models : list of str
        Signatures, the first part of the files' names.
    weights : list of list of float, shape (model, source), optional
        In the order of the networks' own sources, divided by their sum over the models; all ones when not given.
    segment : float, optional
        Length in seconds of the chunks that the networks are given.
    """

    name: str
    models: list[str] = Field(min_length=1)
    weights: list[list[FiniteFloat]] | None = None
    segment: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _weights_fit(self) -> Bag:
        weights = self.weights or [[1.0]] * len(self.models)
        if len(weights) != len(self.models) or len({len(row) for row in weights}) != 1:
            raise ValueError(f"expected {len(self.models)} lists of weights, one for each model, of one length")
        if not all(sum(column) for column in zip(*weights, strict=True)):
            raise ValueError("the weights of a source sum to zero over the models")
        return self


def shipped_folder() -> Path:
    """Folder of the installed demucs package with its bags (``mdx.yaml``) and its list of published files.

    Raises
    ------
    SeparatorError
        The package is not installed.
    """
    # found without importing it, unless it is missing
    package = find_spec("demucs")
    origin = package.origin if package else import_optional("demucs", "demucs", "demucs").__file__
    return Path(str(origin)).parent / "remote"


def published_files() -> dict[str, str]:
    """Path below `ROOT_URL` of every published file, by signature."""
    files, folder = {}, ""
    for line in (shipped_folder() / "files.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("root:"):
            folder = line.removeprefix("root:").strip()
        elif name := _FILE_NAME.fullmatch(line.strip()):
            files[name["signature"]] = folder + name[0]
    return files


def default_folders() -> list[Path]:
    """Folders that are searched when the user names none; the first is where missing files belong.

    ``demucs`` in the weights folder; then the caches of torch.hub and of Hugging Face, where the demucs package itself
    downloads to.
    """
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    torch_home = Path(os.environ.get("TORCH_HOME") or cache_folder / "torch")
    hugging_face = Path(os.environ.get("HF_HOME") or cache_folder / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or hugging_face / "hub")
    return [
        weights_folder() / "demucs",
        torch_home / "hub" / "checkpoints",
        *sorted(hub.glob("models--adefossez--*/snapshots/*")),
    ]


def find_file(signature: str, folders: Iterable[Path]) -> Path | None:
    """First file ``<signature>-<checksum>.th``, ``<signature>.th`` or ``<signature>.safetensors`` in the folders.

    Raises
    ------
    SeparatorError
        A folder has several of them.
    """
    for folder in folders:
        names = {path: _FILE_NAME.fullmatch(path.name) for path in sorted(folder.glob("*"))}
        found = [path for path, name in names.items() if name and name["signature"] == signature]
        if len(found) > 1:
            listed = ", ".join(path.name for path in found)
            raise SeparatorError(f"{folder}: {listed} have the same signature {signature}; keep one of them")
        if found:
            return found[0]
    return None


def file_names(signature: str) -> tuple[str, ...]:
    """Names that a network's file may have: the published one, if any, then those with the signature alone."""
    published = [Path(path).name for name, path in published_files().items() if name == signature]
    return (*published, f"{signature}.th", f"{signature}.safetensors")


def find_bag(model: str, folders: Sequence[Path]) -> Bag:
    """The bag of a model's name: that of a ``.yaml`` file, else of a signature or a bag, in the folders or published.

    Raises
    ------
    SeparatorError
        The name is unknown (the message lists the published bags), or the bag's file is faulty.

    Examples
    --------
    >>> find_bag("mdx", folders=[]).segment
    44.0
    """
    if model.endswith(".yaml"):
        return _read_bag(Path(model).expanduser())
    if find_file(model, folders):
        return Bag(name=model, models=[model])
    for folder in (*folders, shipped_folder()):
        if model in {path.stem for path in folder.glob("*.yaml")}:
            return _read_bag(folder / f"{model}.yaml")
    if model in published_files():
        return Bag(name=model, models=[model])
    known = ", ".join(sorted(path.stem for path in shipped_folder().glob("*.yaml")))
    raise SeparatorError(
        f"demucs: model {model!r} is unknown: neither one of {known}, nor a published signature, "
        f"nor {model}-<checksum>.th or {model}.yaml in {folders[0]}"
    )


def _read_bag(path: Path) -> Bag:
    try:
        content = read_yaml(path)
        return Bag.model_validate({**content, "name": path.stem})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise SeparatorError(f"{path}: no bag of models ({faults})") from error
    except (OSError, TypeError, ForeignFileError) as error:
        reason = " ".join(str(error).split())
        raise SeparatorError(f"{path}: no bag of models ({reason}); expected keys models, weights, segment") from error


def find_files(bag: Bag, folders: Sequence[Path], download: bool = False) -> tuple[Path, ...]:
    """Files of a bag's networks, one per model; ``download`` fetches published ones into the first folder.

    Raises
    ------
    MissingWeightsError
        Files are missing; the message names them and where to put them, in one line.
    """
    known = published_files()
    files = {signature: find_file(signature, folders) for signature in bag.models}
    missing = [signature for signature, path in files.items() if path is None]
    if download and all(signature in known for signature in missing):
        files |= {signature: _download(known[signature], folders[0]) for signature in missing}
    elif missing:
        names = ", ".join(Path(known.get(signature, f"{signature}-<checksum>.th")).name for signature in missing)
        published = {f"{ROOT_URL}{Path(known[signature]).parent}/" for signature in missing if signature in known}
        remedy = f" (from {' and '.join(sorted(published))}) or add --option download=true" if published else ""
        raise MissingWeightsError(
            f"demucs: weights of {bag.name} are not on this machine: put {names} into {folders[0]}{remedy}"
        )
    return tuple(path for signature in bag.models if (path := files[signature]))


def _download(remote: str, folder: Path) -> Path:
    from torch.hub import download_url_to_file

    target = folder / Path(remote).name
    name = _FILE_NAME.fullmatch(target.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download_url_to_file(ROOT_URL + remote, str(target), name and name["checksum"], progress=False)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise MissingWeightsError(
            f"demucs: {ROOT_URL}{remote} could not be downloaded ({reason}): put it into {folder} by other means"
        ) from error
    return target


def load_bag(bag: Bag, files: Sequence[Path]) -> Any:
    """Build a bag's networks on the CPU: a ``demucs.apply.BagOfModels``.

    Raises
    ------
    SeparatorError
        A file is damaged, holds something else or asks for code that is not allowed; or the networks do not fit.
    """
    from demucs.apply import BagOfModels

    loaded = {path: _load_network(path) for path in dict.fromkeys(files)}
    networks = [loaded[path] for path in files]
    kinds = {(tuple(network.sources), network.samplerate, network.audio_channels) for network in networks}
    if len(kinds) > 1:
        raise SeparatorError(f"demucs: the networks of {bag.name} differ in sources, rate or channels: {kinds}")
    if bag.weights and len(bag.weights[0]) != len(networks[0].sources):
        raise SeparatorError(
            f"demucs: {bag.name} has {len(bag.weights[0])} weights for each network, expected one for each of its "
            f"sources {', '.join(networks[0].sources)}"
        )
    return BagOfModels(networks, bag.weights, bag.segment)


def _load_network(path: Path) -> Any:
    verified_sha256(path)
    try:
        return (_load_safetensors if path.suffix == ".safetensors" else _load_package)(path)
    except SeparatorError:
        raise
    # the package calls sys.exit when diffq is missing
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:300]
        raise SeparatorError(
            f"{path}: no network of the demucs package could be made from it ({type(error).__name__}: {reason})"
        ) from error


def _load_package(path: Path) -> Any:
    """Network from the package's own form, read without running anything in it."""
    # it loads torch
    from .foreign.torch_files import open_torch_file, read_nested

    states: Any = import_module("demucs.states")
    try:
        with open_torch_file(path, _allowed()) as content:
            package = read_nested(content, path)
    except ForbiddenNameError as error:
        raise _refusal(path, [error.name]) from error
    if not isinstance(package, dict) or package.get("klass") not in _networks().values():
        raise SeparatorError(f"{path}: no package of demucs 3 or 4 (a dictionary with klass, args, kwargs and state)")
    _check_size(path, package["klass"], package["args"], package["kwargs"], package["state"])
    return states.load_model(package)


def _load_safetensors(path: Path) -> Any:
    """Network from the form on Hugging Face, whose metadata name classes that the package would import blindly."""
    from demucs.hf import load_safetensors_model

    with open_safe_tensors(path, "demucs", framework="numpy") as file:
        metadata = file.metadata() or {}
        held = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    # quantised weights are nested, and name their quantiser in there
    refused = [name for name in _classes(parse_json(metadata.get("structure", "{}"))) if name not in _quantisers()]
    refused += [name for name in [metadata.get("klass", "nothing")] if name not in _networks()]
    if refused:
        raise _refusal(path, refused)
    args, kwargs = (_fractions(parse_json(metadata[name])) for name in ("args", "kwargs"))
    _check_size(path, _networks()[metadata["klass"]], args, kwargs, held)
    return load_safetensors_model(path)


def _classes(structure: Any) -> list[str]:
    """Names of all classes in a nested description of weights."""
    if isinstance(structure, list):
        return [name for part in structure for name in _classes(part)]
    if not isinstance(structure, dict):
        return []
    own = [str(structure["_class"])] if "_class" in structure else []
    return own + [name for part in structure.values() for name in _classes(part)]


def _fractions(value: Any) -> Any:
    """Arguments of a network with the fractions that JSON has no form for."""
    if isinstance(value, list):
        return [_fractions(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.get("_type") == "fraction":
        return Fraction(value["numerator"], value["denominator"])
    return {key: _fractions(part) for key, part in value.items()}


def _check_size(path: Path, made: Any, args: Any, kwargs: Any, state: Any) -> None:
    """Refuse a network far larger than its weights: it is made without memory for them first."""
    import torch

    remaining: list[Any] = [args, kwargs]
    while remaining:
        value = remaining.pop()
        if isinstance(value, dict | list | tuple):
            remaining += value.values() if isinstance(value, dict) else value
        elif isinstance(value, int | float | Fraction) and not -MOST_ARGUMENT <= value <= MOST_ARGUMENT:
            raise SeparatorError(f"{path}: no network of the demucs package has an argument above {MOST_ARGUMENT}")
    for name in LAYERS:
        # each layer takes time, even one without memory
        if isinstance(count := kwargs.get(name, 0), int | float | Fraction) and count > MOST_LAYERS:
            raise SeparatorError(
                f"{path}: no network of the demucs package has {name}={count}, expected at most {MOST_LAYERS}"
            )
    if isinstance(state, dict):
        # quantised weights take less
        held = sum(part.numel() for part in state.values() if isinstance(part, torch.Tensor))
        held = sys.maxsize if state.get("__quantized") else held
    else:
        held = state
    known = inspect.signature(made).parameters
    with torch.device("meta"):
        network = made(*args, **{name: value for name, value in kwargs.items() if name in known})
    needed = sum(part.numel() for part in network.state_dict().values())
    if needed > 2 * held:
        raise SeparatorError(
            f"{path}: no network of the demucs package: it takes {needed} weights, the file has {held}"
        )


def _refusal(path: Path, names: Sequence[str]) -> SeparatorError:
    if all(name.startswith("diffq.") for name in names):
        return SeparatorError(
            f"{path}: the weights are quantised, which needs the package diffq: pip install diffq, "
            "or take the model without _q in its name"
        )
    return SeparatorError(
        f"{path}: asks for {', '.join(names)}, which is no part of a Demucs network and could run anything: "
        "the file was not loaded; fetch it from its authors"
    )


def _networks() -> dict[str, Any]:
    from demucs.demucs import Demucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    return {
        "demucs.demucs.Demucs": Demucs,
        "demucs.hdemucs.HDemucs": HDemucs,
        # the name of that class when the networks of the 2021 challenge were saved
        "demucs.wdemucs.WDemucs": HDemucs,
        "demucs.htdemucs.HTDemucs": HTDemucs,
    }


def _quantisers() -> dict[str, Any]:
    if find_spec("diffq") is None:
        return {}
    diffq = import_module("diffq")
    return {"diffq.diffq.DiffQuantizer": diffq.DiffQuantizer, "diffq.uniform.UniformQuantizer": diffq.UniformQuantizer}


def _allowed() -> dict[str, Any]:
    """All that a package file may name: networks, and the NumPy scalars of its recorded scores, which are not made."""
    from .foreign.instructions import Name

    scalars = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]
    kinds = ["numpy.dtype", *(f"numpy.dtypes.{kind}DType" for kind in ("Float32", "Float64", "Int64"))]
    return {**_networks(), **_quantisers(), **{name: Name(name) for name in (*scalars, *kinds)}}
