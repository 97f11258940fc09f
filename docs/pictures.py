"""Pictures of docs/figures.md, taken from a finished demo: `make demo`, then ``python docs/pictures.py demo/run``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from stemfuse.analysis.figures import plot_weights_grid
from stemfuse.blending import MixingWeights, decompose

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
    """Copy the run's figures, and draw the one that the report does not have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the finished run")
    run = parser.parse_args().run
    folder = Path(__file__).parent / "pictures"
    for name, pattern in PICTURES.items():
        shutil.copyfile(min((run / "figures").glob(pattern)), folder / f"{name}.png")
    parts = decompose(MixingWeights.load(run / "fusions" / "least_squares.npz")).parts()
    plot_weights_grid(parts).savefig(folder / "parts.png", dpi=75, bbox_inches="tight")


if __name__ == "__main__":
    main()
