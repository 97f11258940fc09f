"""Figures of searches: Optuna's own, one study per source."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study

SIZE = (6.0, 3.6)  # inches
CONTOUR_WEIGHTS = 2
"""A contour of more weights would be too small to read: the two that matter most are shown."""


def search_figures(study: Study, source: str, metrics: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    """Draw a study: its history, which weights matter, the metric over pairs of weights; or the Pareto front.

    Parameters
    ----------
    study : optuna.Study
        With at least one complete trial.
    source : str
        What was searched, for the titles.
    metrics : sequence of one or two str
        What was maximised.

    Yields
    ------
    name : str
        ``"history"``, ``"importance"`` and ``"contour"``; for two metrics ``"front"``. Importance and contour
        are left out when there is only one weight or all trials are equal.
    figure : matplotlib.figure.Figure
        Closed in pyplot, so that it does not stay in memory.

    Examples
    --------
    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
    >>> study = optuna.create_study(direction="maximize")
    >>> study.optimize(lambda trial: -abs(trial.suggest_float("a.bass", 0, 1) - 0.3), n_trials=5)
    >>> [name for name, _ in search_figures(study, "bass", ["SDR"])]
    ['history']
    """
    import optuna
    import optuna.visualization.matplotlib as drawn

    if len(metrics) == 2:
        yield "front", _draw(lambda: drawn.plot_pareto_front(study, target_names=list(metrics)), f"{source}: front")
        return
    name = metrics[0]
    yield "history", _draw(lambda: drawn.plot_optimization_history(study, target_name=name), f"{source}: history")
    trials = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if len(study.best_params) < 2 or len({trial.value for trial in trials}) < 2:
        return
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    importance = optuna.importance.get_param_importances(study, evaluator=evaluator)
    yield (
        "importance",
        _draw(
            lambda: drawn.plot_param_importances(study, evaluator=evaluator, target_name=name),
            f"{source}: importance among the better trials",
        ),
    )
    most = list(importance)[:CONTOUR_WEIGHTS]
    yield "contour", _draw(lambda: drawn.plot_contour(study, most, target_name=name), f"{source}: contour")


def _draw(plot: Callable[[], Any], title: str) -> Figure:
    """One of Optuna's figures in this report's size."""
    import matplotlib.pyplot as plt
    import numpy as np

    with warnings.catch_warnings(), plt.style.context("default"):
        warnings.simplefilter("ignore")  # Optuna calls its figures experimental
        axes = np.ravel(plot())
        figure: Figure = axes[0].figure
        figure.set_size_inches(*SIZE)
        axes[0].set_title("", loc="left")  # remove Optuna's own title
        axes[0].set_title(title, fontsize=10)
        figure.set_layout_engine("tight")
        plt.close(figure)
    return figure
