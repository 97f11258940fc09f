"""Optuna's part of a search: what a sampler proposes, where trials are kept, and which one is best."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.optional import import_optional, require_packages

from .databases import check_file, patiently, shown_address, sqlite_file
from .errors import FusionError
from .kept_trials import is_whole
from .least_squares import Constraint

if TYPE_CHECKING:
    from optuna import Study

Array = NDArray[np.float64]

SAMPLERS = ("tpe", "cmaes", "gp", "random", "grid", "nsga2")

SAMPLER_NEEDS: Mapping[str, Mapping[str, str]] = {"cmaes": {"cmaes": "search"}, "gp": {"torch": "torch"}}
"""Packages that a sampler needs beside Optuna, by each the extra that installs it."""


@dataclass(frozen=True)
class Domain:
    """How the numbers that a sampler proposes become weights of one source.

    On the simplex a sampler proposes shares from 0 to 1, which are divided by their sum; otherwise the weights
    themselves.

    Attributes
    ----------
    names : tuple of str
        Of the weights.
    groups : sequence of index arrays
        Weights of one output channel each.
    constraint : {"free", "nonnegative", "simplex"}
        See `stemfuse.blending.least_squares.CONSTRAINTS`.
    low, high : float
        Bounds of every proposed number.
    """

    names: tuple[str, ...]
    groups: Sequence[NDArray[np.intp]]
    constraint: Constraint
    low: float
    high: float

    def weights(self, proposed: Array) -> Array:
        """Weights of the numbers that a sampler proposed; NaN where all shares of a group are zero."""
        if self.constraint != "simplex":
            return proposed
        weights = np.empty_like(proposed)
        for group in self.groups:
            total = proposed[group].sum()
            weights[group] = proposed[group] / total if total > 0 else np.nan
        return weights

    def proposal(self, weights: Array) -> dict[str, float]:
        """Numbers that become these weights."""
        numbers = weights.copy()
        if self.constraint == "simplex":
            for group in self.groups:
                numbers[group] = weights[group] / weights[group].max()
        return dict(zip(self.names, np.clip(numbers, self.low, self.high).tolist(), strict=True))


def make_sampler(name: str, domain: Domain, start: Array, seed: int, trials: int) -> Any:
    """Optuna's sampler of a name.

    Parameters
    ----------
    name : str
        One of `SAMPLERS`.
    domain : Domain
        What it proposes.
    start : ndarray, shape (weight,)
        Weights around which CMA-ES begins.
    seed : int
        The same seed proposes the same trials.
    trials : int
        How many there will be; a grid has at most as many points.

    Raises
    ------
    FusionError
        A package that the sampler needs is not installed.
    """
    samplers = import_optuna().samplers
    require_packages(SAMPLER_NEEDS.get(name, {}), f"sampler={name}", FusionError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls options experimental that have been stable for years
        if name == "nsga2":
            return samplers.NSGAIISampler(seed=seed)
        if name == "cmaes":
            return samplers.CmaEsSampler(x0=domain.proposal(start), sigma0=0.1 * (domain.high - domain.low), seed=seed)
        if name == "gp":
            return samplers.GPSampler(seed=seed, deterministic_objective=True)
        if name == "random":
            return samplers.RandomSampler(seed=seed)
        if name == "grid":
            points = max(2, int(trials ** (1 / len(domain.names))))
            axis = np.linspace(domain.low, domain.high, points).tolist()
            return samplers.GridSampler(dict.fromkeys(domain.names, axis), seed=seed)
        return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False)


def open_studies(storage: str, names: Mapping[str, str]) -> dict[str, Study]:
    """Studies of a search that was kept, by source.

    Parameters
    ----------
    storage : str
        See `Search`.
    names : mapping of source to str
        Names of the studies, as ``studies_[source].study_name`` was.

    Raises
    ------
    FusionError
        The storage or a study is missing or damaged, or Optuna is not installed.
    """
    optuna = import_optuna()
    if "://" not in storage and not Path(storage).is_file():
        raise FusionError(f"{storage}: no such file; the search was kept elsewhere, or not at all")
    opened = open_storage(storage, writing=False)

    def load() -> dict[str, Study]:
        with quiet_optuna():
            return {source: optuna.load_study(study_name=name, storage=opened) for source, name in names.items()}

    try:
        studies = patiently(load, shown_address(storage))
    except KeyError as error:
        raise FusionError(f"{storage}: the study {error} is missing; search again") from error
    for study in studies.values():
        # searches of older versions have no checksums
        checked = [trial for trial in study.trials if "checksum" in trial.user_attrs]
        damaged = sum(not is_whole(trial, study.study_name) for trial in checked)
        if damaged:
            raise FusionError(f"{storage}: {damaged} trials of {study.study_name} are damaged; search again")
    return studies


def best_trial(study: Study, source: str) -> Any:
    """The best trial, or of a front the one that the notes of `Search` describe."""
    trials = study.best_trials
    if not trials:
        raise FusionError(f"{source}: no trial has a score; are the references silent in every frame?")
    values = np.array([trial.values for trial in trials])
    spread = np.ptp(values, axis=0)
    scaled = (values - values.min(0)) / np.where(spread > 0, spread, 1)
    return trials[int(scaled.sum(1).argmax())]


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without a line on stderr for every trial."""
    logging = import_optuna().logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def import_optuna() -> Any:
    """The module ``optuna``; a FusionError when it is not installed."""
    with warnings.catch_warnings():
        # its bars, which are not shown, want a package in notebooks
        warnings.filterwarnings("ignore", "IProgress not found")
        return import_optional("optuna", "search", "search", FusionError)


def check_storage(storage: str) -> None:
    """Raise where it is known before that no trials can be kept there; nothing is made or opened."""
    if "://" not in storage:
        return
    file = sqlite_file(storage)
    if file is not None:
        check_file(file, writing=True)
    # the drivers of other databases are packages of their own
    import_optuna()
    from .databases import check_address

    check_address(storage)


def open_storage(storage: str, writing: bool = True) -> Any:
    """Optuna's storage: a database by its address, else a journal file.

    Parameters
    ----------
    storage : str
        See `Search`; a relative path is one of the folder that this process works in now.
    writing : bool
        Whether trials will be added.

    Raises
    ------
    FusionError
        No trials can be kept there.
    """
    import_optuna()
    # these import optuna, which is not always installed
    if "://" in storage:
        from .databases import open_database

        return open_database(storage, writing)
    from .journal import open_journal

    return open_journal(storage, writing)
