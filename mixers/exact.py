"""The convex problem of the 1x1 convolution, solved: least absolute errors by Newton's method with a duality gap."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stemfuse.separators import Samples
from stemfuse.separators.training import History

from .segments import TrackBlocks

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
ROWS = 1 << 18
"""Samples on which the problem is solved first: its excess over the optimum is about inputs / (2 ROWS)."""
ROUNDING = 1e-6
"""Error, relative to the references, at which a fit counts as perfect: float32 audio allows no less."""
TINY = 1e-300
"""Keeps silence from being divided by."""
SAMPLE_PASSES = 100
"""Passes over the samples that come first, at most; ten are usual."""
SHRINK = 4.0
"""Factor between the thresholds of successive Huber problems."""
DAMPING = 1e-8
"""Smallest share of the inputs' second moments over the mean error that is added to a Hessian."""


@dataclass(frozen=True)
class Solution:
    """Result of `solve`.

    Attributes
    ----------
    matrix : ndarray, shape (output, input)
        The weights, for signals on any scale.
    loss : float
        Mean of |s - y|, or of (s - y)^2, over samples and outputs, on the scale of training.
    gap : float
        How far ``loss`` is at most above its minimum, relative to it: proved by a dual solution.
    history : list of dict
        One row per pass over the data: stage, step, train_loss, gap, seconds.
    """

    matrix: Array
    loss: float
    gap: float
    history: History


class Moments:
    """Second moments of inputs and references, summed over blocks of samples, and largest magnitudes.

    Parameters
    ----------
    inputs, outputs : int
        How many there are.
    basis : ndarray, shape (input, component), optional
        Components of inputs x @ basis whose largest magnitudes are kept; the inputs' own when not given.

    Examples
    --------
    >>> moments = Moments(2, 1)
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
        """Take in a block: (time, input) and (time, output)."""
        self.samples += len(inputs)
        self.inputs += inputs.T @ inputs
        self.cross += references.T @ inputs
        self.energies += np.einsum("to,to->o", references, references)
        self.peaks = np.maximum(self.peaks, np.abs(inputs @ self.basis).max(0))


class Sweep:
    """What one pass over the data tells of weights W and thresholds e: sums over samples, per output channel.

    With residuals r = s - W x, the Huber function of threshold e has the derivative u = clip(r / e, -1, 1). Then
    sum u x is minus its gradient, sum over |r| < e of x x' / e its Hessian. All is in double precision: what a gap can
    be proved by is the rounding of sum u x, and stems are so alike that single precision proves no better than 1e-4.
    """

    def __init__(self, weights: Array, thresholds: Array) -> None:
        outputs, inputs = weights.shape
        self.weights, self.thresholds = weights, thresholds
        self.samples = 0
        self.absolute, self.products, self.squares = np.zeros(outputs), np.zeros(outputs), np.zeros(outputs)
        self.slope, self.hessian = np.zeros((outputs, inputs)), np.zeros((outputs, inputs, inputs))

    def add(self, inputs: Array, references: Array) -> None:
        """Take in a block: (time, input) and (time, output)."""
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

    def replace(self, outputs: NDArray[np.bool_], known: Sweep) -> None:
        """Take what is known of some outputs from another pass."""
        for name in ("absolute", "products", "squares", "slope", "hessian"):
            getattr(self, name)[outputs] = getattr(known, name)[outputs]


def _gather(blocks: Iterable[tuple[Samples, Samples]], *sums: Moments | Sweep) -> None:
    """One pass over the data, into several sums."""
    for inputs, references in blocks:
        block, truth = inputs.astype(np.float64), references.astype(np.float64)
        for total in sums:
            total.add(block, truth)


def least_squares(moments: Moments) -> Array:
    """Weights of the least squared error, (output, input); those of inputs that tell nothing new are small.

    Examples
    --------
    >>> inputs, moments = np.random.default_rng(0).normal(size=(100, 3)), Moments(3, 1)
    >>> moments.add(inputs, inputs @ np.array([[0.5], [-1], [0]]))
    >>> least_squares(moments).round(6).tolist()
    [[0.5, -1.0, 0.0]]
    """
    weights: Array = moments.cross @ _pseudo_inverse(moments.inputs)
    return weights


def _pseudo_inverse(matrix: Array) -> Array:
    """Inverse of a symmetric matrix, channels brought to one scale first so that a quiet stem is not cut off."""
    scale = np.sqrt(np.diagonal(matrix))
    scale = np.where(scale > 0, scale, 1)
    inverse: Array = np.linalg.pinv(matrix / np.outer(scale, scale), rcond=1e-10, hermitian=True)
    return np.asarray(inverse / np.outer(scale, scale))


def _whitening(matrix: Array) -> Array:
    """Basis in which inputs of these second moments are uncorrelated and of energy 1, but for those of next to none."""
    scale = np.sqrt(np.diagonal(matrix))
    scale = np.where(scale > 0, scale, 1)
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    basis: Array = vectors / np.sqrt(np.maximum(values, max(1e-10 * values[-1], TINY))) / scale[:, None]
    return basis


def _gaps(swept: Sweep, moments: Moments) -> Array:
    """Sum of |r| minus a lower bound of its minimum, (output,).

    The dual problem is to maximise sum u s under |u| <= 1 and sum u x = 0. The Huber derivative u is feasible but
    for sum u x = g, which is zero only at the Huber optimum; u - x (sum x x')^-1 g is orthogonal to all inputs, and
    so is a feasible point after division by its largest magnitude, of which 1 + sum_j max|z_j| |epsilon_j| is a bound,
    where x = z B' and delta = B epsilon: with uncorrelated z, large terms do not cancel.
    """
    delta = swept.slope @ _pseudo_inverse(moments.inputs)
    value = swept.products + (swept.weights * swept.slope).sum(1) - (delta * moments.cross).sum(1)
    bound = value / (1 + np.abs(np.linalg.solve(moments.basis, delta.T)).T @ moments.peaks)
    return np.asarray(swept.absolute - np.maximum(bound, 0))


class _Newton:
    """Newton's method, damped as Levenberg and Marquardt do, on the Huber problems of all outputs at once."""

    def __init__(self, weights: Array, thresholds: Array) -> None:
        self.weights, self.thresholds = weights, thresholds
        self.forget()

    def forget(self) -> None:
        """Start from these weights on other data."""
        self.step = np.zeros_like(self.weights)
        self.damping = np.full(len(self.weights), DAMPING)
        self.lowest = np.full(len(self.weights), np.inf)
        self.known: Sweep | None = None

    def look(self) -> Sweep:
        """A pass, not yet made, that looks at the next weights."""
        return Sweep(self.weights + self.step, self.thresholds)

    def judge(self, swept: Sweep, moments: Moments) -> Sweep:
        """Take the pass's weights where they are better, damp more where not; gives what is known of those taken."""
        better = swept.huber <= self.lowest + 1e-12 * swept.absolute
        self.lowest = np.where(better, swept.huber, self.lowest)
        self.weights = np.where(better[:, None], swept.weights, self.weights)
        if self.known is not None:
            swept.replace(~better, self.known)
        swept.weights = self.weights
        self.known = swept
        self.damping = np.where(better, np.maximum(self.damping / 10, DAMPING), np.maximum(self.damping * 30, 1e-2))
        sizes = np.maximum(swept.absolute / swept.samples, self.thresholds)
        for output, damping in enumerate(self.damping / sizes):
            curvature = swept.hessian[output] + damping * moments.inputs
            self.step[output] = swept.slope[output] @ _pseudo_inverse(curvature)
        return swept

    def expected(self) -> Array:
        """How much the Huber function is expected to fall yet, (output,): half the Newton decrement."""
        return np.zeros(len(self.step)) if self.known is None else (self.step * self.known.slope).sum(1) / 2

    def shrink(self, outputs: NDArray[np.bool_]) -> None:
        """Go on to a smaller threshold for some outputs: what is known of the Huber functions no longer compares."""
        self.thresholds = np.where(outputs, self.thresholds / SHRINK, self.thresholds)
        self.lowest[outputs] = np.inf


class _Report:
    """Rows of the history."""

    def __init__(self, progress: Callable[[dict[str, float]], object] | None) -> None:
        self.rows: History = []
        self.progress, self.start = progress, time.perf_counter()

    def __call__(self, stage: int, loss: float, gap: float) -> None:
        row = {"stage": stage, "step": len(self.rows), "train_loss": loss, "gap": gap}
        self.rows.append({**row, "seconds": time.perf_counter() - self.start})
        if self.progress is not None:
            self.progress(self.rows[-1])


def solve(
    blocks: TrackBlocks,
    loss: str = "l1",
    tolerance: float = 1e-4,
    passes: int = 30,
    seed: int = 0,
    progress: Callable[[dict[str, float]], object] | None = None,
) -> Solution:
    """Weights of the smallest mean absolute, or squared, error over all samples.

    Least absolute errors separate into one problem per output channel. Each is first solved on `ROWS` samples from
    everywhere, from its least squares solution on, as a sequence of Huber problems of falling threshold e by Newton's
    method; then passes over all samples go on with it. At the optimum of a Huber problem its derivative is a feasible
    point of the dual problem and proves a gap of sum over |r| < e of |r| - r^2 / e, which falls with e^2.

    Parameters
    ----------
    blocks : TrackBlocks
        The data.
    loss : {"l1", "l2"}
        Which error.
    tolerance : float
        The passes end when ``gap``, proved by duality on all samples, is at most this.
    passes : int
        Passes over all samples at most; ten times as many over samples in memory.
    seed : int
        Of the samples that come first.
    progress : callable, optional
        Called with each row of the history.

    Returns
    -------
    Solution
        See there.

    References
    ----------
    Huber, Robust Statistics, 1981, section 7.8; Madsen and Nielsen, A finite smoothing algorithm for linear l1
    estimation, SIAM J. Optimization 3(2), 1993: Newton's method on Huber problems.

    Examples
    --------
    >>> from stemfuse.separators import Track
    >>> audio = np.random.default_rng(0).laplace(0, 0.1, (4, 2, 4000))
    >>> blocks = TrackBlocks([Track.from_arrays("song", audio.sum(0), audio, {"a": 2 * audio})], mixture=False)
    >>> solve(blocks).matrix.diagonal().round(4).tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    report = _Report(progress)
    # beside the thread that reads; products of this size take longer on several threads that wait for each other
    with threadpool_limits(1, "blas"):
        if loss != "l2":
            return _least_absolute(blocks, tolerance, passes, seed, report)
        return _least_squared(blocks, report)


def _least_squared(blocks: TrackBlocks, report: _Report) -> Solution:
    """One pass, for the squared error is known from second moments."""
    moments = Moments(len(blocks.inputs), len(blocks.outputs))
    _gather(blocks.blocks(), moments)
    weights = least_squares(moments)
    errors = moments.energies - 2 * (weights * moments.cross).sum(1) + ((weights @ moments.inputs) * weights).sum(1)
    report(1, float(np.maximum(errors, 0).mean()) / moments.samples, 0.0)
    return Solution(weights, report.rows[-1]["train_loss"], 0.0, report.rows)


def _least_absolute(blocks: TrackBlocks, tolerance: float, passes: int, seed: int, report: _Report) -> Solution:
    """Newton's method on a sample, then on all samples until duality proves the gap."""
    sample = [blocks.sample(ROWS, seed)]
    whole, passes = (sample, 10 * passes) if blocks.length <= ROWS else (None, passes)
    newton, quiet, basis = _on_sample(sample, tolerance / 2, report)
    gap, moments = np.inf, Moments(len(blocks.inputs), len(blocks.outputs), basis)
    for number in range(passes):
        swept = newton.look()
        _gather(whole or blocks.blocks(), swept, *(() if number else (moments,)))
        swept = newton.judge(swept, moments)
        gaps = np.where(swept.absolute <= quiet * swept.samples, 0, _gaps(swept, moments))
        total = swept.absolute.sum()
        gap = float(gaps.sum() / max(total - gaps.sum(), TINY))
        report(1, float(total) / swept.samples / len(gaps), gap)
        if gap <= tolerance:
            break
        smoothing = swept.absolute - swept.products
        newton.shrink((smoothing > 0.5 * gaps) & (gaps > tolerance / 2 * swept.absolute))
    else:
        log.warning(
            "least absolute errors: within %.2g of the optimum, not %.2g, after %d passes", gap, tolerance, passes
        )
    return Solution(newton.weights, report.rows[-1]["train_loss"], gap, report.rows)


def _on_sample(
    sample: list[tuple[Samples, Samples]], tolerance: float, report: _Report
) -> tuple[_Newton, Array, Array]:
    """Newton's method from the least squares solution on, errors (output,) that count as none, and a whitening basis.

    What is yet to gain is estimated: the threshold's cost at its optimum, and half the Newton decrement.
    """
    inputs, references = sample[0]
    moments = Moments(inputs.shape[1], references.shape[1])
    _gather(sample, moments)
    weights, loudness = least_squares(moments), np.sqrt(moments.energies / moments.samples)
    quiet = np.maximum(ROUNDING * loudness, TINY)
    newton = _Newton(weights, np.maximum(np.abs(references - inputs @ weights.T).mean(0), quiet))
    for _ in range(SAMPLE_PASSES):
        swept = newton.look()
        _gather(sample, swept)
        swept = newton.judge(swept, moments)
        total = swept.absolute.sum()
        smoothing, expected = swept.absolute - swept.products, newton.expected()
        gap = float((smoothing + expected).sum() / max(total, TINY))
        report(0, float(total) / swept.samples / len(weights), gap)
        if gap <= tolerance or (swept.absolute <= quiet * swept.samples).all():
            break
        newton.shrink((expected < smoothing) & (smoothing > tolerance / 2 * swept.absolute))
    newton.forget()
    return newton, quiet, _whitening(moments.inputs)
