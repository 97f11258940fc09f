"""Every figure on planted data, by name: what image tests draw."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from stemfuse.analysis import figures
from stemfuse.analysis.scores import check_scores, scores_table
from stemfuse.separators import SOURCES

SIDES = ("left", "right")
OUTPUTS = tuple(f"{source}.{side}" for source in SOURCES for side in SIDES)


def inputs_of(separators, mixture=True):
    """Labels of the mixture and of every stem of some separators."""
    stems = (f"{name}.{source}.{side}" for name in separators for source in SOURCES for side in SIDES)
    return (*((f"mixture.{side}" for side in SIDES) if mixture else ()), *stems)


def random_weights(separators=("mdx", "demucs"), segments=1, seed=0, mixture=True, step=1.5):
    """Weights of everything on everything, largest where a source takes its own stem."""
    inputs = inputs_of(separators, mixture)
    matrix = np.random.default_rng(seed).normal(0, 0.08, (segments, len(OUTPUTS), len(inputs)))
    for column, output in enumerate(OUTPUTS):
        for row, label in enumerate(inputs):
            matrix[:, column, row] += 0.5 * label.endswith(f".{output}")
    return _weights(matrix, inputs, step)


def own_weights(separators):
    """Each source from its own stems alone, both sides alike."""
    inputs = inputs_of(separators, mixture=False)
    own = np.array([[label.endswith(f".{output}") for label in inputs] for output in OUTPUTS])
    return _weights(own[None] / len(separators), inputs)


def _weights(matrix, inputs, step=1.5):
    starts = np.arange(len(matrix)) * step
    return SimpleNamespace(
        matrix=matrix.astype(np.float32), inputs=inputs, outputs=OUTPUTS, starts_s=starts, duration_s=None
    )


def scores(methods=("mdx", "htdemucs_ft", "mean", "least_squares"), tracks=8):
    """A score table of some songs."""
    chance, tables = np.random.default_rng(0), []
    for track in range(tracks):
        song = chance.normal(4, 1.5, (4, 9))
        for better, name in enumerate(methods):
            sdr = song + 0.3 * better + chance.normal(0, 0.2, (4, 9))
            tables.append(scores_table(f"song {track}", name, SOURCES, {"SDR": sdr}))
    return check_scores(pd.concat(tables, ignore_index=True))


def gains():
    """A comparison, one gain of which is not known."""
    rows = [
        {"fusion": name, "baseline": "htdemucs_ft", "source": source, "metric": "SDR"}
        | {"difference": gain, "low": gain - 0.4, "high": gain + 0.5}
        for name, gain in (("mean", 0.2), ("least_squares", 0.7), ("a fusion with a long name, of 3 s", -0.6))
        for source in (*SOURCES, "mean")
    ]
    rows[3] |= {"difference": np.nan, "low": np.nan, "high": np.nan}
    return pd.DataFrame(rows)


def bounds():
    """Bounds as a run has them."""
    names = ("best_single", "best_per_source", "constant", "per_song", "per_frame", "ideal_ratio_mask")
    rows = [
        {"data": "band", "source": source, "bound": name, "sdr_db": 5 + place + 0.4 * column, "weights": 0.0}
        for place, name in enumerate(names)
        for column, source in enumerate((*SOURCES, "mean"))
    ]
    rows[7]["sdr_db"] = np.nan
    return pd.DataFrame(rows)


def study():
    """A search that has ended."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    names = ("mdx.drums", "htdemucs_ft.drums", "open unmix.drums")

    def value(trial):
        return -sum((trial.suggest_float(name, 0, 1) - 0.3 * place) ** 2 for place, name in enumerate(names))

    made.optimize(value, n_trials=25)
    return made


def front():
    """A search of two metrics."""
    import optuna

    made = optuna.create_study(directions=["maximize"] * 2, sampler=optuna.samplers.RandomSampler(seed=0))
    made.optimize(lambda trial: ((x := trial.suggest_float("a.bass", 0, 1)), 1 - x * x), n_trials=20)
    return made


def history(column="valid_loss"):
    """A training with its first epoch before it, and one that diverged."""
    rows = [{"epoch": epoch, "train_loss": 1 / (1 + epoch), column: 0.2 + (epoch - 6) ** 2 / 60} for epoch in range(10)]
    rows[0]["train_loss"], rows[9][column] = np.nan, np.inf
    return rows


LAYERS = pd.DataFrame(
    {
        "block": [f"encoders.{n}.a_block" for n in range(6)],
        "parameters": [10**n for n in range(6)],
        "operations": [4.1 * 10 ** (6 + n // 2) for n in range(6)],
    }
)
BLOCKS = pd.DataFrame(
    {
        "block": ["tdc", "tdc", "tfc", "tfc_tdf"],
        "sdr_db": [4.0, 5.0, 5.2, 6.0],
        "parameters": [5e5, 5e5, 1e6, 2e6],
        "operations": [1e10, 1e10, 4e10, 5e10],
    }
)
TDF = {f"encoders.{n}.tdf": np.kron(np.eye(4), np.ones((2**n, 2**n))) + 0.01 for n in range(5)}
LEVELS = {source: (-20 + 5 * np.sin(np.arange(18) + n)).tolist() for n, source in enumerate(SOURCES)}

FIGURES = {
    "matrix": lambda: figures.plot_weights(random_weights(), title="least_squares"),
    "matrix folded": lambda: figures.plot_weights(random_weights([f"separator {n}" for n in range(5)])),
    "matrix folded by source": lambda: figures.plot_weights(own_weights(["mdx", "xumx", "demucs"])),
    "matrix unfolded": lambda: figures.plot_weights(random_weights("abcde"), folded=False),
    "two segments": lambda: figures.plot_weights(random_weights(segments=4), [0, 3], title="a song"),
    "mean and spread": lambda: figures.plot_weights(random_weights(segments=4)),
    "grid": lambda: figures.plot_weights_grid({"one": random_weights(), "other": own_weights("abc")}),
    "difference": lambda: figures.plot_difference(random_weights(), random_weights(seed=1)),
    "time": lambda: figures.plot_weights_over_time(random_weights(segments=12), LEVELS, title="gram_mixer, a song"),
    "scores": lambda: figures.plot_scores(scores(), fusions=("mean", "least_squares")),
    "gains": lambda: figures.plot_gains(gains(), fusions=("mean", "least_squares")),
    "bounds": lambda: figures.plot_bounds(bounds()),
    "training": lambda: figures.plot_training(history(), "mlp_mixer"),
    "training with SDR": lambda: figures.plot_training(history("valid_sdr_db"), "tfc_tdf_small of vocals"),
    "tdf": lambda: figures.plot_frequency_maps(TDF, 16_000, "tfc_tdf_small, vocals: TDF layers"),
    "layers": lambda: figures.plot_layers(LAYERS, "tfc_tdf_small"),
    "blocks": lambda: figures.plot_blocks(BLOCKS, "which block?"),
    **{
        f"search {kind}": lambda kind=kind: figures.plot_search(study(), kind, "drums")
        for kind in ("history", "importance", "parallel", "contour")
    },
    "search front": lambda: figures.plot_search(front(), "front", "bass", ("SDR", "SIR")),
}
