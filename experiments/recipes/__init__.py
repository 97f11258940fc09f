"""Recipes: how they are read and checked, and those that come with the package, one for each paper."""

from .reading import (
    dump_config,
    find_recipe,
    load_config,
    packaged_recipes,
    paper_tables,
    parse_config,
    parse_part,
    read_config,
)

__all__ = [
    "dump_config",
    "find_recipe",
    "load_config",
    "packaged_recipes",
    "paper_tables",
    "parse_config",
    "parse_part",
    "read_config",
]
