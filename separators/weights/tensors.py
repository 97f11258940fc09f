"""Published files of weights, read without running anything that they hold."""

from __future__ import annotations

import json
import re
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from stemfuse.separators.audio.whole_files import write_whole
from stemfuse.separators.errors import SeparatorError, StemfuseError, WriteError

from .folder import NOTES

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model", "state")
"""Keys under which Lightning and asteroid, ignite and demucs keep the tensors of a network."""


def read_state(path: Path) -> State:
    """Tensors of a network by name, on the CPU, from any of the forms that separators are published in.

    These are safetensors, PyTorch's own format with the tensors at the top or under ``state_dict``, ``model`` or
    ``state`` (Lightning, asteroid, ignite, demucs), and TorchScript. Pickled files go through PyTorch's restricted
    unpickler, which makes nothing but tensors. Anything else that a file names, such as a training program's classes,
    is neither imported nor called and becomes an empty dictionary.

    Parameters
    ----------
    path : Path
        The file. Its content decides the form, except that safetensors files are recognised by their name.

    Raises
    ------
    SeparatorError
        The file cannot be read, is damaged or holds no network.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = _script_state(path) if _is_script(path) else _load_pickled(path)
    except OSError as error:
        raise SeparatorError(f"{path}: cannot be read ({error.strerror or error}); copy it again") from error
    except UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = (
            f"asks for {asked[1]}, which is no part of a network and could run anything"
            if asked
            else "is damaged or holds no weights"
        )
        raise SeparatorError(f"{path}: {what}: the file was not loaded; fetch it from its authors") from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SeparatorError(f"{path}: no weights could be read ({type(error).__name__}: {reason})") from error
    return _tensors(path, content)


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _script_state(path: Path) -> Mapping[str, Any]:
    # the archive's program is compiled, and never called
    script: Mapping[str, Any] = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return script


def _load_pickled(path: Path) -> Any:
    with _placeholders(path):
        return torch.load(path, map_location="cpu", weights_only=True)


class _Nothing:
    """Stands for anything that a file names besides tensors."""

    def __new__(cls, *arguments: Any) -> Any:
        return OrderedDict()


@contextmanager
def _placeholders(path: Path) -> Iterator[None]:
    """Let the restricted unpickler use placeholders for names that it does not know."""
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
    with torch.serialization.safe_globals([(_Nothing, name) for name in unknown]):
        yield


def _tensors(path: Path, content: Any) -> State:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {
        str(name): tensor.detach()
        for name, tensor in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(tensor, torch.Tensor)
    }
    if not tensors:
        raise SeparatorError(f"{path}: holds no named tensors, expected a network's weights")
    return tensors


def save_state(network: nn.Module, path: Path, half: bool = False, **notes: Any) -> None:
    """Write a network's tensors as safetensors, with the options that its separator needs for them.

    Parameters
    ----------
    network : Module
        One of ours.
    path : Path
        Ending in ``.safetensors``.
    half : bool
        Half precision, at half the size.
    **notes
        Options of the separator that become its defaults for this file, such as ``n_fft=2048`` or
        ``trained_on=["musdb18hq/train"]``; any JSON values.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "linear.safetensors")
    >>> save_state(nn.Linear(2, 1), path, half=True, n_fft=2048)
    >>> list(read_state(path))
    ['bias', 'weight']
    """
    state = {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    write_tensors(state, path, notes)


def write_tensors(
    state: Mapping[str, torch.Tensor],
    path: Path,
    notes: Mapping[str, Any],
    error: type[StemfuseError] = WriteError,
) -> None:
    """Write tensors and notes as a safetensors file, which appears whole or not at all.

    Parameters
    ----------
    state : mapping of str to Tensor
        The tensors by name.
    path : Path
        Ending in ``.safetensors``.
    notes : mapping
        As for `save_state`.
    error : type
        Raised when the file cannot be written.
    """
    # safetensors refuses tensors that share memory
    tensors = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    content = save(tensors, metadata={NOTES: json.dumps(notes)})
    write_whole(path, lambda file: file.write(content), error)


def load_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> nn.Module:
    """Put tensors into a network for inference; every name and shape has to fit.

    Parameters
    ----------
    network : Module
        Of the same form.
    state : mapping of str to Tensor
        Of any floating type; the network's is kept.
    path : Path
        The file that they are from, for the message.

    Raises
    ------
    SeparatorError
        Names or shapes differ; the message lists some of each.
    """
    own = network.state_dict()
    # a count of training steps, which may be missing from a file
    own_names = {name for name in own if not name.endswith("num_batches_tracked")}
    missing = sorted(own_names - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own_names & state.keys())
        if state[name].shape != own[name].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of other shapes": shapes}
    listed = "; ".join(f"{len(names)} {what}: {', '.join(names[:4])}" for what, names in faults.items() if names)
    if listed:
        raise SeparatorError(f"{path}: does not fit {type(network).__name__} ({listed})")
    network.load_state_dict(state, strict=False)
    return network.eval().requires_grad_(False)


def renamed(state: Mapping[str, torch.Tensor], rules: Sequence[tuple[str, str]]) -> State:
    r"""Tensors under new names: every rule is a regular expression and what takes its place, one after the other.

    Examples
    --------
    >>> list(renamed({"module.us.0.weight": torch.zeros(1)}, [("^module\\.", ""), ("^us", "up")]))
    ['up.0.weight']
    """
    result = dict(state)
    for pattern, replacement in rules:
        result = {re.sub(pattern, replacement, name): tensor for name, tensor in result.items()}
    return result


def count(names: Collection[str], prefix: str) -> int:
    """How many numbered modules there are below a prefix.

    Examples
    --------
    >>> count(["encoders.0.a", "encoders.1.a", "encoders.1.b"], "encoders")
    2
    """
    numbers = {found[1] for name in names if (found := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))}
    return len(numbers)
