"""Figures of searches: Optuna's own, one study per source."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stemfuse.separators import StemfuseError
from stemfuse.separators.names import did_you_mean

from .style import is_narrow, page_width, points, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study

SIZE = (6.0, 3.6)  # inches
CONTOUR_WEIGHTS = 2
"""A contour of more weights would be too small to read: the two that matter most are shown."""
PARALLEL_WEIGHTS = 6
"""Axes of a parallel plot whose names can be read: those that matter most are shown."""

WORST = 25
"""Percentile of the trials below which all have the palest colour: the first ones are far worse than the others."""

SEARCH_FIGURES: Mapping[str, str] = {
    "history": "history",
    "importance": "importance among the better trials",
    "parallel": "all trials, weight by weight",
    "contour": "the two weights that matter most",
    "front": "front of both metrics",
}
"""What can be drawn of a study, and its title."""


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
    for kind in kinds_of(study, metrics):
        if kind != "parallel":
            yield kind, plot_search(study, kind, source, metrics)


def kinds_of(study: Study, metrics: Sequence[str]) -> list[str]:
    """Which of `SEARCH_FIGURES` can be drawn of a study."""
    if len(metrics) == 2:
        return ["front"]
    trials = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if not trials:
        return []
    several = len(study.best_params) > 1 and len({trial.value for trial in trials}) > 1
    return ["history", "importance", "parallel", "contour"] if several else ["history"]


def plot_search(study: Study, kind: str, source: str = "", metrics: Sequence[str] = ("SDR",)) -> Figure:
    """One of Optuna's figures of a study.

    Parameters
    ----------
    study : optuna.Study
        With at least one complete trial.
    kind : str
        One of `SEARCH_FIGURES`: ``"history"``, ``"importance"``, ``"parallel"``, ``"contour"``; of a study of two
        metrics only ``"front"``.
    source, metrics
        As in `search_figures`.

    Returns
    -------
    matplotlib.figure.Figure
        Closed in pyplot, so that it does not stay in memory.

    Raises
    ------
    StemfuseError
        The kind is unknown, or cannot be drawn of this study.
    """
    possible = kinds_of(study, metrics)
    if kind not in possible:
        raise StemfuseError(
            f"got {kind!r}, expected one of {', '.join(possible) or 'none: no trial is complete'}, which can be drawn "
            f"of this search{did_you_mean(kind, possible)}"
        )
    import optuna
    import optuna.visualization.matplotlib as drawn

    name, title = metrics[0], f"{source}: {SEARCH_FIGURES[kind]}" if source else SEARCH_FIGURES[kind]
    if kind == "front":
        return _draw(lambda: drawn.plot_pareto_front(study, target_names=list(metrics)), title)
    if kind == "history":
        return _draw(lambda: drawn.plot_optimization_history(study, target_name=name), title)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    if kind == "importance":
        return _draw(lambda: drawn.plot_param_importances(study, evaluator=evaluator, target_name=name), title)
    most = list(optuna.importance.get_param_importances(study, evaluator=evaluator))
    if kind == "parallel":
        chosen = most[:PARALLEL_WEIGHTS]
        return _thinned(_draw(lambda: drawn.plot_parallel_coordinate(study, chosen, target_name=name), title))
    return _draw(lambda: drawn.plot_contour(study, most[:CONTOUR_WEIGHTS], target_name=name), title)


def _thinned(figure: Figure) -> Figure:
    """Hundreds of trials as thin lines, whose colours tell the better ones apart, below numbers that can be read."""
    import numpy as np
    from matplotlib.collections import LineCollection

    for lines in figure.findobj(LineCollection):
        coloured = lines.get_array()
        # axes have collections without values
        if coloured is None or not len(coloured):
            continue
        values = np.asarray(coloured, float)
        lines.set_linewidth(max(0.4, 1.5 - len(values) / 100))
        lines.set_clim(float(np.percentile(values, WORST)), float(np.max(values)))
    for axes in figure.axes[1:]:
        for label in axes.get_yticklabels():
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4})
    return figure


def _draw(plot: Callable[[], Any], title: str) -> Figure:
    """One of Optuna's figures in this report's size."""
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.text import Text

    # Optuna changes the style for good; here until its figure is made
    base = plt.rc_context({"figure.constrained_layout.use": False}) if is_narrow() else plt.style.context("default")
    with warnings.catch_warnings(), base:
        warnings.simplefilter("ignore")  # Optuna calls its figures experimental
        axes = np.ravel(plot())
        figure: Figure = axes[0].figure
        width = min(SIZE[0], page_width())
        figure.set_size_inches(width, SIZE[1] if width == SIZE[0] else 0.7 * width)
        axes[0].set_title("", loc="left")  # remove Optuna's own title
        axes[0].set_title(shorten(title, int(14 * width)), fontsize=points(10))
        if is_narrow():
            for text in figure.findobj(Text):
                text.set_fontsize(points(min(float(text.get_fontsize()), 8.5)))
        figure.set_layout_engine("tight")
        plt.close(figure)
    return figure
