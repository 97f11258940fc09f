"""A run that is going on, as `stemfuse serve` shows it: its stage and count beside the report, and a waiting page."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

from .errors import RunError
from .run import Run
from .workers import Progress

PROGRESS = "report/progress.json"
"""Only there while the run goes on, or after its process was killed."""

EVERY_S = 1.0


@contextlib.contextmanager
def live_progress(run: Run, shown: Progress, page: bool = True) -> Iterator[Progress]:
    """Write the progress of a run into its folder until it ends; where there is no report yet, a page that shows it.

    Parameters
    ----------
    run : Run
        Its folder.
    shown : callable
        Called as before, as ``shown(stage, done, total)``.
    page : bool
        Whether the run ends with a report, for which a page may wait.

    Yields
    ------
    callable
        To be called in its place.
    """
    from .report import write_waiting_page

    begun, written = time.time(), [("", 0.0)]

    def progress(stage: str, done: int, total: int) -> None:
        shown(stage, done, total)
        last, at = written[0]
        if stage == last and time.monotonic() - at < EVERY_S and done < total:
            return
        written[0] = stage, time.monotonic()
        state = {"stage": stage, "done": done, "total": total, "begun": begun, "now": time.time()}
        with contextlib.suppress(RunError, OSError):  # the run itself says that the disk is full
            run.write_text(PROGRESS, json.dumps(state))

    with contextlib.suppress(RunError, OSError):
        if page and not run.report_path.exists():
            write_waiting_page(run.path)
    try:
        yield progress
    finally:
        with contextlib.suppress(OSError):
            (run.path / PROGRESS).unlink(missing_ok=True)
