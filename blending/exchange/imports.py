"""Mixing weights from other programs' files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

import numpy as np

from stemfuse.blending.errors import FusionError
from stemfuse.blending.weights import MIXTURE, MixingWeights, output_labels
from stemfuse.separators import SOURCES

KUIELAB_SOURCES = ("bass", "drums", "other", "vocals")
"""Order of the sources in KUIELab's mixer; the mixture comes after them."""

KUIELAB_KEY = "linear.weight"
_KUIELAB_KEYS = (KUIELAB_KEY, "mixing_layer.weight")


def mixer_inputs(separator: str, sources: tuple[str, ...] = KUIELAB_SOURCES) -> tuple[str, ...]:
    """Labels of a mixer's stereo inputs: one separator's stems, then the mixture.

    Examples
    --------
    >>> mixer_inputs("tfc_tdf")[-3:]
    ('tfc_tdf.vocals.right', 'mixture.left', 'mixture.right')
    """
    return (*(f"{separator}.{label}" for label in output_labels(sources)), *output_labels((MIXTURE,)))


def import_torch() -> Any:
    """The module ``torch``, which is needed for checkpoints only.

    Raises
    ------
    FusionError
        It is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise FusionError("checkpoints need the package torch: pip install 'stemfuse[torch]'") from error
    return torch


def import_kuielab_mixer(path: str | os.PathLike[str], separator: str) -> MixingWeights:
    """Read the mixer of KUIELab-MDX-Net: one matrix of 8 outputs from a separator's 8 channels and the mixture's 2.

    Parameters
    ----------
    path : path-like
        A torch checkpoint with ``linear.weight``, or ``mixing_layer.weight`` as training writes it, of shape (8, 10):
        left and right of bass, drums, other, vocals, and as inputs then of the mixture. It is never unpickled freely
        (``weights_only``).
    separator : str
        Name under which the stems of the four networks are attached to tracks.

    Returns
    -------
    MixingWeights
        Their sources in the order of `SOURCES`, the mixture's inputs first.

    Raises
    ------
    FusionError
        The file is missing, or not such a checkpoint.

    See Also
    --------
    stemfuse.blending.exchange.exports.export_kuielab_mixer : the way back.

    References
    ----------
    Kim, Choi, Chung, Lee and Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing", MDX workshop at
    ISMIR 2021.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"linear.weight": torch.eye(8, 10)}, f"{folder}/mixer.ckpt")
    ...     weights = import_kuielab_mixer(f"{folder}/mixer.ckpt", "tfc_tdf")
    >>> weights.inputs[2], weights.outputs[0], weights.matrix[0, 0, 2].item()
    ('tfc_tdf.drums.left', 'drums.left', 1.0)
    """
    torch = import_torch()
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise FusionError(f"{path}: no such file") from error
    except (OSError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FusionError(f"{path}: no checkpoint of tensors can be read ({reason})") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    tensor = next((state[key] for key in _KUIELAB_KEYS if isinstance(state, Mapping) and key in state), None)
    shape = (2 * len(KUIELAB_SOURCES), 2 * len(KUIELAB_SOURCES) + 2)
    if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != shape:
        came = "no such key" if tensor is None else f"{tuple(getattr(tensor, 'shape', ()))}"
        raise FusionError(f"{path}: expected a tensor {' or '.join(_KUIELAB_KEYS)} of shape {shape}, found {came}")
    given_inputs, given_outputs = mixer_inputs(separator), output_labels(KUIELAB_SOURCES)
    stems_and_mixture = mixer_inputs(separator, SOURCES)
    inputs, outputs = stems_and_mixture[-2:] + stems_and_mixture[:-2], output_labels(SOURCES)
    rows = [given_outputs.index(label) for label in outputs]
    columns = [given_inputs.index(label) for label in inputs]
    return MixingWeights(tensor.float().numpy()[np.ix_(rows, columns)], inputs, outputs)
