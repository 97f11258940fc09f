"""The seed of a recipe, given to everything that draws random numbers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from stemfuse.blending import fusion_class

from .config import Cell, SeparatorConfig
from .errors import ConfigError


def separator_with_seed(part: SeparatorConfig, made: Any, seed: int) -> SeparatorConfig:
    """A separator of a recipe with the recipe's seed among its options; see `seeded_options`."""
    return part.model_copy(update={"options": seeded_options(made, part.options, seed)})


def cell_with_seed(cell: Cell, seed: int) -> Cell:
    """A fusion with the recipe's seed among its options; those of a study count on from its own or the recipe's.

    Raises
    ------
    ConfigError
        The study wants several seeds, and the fusion draws no random numbers.
    """
    made = fusion_class(cell.name)
    options = seeded_options(made, cell.options, seed)
    if cell.repeat is not None:
        # of one that is made of another, the inner one's, which `seeded_options` has just made
        drawn = options if "seed" in options else options.get("options") or {}
        if "seed" not in drawn:
            raise ConfigError(f"fusion {cell.study}: {cell.name} takes no seed, all would be equal; leave seeds out")
        drawn["seed"] += cell.repeat
    return cell.model_copy(update={"options": options})


def seeded_options(made: Any, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Options with a seed, where the class takes one and the options have none.

    A fusion that is made of another one, by its arguments ``fusion`` and ``options``, passes the seed on. No split of a
    data set draws random numbers.

    Examples
    --------
    >>> from stemfuse.blending import fusion_class
    >>> seeded_options(fusion_class("search"), {"trials": 9}, 3)
    {'trials': 9, 'seed': 3}
    >>> seeded_options(fusion_class("search"), {"seed": 1}, 3), seeded_options(fusion_class("mean"), {}, 3)
    ({'seed': 1}, {})
    >>> seeded_options(fusion_class("bandwise"), {"fusion": "search"}, 3)
    {'fusion': 'search', 'options': {'seed': 3}}
    """
    parameters = inspect.signature(made).parameters
    if "seed" in parameters:
        return {**options, "seed": options.get("seed", seed)}
    if "fusion" in parameters and "options" in parameters:
        name = str(options.get("fusion", parameters["fusion"].default))
        inner = seeded_options(fusion_class(name), options.get("options") or {}, seed)
        return {**options, "options": inner} if inner else dict(options)
    return dict(options)
