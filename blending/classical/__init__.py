"""Classical rules, which learn nothing or a few gains: averages, medians, crossovers, residual rules, Wiener filter.

`Average`, `MixtureConsistency` and `Residual` are linear; the others work on samples, STFT bins or bands.
"""

from .combined_files import combine_files
from .combiners import AVERAGES, RULES, Average, Combine, Crossover
from .fitted_wiener import FittedWiener
from .gains import fit_gains, redistribute
from .residual import MixtureConsistency, Residual
from .wiener import EnergyConsistency, Wiener

__all__ = [
    "AVERAGES",
    "RULES",
    "Average",
    "Combine",
    "Crossover",
    "EnergyConsistency",
    "FittedWiener",
    "MixtureConsistency",
    "Residual",
    "Wiener",
    "combine_files",
    "fit_gains",
    "redistribute",
]
