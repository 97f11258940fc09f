"""The report: seconds to make it, size of its page and excerpts, and seconds until a browser has drawn it.

Run ``python benchmarks/report.py [--songs 50] [--heard 3] [--seconds 60] [--place FOLDER] [--out report.json]``. Songs
are noise with the envelopes of phrases, and four separators that err in ways of their own; ``--heard`` of them are
``--seconds`` long and have players, the others last four seconds, as nothing of their audio is read by the report.
Eight fusions, two of which vary in time, one a search with its trials. Then the page is opened by Debian's chromium, if
it is installed. ``--place`` keeps data, store and run, so that a second call measures the report alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from stemfuse.experiments.config import BoundsConfig, DataConfig, FusionConfig, PlayersConfig, RunConfig
from stemfuse.experiments.config import SeparatorConfig as Separators
from stemfuse.experiments.data import open_data
from stemfuse.experiments.pipeline import run
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.report import write_report
from stemfuse.experiments.run import Run
from stemfuse.experiments.stages import report
from stemfuse.experiments.workers import kept_processes, silent
from stemfuse.separators import RATE, SOURCES, Stems, StemStore

ERRORS = {"near": 0.4, "leaky": 0.5, "dull": 0.6, "rough": 0.7}
"""By separator, level of its own error relative to the mixture."""

SHORT_S, TRAINING = 4.0, 6
FUSIONS = (
    FusionConfig(name="mean"),
    FusionConfig(name="least_squares", label="blend", options={"constraint": "simplex"}),
    FusionConfig(name="least_squares", options={"stems": "all", "mixture": True, "ridge": "auto"}),
    FusionConfig(name="residual"),
    FusionConfig(name="search", options={"trials": 60}),
    FusionConfig(name="conv1x1", options={"solver": "exact"}),
    FusionConfig(name="gram_mixer", options={"epochs": 20}),
    FusionConfig(name="minimum_variance"),
)


def sources_of(seed: int, seconds: float) -> Any:
    """Four sources of noise in phrases, (source, channel, time)."""
    generator = np.random.default_rng(seed)
    length = round(seconds * RATE)
    phrases = generator.uniform(0, 1, (4, 1, max(2, round(seconds)))) ** 2
    envelope = np.repeat(phrases, -(-length // phrases.shape[-1]), axis=-1)[..., :length]
    return (0.15 * envelope * generator.standard_normal((4, 2, length), dtype=np.float32)).astype(np.float32)


def write_songs(place: Path, songs: int, heard: int, seconds: float) -> None:
    """Data set and store; songs that are there are left alone."""
    store, data = StemStore(place / "store"), place / "songs"
    planned = [("train", f"training {n}", SHORT_S) for n in range(TRAINING)]
    planned += [("test", f"{n:03d} song", seconds if n < heard else SHORT_S) for n in range(songs)]
    for seed, (subset, name, length) in enumerate(planned):
        folder = data / subset / name
        if (folder / "vocals.wav").is_file():
            continue
        sources = sources_of(seed, length)
        Stems(sources.sum(0)[None], ("mixture",)).write(folder, "FLOAT", ".wav")
        Stems(sources, SOURCES).write(folder, "FLOAT", ".wav")
    for track in open_data(data).tracks():
        references = track.required_references()
        mixture, clean = track.mixture.read(), np.stack([references[source].read() for source in SOURCES])
        for number, (label, error) in enumerate(ERRORS.items()):
            if store.missing([track], label):
                chance = np.random.default_rng(number + 100 * track.length)
                noise = 0.05 * error * chance.standard_normal(clean.shape, dtype=np.float32)
                store.put(track, label, Stems((1 - error / 2) * clean + error / 4 * mixture + noise), {"name": label})


def recipe(place: Path, heard: int, seconds: float) -> RunConfig:
    """Of the run that is reported."""
    return RunConfig(
        out=place / "run",
        store=place / "store",
        data=(DataConfig(path=place / "songs"),),
        separators=tuple(Separators(name=label, stored=True) for label in ERRORS),
        fusions=FUSIONS,
        bounds=BoundsConfig(bands_hz=None),
        players=PlayersConfig(tracks=heard, duration_s=min(30.0, seconds)),
    )


def opened(page: Path) -> dict[str, float] | None:
    """Seconds until a browser has loaded the page and drawn it first; None without chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        return None
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless", "no-sandbox", "disable-gpu", "window-size=1280,1000"):
        options.add_argument(f"--{argument}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.get(page.resolve().as_uri())
        loaded = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
        painted = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN"
        return {"loaded_s": browser.execute_script(loaded) / 1000, "drawn_s": browser.execute_script(painted) / 1000}
    finally:
        browser.quit()


def processor_s() -> float:
    """Processor time of this process and of those that it has started and that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measure(config: RunConfig) -> dict[str, Any]:
    """Times and sizes; the report is made anew, and then once more with the excerpts that are there."""
    finished, plan = Run(config.out), plan_run(config)
    shutil.rmtree(finished.path / "report", ignore_errors=True)
    shutil.rmtree(finished.path / "figures", ignore_errors=True)
    seconds, before = {}, processor_s()
    with kept_processes(plan.workers):
        started = time.perf_counter()
        report(plan, finished, silent)
        seconds["report_s"] = time.perf_counter() - started
    # the processes of the pool count when they have ended
    seconds["report_processor_s"] = processor_s() - before
    with kept_processes(plan.workers):
        started = time.perf_counter()
        page = write_report(finished.path, plan.workers)
        seconds["page_s"] = time.perf_counter() - started
    excerpts = [file for file in (page.parent / "audio").rglob("*") if file.suffix in (".wav", ".flac")]
    sizes = {
        "page_mb": page.stat().st_size / 1e6,
        "excerpts": len(excerpts),
        "audio_mb": sum(file.stat().st_size for file in excerpts) / 1e6,
    }
    return {**seconds, **sizes, **(opened(page) or {})}


def main() -> None:
    """Make a run if there is none, and measure its report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--songs", type=int, default=50)
    parser.add_argument("--heard", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--place", type=Path)
    parser.add_argument("--out", type=Path, default=Path("report.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.place or Path(folder)
        write_songs(place, arguments.songs, arguments.heard, arguments.seconds)
        config = recipe(place, arguments.heard, arguments.seconds)
        run(config)
        found = measure(config)
    for name, value in found.items():
        print(f"{name:18} {value:8.2f}")
    given = {"songs": arguments.songs, "heard": arguments.heard, "seconds": arguments.seconds}
    arguments.out.write_text(json.dumps(given | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
