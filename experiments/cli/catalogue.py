"""What ``stemfuse list`` shows."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stemfuse.blending import PRESETS, fusion_class, list_fusions
from stemfuse.separators import SeparatorError, list_separators, separator_class
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.optional import install_command, missing_packages
from stemfuse.separators.separator import needed_packages

if TYPE_CHECKING:
    from stemfuse.separators.weights.inventory import StoredFile

LAYOUTS = {
    "folders": "MUSDB18-HQ and trees of its form: ROOT/<subset>/<track>/{mixture,drums,bass,other,vocals}.wav; "
    "FLAC too; subsets train, valid, test; without valid: musdb's 14 validation songs, else every seventh of train",
    "stem.mp4": "MUSDB18: ROOT/<subset>/<track>.stem.mp4, decoded through PyAV, no ffmpeg program needed",
    "files": "single songs without references: WAV, FLAC, MP3, M4A, ...",
    "synthetic band": "stemfuse synth DIR makes songs in the layout of MUSDB18-HQ",
}


SHOWN = 3
"""How many missing files are named where any of them would do."""


class SeparatorEntry(dict[str, Any]):
    """One separator: ``summary``, and ``weights``, which are file, state and path of those that it may load."""

    def __init__(self, summary: str, needed: Sequence[Sequence[StoredFile]]) -> None:
        files = [
            {"file": file.name, "state": file.state, "path": file.path and str(file.path)}
            for alternatives in needed
            for file in alternatives
        ]
        super().__init__(summary=summary, weights=files)
        self._needed = needed

    def __rich__(self) -> str:
        return f"{self['summary']} {_weights_here(self._needed)}".strip()


def _weights_here(needed: Sequence[Sequence[StoredFile]]) -> str:
    """Which files are there and which are missing, in a sentence."""
    there = [f"{file.name} {file.state}" for files in needed for file in files if file.path]
    unusable = [files for files in needed if not any(file.is_usable for file in files)]
    missing = [[file.name for file in files if not file.path] for files in unusable]
    names = [
        " or ".join(files[:SHOWN]) + (f" or {len(files) - SHOWN} more" if len(files) > SHOWN else "")
        for files in missing
        if files
    ]
    parts = there + ([f"missing {', '.join(names)}"] if names else [])
    return f"Weights: {'; '.join(parts)}." if parts else ""


def _separators() -> dict[str, SeparatorEntry]:
    from stemfuse.separators.weights.digests import remembered_digests
    from stemfuse.separators.weights.inventory import separator_files

    listed = {}
    with remembered_digests() as digest:
        for name in list_separators():
            try:
                made = separator_class(name)
                mark = _not_installed(needed_packages(name))
                listed[name] = SeparatorEntry(f"{mark}{_summary(made)}", separator_files(made, digest))
            except (SeparatorError, ImportError) as error:
                listed[name] = SeparatorEntry(f"not usable: {error}", [])
    return listed


def published_weights(name: str = "") -> list[dict[str, Any]]:
    """Every published file of weights; ``here`` is its state in the folder of each separator that loads it.

    Parameters
    ----------
    name : str
        Only those of this system or separator.

    Raises
    ------
    SeparatorError
        Nothing is published under that name.
    """
    from stemfuse.separators.weights.digests import remembered_digests
    from stemfuse.separators.weights.inventory import published_state
    from stemfuse.separators.weights.published import known_files

    rows = [row for row in known_files() if name in ("", row.system, *row.separators)]
    if not rows:
        systems = list(dict.fromkeys(row.system for row in known_files()))
        near = did_you_mean(name, [*systems, *(separator for row in known_files() for separator in row.separators)])
        raise wrong_usage(
            SeparatorError(f"weights of {name!r} are not known{near}, expected one of {', '.join(systems)}")
        )
    with remembered_digests() as digest:
        return [
            dataclasses.asdict(row) | {"here": {file.separator: file.state for file in published_state(row, digest)}}
            for row in rows
        ]


def _fusions() -> dict[str, str]:
    return {name: _not_installed(fusion_class(name).needs) + _summary(fusion_class(name)) for name in list_fusions()}


def _not_installed(needs: Mapping[str, str]) -> str:
    """What to install first; empty where everything is there."""
    missing = missing_packages(needs)
    return f"[not installed: {install_command(needs[missing[0]])}] " if missing else ""


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


def _weights() -> dict[str, str]:
    """Published files in a line each; stemfuse weights list has a table of them."""
    return {
        f"{row['system']}/{row['name']}": ", ".join(
            [*dict.fromkeys(row["here"].values()), f"licence {row['licence']}", f"for {', '.join(row['separators'])}"]
        )
        for row in published_weights()
    }


def _recipes() -> dict[str, str]:
    """Recipes of papers that come with the package, and how one is run."""
    from stemfuse.experiments.recipes import packaged_recipes, packaged_trainings

    trainings = {name: f"trains separators: stemfuse train SEPARATOR {name}" for name in packaged_trainings()}
    return {name: f"stemfuse run {name}, on made-up songs with data=synth" for name in packaged_recipes()} | trainings


CATALOGUES: dict[str, Callable[[], Mapping[str, str | SeparatorEntry]]] = {
    "separators": _separators,
    "fusions": _fusions,
    "datasets": lambda: LAYOUTS,
    "presets": _presets,
    "recipes": _recipes,
    "weights": _weights,
}
