"""The Mixer of KUIELab-MDX-Net: one matrix that refines the estimates of four networks, sample by sample."""

from __future__ import annotations

from pathlib import Path

import torch

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.weights.tensors import read_state

SHAPE = (8, 10)
"""Of the Mixer's matrix: four stereo stems out; the same and the mixture in."""


def mixer_weights(path: Path) -> torch.Tensor:
    """The Mixer's matrix, of `SHAPE`, from the submission's file or a checkpoint of its training.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    SeparatorError
        The file is damaged or holds something else.
    """
    state = read_state(path)
    weights = state.get("linear.weight", state.get("mixing_layer.weight"))
    if weights is None or tuple(weights.shape) != SHAPE:
        raise SeparatorError(f"{path}: no Mixer, expected linear.weight or mixing_layer.weight of shape {SHAPE}")
    return weights.float()


def mixed(estimates: torch.Tensor, mixture: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The Mixer's output for four estimates and the mixture.

    Parameters
    ----------
    estimates : Tensor, shape (source, 2, time)
        Bass, drums, other, vocals.
    mixture : Tensor, shape (2, time)
        What they were separated from.
    weights : Tensor, shape (8, 10)
        Outputs and inputs in that order, left before right; the last two inputs are the mixture.

    Returns
    -------
    Tensor, shape (source, 2, time)

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021, section 2.3.

    Examples
    --------
    >>> estimates, mixture = torch.randn(4, 2, 100), torch.randn(2, 100)
    >>> bool((mixed(estimates, mixture, torch.eye(8, 10)) == estimates).all())
    True
    """
    inputs = torch.cat([estimates.flatten(0, 1), mixture])
    return torch.matmul(weights, inputs).reshape(estimates.shape)
