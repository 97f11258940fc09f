"""Pictures of docs/figures.md, taken from a finished demo: `make demo`, then ``python docs/pictures.py demo/run``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from stemfuse.experiments.cli import main as stemfuse

PICTURES = {
    "gains": "gains-1-synthetic-band-*.png",
    "scores": "scores-synthetic-band-*.png",
    "over-time": "weights-over-time-gram-mixer-*.png",
    "training": "training-mlp_mixer.png",
    "search-history": "search-search-vocals-history.png",
    "search-importance": "search-search-vocals-importance.png",
}
"""Name of the picture, and which file of the run it is."""


def main() -> None:
    """Copy the run's figures, and draw the one that only `stemfuse plot` draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the finished run")
    run = parser.parse_args().run
    folder = Path(__file__).parent / "pictures"
    for name, pattern in PICTURES.items():
        shutil.copyfile(min((run / "figures").glob(pattern)), folder / f"{name}.png")
    parts = folder / "parts.png"
    parts.unlink(missing_ok=True)
    stemfuse(["plot", str(run / "fusions" / "least_squares.npz"), "--how", "parts", "--out", str(parts)])


if __name__ == "__main__":
    main()
