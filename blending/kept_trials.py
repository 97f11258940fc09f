"""Trials of a search that are kept: their scores are taken from a storage when the search is made again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from stemfuse.separators import digest

from .databases import patiently
from .errors import FusionError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class KeptTrials:
    """The trials of one study in a storage, by their numbers.

    A search is always made from its first trial on, in memory: so the sampler draws the same numbers, whether the
    search was interrupted or not. Here it finds the scores that it does not have to compute again. Each trial is
    written in one step, with its number and a checksum.

    Parameters
    ----------
    storage : optuna.storages.BaseStorage
        Where they are kept.
    name : str
        Of the study.
    objectives : int
        How many scores a trial has.
    """

    def __init__(self, storage: Any, name: str, objectives: int) -> None:
        self._storage, self._name, self._objectives = storage, name, objectives
        self._study = self._open()
        found: list[FrozenTrial] = self._do(lambda: self._study.get_trials(deepcopy=False))
        whole = [trial for trial in found if is_whole(trial, name)]
        self._trials = {int(trial.user_attrs["number"]): trial for trial in whole}
        self._written = set(self._trials)
        if len(whole) < len(found):
            # those that follow are made again too: trials lie in the order of their numbers, as figures show them
            first = next(number for number in range(len(found) + 1) if number not in self._trials)
            log.warning("the search %s: damaged, its trials from %d on are made again", name, first)
            self._trials = {number: trial for number, trial in self._trials.items() if number < first}
            self._begin_again()

    def all_of(self, count: int) -> list[FrozenTrial]:
        """The first trials when all of them are kept, else none."""
        whole = all(number in self._trials for number in range(count))
        return [self._trials[number] for number in range(count)] if whole else []

    def scores(self, number: int, proposed: Mapping[str, float]) -> list[float] | None:
        """The scores of a trial; None when it is not kept, or was another one."""
        trial = self._trials.get(number)
        if trial is None:
            return None
        if trial.params != dict(proposed):
            log.warning("the search %s: its trials from %d on were others; they are made again", self._name, number)
            self._trials = {kept: trial for kept, trial in self._trials.items() if kept < number}
            self._begin_again()
            return None
        return [float("nan")] * self._objectives if trial.values is None else list(trial.values)

    def keep(self, trial: FrozenTrial) -> None:
        """Keep a trial that has ended."""
        if trial.number not in self._written:
            self._write(trial.number, trial)

    def _begin_again(self) -> None:
        """Write the study anew with the trials that are good."""
        import optuna

        # another process that shares the storage may have done so already
        with contextlib.suppress(KeyError):
            self._do(lambda: optuna.delete_study(study_name=self._name, storage=self._storage))
        self._study, self._written = self._open(), set()
        for number, trial in sorted(self._trials.items()):
            self._write(number, trial)

    def _open(self) -> Study:
        import optuna

        directions: list[Literal["maximize"]] = ["maximize"] * self._objectives
        study: Study = self._do(
            lambda: optuna.create_study(
                storage=self._storage, study_name=self._name, directions=directions, load_if_exists=True
            )
        )
        return study

    def _write(self, number: int, trial: FrozenTrial) -> None:
        import optuna

        kept = optuna.trial.create_trial(
            state=trial.state,
            values=trial.values,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={"number": number, "checksum": _checksum(self._name, number, trial)},
        )
        try:
            self._do(lambda: self._study.add_trial(kept))
        except KeyError:
            # another process that shares the storage has begun the study again
            self._study = self._open()
            self._do(lambda: self._study.add_trial(kept))
        self._written.add(number)

    def _do(self, action: Callable[[], Result]) -> Result:
        """Do something in the storage; a full disk, or others that keep it locked, in one line."""
        try:
            return patiently(action, f"the search {self._name}")
        except OSError as error:
            problem = error.strerror or error
            raise FusionError(
                f"trials of the search {self._name} cannot be kept ({problem}); free some space and go on with the "
                "same command"
            ) from error


def is_whole(trial: FrozenTrial, name: str) -> bool:
    """Whether a kept trial of a study is as it was written, as far as it is used, and Optuna takes it."""
    number, checksum = trial.user_attrs.get("number"), trial.user_attrs.get("checksum")
    if not isinstance(number, int) or checksum != _checksum(name, number, trial):
        return False
    return trial.datetime_start is not None and trial.datetime_complete is not None and _has_its_parameters(trial)


def _has_its_parameters(trial: FrozenTrial) -> bool:
    """Whether the distributions of a trial, which its checksum leaves out, hold its parameters."""
    from optuna.trial import create_trial

    try:
        create_trial(state=trial.state, values=trial.values, params=trial.params, distributions=trial.distributions)
    except ValueError:
        return False
    return True


def _checksum(name: str, number: int, trial: FrozenTrial) -> str:
    values = None if trial.values is None else [float(value) for value in trial.values]
    described = {"study": name, "number": number, "params": trial.params, "values": values, "state": trial.state.name}
    return digest(described)[:16]
