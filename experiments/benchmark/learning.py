"""How many songs and separators it takes: least squares of some of both, from statistics that the store has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pandas as pd

from stemfuse.analysis import GramStatistics, common_mask
from stemfuse.blending import FusionError, LinearFusion, make_fusion
from stemfuse.blending.scoring import alone
from stemfuse.experiments.config import Cell, RunConfig
from stemfuse.experiments.plan import Plan, plan_run
from stemfuse.experiments.stages.measure import measure_parts, scores_of
from stemfuse.separators import Track

from .claims import JUDGED
from .definition import LEAST_SQUARES
from .units import Units

TRIED = ("simplex", "own stems", "own stems and mixture", LEAST_SQUARES)
"""Labels of the list, from the fewest weights to the most; all in closed form."""


def songs_needed(config: RunConfig, order: Sequence[str]) -> list[dict[str, Any]]:
    """Gain over the best separator by number of separators and of songs that are fitted on.

    Parameters
    ----------
    config : RunConfig
        Of a finished run.
    order : sequence of str
        Its separators; the first ones are taken.

    Returns
    -------
    list of dict
        separators, songs, and by label of `TRIED` and convention the gain as `Gain.to_dict` gives it.
    """
    plan = plan_run(config)
    cells = [cell for cell in plan.fusions if cell.label in TRIED]
    tested = [entry.track for entry in plan.tested() if entry.track.references is not None]
    if not cells or not tested:
        return []
    most = min(len(_fitted_on(plan, track)[0]) for track in tested)
    rows = []
    for count in sorted({2, 3, len(order)} & set(range(2, len(order) + 1))):
        sets = _Songs(plan, tuple(order[:count]))
        for songs in _steps(most):
            scores = pd.concat(list(_scores(sets, cells, tested, songs)), ignore_index=True)
            masked = common_mask(scores)[0]
            gains: dict[str, dict[str, Any]] = {cell.label: {} for cell in cells}
            for name in JUDGED:
                units = Units.of(masked, sets.labels, name)
                for label, own in gains.items():
                    own[name] = units.gain(label, units.best_single).to_dict()
            rows.append({"separators": count, "songs": songs, "gains": gains})
    return rows


class _Songs:
    """Songs of a plan with the stems of some separators, whose statistics are taken from those of all."""

    def __init__(self, plan: Plan, labels: tuple[str, ...]) -> None:
        self.plan, self.labels = plan, labels
        # opened once: a song is tested, and fitted on many times
        self.of = cache(self._attached)
        self._known: dict[tuple[str, tuple[Track, ...]], LinearFusion] = {}

    def _attached(self, track: Track) -> Track:
        part, whole = self.plan.attach(track, self.labels), self.plan.attach(track)
        measure_parts([part], [whole])
        return part

    def fitted(self, cell: Cell, track: Track, songs: int) -> LinearFusion:
        """A fusion fitted to the first songs of those that a tested one may be fused by."""
        train, valid = _fitted_on(self.plan, track)
        given = tuple(train[:songs])
        if (cell.label, given) not in self._known:
            fusion = make_fusion(cell.name, **cell.options)
            fusion.fit([*map(self.of, given)], [*map(self.of, valid)] or None)
            assert isinstance(fusion, LinearFusion)
            self._known[cell.label, given] = fusion
        return self._known[cell.label, given]


def _fitted_on(plan: Plan, track: Track) -> tuple[list[Track], list[Track]]:
    return plan.fitted_on(plan.refit_of(track))


def _steps(most: int) -> list[int]:
    """Numbers of songs that are tried.

    Examples
    --------
    >>> _steps(12), _steps(6)
    ([1, 2, 4, 8, 12], [1, 2, 4, 6])
    """
    return [songs for songs in (1, 2, 4, 8, 16, 32, 64) if songs < most] + [most]


def _scores(songs: _Songs, cells: Sequence[Cell], tested: Sequence[Track], count: int) -> Iterator[pd.DataFrame]:
    """Exact SDR of separators and fusions on every frame of the tested songs."""
    for track in tested:
        own = songs.of(track)
        gram = GramStatistics.of(own)
        methods: dict[str, LinearFusion] = {label: alone(label, own) for label in songs.labels}
        for cell in cells:
            # so few songs may have a source in no frame; then the song is left out, as in the run
            with contextlib.suppress(FusionError):
                methods[cell.label] = songs.fitted(cell, track, count)
        for label, method in methods.items():
            yield scores_of(method.weights(own), label, gram, own).assign(track=songs.plan.labels[track])
