"""Published files of weights, read without running anything that they hold."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from stemfuse.separators.audio.whole_files import write_whole
from stemfuse.separators.errors import SeparatorError, StemfuseError, WriteError
from stemfuse.separators.foreign.hdf5_files import read_hdf5
from stemfuse.separators.foreign.safe_tensors import open_safe_tensors
from stemfuse.separators.foreign.table import ForbiddenNameError, ForeignFileError
from stemfuse.separators.foreign.tensor_bundles import read_tensor_bundle
from stemfuse.separators.foreign.torch_files import StoredTensor, open_torch_file, read_tensors

from .folder import NOTES

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model", "state")
"""Keys under which Lightning and asteroid, ignite and demucs keep the tensors of a network."""


def read_state(path: Path) -> State:
    """Tensors of a network by name, on the CPU, from any of the forms that separators are published in.

    These are safetensors, PyTorch's own format with the tensors at the top or under ``state_dict``, ``model`` or
    ``state`` (Lightning, asteroid, ignite, demucs), and TorchScript. Nothing that a file names is imported or called,
    and no program in it is compiled, see `stemfuse.separators.foreign`; the tensors of a network are taken, all else
    is passed over.

    Parameters
    ----------
    path : Path
        The file. Its content decides the form, except that safetensors files are recognised by their name.

    Raises
    ------
    SeparatorError
        The file cannot be read, is damaged or holds no network.
    """
    with _errors_of(path):
        if path.suffix == ".safetensors":
            with open_safe_tensors(path, "networks") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with open_torch_file(path) as content:
            return read_tensors(_tensors(path, content), path)


def read_bundle(path: Path) -> State:
    """Tensors of a TensorFlow checkpoint by name, in its axes.

    Parameters
    ----------
    path : Path
        The ``.index``; the tensors lie beside it.

    Raises
    ------
    SeparatorError
        A file is missing, damaged or no checkpoint.
    """
    with _errors_of(path):
        return {name: torch.from_numpy(values) for name, values in read_tensor_bundle(path).items()}


def read_hdf5_state(path: Path) -> State:
    """Tensors of a file of nnabla's parameters by name.

    Parameters
    ----------
    path : Path
        The file, HDF5.

    Raises
    ------
    SeparatorError
        The file cannot be read, is damaged or another one.
    """
    with _errors_of(path):
        return {name: torch.from_numpy(values) for name, values in read_hdf5(path).items()}


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Errors of reading a file become one that says what to do; of several files the one that is at fault is named."""
    try:
        yield
    except OSError as error:
        wrong = error.filename or path
        raise SeparatorError(f"{wrong}: cannot be read ({error.strerror or error}); copy it again") from error
    except ForbiddenNameError as error:
        raise SeparatorError(f"{path}: {error}: the file was not loaded; fetch it from its authors") from error
    except ForeignFileError as error:
        raise SeparatorError(f"{path}: no weights could be read: {error}; fetch it from its authors") from error


def _tensors(path: Path, content: Any) -> dict[str, StoredTensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {
        str(name): tensor
        for name, tensor in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(tensor, StoredTensor) and isinstance(name, str | int)
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
