"""What can go wrong in fusing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemfuse.separators import StemfuseError

if TYPE_CHECKING:
    pass
if TYPE_CHECKING:
    pass


class LeakWarning(UserWarning):
    """Tracks that are scored have been seen, by the fusion or by a separator that it mixes."""


class FusionError(StemfuseError, ValueError):
    """A fusion or its weights that are unknown, not fitted, or do not fit a track."""
