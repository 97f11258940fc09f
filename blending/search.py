"""Searching weights: Optuna over the papers' own figure, which Gram statistics give in a fraction of a millisecond."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track, digest

from .errors import FusionError
from .fusion import LinearFusion
from .least_squares import CONSTRAINTS, Constraint, LeastSquares
from .objectives import Objective, objective
from .space import BlendSpace

if TYPE_CHECKING:
    from optuna import Study

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

SAMPLERS = ("tpe", "cmaes", "gp", "random", "grid", "nsga2")

LARGEST_DB = 200.0
"""Scores are cut to this, so that a perfect blend does not bring infinities into a sampler's arithmetic."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Domain:
    """How the numbers that a sampler proposes become weights of one source.

    On the simplex a sampler proposes shares from 0 to 1, which are divided by their sum; otherwise the weights
    themselves.

    Attributes
    ----------
    names : tuple of str
        Of the weights.
    blocks : sequence of index arrays
        Weights that share an output channel.
    constraint : {"free", "nonnegative", "simplex"}
        See `stemfuse.blending.least_squares.CONSTRAINTS`.
    low, high : float
        Bounds of every proposed number.
    """

    names: tuple[str, ...]
    blocks: Sequence[NDArray[np.intp]]
    constraint: Constraint
    low: float
    high: float

    def weights(self, proposed: Array) -> Array:
        """Weights of the numbers that a sampler proposed; NaN where a block of shares is all zero."""
        if self.constraint != "simplex":
            return proposed
        weights = np.empty_like(proposed)
        for block in self.blocks:
            total = proposed[block].sum()
            weights[block] = proposed[block] / total if total > 0 else np.nan
        return weights

    def proposal(self, weights: Array) -> dict[str, float]:
        """Numbers that become these weights."""
        numbers = weights.copy()
        if self.constraint == "simplex":
            for block in self.blocks:
                numbers[block] = weights[block] / weights[block].max()
        return dict(zip(self.names, np.clip(numbers, self.low, self.high).tolist(), strict=True))


class Search(LinearFusion):
    """Weights searched with Optuna, each source a study of its own, started from the closed form.

    The first trials are the least squares solutions (relative to frames' energy, towards the mean and towards
    the median), the plain mean and each separator alone; what is kept is the best trial, so that a search is never
    worse than these on its own objective.

    Parameters
    ----------
    stems, mixture, tied
        The inputs; see `LeastSquares`.
    constraint : {"simplex", "nonnegative", "free"}
        See `stemfuse.blending.least_squares.CONSTRAINTS`.
    objectives : str or sequence of two str
        What is maximised, on the validation tracks if there are any, else on the training tracks: ``"SDR"``, or
        another metric that `stemfuse.blending.objectives.objective` knows. Two (``["SDR", "bleedless"]``) are
        searched with NSGA-II.
    frames, tracks : str
        How the metric's frames and tracks become one figure; medians are the papers'.
    trials : int
        Per source, those of an interrupted search that is resumed included.
    sampler : {"tpe", "cmaes", "gp", "random", "grid", "nsga2"}
        CMA-ES suits many inputs; GP takes seconds per trial after some hundred and needs torch.
    bounds : pair of float
        Of a weight; widened where a first trial lies outside. The simplex needs none.
    storage : str, optional
        Where trials are kept: a file (Optuna's journal), or a database (``sqlite:///search.db``). The
        same search goes on from there, several processes share it, and Optuna's dashboard shows it.
    seed : int
        Of the sampler: the same seed gives the same weights, unless a search was interrupted or shared.

    Attributes
    ----------
    weights_ : MixingWeights
        After `fit`.
    studies_ : dict of source to optuna.Study
        Every trial.
    scores_ : dict of source to tuple of float
        Of the weights that were chosen, by the objectives.

    Notes
    -----
    Of a front of two objectives the trial is taken for which their sum is largest, each scaled from 0 to 1 between its
    smallest and largest value on the front; ``studies_[source].best_trials`` has them all.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> stems = {name: generator.normal(0, 0.1, (4, 2, 44100)).astype("float32") for name in "ab"}
    >>> references = 0.25 * stems["a"] + 0.75 * stems["b"]
    >>> track = Track.from_arrays("planted", references.sum(0), references, stems)
    >>> fusion = Search(trials=10).fit([track])
    >>> fusion.weights_.matrix[0, 0, :2].round(4).tolist(), fusion.weights_.inputs[:2]
    ([0.25, 0.0], ('a.drums.left', 'a.drums.right'))
    """

    kind = "search"
    progress: Progress = staticmethod(no_progress)

    def __init__(
        self,
        stems: Literal["same", "all"] = "same",
        mixture: bool = False,
        tied: bool = True,
        constraint: Constraint = "simplex",
        objectives: str | Sequence[str] = "SDR",
        frames: str = "median",
        tracks: str = "median",
        trials: int = 500,
        sampler: str = "tpe",
        bounds: Sequence[float] = (-1.0, 2.0),
        storage: str | None = None,
        seed: int = 0,
    ) -> None:
        self.stems = stems
        self.mixture = mixture
        self.tied = tied
        self.constraint = constraint
        self.objectives = objectives
        self.frames = frames
        self.tracks = tracks
        self.trials = trials
        self.sampler = sampler
        self.bounds = bounds
        self.storage = storage
        self.seed = seed

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Search the weights of every source.

        Parameters
        ----------
        train : sequence of Track
            With references and stems; the first trials are solved for on these.
        valid : sequence of Track, optional
            On which trials are judged; the training tracks when not given.

        Raises
        ------
        FusionError
            An argument makes no sense, Optuna is not installed, or no trial has a score.
        """
        metrics = self._check()
        judges = valid or train
        space = BlendSpace.of(train, self.stems, self.mixture, self.tied)
        judged = space.on(valid) if valid else space
        starts = self._starts(train, space)
        self.studies_: dict[str, Any] = {}
        self.scores_: dict[str, tuple[float, ...]] = {}
        chosen = {}
        with _quiet_optuna():
            for number, source in enumerate(space.sources):
                functions = [objective(name, judged, judges, source, self.frames, self.tracks) for name in metrics]
                domain = self._domain(space, source, starts[source])
                study = self._study(source, judged, domain, starts[source], number, len(metrics))
                self._optimise(study, domain, functions, source)
                best = _best_trial(study, source)
                chosen[source] = domain.weights(np.array([best.params[name] for name in domain.names]))
                self.studies_[source], self.scores_[source] = study, tuple(best.values)
        self.weights_ = space.weights(chosen)
        return self

    def _check(self) -> tuple[str, ...]:
        metrics = (self.objectives,) if isinstance(self.objectives, str) else tuple(self.objectives)
        if not 1 <= len(metrics) <= 2:
            raise FusionError(f"{len(metrics)} objectives came ({', '.join(metrics)}), expected one or two")
        if self.sampler not in SAMPLERS:
            raise FusionError(f"sampler={self.sampler!r} came, expected one of {', '.join(SAMPLERS)}")
        if self.constraint not in CONSTRAINTS:
            raise FusionError(f"constraint={self.constraint!r} came, expected one of {', '.join(CONSTRAINTS)}")
        if self.trials < 1 or len(self.bounds) != 2 or not self.bounds[0] < self.bounds[1]:
            raise FusionError(
                f"trials={self.trials}, bounds={tuple(self.bounds)} came, expected at least one trial and low < high"
            )
        return metrics

    def _starts(self, train: Sequence[Track], space: BlendSpace) -> dict[str, list[Array]]:
        """First trials of every source: closed forms, the plain mean, and each separator alone."""
        starts: dict[str, list[Array]] = {source: [] for source in space.sources}
        for weighting in ("frames", "mean", "median"):
            solved = LeastSquares(self.stems, self.mixture, self.tied, self.constraint, weighting).fit(train)
            for source, theta in solved.theta_.items():
                starts[source].append(np.array(list(theta.values())))
        for source, given in starts.items():
            equal = space.equal(source)
            if equal.any():
                given.append(equal)
                blocks = space.blocks(source)
                own = [np.flatnonzero(equal[block]) for block in blocks]
                for places in zip(*own, strict=True):
                    alone = np.zeros(len(equal))
                    for block, place in zip(blocks, places, strict=True):
                        alone[block[place]] = 1.0
                    given.append(alone)
        return starts

    def _domain(self, space: BlendSpace, source: str, starts: Sequence[Array]) -> Domain:
        low, high = self.bounds
        if self.constraint == "simplex":
            low, high = 0.0, 1.0
        else:
            low = min(low, *(float(start.min()) for start in starts)) if self.constraint == "free" else 0.0
            high = max(high, *(float(start.max()) for start in starts))
        return Domain(space.names(source), space.blocks(source), self.constraint, low, high)

    def _study(
        self, source: str, space: BlendSpace, domain: Domain, starts: Sequence[Array], number: int, count: int
    ) -> Study:
        """The source's study, new or resumed; its name tells searches of other tracks or inputs apart."""
        optuna = _import_optuna()
        identity = {
            "space": [self.stems, self.mixture, self.tied, self.constraint],
            "objectives": [self.objectives, self.frames, self.tracks],
            "tracks": [[gram.track, gram.inputs, float(gram.moments.sum())] for gram in space.grams],
        }
        storage = _open_storage(self.storage)
        study: Study = optuna.create_study(
            storage=storage,
            study_name=f"{source}-{digest(identity)[:12]}",
            directions=["maximize"] * count,
            load_if_exists=True,
        )
        # a search that goes on must not propose again what it began with
        study.sampler = self._sampler(domain, starts[0], self.seed + 1000 * number + len(study.trials), count)
        for start in starts:
            study.enqueue_trial(domain.proposal(start), skip_if_exists=True)
        return study

    def _sampler(self, domain: Domain, start: Array, seed: int, count: int) -> Any:
        samplers = _import_optuna().samplers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls options experimental that have been stable for years
            if count == 2 or self.sampler == "nsga2":
                return samplers.NSGAIISampler(seed=seed)
            if self.sampler == "cmaes":
                _import_needed("cmaes", "cmaes")
                return samplers.CmaEsSampler(
                    x0=domain.proposal(start), sigma0=0.1 * (domain.high - domain.low), seed=seed
                )
            if self.sampler == "gp":
                _import_needed("torch", "torch")
                return samplers.GPSampler(seed=seed, deterministic_objective=True)
            if self.sampler == "random":
                return samplers.RandomSampler(seed=seed)
            if self.sampler == "grid":
                points = max(2, int(self.trials ** (1 / len(domain.names))))
                axis = np.linspace(domain.low, domain.high, points).tolist()
                return samplers.GridSampler(dict.fromkeys(domain.names, axis), seed=seed)
            return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=self.storage is not None)

    def _optimise(self, study: Study, domain: Domain, functions: Sequence[Objective], source: str) -> None:
        """Run what is left of the trials."""
        optuna = _import_optuna()
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)

        def score(trial: Any) -> tuple[float, ...]:
            proposed = np.array([trial.suggest_float(name, domain.low, domain.high) for name in domain.names])
            weights = domain.weights(proposed)
            scores = [np.nan if np.isnan(weights).any() else function(weights) for function in functions]
            return tuple(float(np.clip(value, -LARGEST_DB, LARGEST_DB)) for value in scores)

        def show(study: Any, trial: Any) -> None:
            self.progress(source, min(trial.number + 1, self.trials), self.trials)

        left = self.trials - len(study.get_trials(deepcopy=False, states=states))
        if left <= 0:
            return
        study.optimize(score, left, callbacks=[optuna.study.MaxTrialsCallback(self.trials, states), show])


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
        The storage is missing or lacks a study, or Optuna is not installed.
    """
    optuna = _import_optuna()
    if "://" not in storage and not Path(storage).is_file():
        raise FusionError(f"{storage}: no such file; the search was kept elsewhere, or not at all")
    opened = _open_storage(storage)
    try:
        with _quiet_optuna():
            return {source: optuna.load_study(study_name=name, storage=opened) for source, name in names.items()}
    except KeyError as error:
        raise FusionError(f"{storage}: has no study {error}; search again") from error


def _best_trial(study: Study, source: str) -> Any:
    """The best trial, or of a front the one that the notes of `Search` describe."""
    trials = study.best_trials
    if not trials:
        raise FusionError(f"{source}: no trial has a score; are the references silent in every frame?")
    values = np.array([trial.values for trial in trials])
    spread = np.ptp(values, axis=0)
    scaled = (values - values.min(0)) / np.where(spread > 0, spread, 1)
    return trials[int(scaled.sum(1).argmax())]


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Without a line on stderr for every trial."""
    logging = _import_optuna().logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _import_optuna() -> Any:
    return _import_needed("optuna", "stemfuse[search]")


def _import_needed(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FusionError(
            f"search needs the package {module}, which is not installed: pip install {package}"
        ) from error


def _open_storage(storage: str | None) -> Any:
    """Optuna's storage: a database by its address, else a journal file."""
    if storage is None or "://" in storage:
        return storage
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        Path(storage).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(storage))
    except (OSError, ValueError, KeyError) as error:
        raise FusionError(f"{storage}: no search can be kept there ({error}); name another file") from error
