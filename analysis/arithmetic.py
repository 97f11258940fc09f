"""The few operations in float64 that the projections need, on the processor (scipy) or on a GPU (torch)."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from stemfuse.separators import StemfuseError

Array = Any
"""An array that lies where its arithmetic works: numpy's or torch's."""

Matrix = NDArray[np.float64]

_BLAS = threading.Lock()


class DeviceError(StemfuseError, ValueError):
    """A device that is unknown or that this machine does not have."""


class NotPositiveDefiniteError(ArithmeticError):
    """A matrix that has no Cholesky factor in float64."""


class Arithmetic(Protocol):
    """Operations on arrays in float64; axes are moved so that matrix products run over the frequencies at once."""

    def put(self, array: NDArray[Any]) -> Array:
        """Move an array to the device."""
        ...

    def get(self, array: Array) -> NDArray[Any]:
        """Move an array back."""
        ...

    def spectra(self, waves: NDArray[Any], size: int) -> Array:
        """Fourier transform of real waves (..., time), zero-padded to ``size``: (..., frequency)."""
        ...

    def by_frequency(self, spectra: Array) -> Array:
        """Spectra (..., frequency) written out as (frequency, ...), for matrix products at every frequency."""
        ...

    def waves(self, spectra: Array, size: int) -> Array:
        """Waves (..., time) of spectra (frequency, ...)."""
        ...

    def factor(self, matrix: Matrix) -> tuple[Array, float]:
        """Cholesky factor and reciprocal condition number (1-norm) of a matrix, which may be overwritten.

        Raises
        ------
        NotPositiveDefiniteError
            It has none.
        """
        ...

    def solve(self, factor: Array, right: Matrix) -> Matrix:
        """Solve for every column, with a factor that `factor` made."""
        ...

    def stream(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results of the function in order, a few items at a time."""
        ...

    def threads(self) -> AbstractContextManager[None]:
        """Hold numpy's and scipy's linear algebra to the number of threads that was asked for, if any was."""
        ...


class ProcessorArithmetic:
    """numpy and scipy; blocks of audio are shared out among threads, matrices are factored on one.

    Parameters
    ----------
    workers : int, optional
        Threads; as many as this process may use cores when not given.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._limit = workers
        self.workers = workers or _usable_cores()

    def put(self, array: NDArray[Any]) -> Array:
        """The array itself."""
        return array

    def get(self, array: Array) -> NDArray[Any]:
        """The array itself."""
        return np.asarray(array)

    def spectra(self, waves: NDArray[Any], size: int) -> Array:
        """See `Arithmetic`."""
        return scipy.fft.rfft(waves, size)

    def by_frequency(self, spectra: Array) -> Array:
        """See `Arithmetic`."""
        return np.ascontiguousarray(np.moveaxis(spectra, -1, 0))

    def waves(self, spectra: Array, size: int) -> Array:
        """See `Arithmetic`."""
        return scipy.fft.irfft(np.moveaxis(spectra, 0, -1), size)

    def factor(self, matrix: Matrix) -> tuple[Array, float]:
        """See `Arithmetic`."""
        norm = float(scipy.linalg.norm(matrix.T, 1, check_finite=False))
        # OpenBLAS' threads wait for each other so busily that on a shared machine two are slower than one
        with _blas_threads(1):
            try:
                # the transpose of a symmetric matrix in C order is itself in Fortran order: factored where it lies
                factor = scipy.linalg.cholesky(matrix.T, lower=True, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError as error:
                raise NotPositiveDefiniteError(str(error)) from error
            condition, _ = scipy.linalg.lapack.dpocon(factor, norm, uplo="L")
            # one triangle, packed: half the memory
            packed, _ = scipy.linalg.lapack.dtrttf(factor, uplo="L")
        return packed, float(condition)

    def solve(self, factor: Array, right: Matrix) -> Matrix:
        """See `Arithmetic`."""
        with _blas_threads(1):
            solution: Matrix
            solution, _ = scipy.linalg.lapack.dpftrs(len(right), factor, right, uplo="L")
        return solution

    def stream(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """See `Arithmetic`; at most one item more than there are threads is held."""
        if self.workers == 1:
            for item in items:
                yield function(*item)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque[Any] = deque()
            for item in items:
                waiting.append(pool.submit(function, *item))
                if len(waiting) > self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def threads(self) -> AbstractContextManager[None]:
        """See `Arithmetic`."""
        return nullcontext() if self._limit is None else _blas_threads(self._limit)


class TorchArithmetic:
    """torch, on any of its devices that has float64.

    Parameters
    ----------
    device : str
        ``"cuda"``, ``"cuda:1"``.

    Raises
    ------
    DeviceError
        torch is not installed, or this machine has no such device.
    """

    def __init__(self, device: str) -> None:
        try:
            import torch

            self._device = torch.zeros(1, dtype=torch.float64, device=device).device
        except (ImportError, RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise DeviceError(
                f"device {device!r} cannot be used ({reason}); expected 'cpu', or 'cuda' on a GPU"
            ) from error
        self._torch = torch

    def put(self, array: NDArray[Any]) -> Array:
        """See `Arithmetic`."""
        return self._torch.tensor(np.ascontiguousarray(array), device=self._device)

    def get(self, array: Array) -> NDArray[Any]:
        """See `Arithmetic`."""
        numbers: NDArray[Any] = array.cpu().numpy()
        return numbers

    def spectra(self, waves: NDArray[Any], size: int) -> Array:
        """See `Arithmetic`."""
        return self._torch.fft.rfft(self.put(waves), size)

    def by_frequency(self, spectra: Array) -> Array:
        """See `Arithmetic`."""
        return spectra.movedim(-1, 0).contiguous()

    def waves(self, spectra: Array, size: int) -> Array:
        """See `Arithmetic`."""
        return self._torch.fft.irfft(spectra.movedim(0, -1), size)

    def factor(self, matrix: Matrix) -> tuple[Array, float]:
        """See `Arithmetic`."""
        there = self.put(matrix)
        factor, failed = self._torch.linalg.cholesky_ex(there)
        if failed.item():
            raise NotPositiveDefiniteError(f"{failed.item()}-th leading minor is not positive definite")
        norms = [self._torch.linalg.matrix_norm(part, 1) for part in (there, self._torch.cholesky_inverse(factor))]
        return factor, 1 / float(norms[0] * norms[1])

    def solve(self, factor: Array, right: Matrix) -> Matrix:
        """See `Arithmetic`."""
        solution: Matrix = self.get(self._torch.cholesky_solve(self.put(right), factor))
        return solution

    def stream(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """See `Arithmetic`; the device orders its own work."""
        for item in items:
            yield function(*item)

    def threads(self) -> AbstractContextManager[None]:
        """See `Arithmetic`; the device has its own."""
        return nullcontext()


def arithmetic_on(device: str = "cpu", workers: int | None = None) -> Arithmetic:
    """The arithmetic of a device.

    Examples
    --------
    >>> arithmetic_on("cpu").spectra(np.ones((2, 6)), 8).shape
    (2, 5)
    """
    return ProcessorArithmetic(workers) if device == "cpu" else TorchArithmetic(device)


@contextmanager
def _blas_threads(count: int) -> Iterator[None]:
    # the setting is the process's: of two threads that change it at once the later would restore the wrong number
    with _BLAS, _libraries().limit(limits=count, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
