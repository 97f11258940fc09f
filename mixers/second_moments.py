"""Second moments of inputs and references, and the weights of the least squared error, which need no more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TINY = 1e-300
"""Keeps silence from being divided by."""
CUTOFF = 1e-8
"""Share of the largest energy below which a direction of the inputs counts as none: stems of 16 bits that add up to the
mixture leave one of their rounding, 1e-9, whose weights would be large and mean nothing."""


class SecondMoments:
    """Second moments of inputs and references, summed over blocks of samples, and largest magnitudes.

    Parameters
    ----------
    inputs, outputs : int
        Number of channels.
    basis : ndarray, shape (input, component), optional
        Components of inputs x @ basis whose largest magnitudes are kept; the inputs' own when not given.

    Examples
    --------
    >>> moments = SecondMoments(2, 1)
    >>> moments.add(np.ones((5, 2)), np.ones((5, 1)))
    >>> moments.samples, moments.inputs.tolist(), moments.cross.tolist()
    (5, [[5.0, 5.0], [5.0, 5.0]], [[5.0, 5.0]])
    """

    def __init__(self, inputs: int, outputs: int, basis: Array | None = None) -> None:
        self.samples = 0
        self.basis = np.eye(inputs) if basis is None else basis
        self.inputs, self.cross = np.zeros((inputs, inputs)), np.zeros((outputs, inputs))
        self.energies, self.peaks = np.zeros(outputs), np.zeros(inputs)

    def add(self, inputs: Array, references: Array) -> None:
        """Add a block: (time, input) and (time, output)."""
        self.samples += len(inputs)
        self.inputs += inputs.T @ inputs
        self.cross += references.T @ inputs
        self.energies += np.einsum("to,to->o", references, references)
        self.peaks = np.maximum(self.peaks, np.abs(inputs @ self.basis).max(0))


def least_squares(moments: SecondMoments) -> Array:
    """Weights of the least squared error, (output, input); those of inputs that add nothing new are small.

    Examples
    --------
    >>> inputs, moments = np.random.default_rng(0).normal(size=(100, 3)), SecondMoments(3, 1)
    >>> moments.add(inputs, inputs @ np.array([[0.5], [-1], [0]]))
    >>> least_squares(moments).round(6).tolist()
    [[0.5, -1.0, 0.0]]
    """
    weights: Array = moments.cross @ pseudo_inverse(moments.inputs)
    return weights


def pseudo_inverse(matrix: Array, cutoff: float = CUTOFF) -> Array:
    """Inverse of a symmetric matrix of second moments, with all channels brought to one scale first.

    Otherwise a quiet stem would be cut off.

    Parameters
    ----------
    matrix : ndarray, shape (input, input)
        Second moments.
    cutoff : float
        Eigenvalues smaller than this, relative to the largest one, count as zero.

    Examples
    --------
    >>> pseudo_inverse(np.diag([4.0, 1e-12, 0.0])).diagonal().tolist()
    [0.25, 1000000000000.0, 0.0]
    """
    scale = _scale(matrix)
    inverse = np.linalg.pinv(matrix / np.outer(scale, scale), rcond=cutoff, hermitian=True)
    return np.asarray(inverse / np.outer(scale, scale))


def whitening(matrix: Array) -> Array:
    """Basis in which inputs of these second moments are uncorrelated and, unless nearly silent, of energy 1."""
    scale = _scale(matrix)
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    basis: Array = vectors / np.sqrt(np.maximum(values, max(CUTOFF * values[-1], TINY))) / scale[:, None]
    return basis


def white_directions(matrix: Array) -> Array:
    """Directions in which inputs of these second moments are uncorrelated and of energy 1, (input, direction).

    Those that `pseudo_inverse` counts as zero are left out: their products with themselves are that inverse.

    Examples
    --------
    >>> white_directions(np.diag([4.0, 0.0])).tolist()
    [[0.5], [0.0]]
    """
    scale = _scale(matrix)
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    kept = values > max(CUTOFF * values[-1], TINY)
    directions: Array = vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None]
    return directions


def _scale(matrix: Array) -> Array:
    """Root of each channel's energy, (input,); 1 for a silent one."""
    scale = np.sqrt(np.diagonal(matrix))
    return np.where(scale > 0, scale, 1)
