"""Things made by name: the package's own and those that third parties register by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import StemfuseError, wrong_usage
from .names import did_you_mean
from .options import checked_options


class Registry:
    """Classes by name, imported only when asked for.

    Parameters
    ----------
    what : str
        The word for one of them in messages: ``"separator"``.
    group : str
        Entry point group in which other packages register theirs; their names never replace the package's own.
    built_in : mapping of str to str
        The package's own, by name, as ``"module:Class"``.
    error : type
        What is raised, a `StemfuseError`.
    """

    def __init__(self, what: str, group: str, built_in: Mapping[str, str], error: type[StemfuseError]) -> None:
        self.what, self.group, self.built_in, self.error = what, group, dict(built_in), error

    @cached_property
    def _joined(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self._joined, *self.built_in})

    def find(self, name: str) -> Any:
        """The class, or other callable, of a name; an unknown name raises, and the message lists the known ones."""
        if name in self.built_in:
            module, attribute = self.built_in[name].split(":")
            return getattr(import_module(module), attribute)
        if name in self._joined:
            return self._joined[name].load()
        known = self.names()
        near = did_you_mean(name, known)
        raise wrong_usage(self.error(f"{self.what} {name!r} is unknown, there are {', '.join(known)}{near}"))

    def make(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Make one; an argument that is unknown, missing or of the wrong kind raises, see `checked_options`."""
        made = self.find(name)
        return made(**checked_options(made, arguments, f"{self.what} {name}", self.error))
