"""The mixer of KUIELab-MDX-Net, read from its checkpoint and written into one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemfuse.blending.errors import FusionError
from stemfuse.blending.explanation import constant_matrix
from stemfuse.blending.weights import MixingWeights
from stemfuse.separators import SOURCES, Samples, write_whole
from stemfuse.separators.labels import ChannelLabel, mixture_labels, output_labels, stem_labels
from stemfuse.separators.optional import import_optional

KUIELAB_SOURCES = ("bass", "drums", "other", "vocals")
"""Order of the sources in KUIELab's mixer; the mixture follows them."""

KUIELAB_KEY = "linear.weight"
_KUIELAB_KEYS = (KUIELAB_KEY, "mixing_layer.weight")


def mixer_inputs(separator: str, sources: tuple[str, ...] = KUIELAB_SOURCES) -> tuple[str, ...]:
    """Labels of a mixer's stereo inputs: one separator's stems, then the mixture.

    Examples
    --------
    >>> mixer_inputs("tfc_tdf")[-3:]
    ('tfc_tdf.vocals.right', 'mixture.left', 'mixture.right')
    """
    return stem_labels(separator, sources) + mixture_labels()


def import_kuielab_mixer(path: str | os.PathLike[str], separator: str) -> MixingWeights:
    """Read the mixer of KUIELab-MDX-Net: one matrix of 8 outputs from a separator's 8 channels and the mixture's 2.

    Parameters
    ----------
    path : path-like
        A torch checkpoint with ``linear.weight``, or ``mixing_layer.weight`` as training writes it, of shape (8, 10):
        rows are left and right of bass, drums, other, vocals; columns are the same and then the mixture. It is read
        as `stemfuse.separators.foreign` reads: no code in it is run.
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
    export_kuielab_mixer : the way back.

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
    import_torch()
    # reading it needs torch; these modules load it
    from stemfuse.separators.foreign.table import ForeignFileError
    from stemfuse.separators.foreign.torch_files import StoredTensor, open_torch_file, read_tensors

    try:
        with open_torch_file(path) as loaded:
            state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
            known = state if isinstance(state, Mapping) else {}
            found = {key: known[key] for key in _KUIELAB_KEYS if isinstance(known.get(key), StoredTensor)}
            tensor = next(iter(read_tensors(found, path).values()), None)
    except FileNotFoundError as error:
        raise FusionError(f"{path}: no such file") from error
    except (OSError, ForeignFileError) as error:
        raise FusionError(f"{path}: no checkpoint of tensors can be read ({error})") from error
    shape = (2 * len(KUIELAB_SOURCES), 2 * len(KUIELAB_SOURCES) + 2)
    if tensor is None or tuple(tensor.shape) != shape:
        got = "no such tensor" if tensor is None else f"{tuple(tensor.shape)}"
        raise FusionError(f"{path}: expected a tensor {' or '.join(_KUIELAB_KEYS)} of shape {shape}, got {got}")
    given_inputs, given_outputs = mixer_inputs(separator), output_labels(KUIELAB_SOURCES)
    stems_and_mixture = mixer_inputs(separator, SOURCES)
    inputs, outputs = stems_and_mixture[-2:] + stems_and_mixture[:-2], output_labels(SOURCES)
    rows = [given_outputs.index(label) for label in outputs]
    columns = [given_inputs.index(label) for label in inputs]
    return MixingWeights(tensor.float().numpy()[np.ix_(rows, columns)], inputs, outputs)


def export_kuielab_mixer(weights: MixingWeights, path: str | os.PathLike[str]) -> None:
    """Write the mixer of KUIELab-MDX-Net: a torch checkpoint with ``linear.weight``, shape (8, 10), without bias.

    Parameters
    ----------
    weights : MixingWeights
        Constant ones for `SOURCES` in stereo, from the stems of one separator, with or without the mixture. Any
        weights can be expressed, those across sources and channels too.
    path : path-like
        The checkpoint; its rows and columns are described at `import_kuielab_mixer`.

    Raises
    ------
    FusionError
        There are several separators, other sources or other channels; or torch is not installed.

    Examples
    --------
    >>> import tempfile
    >>> blend = MixingWeights.same_source({source: {"a": 1.0} for source in SOURCES})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_kuielab_mixer(blend, f"{folder}/mixer.ckpt")
    ...     import_kuielab_mixer(f"{folder}/mixer.ckpt", "a").matrix[0].sum().item()
    8.0
    """
    matrix = constant_matrix(weights)
    wanted = output_labels(KUIELAB_SOURCES)
    used = [label for label, column in zip(weights.inputs, matrix.T, strict=True) if column.any()]
    separators = sorted({label.separator for label in map(ChannelLabel.parse, used) if label.is_stem})
    if len(separators) != 1 or set(weights.outputs) != set(wanted):
        raise FusionError(
            f"got a blend of {', '.join(separators) or 'no separator'} for {', '.join(weights.outputs)}; "
            f"KUIELab's mixer has one separator and stereo {', '.join(KUIELAB_SOURCES)}"
        )
    inputs = mixer_inputs(separators[0])
    if unknown := [label for label in used if label not in inputs]:
        raise FusionError(f"got the input {unknown[0]!r}; KUIELab's mixer has {', '.join(inputs)}")
    mixer = mixer_matrix(weights, inputs)
    torch = import_torch()
    write_whole(Path(path), lambda file: torch.save({KUIELAB_KEY: torch.from_numpy(mixer)}, file))


def mixer_matrix(weights: MixingWeights, inputs: Sequence[str]) -> Samples:
    """Constant weights as a Mixer has them: KUIELab's outputs by these inputs; one that is not mixed is zero.

    Examples
    --------
    >>> blend = MixingWeights.same_source({source: {"a": 1.0} for source in SOURCES})
    >>> mixer_matrix(blend, mixer_inputs("a"))[:3, :4].tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    outputs = output_labels(KUIELAB_SOURCES)
    mixer = np.zeros((len(outputs), len(inputs)), np.float32)
    rows = [weights.outputs.index(label) for label in outputs]
    for column, label in enumerate(inputs):
        if label in weights.inputs:
            mixer[:, column] = constant_matrix(weights)[rows, weights.inputs.index(label)]
    return mixer


def import_torch() -> Any:
    """PyTorch; a FusionError where it is not installed."""
    return import_optional("torch", "torch", "checkpoints", FusionError)
