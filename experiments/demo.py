"""The demo: the whole pipeline on songs that every machine has."""

from __future__ import annotations

import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from stemfuse.blending import BAND_EDGES_HZ
from stemfuse.separators import SeparatorError, TrackError
from stemfuse.separators.optional import require_packages
from stemfuse.separators.separator import needed_packages
from stemfuse.separators.sources import parse_sources

from .config import BandConfig, BoundsConfig, DataConfig, FusionConfig, PlayersConfig, RunConfig, SeparatorConfig
from .pipeline import run
from .run import Run
from .workers import Progress, silent

SEED = 2021
SONGS = {"train": 5, "test": 3}
SECONDS = 6.0
BAND = BandConfig(songs=SONGS, seconds=SECONDS, seed=SEED)
BY_RULE = ("harmonic_percussive", "centre_channel")
TRAINED = ("xumx_small", "tfc_tdf_small", "demucs_small")
"""In the order of the roles in Danna-Sep's preset."""

FETCHED, FETCH_S = "spleeter_2stems", 20.0
"""Weights that the demo fetches when they are not here, and the seconds that it waits for them."""

log = logging.getLogger(__name__)

SMALL_MIXER = {
    "base": "conv1x1",
    "segment": 1 << 15,
    "shift": 1 << 15,
    "fold": 1 << 7,
    "layers": 1,
    "token_hidden": 32,
    "channel_hidden": 32,
    "centred": True,
    "learning_rate": 1e-3,
    "epochs": 3,
}
"""An MDX-Mixer that trains in seconds: so few songs teach it little from scratch, so it starts at the 1x1 mixer."""


def example_clip() -> Path:
    """The clip of MUSDB18 that stempeg packages: six seconds of real music with its sources.

    Found without importing stempeg, which cannot be imported where ffmpeg is missing.
    """
    spec = importlib.util.find_spec("stempeg")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder, "data").glob("*.stem.mp4")):
            return path
    raise TrackError("stempeg's packaged clip is not installed; pip install stempeg")


def band_folder(out: Path) -> Path:
    """Where the demo's songs lie."""
    return out / "data" / "synthetic band"


def fetch_separators() -> tuple[SeparatorConfig, ...]:
    """Spleeter, if its weights are here or can be fetched quickly; a message says so when they cannot.

    Its vocals alone are taken: its accompaniment is what is left of the mixture, which the fusions have too.
    """
    from stemfuse.separators.weights.download import fetch_weights, find_rows

    try:
        require_packages(needed_packages("spleeter"), "spleeter")
        for row in find_rows(FETCHED):
            fetch_weights(row, seconds=FETCH_S)
    except SeparatorError as error:
        log.warning("the demo goes on without Spleeter: %s", error)
        return ()
    return (SeparatorConfig(name="spleeter", sources=parse_sources("vocals")),)


def demo_config(out: Path, workers: int | None = None, more: tuple[SeparatorConfig, ...] = ()) -> RunConfig:
    """The demo's recipe; data, store and run lie under one folder. ``more`` are separators that few machines have."""
    return RunConfig(
        out=out / "run",
        store=out / "store",
        data=(
            DataConfig(path=example_clip(), label="MUSDB18 excerpt", real=True),
            DataConfig(path=band_folder(out), label="synthetic band", real=False, band=BAND),
        ),
        separators=(*(SeparatorConfig(name=name) for name in (*BY_RULE, *TRAINED)), *more),
        fusions=(
            FusionConfig(name="mean"),
            FusionConfig(name="fixed", label="danna-sep", options={"blend": "danna-sep", "separators": TRAINED}),
            FusionConfig(name="least_squares", options={"stems": "all", "mixture": True, "ridge": "auto"}),
            FusionConfig(name="search", options={"trials": 100, "sampler": "cmaes"}),
            FusionConfig(name="conv1x1", options={"solver": "exact"}),
            FusionConfig(name="mlp_mixer", options=SMALL_MIXER),
            FusionConfig(name="gram_mixer"),
        ),
        bounds=BoundsConfig(bands_hz=BAND_EDGES_HZ),
        players=PlayersConfig(tracks=1, duration_s=8.0),
        workers=workers,
        seed=SEED,
    )


def run_demo(out: Path, workers: int | None = None, progress: Progress = silent) -> Run:
    """Fetch Spleeter if that is quick, make songs and run the recipe; a second call goes on where the first stopped.

    Parameters
    ----------
    out : Path
        Folder for data, store and run.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.
    """
    from .band import synthesize

    with ThreadPoolExecutor(1) as beside:
        fetched = beside.submit(fetch_separators)
        # the songs take as long; where they are, run leaves them alone
        shown = partial(progress, "synth")
        synthesize(band_folder(out), BAND.songs, BAND.seconds, BAND.seed, progress=shown)
        more = fetched.result()
    return run(demo_config(out, workers, more), progress)
