"""Recipes: how they are read and checked, and those that come with the package, one for each paper."""

from .reading import (
    changed_part,
    dump_config,
    find_recipe,
    load_config,
    packaged_recipes,
    packaged_trainings,
    paper_tables,
    parse_config,
    parse_part,
    read_config,
    read_training,
)

__all__ = [
    "changed_part",
    "dump_config",
    "find_recipe",
    "load_config",
    "packaged_recipes",
    "packaged_trainings",
    "paper_tables",
    "parse_config",
    "parse_part",
    "read_config",
    "read_training",
]
