"""The best 1x1 convolution, computed: least squares, or least absolute errors with a proof of how near they are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from stemfuse.separators import Samples
from stemfuse.separators.training import History

from .huber import Newton, Sweep, duality_gaps
from .second_moments import TINY, Array, SecondMoments, least_squares, whitening
from .segments import TrackBlocks

log = logging.getLogger(__name__)

ROWS = 1 << 18
"""Samples on which the problem is solved first; the loss is then about inputs / (2 ROWS) above the optimum."""
ROUNDING = 1e-6
"""Error, relative to the references, at which a fit counts as perfect; float32 audio does not allow a smaller one."""
SAMPLE_PASSES = 100
"""Most passes over the samples that come first; ten are usual."""


@dataclass(frozen=True)
class Solution:
    """Result of `solve`.

    Attributes
    ----------
    matrix : ndarray, shape (output, input)
        The weights, for signals on any scale.
    loss : float
        Mean of ``|s - y|``, or of ``(s - y)^2``, over samples and outputs, on the scale of training.
    gap : float
        Proved by a dual solution: ``loss`` is above its minimum by at most this share of it.
    history : list of dict
        One row per pass over the data: stage, step, train_loss, gap, seconds.
    """

    matrix: Array
    loss: float
    gap: float
    history: History


class _Recorder:
    """Makes the rows of the history."""

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

    Least absolute errors are one problem per output channel. Each is solved by Newton's method as a sequence of Huber
    problems of falling threshold e, starting from the least squares solution: first on `ROWS` samples from everywhere,
    then on all samples. At the optimum of a Huber problem its derivative is a feasible point of the dual problem. It
    proves a gap of sum over ``|r| < e`` of ``|r| - r^2 / e``, which falls with e^2.

    Parameters
    ----------
    blocks : TrackBlocks
        The data.
    loss : {"l1", "l2"}
        Which error.
    tolerance : float
        The passes end when the gap, proved by duality on all samples, is at most this.
    passes : int
        Most passes over all samples; ten times as many when there are at most `ROWS`.
    seed : int
        Decides which samples come first.
    progress : callable, optional
        Called with each row of the history.

    Returns
    -------
    Solution
        Weights, loss, proved gap and history.

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
    recorder = _Recorder(progress)
    # another thread reads meanwhile; products of this size are slower on several threads, which wait for each other
    with threadpool_limits(1, "blas"):
        if loss != "l2":
            return _least_absolute(blocks, tolerance, passes, seed, recorder)
        return _least_squared(blocks, recorder)


def nearly_solve(blocks: TrackBlocks, seed: int = 0) -> Samples:
    """Weights of the smallest mean absolute error over `ROWS` samples from everywhere, (output, input).

    Where a training starts, the last share of 1e-4 of the loss is worth no pass over all samples: they take most of the
    time of `solve`.

    Parameters
    ----------
    blocks : TrackBlocks
        The data.
    seed : int
        Decides which samples.

    Examples
    --------
    >>> from stemfuse.separators import Track
    >>> audio = np.random.default_rng(0).laplace(0, 0.1, (4, 2, 4000))
    >>> blocks = TrackBlocks([Track.from_arrays("song", audio.sum(0), audio, {"a": 2 * audio})], mixture=False)
    >>> nearly_solve(blocks).diagonal().round(4).tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    with threadpool_limits(1, "blas"):
        newton, *_ = _on_sample([blocks.sample(ROWS, seed)], 1e-4, _Recorder(None))
    return newton.weights.astype(np.float32)


def _least_squared(blocks: TrackBlocks, recorder: _Recorder) -> Solution:
    """One pass: second moments are enough for the squared error."""
    moments = SecondMoments(len(blocks.inputs), len(blocks.outputs))
    _gather(blocks.blocks(), moments)
    weights = least_squares(moments)
    errors = moments.energies - 2 * (weights * moments.cross).sum(1) + ((weights @ moments.inputs) * weights).sum(1)
    recorder(1, float(np.maximum(errors, 0).mean()) / moments.samples, 0.0)
    return Solution(weights, recorder.rows[-1]["train_loss"], 0.0, recorder.rows)


def _least_absolute(blocks: TrackBlocks, tolerance: float, passes: int, seed: int, recorder: _Recorder) -> Solution:
    """Newton's method on some samples, then on all samples until duality proves the gap."""
    sample = [blocks.sample(ROWS, seed)]
    whole, passes = (sample, 10 * passes) if blocks.length <= ROWS else (None, passes)
    newton, quiet, basis = _on_sample(sample, tolerance / 2, recorder)
    gap, moments = np.inf, SecondMoments(len(blocks.inputs), len(blocks.outputs), basis)
    for number in range(passes):
        sweep = newton.next_sweep()
        _gather(whole or blocks.blocks(), sweep, *(() if number else (moments,)))
        sweep = newton.update(sweep, moments)
        gaps = np.where(sweep.absolute <= quiet * sweep.samples, 0, duality_gaps(sweep, moments))
        total = sweep.absolute.sum()
        gap = float(gaps.sum() / max(total - gaps.sum(), TINY))
        recorder(1, float(total) / sweep.samples / len(gaps), gap)
        if gap <= tolerance:
            break
        smoothing = sweep.absolute - sweep.products
        newton.shrink((smoothing > 0.5 * gaps) & (gaps > tolerance / 2 * sweep.absolute))
    else:
        log.warning(
            "least absolute errors: within %.2g of the optimum, not %.2g, after %d passes", gap, tolerance, passes
        )
    return Solution(newton.weights, recorder.rows[-1]["train_loss"], gap, recorder.rows)


def _on_sample(
    sample: list[tuple[Samples, Samples]], tolerance: float, recorder: _Recorder
) -> tuple[Newton, Array, Array]:
    """Newton's method on some samples, starting from their least squares solution.

    The gap is estimated here: the cost of the threshold at its optimum, plus half the Newton decrement.

    Returns
    -------
    newton : Newton
        Ready to go on with all samples.
    quiet : ndarray, shape (output,)
        Mean absolute errors that count as none.
    basis : ndarray, shape (input, input)
        In which the inputs are uncorrelated; see `whitening`.
    """
    inputs, references = sample[0]
    moments = SecondMoments(inputs.shape[1], references.shape[1])
    _gather(sample, moments)
    weights, loudness = least_squares(moments), np.sqrt(moments.energies / moments.samples)
    quiet = np.maximum(ROUNDING * loudness, TINY)
    newton = Newton(weights, np.maximum(np.abs(references - inputs @ weights.T).mean(0), quiet))
    for _ in range(SAMPLE_PASSES):
        sweep = newton.next_sweep()
        _gather(sample, sweep)
        sweep = newton.update(sweep, moments)
        total = sweep.absolute.sum()
        smoothing, expected = sweep.absolute - sweep.products, newton.expected()
        gap = float((smoothing + expected).sum() / max(total, TINY))
        recorder(0, float(total) / sweep.samples / len(weights), gap)
        if gap <= tolerance or (sweep.absolute <= quiet * sweep.samples).all():
            break
        newton.shrink((expected < smoothing) & (smoothing > tolerance / 2 * sweep.absolute))
    newton.restart()
    return newton, quiet, whitening(moments.inputs)


def _gather(blocks: Iterable[tuple[Samples, Samples]], *sums: SecondMoments | Sweep) -> None:
    """Make one pass over the data, and add every block to several sums."""
    for inputs, references in blocks:
        block, truth = inputs.astype(np.float64), references.astype(np.float64)
        for total in sums:
            total.add(block, truth)
