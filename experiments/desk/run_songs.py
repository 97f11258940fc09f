"""The songs of a run that the desk can open, by number: nothing else of the data set or the store is handed out."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from functools import cached_property
from threading import RLock
from typing import Any

from stemfuse.experiments.plan import Plan, plan_run
from stemfuse.experiments.run import Run
from stemfuse.separators import StemfuseError, Track

from .blends import separator_blends, song_fusions
from .song import DeskSong, song_labels

log = logging.getLogger(__name__)

KEPT = 4
"""Songs whose statistics are kept in memory."""


class RunSongs:
    """The tested songs of a run with their stems, by their place in a list.

    Parameters
    ----------
    run_folder : path-like
        Of a run whose data and stem store are where its recipe says; relative paths start in the present folder.
    plan : Plan, optional
        The run's, where it is known already.
    """

    def __init__(self, run_folder: str | os.PathLike[str], plan: Plan | None = None) -> None:
        self.run = Run(run_folder)
        self._plan, self._songs, self._lock = plan, OrderedDict[int, DeskSong](), RLock()

    @cached_property
    def plan(self) -> Plan:
        """What the run was made of.

        Raises
        ------
        StemfuseError
            Data or store are not where they were.
        """
        return self._plan or plan_run(self.run.config.model_copy(update={"out": self.run.path}))

    def listing(self) -> dict[str, Any]:
        """Name of the run, and its songs; without any where its data cannot be opened, with the reason."""
        name = self.run.path.resolve().name
        try:
            with self._lock:
                plan = self.plan
                songs = [
                    {"name": plan.labels[planned.track], "data": planned.data, "seconds": planned.track.duration_s}
                    for planned in plan.tested()
                ]
        except (StemfuseError, OSError) as error:
            log.warning("desk: %s", error)
            return {"run": name, "songs": [], "problem": " ".join(str(error).split())}
        return {"run": name, "songs": songs, "problem": ""}

    def song(self, number: int) -> DeskSong:
        """A song by its place in the listing.

        Raises
        ------
        IndexError
            There is no such song.
        StemfuseError
            Its stems cannot be read.
        """
        with self._lock:
            if number not in self._songs:
                self._songs[number] = self._opened(number)
                while len(self._songs) > KEPT:
                    self._songs.popitem(last=False)
            self._songs.move_to_end(number)
            return self._songs[number]

    def _opened(self, number: int) -> DeskSong:
        tested = self.plan.tested()
        if not 0 <= number < len(tested):
            raise IndexError(number)
        return self.open(tested[number].track)

    def open(self, planned: Track) -> DeskSong:
        """A song of the plan with its stems, its blends, and what it is called there."""
        track = self.plan.attach(planned)
        inputs, outputs = song_labels(track)
        fusions = song_fusions(self.plan, self.run, planned, track, inputs, outputs)
        alone = separator_blends(track, inputs, outputs)
        data = next((entry.data for entry in self.plan.tested() if entry.track is planned), "")
        blends = [*alone, *fusions.blends]
        return DeskSong(track, self.plan.labels[planned], data, blends, fusions.refused, fusions.heard)
