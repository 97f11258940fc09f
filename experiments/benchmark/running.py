"""Running the benchmark: each part is a run of the pipeline, which goes on where it stopped; then all is written."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stemfuse.experiments.config import RunConfig
from stemfuse.experiments.errors import UnfittedError
from stemfuse.experiments.pipeline import run
from stemfuse.experiments.run import Run
from stemfuse.experiments.stages import adopt_folder
from stemfuse.experiments.workers import Progress, cores, silent
from stemfuse.separators import StemStore, whole_file

from .cost import times_of
from .definition import Benchmark, PartConfig
from .document import document
from .drawing import draw
from .measuring import measured

log = logging.getLogger(__name__)

SCHEMA = 1
FIGURES, TIMES, DOCUMENT = "benchmark.json", "benchmark-times.json", "benchmark.md"


def run_benchmark(
    benchmark: Benchmark, progress: Progress = silent, show: Callable[[str], object] = log.info
) -> dict[str, Any]:
    """Do all parts, or what is left of them, and write document, figures and numbers.

    Parameters
    ----------
    benchmark : Benchmark
        The definition.
    progress : callable
        Called as ``progress(stage, done, total)``.
    show : callable
        Called with lines about what comes and how long it takes.

    Returns
    -------
    dict
        All numbers, as ``benchmark.json`` has them.

    Raises
    ------
    StemfuseError
        Something is missing or wrong; what was computed is kept, and the next call goes on from there.
    """
    wanted = benchmark.wanted()
    for line in announced(benchmark, wanted):
        show(line)
    parts, times = {}, {}
    for name, part in wanted.items():
        show(f"{part.title}")
        config = benchmark.recipe(name)
        failed = _run_part(benchmark, part, config, progress)
        finished = Run.open(config.out)
        parts[name] = measured(part, finished, config, failed, benchmark.listed)
        times[name] = times_of(finished, config, benchmark.out / name / "times.json", progress)
    numbers = {"schema": SCHEMA, "definition": benchmark.digest, "parts": parts}
    place = benchmark.place
    place.mkdir(parents=True, exist_ok=True)
    _write(place / FIGURES, _as_json(numbers))
    _write(place / TIMES, _as_json({"schema": SCHEMA, "cores": cores(), "parts": times}))
    drawn = draw(numbers, place)
    _write(place / DOCUMENT, document(benchmark, numbers, drawn))
    return numbers


def announced(benchmark: Benchmark, wanted: Mapping[str, PartConfig]) -> list[str]:
    """What is done and about how long it takes, said before it begins; and what is left out.

    Examples
    --------
    >>> from .definition import load_benchmark
    >>> announced(load_benchmark(), {"band": load_benchmark().parts["band"]})[0]
    'Synthetic band: about 45 minutes on two quiet cores, the first time'
    """
    lines = [
        f"{part.title}: about {max(1, round(benchmark.minutes(part)))} minutes on two quiet cores, the first time"
        for part in wanted.values()
    ]
    if benchmark.real is None and benchmark.only is None:
        others = [part.title for part in benchmark.parts.values() if part.needs]
        lines += [f"without real=FOLDER these are left out: {', '.join(others)}"] if others else []
    return lines


def _run_part(benchmark: Benchmark, part: PartConfig, config: RunConfig, progress: Progress) -> dict[str, str]:
    """Do a part; fusions that could not be fitted, each with the reason."""

    def adopt() -> None:
        store = StemStore(config.store)
        for done, label in enumerate(part.order):
            progress("adopt", done, len(part.order))
            folder = (benchmark.real or Path()) / part.adopt / label
            entries = adopt_folder(
                folder,
                label,
                config.data[0].path,
                config.store,
                "shift",
                sources=config.sources,
                replace=True,
                show=log.info,
                mixture=config.data[0].mixture,
                apart=True,
            )
            store.keep_only(store.find(label), [Path(entry["path"]) for entry in entries])
        progress("adopt", len(part.order), len(part.order))

    try:
        run(config, progress, prepare=adopt if part.adopt else None)
    except UnfittedError:
        # all others are done, and the document says which ones are not
        return dict(Run.open(config.out).record().failed)
    return {}


def _as_json(numbers: Mapping[str, Any]) -> str:
    return json.dumps(numbers, indent=1, ensure_ascii=False) + "\n"


def _write(file: Path, text: str) -> None:
    with whole_file(file, "choose another folder with out= or document=") as temporary:
        temporary.write_text(text, encoding="utf-8")
