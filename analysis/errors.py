"""What can go wrong in measuring and looking."""

from __future__ import annotations

from stemfuse.separators import StemfuseError


class DeviceError(StemfuseError, ValueError):
    """A device that is unknown or that this machine does not have."""


class NotPositiveDefiniteError(ArithmeticError):
    """A matrix that has no Cholesky factor in float64."""


class GramError(StemfuseError, ValueError):
    """Statistics that are damaged, or that do not hold what was asked for."""


class SingularReferencesWarning(UserWarning):
    """References whose projection is decided by rounding, in a signal too long to round as museval does."""


class ScoreError(StemfuseError, ValueError):
    """Scores that do not have the table's form, or that lack what a comparison needs."""
