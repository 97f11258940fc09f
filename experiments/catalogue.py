"""What ``stemfuse list`` shows."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from stemfuse.blending import PRESETS, fusion_class, list_fusions
from stemfuse.separators import SeparatorError, list_separators, separator_class

LAYOUTS = {
    "folders": "MUSDB18-HQ and trees of its form: ROOT/<subset>/<track>/{mixture,drums,bass,other,vocals}.wav; "
    "FLAC too; subsets train, valid, test; without valid: musdb's 14 validation songs, else every seventh of train",
    "stem.mp4": "MUSDB18: ROOT/<subset>/<track>.stem.mp4, decoded through PyAV, no ffmpeg program needed",
    "files": "single songs without references: WAV, FLAC, MP3, M4A, ...",
    "synthetic band": "stemfuse synth DIR makes songs in the layout of MUSDB18-HQ",
}


def _separators() -> dict[str, str]:
    listed = {}
    for name in list_separators():
        try:
            listed[name] = _summary(separator_class(name))
        except (SeparatorError, ImportError) as error:
            listed[name] = f"not usable: {error}"
    return listed


def _fusions() -> dict[str, str]:
    return {name: _summary(fusion_class(name)) for name in list_fusions()}


def _presets() -> dict[str, str]:
    return {
        name: f"{', '.join(preset.roles)}; {preset.paper}. {preset.note}".strip() for name, preset in PRESETS.items()
    }


def _summary(made: type) -> str:
    """First line of the documentation, then the arguments with their defaults."""
    text = (inspect.getdoc(made) or "").partition("\n")[0]
    arguments = [
        name if parameter.default is inspect.Parameter.empty else f"{name}={parameter.default!r}"
        for name, parameter in inspect.signature(made).parameters.items()
    ]
    return text + (f" Options: {', '.join(arguments)}" if arguments else "")


CATALOGUES: dict[str, Callable[[], dict[str, str]]] = {
    "separators": _separators,
    "fusions": _fusions,
    "datasets": lambda: LAYOUTS,
    "presets": _presets,
}
