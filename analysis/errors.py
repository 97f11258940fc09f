"""What can go wrong in measuring and looking.

========================================= ======================================================================
`StemfuseError`, of the separators        all errors that a caller should expect
├── `GramError`                           statistics
├── `ScoreError`                          scores, tables and figures of them
└── `DeviceError`                         a device to compute on
``ArithmeticError``
└── `NotPositiveDefiniteError`            inside BSS Eval, which then raises the diagonal of the matrix
``UserWarning``
└── `SingularReferencesWarning`           values that may differ from museval's
========================================= ======================================================================
"""

from __future__ import annotations

from stemfuse.separators.errors import StemfuseError


class GramError(StemfuseError, ValueError):
    """Statistics that are damaged, or that do not hold what is needed."""


class ScoreError(StemfuseError, ValueError):
    """Scores without the form of a score table, or without the values that a comparison needs."""


class DeviceError(StemfuseError, ValueError):
    """A device that is unknown or that this machine does not have."""


class NotPositiveDefiniteError(ArithmeticError):
    """A matrix that has no Cholesky factor in float64."""


class SingularReferencesWarning(UserWarning):
    """References whose projection is decided by rounding, in a signal too long to round as museval does."""
