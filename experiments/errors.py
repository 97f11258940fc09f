"""What can go wrong in a run or a command.

::

    StemfuseError
        ConfigError    a recipe or an option; the command line ends with exit code 2
        RunError       a run folder, or a run of which a part failed
            DamagedRecordError    the record of a run has changed since it was written
"""

from __future__ import annotations

from stemfuse.separators import StemfuseError


class ConfigError(StemfuseError, ValueError):
    """A recipe that is unreadable or has an unknown key or a value of the wrong kind."""

    is_usage = True


class RunError(StemfuseError, ValueError):
    """A run folder that is not one, or a run of which a part failed."""


class DamagedRecordError(RunError):
    """A record of a run whose content has changed since it was written; the next run makes all of it anew."""
