"""What can go wrong in fusing, and what may mislead.

::

    StemfuseError             of stemfuse.separators
        FusionError           also a ValueError
    UserWarning
        LeakWarning
"""

from __future__ import annotations

from stemfuse.separators import StemfuseError


class FusionError(StemfuseError, ValueError):
    """A fusion or its weights that are unknown, not fitted, or do not fit a track."""


class LeakWarning(UserWarning):
    """Tracks that are scored have been seen, by the fusion or by a separator that it mixes."""
