"""What a rule builds on: another fusion, made and fitted, and as JSON."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from stemfuse.blending.constant import Fixed
from stemfuse.blending.errors import FusionError
from stemfuse.blending.fusion import BaseFusion
from stemfuse.blending.registry import make_fusion
from stemfuse.blending.weights import MixingWeights
from stemfuse.separators import Track
from stemfuse.separators.training import Execution

Base = str | Mapping[str, Any] | MixingWeights | BaseFusion
"""A fusion, its name, ``{"kind": ..., "arguments": {...}}``, or given weights."""


def base_fusion(
    base: Base,
    train: Sequence[Track],
    valid: Sequence[Track] | None = None,
    learn: bool = False,
    execution: Execution | None = None,
) -> BaseFusion:
    """The fusion that a rule builds on, fitted; one that is fitted already is returned as it is.

    Parameters
    ----------
    base : fusion, str, mapping or MixingWeights
        What the rule was given.
    train, valid : sequence of Track
        To fit it on.
    learn : bool
        Whether it may learn from the references of these tracks.
    execution : Execution, optional
        How it is trained, where it is trained by gradient.

    Raises
    ------
    FusionError
        It learns from references and is not fitted, and ``learn`` does not allow that.
    """
    made = made_base(base)
    if made.is_fitted:
        return made
    if made.learns and not learn:
        raise FusionError(f"base {made!r} has to learn from references first; fit it and give the fitted fusion")
    return copy.deepcopy(made).trained_by(execution).fit(train, valid)


def made_base(base: Base) -> BaseFusion:
    """The fusion that a rule was given, fitted or not."""
    if isinstance(base, str):
        return make_fusion(base)
    if isinstance(base, MixingWeights):
        return Fixed(base)
    if isinstance(base, Mapping):
        if "matrix" in base:
            return Fixed(MixingWeights(**base))
        return make_fusion(str(base.get("kind")), **base.get("arguments", {}))
    return base


def base_weights(fusion: BaseFusion) -> MixingWeights:
    """Weights of a fitted fusion that are the same for all tracks at all times.

    Raises
    ------
    FusionError
        It has none.
    """
    weights = fusion.constant_weights
    if weights is None or len(weights.matrix) > 1:
        raise FusionError(
            f"base {fusion!r} has no weights that hold for all tracks at all times; redistribute(base.weights(track), "
            "gains) does the same to the weights of one track"
        )
    return weights


def describe_base(base: Base) -> Any:
    """The base as JSON takes it; fitted constant weights are written out.

    Raises
    ------
    FusionError
        The base has learnt something other than constant weights.
    """
    if isinstance(base, str | Mapping):
        return base
    weights = base if isinstance(base, MixingWeights) else base.constant_weights
    if weights is not None and len(weights.matrix) == 1:
        return {"matrix": weights.matrix[0].tolist(), "inputs": weights.inputs, "outputs": weights.outputs}
    if weights is not None or isinstance(base, MixingWeights) or base.is_fitted:
        raise FusionError(f"base {base!r} cannot be written into another fusion's file; save it on its own")
    return {"kind": base.kind, "arguments": base.arguments()}
