"""What can go wrong in a run or a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemfuse.separators import StemfuseError

if TYPE_CHECKING:
    pass


class ConfigError(StemfuseError, ValueError):
    """A recipe that is unreadable or has an unknown key or a value of the wrong kind."""


class RunError(StemfuseError, ValueError):
    """A run folder that is not one, or a run of which a part failed."""
