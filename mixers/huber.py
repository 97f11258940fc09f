"""Huber problems, which approach the one of least absolute errors: Newton's method, and a proof of how near it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .second_moments import Array, SecondMoments, pseudo_inverse, white_directions

SHRINK = 4.0
"""Factor between the thresholds of successive Huber problems."""
DAMPING = 1e-8
"""Smallest share of the inputs' second moments over the mean error that is added to a Hessian."""


class Sweep:
    """Sums over samples, per output channel, that one pass over the data gives for weights W and thresholds e.

    With residuals r = s - W x, the Huber function of threshold e has the derivative u = clip(r / e, -1, 1). Then
    sum u x is minus its gradient, and the sum of x x' / e over |r| < e its Hessian. All is in double precision: the gap
    that can be proved is limited by the rounding of sum u x, and stems are so alike that single precision proves no
    better than 1e-4.

    Parameters
    ----------
    weights : ndarray, shape (output, input)
        W.
    thresholds : ndarray, shape (output,)
        e.
    """

    def __init__(self, weights: Array, thresholds: Array) -> None:
        outputs, inputs = weights.shape
        self.weights, self.thresholds = weights, thresholds
        self.samples = 0
        self.absolute, self.products, self.squares = np.zeros(outputs), np.zeros(outputs), np.zeros(outputs)
        self.slope, self.hessian = np.zeros((outputs, inputs)), np.zeros((outputs, inputs, inputs))

    def add(self, inputs: Array, references: Array) -> None:
        """Add a block: (time, input) and (time, output)."""
        residual = references - inputs @ self.weights.T
        derivative = residual / self.thresholds
        inside = np.abs(derivative) < 1
        np.clip(derivative, -1, 1, out=derivative)
        self.samples += len(inputs)
        self.absolute += np.abs(residual).sum(0)
        self.products += np.einsum("to,to->o", derivative, residual)
        self.squares += np.einsum("to,to->o", derivative, derivative)
        self.slope += derivative.T @ inputs
        for output, threshold in enumerate(self.thresholds):
            near = inputs[inside[:, output]]
            self.hessian[output] += (near.T @ near) / threshold

    @property
    def huber(self) -> Array:
        """Sum of the Huber function, (output,)."""
        return np.asarray(self.products - self.thresholds / 2 * self.squares)

    def replace(self, outputs: NDArray[np.bool_], other: Sweep) -> None:
        """Take the sums of some outputs from another pass."""
        for own, others in zip(self._sums, other._sums, strict=True):
            own[outputs] = others[outputs]

    @property
    def _sums(self) -> tuple[Array, ...]:
        return self.absolute, self.products, self.squares, self.slope, self.hessian


def duality_gaps(sweep: Sweep, moments: SecondMoments) -> Array:
    """Sum of |r| minus a lower bound of its minimum, (output,).

    The dual problem is to maximise sum u s under |u| <= 1 and sum u x = 0. The Huber derivative u keeps to the second
    condition only at the Huber optimum; elsewhere sum u x = g. But u - x (sum x x')^-1 g is orthogonal to all inputs,
    and so satisfies both conditions after division by its largest magnitude. A bound of this magnitude is
    1 + sum_j max|z_j| |epsilon_j|, where x = z B' and delta = B epsilon: with uncorrelated z, large terms do not
    cancel.
    """
    delta = sweep.slope @ pseudo_inverse(moments.inputs)
    value = sweep.products + (sweep.weights * sweep.slope).sum(1) - (delta * moments.cross).sum(1)
    bound = value / (1 + np.abs(np.linalg.solve(moments.basis, delta.T)).T @ moments.peaks)
    return np.asarray(sweep.absolute - np.maximum(bound, 0))


class Newton:
    """Newton's method, damped as Levenberg and Marquardt do, on the Huber problems of all outputs at once.

    Parameters
    ----------
    weights : ndarray, shape (output, input)
        Where it starts.
    thresholds : ndarray, shape (output,)
        Of the first Huber problems.
    """

    def __init__(self, weights: Array, thresholds: Array) -> None:
        self.weights, self.thresholds = weights, thresholds
        self.restart()

    def restart(self) -> None:
        """Start again from the present weights, on other data."""
        self.step = np.zeros_like(self.weights)
        self.damping = np.full(len(self.weights), DAMPING)
        self.lowest = np.full(len(self.weights), np.inf)
        self.accepted: Sweep | None = None

    def next_sweep(self) -> Sweep:
        """The next weights as a pass over the data, still to be made."""
        return Sweep(self.weights + self.step, self.thresholds)

    def update(self, sweep: Sweep, moments: SecondMoments) -> Sweep:
        """Accept the weights of a pass for the outputs where they are better, and damp the others more.

        Returns
        -------
        Sweep
            The sums of the accepted weights.
        """
        better = sweep.huber <= self.lowest + 1e-12 * sweep.absolute
        self.lowest = np.where(better, sweep.huber, self.lowest)
        self.weights = np.where(better[:, None], sweep.weights, self.weights)
        if self.accepted is not None:
            sweep.replace(~better, self.accepted)
        sweep.weights = self.weights
        self.accepted = sweep
        self.damping = np.where(better, np.maximum(self.damping / 10, DAMPING), np.maximum(self.damping * 30, 1e-2))
        sizes = np.maximum(sweep.absolute / sweep.samples, self.thresholds)
        # where all directions weigh the same, those are cut off that the proof of the gap cuts off too, and no others
        white = white_directions(moments.inputs)
        for output, damping in enumerate(self.damping / sizes):
            curvature = white.T @ (sweep.hessian[output] + damping * moments.inputs) @ white
            self.step[output] = sweep.slope[output] @ white @ np.linalg.pinv(curvature, hermitian=True) @ white.T
        return sweep

    def expected(self) -> Array:
        """How much the Huber function is still expected to fall, (output,): half the Newton decrement."""
        if self.accepted is None:
            return np.zeros(len(self.step))
        return np.asarray((self.step * self.accepted.slope).sum(1) / 2)

    def shrink(self, outputs: NDArray[np.bool_]) -> None:
        """Go on to a smaller threshold for some outputs; earlier values of their Huber functions no longer compare."""
        self.thresholds = np.where(outputs, self.thresholds / SHRINK, self.thresholds)
        self.lowest[outputs] = np.inf
