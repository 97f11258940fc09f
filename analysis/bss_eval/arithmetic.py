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
import scipy
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from stemfuse.analysis.errors import DeviceError, NotPositiveDefiniteError

DeviceArray = Any
"""An array on the device of its arithmetic: numpy's or torch's."""

Values = NDArray[np.float64]
"""Numbers in float64, on the processor."""

_BLAS = threading.Lock()


class Arithmetic(Protocol):
    """Operations on arrays in float64; frequency is the first axis of spectra, for one matrix product per frequency."""

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """Move an array to the device."""
        ...

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """Move an array back."""
        ...

    def spectra(self, waves: NDArray[Any], size: int) -> DeviceArray:
        """Fourier transform of real waves (..., time), zero-padded to ``size``: (frequency, ...)."""
        ...

    def waves(self, spectra: DeviceArray, size: int) -> DeviceArray:
        """Waves (..., time) of spectra (frequency, ...)."""
        ...

    def factor(self, rows: Iterable[Values], size: int) -> tuple[DeviceArray, float]:
        """Cholesky factor and reciprocal condition number (1-norm) of a symmetric matrix of even size, given by rows.

        Raises
        ------
        NotPositiveDefiniteError
            The matrix has no such factor.
        """
        ...

    def solve(self, factor: DeviceArray, right: Values) -> Values:
        """Solve for every column, with a factor from `factor`."""
        ...

    def stream(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results of the function in order, a few items at a time."""
        ...

    def threads(self) -> AbstractContextManager[None]:
        """Limit numpy's and scipy's linear algebra to the number of threads that was given, if any."""
        ...


class ProcessorArithmetic:
    """numpy and scipy; blocks of audio go to several threads, matrices are factored on one.

    Parameters
    ----------
    workers : int, optional
        Number of threads; one per core that this process may use when not given.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._limit = workers
        self.workers = workers or usable_cores()

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """The array itself."""
        return array

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """The array itself."""
        return np.asarray(array)

    def spectra(self, waves: NDArray[Any], size: int) -> DeviceArray:
        """See `Arithmetic`."""
        if waves.shape[-1] < size:
            # scipy pads along the first axis, which takes longer than the transform
            padded = np.zeros((*waves.shape[:-1], size))
            padded[..., : waves.shape[-1]] = waves
            waves = padded
        return scipy.fft.rfft(np.moveaxis(waves, -1, 0), axis=0)

    def waves(self, spectra: DeviceArray, size: int) -> DeviceArray:
        """See `Arithmetic`."""
        return scipy.fft.irfft(np.moveaxis(spectra, 0, -1), size)

    def factor(self, rows: Iterable[Values], size: int) -> tuple[DeviceArray, float]:
        """See `Arithmetic`."""
        half, norm = size // 2, 0.0
        # one triangle, in LAPACK's rectangular packed form: the triangle of the second half lies above the rest
        packed = np.empty((half, size + 1))
        for index, row in enumerate(rows):
            norm = max(norm, np.abs(row).sum())
            if index < half:
                packed[index, index + 1 :] = row[index:]
            else:
                packed[index - half, : index - half + 1] = row[half : index + 1]
        # OpenBLAS' threads wait for each other so busily that on a shared machine two are slower than one
        with blas_threads(1):
            factor, failed = scipy.linalg.lapack.dpftrf(size, packed.reshape(-1), uplo="L", overwrite_a=True)
        if failed:
            raise NotPositiveDefiniteError(f"{failed}-th leading minor is not positive definite")
        return factor, 1 / (norm * self._inverse_norm(factor, size))

    def _inverse_norm(self, factor: DeviceArray, size: int) -> float:
        """Estimate of the 1-norm of the inverse (Hager 1984, Higham 1988)."""
        column = np.full((size, 1), 1 / size)
        norm = 0.0
        while True:
            image = self.solve(factor, column)
            if not np.abs(image).sum() > norm:
                return norm
            norm = float(np.abs(image).sum())
            slopes = np.abs(self.solve(factor, np.copysign(1.0, image)))
            column = np.zeros((size, 1))
            column[slopes.argmax()] = 1

    def solve(self, factor: DeviceArray, right: Values) -> Values:
        """See `Arithmetic`."""
        with blas_threads(1):
            solution: Values
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
        return nullcontext() if self._limit is None else blas_threads(self._limit)


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

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """See `Arithmetic`."""
        return self._torch.tensor(np.ascontiguousarray(array), device=self._device)

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """See `Arithmetic`."""
        numbers: NDArray[Any] = array.cpu().numpy()
        return numbers

    def spectra(self, waves: NDArray[Any], size: int) -> DeviceArray:
        """See `Arithmetic`."""
        return self._torch.fft.rfft(self.put(waves), size).movedim(-1, 0).contiguous()

    def waves(self, spectra: DeviceArray, size: int) -> DeviceArray:
        """See `Arithmetic`."""
        return self._torch.fft.irfft(spectra.movedim(0, -1), size)

    def factor(self, rows: Iterable[Values], size: int) -> tuple[DeviceArray, float]:
        """See `Arithmetic`."""
        there = self.put(np.stack(list(rows)))
        factor, failed = self._torch.linalg.cholesky_ex(there)
        if failed.item():
            raise NotPositiveDefiniteError(f"{failed.item()}-th leading minor is not positive definite")
        norms = [self._torch.linalg.matrix_norm(part, 1) for part in (there, self._torch.cholesky_inverse(factor))]
        return factor, 1 / float(norms[0] * norms[1])

    def solve(self, factor: DeviceArray, right: Values) -> Values:
        """See `Arithmetic`."""
        solution: Values = self.get(self._torch.cholesky_solve(self.put(right), factor))
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
    (5, 2)
    """
    return ProcessorArithmetic(workers) if device == "cpu" else TorchArithmetic(device)


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Limit numpy's and scipy's linear algebra to some threads."""
    # the setting is the process's: of two threads that change it at once the later would restore the wrong number
    with _BLAS, _libraries().limit(limits=count, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
