"""Fusions of fusions as one matrix: constant weights of weighted stems are weights of these stems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import ChannelLabel, StemfuseError, list_separators, load_separator, separator_class

from .fused_separator import FusedSeparator, Part, SavedFusion
from .fusion import BaseFusion
from .weights import MixingWeights


def flattened(fusion: BaseFusion, file: Path) -> tuple[MixingWeights | None, dict[str, Any]]:
    """Weights of a saved fusion on the stems of separators that are no fusions, where its weights are constant.

    Y = V Z and V = W X give Y = (V' W') X: a fusion among the separators is replaced by its own separators. One that is
    no constant matrix stays an input.

    Parameters
    ----------
    fusion : BaseFusion
        Read from ``file``.
    file : Path
        Fusions that are not where they were are looked for beside it.

    Returns
    -------
    weights : MixingWeights or None
        None where the fusion has no constant weights.
    described : dict
        By label, how the separators describe themselves. Separators that are the same have one label; others of one
        label get that of their fusion before it: ``"inner.a"``.
    """
    weights = fusion.constant_weights
    described = dict(fusion.separators_)
    if weights is None or not any(_is_fused(each.get("name")) for each in described.values()):
        return weights, described
    return _flattened(weights, SavedFusion(file).parts())


def _is_fused(name: Any) -> bool:
    made = separator_class(name) if isinstance(name, str) and name in list_separators() else None
    return isinstance(made, type) and issubclass(made, FusedSeparator)


def _flattened(weights: MixingWeights, parts: Mapping[str, Part]) -> tuple[MixingWeights, dict[str, Any]]:
    constant = {label: found for label, part in parts.items() if (found := _constant(part)) is not None}
    known = {label: part for label, part in parts.items() if label not in constant}
    names: dict[str, dict[str, str]] = {}
    for label, (_, inside) in constant.items():
        names[label] = {name: _name(label, name, part, known) for name, part in inside.items()}
        known |= {names[label][name]: part for name, part in inside.items()}
    columns: dict[str, NDArray[np.float64]] = {}
    for text, column in zip(weights.inputs, np.moveaxis(weights.matrix.astype(np.float64), 2, 0), strict=True):
        input_ = ChannelLabel.parse(text)
        if not input_.is_stem or input_.separator not in constant:
            _add(columns, text, column)
            continue
        own, output = constant[input_.separator][0], str(ChannelLabel("", input_.source, input_.channel))
        if output not in own.outputs:
            continue
        for given, weight in zip(own.inputs, own.matrix[0, own.outputs.index(output)].tolist(), strict=True):
            heard = ChannelLabel.parse(given)
            renamed = heard._replace(separator=names[input_.separator].get(heard.separator, heard.separator))
            _add(columns, str(renamed), weight * column)
    matrix = np.stack(list(columns.values()), axis=2).astype(np.float32)
    flat = MixingWeights(matrix, tuple(columns), weights.outputs, weights.starts_s, weights.duration_s)
    return flat, {label: part.description or {"name": part.name} for label, part in known.items()}


def _constant(part: Part) -> tuple[MixingWeights, Mapping[str, Part]] | None:
    """Weights of a fusion among the separators, and its separators; None where it is none, or no constant matrix."""
    if not _is_fused(part.name) or (part.description or {}).get("sums"):
        return None
    options = part.options if part.description is None else part.description.get("options", {})
    try:
        separator = load_separator(part.name, **options)
    except StemfuseError:
        return None
    assert isinstance(separator, FusedSeparator)
    weights = separator.fusion.constant_weights
    if weights is None or len(weights.matrix) > 1:
        return None
    flat, described = _flattened(weights, separator.parts())
    return flat, {label: _as_part(description) for label, description in described.items()}


def _as_part(description: Mapping[str, Any]) -> Part:
    is_open = not description.keys() - {"name"}
    return Part(str(description["name"]), description.get("options", {}), None if is_open else description, is_open)


def _name(outer: str, label: str, part: Part, known: Mapping[str, Part]) -> str:
    """The label of a separator within a fusion; the same separator may be known by it, or by another one, already."""
    same = [name for name, other in known.items() if _identity(other) == _identity(part)]
    if same:
        return label if label in same else same[0]
    return f"{outer}.{label}" if label in known else label


def _identity(part: Part) -> str:
    return part.name if part.description is None else part.fingerprint()


def _add(columns: dict[str, NDArray[np.float64]], label: str, column: NDArray[np.float64]) -> None:
    columns[label] = columns[label] + column if label in columns else column
