"""Fusing music separators: cache stems, find or learn weights, score, explain and apply them.

The names below are all that most scripts need; each is imported when it is first used. Everything else is in the
packages `stemfuse.separators`, `stemfuse.analysis`, `stemfuse.blending`, `stemfuse.mixers`, `stemfuse.experiments`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stemfuse.analysis import GramStatistics, aggregate, bss_eval
    from stemfuse.blending import MixingWeights, apply_weights, list_fusions, load_fusion, make_fusion
    from stemfuse.experiments import Run, open_data
    from stemfuse.experiments.pipeline import run
    from stemfuse.separators import Stems, StemStore, Track, list_separators, load_separator

_HOMES = {
    "separators": ("StemStore", "Stems", "Track", "list_separators", "load_separator"),
    "analysis": ("GramStatistics", "aggregate", "bss_eval"),
    "blending": ("MixingWeights", "apply_weights", "list_fusions", "load_fusion", "make_fusion"),
    "mixers": (),
    "experiments": ("Run", "open_data", "run"),
}

__all__ = [
    "GramStatistics",
    "MixingWeights",
    "Run",
    "StemStore",
    "Stems",
    "Track",
    "aggregate",
    "apply_weights",
    "bss_eval",
    "list_fusions",
    "list_separators",
    "load_fusion",
    "load_separator",
    "make_fusion",
    "open_data",
    "run",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name == home:
            return import_module(f"{__name__}.{home}")
        if name in names:
            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *__all__})
