"""Searching weights: Optuna over the papers' own figure, which Gram statistics give in a fraction of a millisecond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track, digest
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.optional import require_packages

from .criteria import Criterion, check_metrics, criterion
from .errors import FusionError
from .fusion import LinearFusion
from .kept_trials import KeptTrials
from .least_squares import CONSTRAINTS, Constraint, LeastSquares
from .space import BlendSpace
from .studies import (
    SAMPLER_NEEDS,
    SAMPLERS,
    Domain,
    best_trial,
    check_storage,
    import_optuna,
    make_sampler,
    open_storage,
    quiet_optuna,
)

if TYPE_CHECKING:
    from optuna import Study

Array = NDArray[np.float64]

FEW = 8
"""Fewer songs than this choose badly: they are left out in turn, and do not choose among trials alone."""
LEAST_TO_LEAVE_OUT = 3
"""Of fewer songs none can be left out: one would choose for another."""
LARGEST_DB = 200.0
"""Scores are cut to this, so that a perfect blend does not bring infinities into a sampler's arithmetic."""


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
        What is maximised on the validation tracks, see `fit`: ``"SDR"``, or
        another metric of `stemfuse.blending.criteria.criterion`. Two (``["SDR", "bleedless"]``) are searched with
        NSGA-II.
    over_frames, over_tracks : str
        How the metric's frames and tracks become one figure; medians are the papers'.
    trials : int
        Per source, including those of an interrupted search that is resumed.
    sampler : {"tpe", "cmaes", "gp", "random", "grid", "nsga2"}
        CMA-ES suits many inputs; GP needs torch, and takes seconds per trial after some hundred trials.
    bounds : pair of float
        Of a weight; widened where a first trial lies outside. The simplex needs none.
    storage : str, optional
        Where trials are kept: a file (Optuna's journal), or a database (``sqlite:///search.db``). The same search is
        resumed from there, and Optuna's dashboard shows it. Processes that share it each make all trials.
    seed : int
        Of the sampler: the same seed gives the same trials and weights, however often the search was interrupted.

    Attributes
    ----------
    weights_ : MixingWeights
        After `fit`.
    studies_ : dict of source to optuna.Study
        Every trial.
    scores_ : dict of source to tuple of float
        Of the weights that were chosen, by the objectives.
    kept_equal_ : tuple of str
        Sources that have equal weights because few songs chose no better ones; see the notes.

    Notes
    -----
    Three to seven songs choose badly: the median of so few is the score of one or two of them. Each is left out in
    turn, and the trial that the others choose is scored on it; where these scores, aggregated over songs as the
    objective is, are no better than those of equal weights, the source keeps equal weights. With two objectives this
    is not asked.

    A search that is resumed draws the trials of an unfinished source again from the first one, which brings the sampler
    into the same state, and takes their scores from the storage. A source that was finished is read from there.

    Two objectives have a front of best trials, ``studies_[source].best_trials``. The weights are those of the trial
    with the largest sum of both, each scaled from 0 to 1 between its smallest and largest value on the front.

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
    needs: ClassVar[Mapping[str, str]] = {"optuna": "search"}

    @property
    def chosen_by_valid(self) -> str:
        """Trials are scored on validation tracks."""
        return "its trials"

    def __init__(
        self,
        stems: Literal["same", "all"] = "same",
        mixture: bool = False,
        tied: bool = True,
        constraint: Constraint = "simplex",
        objectives: str | Sequence[str] = "SDR",
        over_frames: Literal["median", "mean", "song"] = "median",
        over_tracks: Literal["median", "mean", "pooled"] = "median",
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
        self.over_frames = over_frames
        self.over_tracks = over_tracks
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
            On which trials are scored; the training tracks when not given. Fewer than eight choose badly: trials are
            then scored on the training and the validation tracks together.

        Raises
        ------
        FusionError
            An argument makes no sense, Optuna is not installed, or no trial has a score.
        """
        metrics = self._metrics()
        scored = (valid if len(valid) >= FEW else [*train, *valid]) if valid else train
        space = BlendSpace.of(train, self.stems, self.mixture, self.tied)
        scored_space = space.on(scored) if valid else space
        starts = self._starts(train, space)
        self.studies_: dict[str, Any] = {}
        self.scores_: dict[str, tuple[float, ...]] = {}
        self.kept_equal_ = ()
        chosen = {}
        storage = open_storage(self.storage) if self.storage is not None else None
        with quiet_optuna():
            for number, source in enumerate(space.sources):
                criteria = [
                    criterion(name, scored_space, scored, source, self.over_frames, self.over_tracks)
                    for name in metrics
                ]
                domain = self._domain(space, source, starts[source])
                study = self._study(source, scored_space, domain, starts[source], number, len(metrics))
                kept = KeptTrials(storage, study.study_name, len(criteria)) if storage else None
                self._optimise(study, domain, starts[source], criteria, source, kept)
                best = best_trial(study, source)
                chosen[source] = _weights_of(best, domain)
                self.studies_[source], self.scores_[source] = study, tuple(best.values)
                equal = space.equal(source)
                if len(metrics) == 1 and not self._gains_on_songs_left_out(study, domain, scored_space, scored, source):
                    chosen[source], self.scores_[source] = equal, (criteria[0](equal),)
                    self.kept_equal_ = (*self.kept_equal_, source)
        self.weights_ = space.weights(chosen)
        return self

    def _gains_on_songs_left_out(
        self, study: Study, domain: Domain, space: BlendSpace, tracks: Sequence[Track], source: str
    ) -> bool:
        """Whether trials that the other songs choose are better than equal weights; True where that cannot be told."""
        songs = [track for track, gram in zip(tracks, space.grams, strict=True) if source in gram.sources]
        equal = space.equal(source)
        if not LEAST_TO_LEAVE_OUT <= len(songs) < FEW or not equal.any():
            return True
        (metric,) = self._metrics()
        candidates = [equal, *(_weights_of(trial, domain) for trial in study.trials if trial.values)]
        scores = np.empty((len(candidates), len(songs)))
        for number, track in enumerate(songs):
            score = criterion(metric, space.on([track]), [track], source, self.over_frames, "mean")
            scores[:, number] = [score(weights) for weights in candidates]
        scores = np.nan_to_num(scores[:, ~np.isnan(scores[0])], nan=-LARGEST_DB).clip(-LARGEST_DB, LARGEST_DB)
        if scores.shape[1] < LEAST_TO_LEAVE_OUT:
            return True
        over_songs = np.median if self.over_tracks == "median" else np.mean
        chosen = []
        for number, values in enumerate(scores.T):
            best = int(over_songs(np.delete(scores, number, 1), axis=1).argmax())
            chosen.append(values[best])
        return bool(over_songs(chosen) > over_songs(scores[0]))

    def check(self) -> None:
        """Raise unless the arguments make sense, Optuna is installed and trials can be kept in the storage."""
        super().check()
        metrics = self._metrics()
        check_metrics(metrics)
        if len(metrics) == 1:
            require_packages(SAMPLER_NEEDS.get(self.sampler, {}), f"sampler={self.sampler}", FusionError)
        if self.storage is not None:
            check_storage(self.storage)

    def packages(self) -> tuple[str, ...]:
        """Optuna, and what its sampler needs."""
        return (*self.needs, *SAMPLER_NEEDS.get(self.sampler, {}))

    def _metrics(self) -> tuple[str, ...]:
        """What is maximised; the arguments are checked."""
        metrics = (self.objectives,) if isinstance(self.objectives, str) else tuple(self.objectives)
        if not 1 <= len(metrics) <= 2:
            raise wrong_usage(FusionError(f"got {len(metrics)} objectives ({', '.join(metrics)}), expected one or two"))
        for name, known in (("sampler", SAMPLERS), ("constraint", CONSTRAINTS)):
            value = str(self.arguments()[name])
            if value not in known:
                near = did_you_mean(value, known)
                raise wrong_usage(FusionError(f"got {name}={value!r}, expected one of {', '.join(known)}{near}"))
        if self.trials < 1 or len(self.bounds) != 2 or not self.bounds[0] < self.bounds[1]:
            raise wrong_usage(
                FusionError(
                    f"got trials={self.trials}, bounds={tuple(self.bounds)}, expected at least one trial and low < high"
                )
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
                groups = space.groups(source)
                own = [np.flatnonzero(equal[group]) for group in groups]
                for places in zip(*own, strict=True):
                    alone = np.zeros(len(equal))
                    for group, place in zip(groups, places, strict=True):
                        alone[group[place]] = 1.0
                    given.append(alone)
        return starts

    def _domain(self, space: BlendSpace, source: str, starts: Sequence[Array]) -> Domain:
        low, high = self.bounds
        if self.constraint == "simplex":
            low, high = 0.0, 1.0
        else:
            low = min(low, *(float(start.min()) for start in starts)) if self.constraint == "free" else 0.0
            high = max(high, *(float(start.max()) for start in starts))
        return Domain(space.names(source), space.groups(source), self.constraint, low, high)

    def _study(
        self, source: str, space: BlendSpace, domain: Domain, starts: Sequence[Array], number: int, count: int
    ) -> Study:
        """The source's study, before its first trial; searches that would differ in any trial have other names."""
        optuna = import_optuna()
        identity = {
            "space": [self.stems, self.mixture, self.tied, self.constraint, domain.low, domain.high],
            "objectives": [self.objectives, self.over_frames, self.over_tracks],
            "draws": [self.sampler, self.seed, optuna.__version__],
            # other versions may score the same trials otherwise
            "stemfuse": version("stemfuse"),
            "points": self.trials if self.sampler == "grid" else None,
            "starts": [start.tolist() for start in starts],
            "tracks": [[gram.track, gram.inputs, sha256(gram.moments.tobytes()).hexdigest()] for gram in space.grams],
        }
        study: Study = optuna.create_study(
            study_name=f"{source}-{digest(identity)[:12]}", directions=["maximize"] * count
        )
        name = self.sampler if count == 1 else "nsga2"
        study.sampler = make_sampler(name, domain, starts[0], self.seed + 1000 * number, self.trials)
        return study

    def _optimise(
        self,
        study: Study,
        domain: Domain,
        starts: Sequence[Array],
        criteria: Sequence[Criterion],
        source: str,
        kept: KeptTrials | None,
    ) -> None:
        """Make all trials; those that are kept are not scored again."""
        if kept and (known := kept.all_of(self.trials)):
            study.add_trials(known)
            return
        for start in starts:
            study.enqueue_trial(domain.proposal(start), skip_if_exists=True)

        def score(trial: Any) -> tuple[float, ...]:
            proposed = np.array([trial.suggest_float(name, domain.low, domain.high) for name in domain.names])
            known = kept.scores(trial.number, trial.params) if kept else None
            if known is not None:
                return tuple(known)
            weights = domain.weights(proposed)
            scores = [np.nan if np.isnan(weights).any() else score_of(weights) for score_of in criteria]
            return tuple(float(np.clip(value, -LARGEST_DB, LARGEST_DB)) for value in scores)

        def show(study: Any, trial: Any) -> None:
            if kept:
                kept.keep(trial)
            if self.progress is not None:
                self.progress(source, min(trial.number + 1, self.trials), self.trials)

        study.optimize(score, self.trials, callbacks=[show])


def _weights_of(trial: Any, domain: Domain) -> Array:
    return domain.weights(np.array([trial.params[name] for name in domain.names]))
