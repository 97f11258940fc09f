"""Which subsets of a data set are fitted on and validated on, and which were asked for in vain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stemfuse.blending.search import FEW
from stemfuse.separators.names import did_you_mean, shown

from .config import FitConfig, RunConfig
from .data import EVERY_SEVENTH, DataSet
from .errors import ConfigError


def is_small(found: DataSet) -> bool:
    """Whether a data set has too few training tracks for some to be set aside to validate on, unless it does so."""
    return found.split == EVERY_SEVENTH and sum(len(found.names(subset)) for subset in ("train", "valid")) < FEW


def check_subsets(option: str, given: Sequence[str], usual: Sequence[str], present: Sequence[str], place: str) -> None:
    """Refuse a subset that was asked for and that the data does not have; the usual ones may be missing.

    Parameters
    ----------
    option : str
        Which one names them, for the message.
    given, usual : sequence of str
        Subsets that were asked for, and those that stand there when nobody asks.
    present : sequence of str
        Those of the data.
    place : str
        Where the data lies, for the message.

    Raises
    ------
    ConfigError
        One is missing.
    """
    missing = [] if tuple(given) == tuple(usual) else [subset for subset in given if subset not in present]
    if missing:
        raise ConfigError(
            f"{place}: no tracks in {shown(missing[0])}{did_you_mean(missing[0], present)}, the subsets are "
            f"{', '.join(present) or 'none'}; choose with {option}"
        )


def check_asked(config: RunConfig, present: Iterable[str]) -> None:
    """Refuse subsets that a recipe names and that none of its data has."""
    subsets = list(dict.fromkeys(present))
    place, usual, fit = ", ".join(part.name for part in config.data), FitConfig(), config.fit
    check_subsets("fit.train", fit.train, usual.train, subsets, place)
    check_subsets("fit.valid", fit.valid, usual.valid, subsets, place)
    check_subsets("fit.test", fit.test or (), (), subsets, place)
