"""Constant blends as files that other programs run: Demucs, MSST's ensemble.py, audio-separator."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stemfuse.blending.errors import FusionError
from stemfuse.blending.explanation import Array, Blend, weighted_average
from stemfuse.blending.weights import MixingWeights
from stemfuse.separators import SOURCES, write_whole

from .kuielab import export_kuielab_mixer
from .kuielab_chain import export_kuielab_mdx

if TYPE_CHECKING:
    from stemfuse.separators.demucs_files import Bag

_DIGITS = 7
"""Decimals written: what float32 holds of a weight near one."""


def export_demucs_bag(
    weights: MixingWeights,
    path: str | os.PathLike[str],
    models: Mapping[str, str],
    repo: str | os.PathLike[str] | None = None,
    segment: float | None = None,
    sources: Sequence[str] = SOURCES,
    nearest: bool = False,
) -> None:
    """Write a bag of models for the demucs package: a ``.yaml`` with signatures and weights per model and source.

    Put it beside the networks' files and give its name: ``demucs --repo FOLDER -n NAME song.wav``, or here
    ``load_separator("demucs", model="NAME.yaml")``.

    Parameters
    ----------
    weights : MixingWeights
        Constant ones.
    path : path-like
        The file, ``NAME.yaml``.
    models : mapping of separator to model
        What each separator of the blend is, as the separator ``demucs`` takes it: a signature (``"955717e8"``), the
        name of a bag (``"htdemucs_ft"``) or a bag's ``.yaml``. The networks of a bag share the separator's weight as
        they do in the bag.
    repo : path-like, optional
        Folder of networks and bags that are not published.
    segment : float, optional
        Length in seconds of the chunks that the networks are given. If not given: what all models agree on.
    sources : sequence of str
        Order of the networks' own outputs; all published networks of four sources have this one.
    nearest : bool
        See `weighted_average`.

    Raises
    ------
    FusionError
        The blend cannot be expressed, a model is not named, or the models' segments differ.
    SeparatorError
        A model is unknown, or the demucs package is not installed.

    Examples
    --------
    >>> import tempfile
    >>> blend = MixingWeights.same_source({source: {"a": 0.25, "b": 0.75} for source in SOURCES})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_demucs_bag(blend, f"{folder}/blend.yaml", {"a": "955717e8", "b": "5d2d6c55"})
    ...     print(Path(folder, "blend.yaml").read_text().rstrip())
    # weights: one row per model, columns drums, bass, other, vocals
    models: [955717e8, 5d2d6c55]
    weights:
    - [0.25, 0.25, 0.25, 0.25]
    - [0.75, 0.75, 0.75, 0.75]
    """
    # pydantic and the list of published files, which nothing else here needs
    from yaml import safe_dump

    from stemfuse.separators.demucs_files import default_folders, find_bag

    if Path(path).suffix != ".yaml":
        raise FusionError(f"{path}: demucs finds bags by the ending .yaml; give the file that ending")
    blend = weighted_average(weights, nearest)
    if set(sources) != set(blend) or len(set(sources)) != len(sources):
        raise FusionError(
            f"got a blend of {', '.join(blend)} for networks that give {', '.join(sources)}: a bag needs weights for "
            "exactly the sources that its networks give"
        )
    folders = default_folders() if repo is None else [Path(repo).expanduser()]
    used = _named(models, blend)
    bags = {separator: find_bag(model, folders) for separator, model in used.items()}
    rows: dict[str, Array] = {}
    for separator, bag in bags.items():
        shares = np.array([blend[source].get(separator, 0.0) for source in sources])
        for signature, row in zip(bag.models, _member_shares(bag, len(sources)), strict=True):
            rows[signature] = rows.get(signature, 0.0) + shares * row
    # a network of a bag may give none of the sources for which the bag has weight
    needed = {signature: row for signature, row in rows.items() if row.any()}
    content: dict[str, object] = {
        "models": list(needed),
        "weights": [[round(weight, _DIGITS) for weight in row.tolist()] for row in needed.values()],
    }
    if (length := _segment(bags, segment)) is not None:
        content["segment"] = length
    text = safe_dump(content, sort_keys=False, default_flow_style=None)
    _write(path, f"# weights: one row per model, columns {', '.join(sources)}\n{text}")


def _member_shares(bag: Bag, sources: int) -> Array:
    """Shares of a bag's networks, (model, source), each source's summing to one."""
    rows = np.ones((len(bag.models), sources)) if bag.weights is None else np.array(bag.weights, dtype=np.float64)
    if rows.shape[1] != sources:
        raise FusionError(f"bag {bag.name} has weights for {rows.shape[1]} sources, the blend is of {sources}")
    shares: Array = rows / rows.sum(0)
    return shares


def _segment(bags: Mapping[str, Bag], segment: float | None) -> float | None:
    stated = {bag.segment for bag in bags.values()}
    if segment is None and len(stated) > 1:
        listed = ", ".join(f"{bag.name} {bag.segment or 'its own'}" for bag in bags.values())
        raise FusionError(
            f"the models take chunks of different lengths ({listed} s), a bag has one: give segment "
            "(--option segment=SECONDS)"
        )
    return stated.pop() if segment is None else segment


def export_msst_commands(
    weights: MixingWeights,
    path: str | os.PathLike[str],
    files: str = "{separator}/{source}.wav",
    output: str = "{source}.wav",
    program: Sequence[str] = ("python", "ensemble.py"),
    nearest: bool = False,
) -> None:
    """Write a shell script that blends stems' files by ``ensemble.py`` of MSST: one command for each source.

    MSST is ZFTurbo's Music-Source-Separation-Training; its script computes the weighted average of files that are
    equally long and writes float WAV. Run the new script with ``sh``.

    Parameters
    ----------
    weights : MixingWeights
        Constant ones.
    path : path-like
        The script.
    files, output : str
        Path of a stem and of a result; ``{separator}`` and ``{source}`` are filled in.
    program : sequence of str
        How the program is called.
    nearest : bool
        See `weighted_average`.

    Raises
    ------
    FusionError
        The blend cannot be expressed, or the paths of different stems or results are the same.

    Examples
    --------
    >>> import tempfile
    >>> blend = MixingWeights.same_source({"bass": {"a": 0.25, "b": 0.75}})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_msst_commands(blend, f"{folder}/blend.sh")
    ...     print(Path(folder, "blend.sh").read_text().splitlines()[-1])
    python ensemble.py --files a/bass.wav b/bass.wav --type avg_wave --weights 0.2500000 0.7500000 --output bass.wav
    """
    lines = ["#!/bin/sh", "# the blend of each source; the weights of each sum to one", "set -e"]
    named: set[str] = set()
    for source, shares in weighted_average(weights, nearest).items():
        inputs = [_filled(files, separator, source) for separator in shares]
        result = _filled(output, "", source)
        count, named = len(named) + len(inputs) + 1, named.union(inputs, [result])
        if len(named) < count:
            raise FusionError(
                f"files={files!r} and output={output!r} name the same file twice; "
                "use {separator} and {source} so that every stem and result has its own"
            )
        # argparse takes a negative number in scientific notation for an option
        numbers = [f"{share:.{_DIGITS}f}" for share in shares.values()]
        lines.append(
            shlex.join([*program, "--files", *inputs, "--type", "avg_wave", "--weights", *numbers, "--output", result])
        )
    _write(path, "\n".join([*lines, ""]))


def _filled(template: str, separator: str, source: str) -> str:
    # not str.format, for other braces may be part of a path
    path = template.replace("{source}", source).replace("{separator}", separator)
    # a path that begins with a dash would be an option
    return f"./{path}" if path.startswith("-") else path


def export_audio_separator_presets(
    weights: MixingWeights,
    path: str | os.PathLike[str],
    models: Mapping[str, str],
    name: str = "stemfuse",
    sources: Sequence[str] | None = None,
    nearest: bool = False,
) -> None:
    """Write ensemble presets of python-audio-separator as JSON, one for each source.

    Such a preset has one weight per model for all its stems, so each source has its own, ``<name>_<source>``, of which
    only that source's stem is meant.

    Parameters
    ----------
    weights : MixingWeights
        Constant ones.
    path : path-like
        The file, in the form of the package's own ``ensemble_presets.json``. The package reads no other file: copy the
        presets into that one, or give models and weights on its command line (``-m``, ``--extra_models``,
        ``--ensemble_algorithm avg_wave``, ``--ensemble_weights``).
    models : mapping of separator to file name
        The package's name of each separator's model, such as ``"htdemucs_ft.yaml"``.
    name : str
        Beginning of the presets' names.
    sources : sequence of str, optional
        Only these sources; all when not given.
    nearest : bool
        See `weighted_average`.

    Raises
    ------
    FusionError
        The blend cannot be expressed, a model is not named, or a source comes from a single model, which is no
        ensemble for the package.

    Notes
    -----
    As of March 2026 the package keeps intermediate stems in files of 16 bit, scaled down where they exceed
    ``--normalization`` (0.9): its result differs from the blend by that, even if the weights are the same.

    Examples
    --------
    >>> import tempfile
    >>> blend = MixingWeights.same_source({"vocals": {"a": 0.25, "b": 0.75}})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_audio_separator_presets(blend, f"{folder}/presets.json", {"a": "a.ckpt", "b": "b.onnx"})
    ...     presets = json.loads(Path(folder, "presets.json").read_text())["presets"]
    >>> presets["stemfuse_vocals"]["models"], presets["stemfuse_vocals"]["weights"]
    (['a.ckpt', 'b.onnx'], [0.25, 0.75])
    """
    blend = weighted_average(weights, nearest)
    chosen = list(blend) if sources is None else list(sources)
    if unknown := [source for source in chosen if source not in blend]:
        raise FusionError(f"got a request for a preset of {unknown[0]!r}, the blend is of {', '.join(blend)}")
    blend = {source: blend[source] for source in chosen}
    used = _named(models, blend)
    if alone := {source: used[next(iter(shares))] for source, shares in blend.items() if len(shares) < 2}:
        listed = ", ".join(f"{source} by {model}" for source, model in alone.items())
        raise FusionError(
            f"a single model gives {listed}, an ensemble of audio-separator has at least two: run that model alone, "
            "and export the other sources (--option sources=a,b)"
        )
    presets = {
        f"{name}_{source}": {
            "name": f"{name} {source}",
            "description": f"Weights found by stemfuse for {source}; take only the stem {source.title()}",
            "models": [used[separator] for separator in shares],
            "algorithm": "avg_wave",
            "weights": [round(share, _DIGITS) for share in shares.values()],
            "contributor": "stemfuse",
        }
        for source, shares in blend.items()
    }
    _write(path, json.dumps({"version": 1, "presets": presets}, ensure_ascii=False, indent=4) + "\n")


def _named(models: Mapping[str, str], blend: Blend) -> dict[str, str]:
    """The model of every separator that has weight in a blend, in the order of ``models``."""
    used = list(dict.fromkeys(separator for shares in blend.values() for separator in shares))
    missing = [separator for separator in used if separator not in models]
    if missing:
        raise FusionError(
            f"no model is named for {', '.join(missing)}; the blend is of {', '.join(used)}, got models for "
            f"{', '.join(models) or 'none'}"
        )
    return {separator: model for separator, model in models.items() if separator in used}


def _write(path: str | os.PathLike[str], text: str) -> None:
    write_whole(Path(path), lambda file: file.write(text.encode()))


EXPORTS: dict[str, Callable[..., None]] = {
    "audio-separator": export_audio_separator_presets,
    "demucs": export_demucs_bag,
    "kuielab": export_kuielab_mixer,
    "kuielab_mdx": export_kuielab_mdx,
    "msst": export_msst_commands,
}
"""By the name of the program; each takes weights and a path, then what its program needs."""

FOLDERS = frozenset({"kuielab_mdx"})
"""Those of `EXPORTS` that write a folder, not a file."""
