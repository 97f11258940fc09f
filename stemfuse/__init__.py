"""Fusing music separators: cache stems, find or learn weights, score, explain and apply them.

The names below are all that most scripts need; each is imported when it is first used. Everything else is in the
packages `stemfuse.separators`, `stemfuse.analysis`, `stemfuse.blending`, `stemfuse.mixers`, `stemfuse.experiments`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stemfuse.analysis import (
        GramStatistics,
        aggregate,
        bss_eval,
        figure_style,
        plot_difference,
        plot_scores,
        plot_training,
        plot_weights,
        score_track,
    )
    from stemfuse.blending import MixingWeights, apply_weights, decompose, list_fusions, load_fusion, make_fusion
    from stemfuse.experiments import DataSet, Run, open_data
    from stemfuse.experiments.band import synthesize
    from stemfuse.experiments.comparison import compare_stems
    from stemfuse.experiments.pipeline import run
    from stemfuse.experiments.stages.fuse import fuse_paths
    from stemfuse.experiments.verdict import verdicts
    from stemfuse.separators import (
        BaseSeparator,
        StemfuseError,
        Stems,
        StemStore,
        Track,
        check_separator,
        list_separators,
        load_separator,
    )

_PACKAGES = ("separators", "analysis", "blending", "mixers", "experiments")
_HOMES = {
    "separators": (
        "BaseSeparator",
        "StemStore",
        "StemfuseError",
        "Stems",
        "Track",
        "check_separator",
        "list_separators",
        "load_separator",
    ),
    "analysis": (
        "GramStatistics",
        "aggregate",
        "bss_eval",
        "figure_style",
        "plot_difference",
        "plot_scores",
        "plot_training",
        "plot_weights",
        "score_track",
    ),
    "blending": ("MixingWeights", "apply_weights", "decompose", "list_fusions", "load_fusion", "make_fusion"),
    "experiments": ("DataSet", "Run", "open_data", "run"),
    "experiments.band": ("synthesize",),
    "experiments.comparison": ("compare_stems",),
    "experiments.stages.fuse": ("fuse_paths",),
    "experiments.verdict": ("verdicts",),
}

__all__ = [
    "BaseSeparator",
    "DataSet",
    "GramStatistics",
    "MixingWeights",
    "Run",
    "StemStore",
    "StemfuseError",
    "Stems",
    "Track",
    "aggregate",
    "apply_weights",
    "bss_eval",
    "check_separator",
    "compare_stems",
    "decompose",
    "figure_style",
    "fuse_paths",
    "list_fusions",
    "list_separators",
    "load_fusion",
    "load_separator",
    "make_fusion",
    "open_data",
    "plot_difference",
    "plot_scores",
    "plot_training",
    "plot_weights",
    "run",
    "score_track",
    "synthesize",
    "verdicts",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *__all__})
