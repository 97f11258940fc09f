"""Tasks on several processes, written against the executor face of concurrent.futures."""

from __future__ import annotations

import ast
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar, cast

from stemfuse.separators import StemfuseError

from .errors import RunError

Task = TypeVar("Task")
Result = TypeVar("Result")

ENDING_S = 2.0
"""How long a worker may take to end before it is killed."""

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""


def silent(stage: str, done: int, total: int) -> None:
    """Show no progress."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Result | Exception]]:
    """Yield ``(task, result)`` as tasks end; a task that fails yields its error and the others go on.

    Parameters
    ----------
    function : callable
        Of one task; importable, so that it travels to another process.
    tasks : iterable
        Picklable when there is more than one worker.
    workers : int
        Processes; 1 stays in this one. Each is given an equal share of the cores for its own threads.

    Notes
    -----
    On Ctrl-C or SIGTERM what waits is dropped and the processes end at once; when this process is killed, they end too.
    """
    tasks = list(tasks)
    # however few tasks are left, each has the threads that it always has: rounding may depend on their number
    threads = max(1, cores() // workers)
    if workers == 1 or len(tasks) < 2:
        with few_threads(threads):
            for task in tasks:
                yield task, _result(partial(function, task))
        return
    kept = _kept.get()
    with contextlib.nullcontext(kept) if kept else _processes(min(workers, len(tasks)), threads) as pool:
        try:
            futures: dict[Future[Result], Task] = {pool.submit(function, task): task for task in tasks}
        except BrokenProcessPool as error:  # before the last task was handed over
            raise RunError(_why_broken(pool)) from error
        for future in as_completed(futures):
            outcome = _result(future.result)
            if isinstance(outcome, BrokenProcessPool):
                raise RunError(_why_broken(pool))
            yield futures[future], outcome


_kept: ContextVar[Executor | None] = ContextVar("kept processes", default=None)


@contextlib.contextmanager
def kept_processes(workers: int) -> Iterator[None]:
    """Until the context ends all tasks share their processes, which import what they need only once."""
    if workers == 1:
        yield
        return
    with _processes(workers, max(1, cores() // workers)) as pool:
        token = _kept.set(pool)
        try:
            yield
        finally:
            _kept.reset(token)


def _result(compute: Callable[[], Result]) -> Result | Exception:
    try:
        return compute()
    except Exception as error:
        return error


@contextlib.contextmanager
def _processes(workers: int, threads: int) -> Iterator[Executor]:
    """A pool of fresh processes: forking one that has threads of BLAS or torch may hang."""
    _start_tracker()
    pool = _Pool(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(threads,),
    )
    try:
        yield pool
    except BaseException:
        manager = pool.manager
        pool.shutdown(wait=False, cancel_futures=True)
        _end(multiprocessing.active_children())
        # the interpreter, which ends soon, would wake it while it closes its pipe
        if manager is not None:
            manager.join(ENDING_S)
        raise
    pool.shutdown()


def _start_tracker() -> None:
    """Start the process that frees the pool's semaphores if this one is killed: it does so without a warning then."""
    if os.name != "posix":
        return
    from multiprocessing import resource_tracker

    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(
        filter(None, (before, "ignore::UserWarning:multiprocessing.resource_tracker"))
    )
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


class _Pool(ProcessPoolExecutor):
    """Processes that never see Ctrl-C, not even while they start: this one ends them."""

    started: Sequence[BaseProcess] = ()

    @property
    def manager(self) -> threading.Thread | None:
        """The thread that hands tasks to the processes, once there are any."""
        return cast(threading.Thread | None, self._executor_manager_thread)  # typeshed has another class

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Start a process if none is free; it inherits which signals are blocked."""
        with _without_main():
            future = self._submit(function, *arguments, **named)
        # a broken pool forgets them
        self.started = list((self._processes or {}).values()) or self.started
        return future

    def _submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().submit(function, *arguments, **named)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(function, *arguments, **named)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _why_broken(pool: Executor) -> str:
    """What to say of a pool whose processes ended: those that Python ended had an error while they started."""
    started = pool.started if isinstance(pool, _Pool) else ()
    # the pool's own thread may be the one that is told how they ended: a single join does not suffice
    limit = time.monotonic() + ENDING_S
    while any(process.exitcode is None for process in started) and time.monotonic() < limit:
        time.sleep(0.01)
    if any(process.exitcode == 1 for process in started):
        return (
            "a worker could not start, its own message stands above; in a script, put what starts the run under "
            'if __name__ == "__main__":, or run it with workers=1'
        )
    return "a worker was killed, perhaps because memory ran out; run again with fewer workers"


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Let processes that start in this block not run the user's script again, unless it has a guard against that.

    A new process imports the script (or the module of ``python -m``) that started it; one that calls this outside
    ``if __name__ == "__main__":`` would begin the whole run again in every process. What is sent to processes comes
    from modules, so that they can do without the script.
    """
    names = vars(sys.modules["__main__"])
    # packages, folders and zip files are not imported again by Python itself
    is_package = getattr(names.get("__spec__"), "name", "").rpartition(".")[2] == "__main__"
    if "__file__" not in names or is_package or _is_guarded(names):
        yield
        return
    hidden: dict[str, Any] = {name: names[name] for name in ("__file__", "__spec__") if name in names}
    del names["__file__"]
    names["__spec__"] = None
    try:
        yield
    finally:
        names.update(hidden)


def _is_guarded(main: dict[str, Any]) -> bool:
    """Whether the script's statement that is running stands under ``if __name__ == "__main__":``."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    line = None
    while frame is not None:
        if frame.f_globals is main and frame.f_code.co_name == "<module>":
            line = frame.f_lineno
        frame = frame.f_back
    try:
        tree = ast.parse(Path(main["__file__"]).read_bytes())
    except (OSError, SyntaxError, ValueError):  # standard input, or compiled
        return False
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _asks_for_main(node.test)]
    if line is None:  # the script has ended, and left a thread or a server
        return bool(guards)
    return any(node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0) for node in guards)


def _asks_for_main(test: ast.expr) -> bool:
    equal = [part for part in ast.walk(test) if isinstance(part, ast.Compare) and isinstance(part.ops[0], ast.Eq)]
    return any({"__name__", "'__main__'"} <= {ast.unparse(side) for side in (p.left, *p.comparators)} for p in equal)


def _end(processes: Sequence[BaseProcess]) -> None:
    """End processes, and return when they have ended."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(ENDING_S)
        if process.is_alive():
            process.kill()


def _start_worker(threads: int) -> None:
    # the main process answers Ctrl-C and ends the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def limit_threads(threads: int) -> None:
    """Give this process a number of threads for BLAS, OpenMP and torch, loaded already or later."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    few_threads(threads)


def few_threads(threads: int) -> contextlib.AbstractContextManager[Any]:
    """Limit the threads of the libraries that are loaded, until the context ends if it is used as one."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[Any] = threadpool_limits(threads)
    return limits


def run_all(
    function: Callable[[Task], None],
    tasks: Sequence[Task],
    workers: int,
    stage: str,
    progress: Progress,
    name: Callable[[Task], str],
) -> None:
    """Run tasks with progress; when some fail the others are finished first, and the error names them all.

    An error that nobody foresaw is raised as it is, with a note that names its task.
    """
    failed: list[tuple[str, Exception]] = []
    progress(stage, 0, len(tasks))
    for done, (task, outcome) in enumerate(run_tasks(function, tasks, workers), start=1):
        if isinstance(outcome, Exception):
            failed.append((name(task), outcome))
        progress(stage, done, len(tasks))
    for named, error in failed:
        if not isinstance(error, FORESEEN) and not is_memory(error):
            error.add_note(f"{stage}: {named}")
            raise error
    if failed:
        lines = "; ".join(f"{named}: {NO_MEMORY if is_memory(error) else error}" for named, error in failed[:5])
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise RunError(f"{stage}: {len(failed)} of {len(tasks)} failed: {lines}{more}") from failed[0][1]


FORESEEN = (StemfuseError, OSError)
"""Errors of tasks that a user can mend."""

NO_MEMORY = "not enough memory; close other programs, or take fewer workers or shorter chunks"


def is_memory(error: Exception) -> bool:
    """Whether memory ran out; torch, which may not be loaded, has an error of its own for that of a GPU."""
    # on a processor torch raises a RuntimeError like many others
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or of_torch
